"""Thresholds, p and q against a null: by hand, and by what they promise."""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from ooc_jax import measures
from ooc_jax._errors import InputError

_MEASURES = tuple(m.name for m in measures.MEASURES[:3])
_VOTES = {'any': 1, 'majority': 2, 'all': 3}


def _coherence(columns):
  return measures.Coherence(
      *(np.asarray(column, np.float32) for column in columns)
  )


def _random(seed, size, *, shift=0.0, ties=None):
  """Correlated measures, with many equal values if `ties` says how many."""
  rng = np.random.default_rng(seed)
  common = rng.normal(size=size)
  x = rng.normal(size=(3, size)) + 0.7 * common[None] + shift
  if ties is not None:
    x = np.round(x * ties / 4) / ties
  return _coherence([-x[0], x[1], 5.0 - x[2]])


def _passed(coherence, thresholds):
  return np.stack(
      list(measures.passes_by_measure(coherence, thresholds).values())
  )


class NullThresholdsTest(parameterized.TestCase):

  def test_by_hand(self):
    """Ten directions; the best in each measure are 0, 1; 2, 0; 3, 4."""
    null = _coherence([
        [0.0, 0.1, 0.5, 0.6, 0.7, 0.8, 0.9, 0.91, 0.92, 0.93],
        [0.8, 0.1, 0.9, 0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7],
        [9.0, 8.0, 7.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 6.5],
    ])
    # One from each measure is three of ten: 0, 2, 3. Two from each would be
    # 0, 1, 2, 3, 4.
    got = measures.null_thresholds(null, 0.4, 'any')
    self.assertEqual((got.kind, got.level, got.null_share), ('null', 0.1, 0.3))
    np.testing.assert_array_equal(
        _passed(null, got).any(0), np.isin(np.arange(10), [0, 2, 3])
    )
    self.assertEqual(np.float32(got.levenshtein), np.float32(0.1))
    self.assertEqual(np.float32(got.cosine), np.float32(0.8))
    self.assertEqual(got.entropy, 2.0)
    # 0 is in the first two of two measures, and no other is before three each.
    got = measures.null_thresholds(null, 0.1, 'majority')
    self.assertEqual((got.level, got.null_share), (0.2, 0.1))

  @parameterized.product(
      rule=('any', 'majority', 'all'),
      alpha=(0.003, 0.01, 0.1, 0.5),
      ties=(None, 40, 7),
  )
  def test_is_the_largest_common_level(self, rule, alpha, ties):
    """Against a search through every level there is."""
    null = _random(1, 1_009, ties=ties)
    got = measures.null_thresholds(null, alpha, rule)
    ordered = [
        np.sort(null.levenshtein),
        np.sort(-null.cosine),
        np.sort(null.entropy),
    ]
    best = None
    for c in range(1_009):
      cuts = measures.Thresholds(
          {
              'levenshtein': float(ordered[0][c]),
              'cosine': float(-ordered[1][c]),
              'entropy': float(ordered[2][c]),
          },
          kind='null',
      )
      share = (_passed(null, cuts).sum(0) >= _VOTES[rule]).mean()
      if share <= alpha:
        best = c, share, cuts
    c, share, cuts = best
    self.assertEqual(got.level, c / 1_009)
    self.assertEqual(got.null_share, share)
    self.assertEqual(
        [getattr(got, m) for m in _MEASURES],
        [getattr(cuts, m) for m in _MEASURES],
    )
    self.assertLessEqual(_passed(null, got).mean(1).max(), c / 1_009)
    self.assertEqual(measures.is_semantic(null, got, rule).mean(), share)
    if ties is None:
      # A step of c lets in one direction a measure, so at most three are lost.
      self.assertGreater(share, alpha - 3.01 / 1_009)

  @parameterized.parameters('any', 'majority', 'all')
  def test_fresh_directions_pass_as_often_as_alpha(self, rule):
    shares = [
        measures.is_semantic(
            _random(1_000 + trial, 4_000),
            measures.null_thresholds(_random(trial, 4_096), 0.01, rule),
            rule,
        ).mean()
        for trial in range(40)
    ]
    # Each is off by sqrt(0.01 (1/4000 + 1/4096)) = 0.0022, the mean by 0.0004.
    self.assertBetween(np.mean(shares), 0.0088, 0.0112)

  @parameterized.parameters(*_MEASURES)
  def test_one_measure_alone(self, measure):
    null = _random(2, 1_000)
    got = measures.null_thresholds(null, 0.05, measure)
    passed = measures.passes_by_measure(null, got)
    for name, labels in passed.items():
      self.assertEqual(labels.sum(), 50 if name == measure else 0)
    self.assertEqual((got.level, got.null_share), (0.05, 0.05))

  def test_equal_values_pass_together_or_not_at_all(self):
    """All random directions alike: none may pass, whatever alpha is."""
    null = _coherence(np.ones((3, 500)))
    got = measures.null_thresholds(null, 0.9)
    self.assertEqual(got.null_share, 0.0)
    self.assertFalse(measures.is_semantic(null, got).any())
    better = _coherence([[0.9, 1.0], [1.0, 1.0], [1.0, 1.1]])
    np.testing.assert_array_equal(
        measures.is_semantic(better, got), [True, False]
    )

  def test_a_product_that_rounds_up_or_down_is_what_it_says(self):
    for alpha, size in ((0.07, 100), (0.29, 100), (0.57, 100), (0.1, 30)):
      null = _random(3, size)
      got = measures.null_thresholds(null, alpha, 'cosine')
      self.assertEqual(round(got.null_share * size), round(alpha * size))

  def test_refusals(self):
    null = _random(0, 512)
    with self.assertRaisesRegex(InputError, 'at least 1000 directions'):
      measures.null_thresholds(null, 0.001)
    for alpha in (0.0, 1.0, -1.0, 5.0, float('nan')):
      with self.assertRaisesRegex(InputError, 'between 0 and 1'):
        measures.null_thresholds(null, alpha)
    with self.assertRaisesRegex(InputError, "did you mean 'majority'"):
      measures.null_thresholds(null, 0.01, 'major')
    with self.assertRaisesRegex(InputError, 'no random direction'):
      measures.null_thresholds(_random(0, 0))
    with self.assertRaisesRegex(InputError, 'cosine is not finite'):
      measures.null_thresholds(null.replace(cosine=null.cosine * np.inf))


class PValuesTest(parameterized.TestCase):

  @parameterized.parameters(None, 9)
  def test_counts_by_hand(self, ties):
    null, features = _random(4, 83, ties=ties), _random(5, 29, ties=ties)
    got = measures.null_p_values(features, null)
    self.assertSequenceEqual(list(got), _MEASURES)
    for measure in measures.MEASURES[:3]:
      chance, x = null[measure.name], features[measure.name]
      for f in range(29):
        as_good = chance <= x[f] if measure.low_is_coherent else chance >= x[f]
        self.assertEqual(got[measure.name][f], (1 + as_good.sum()) / 84)

  @parameterized.product(rule=tuple(_VOTES), ties=(None, 9))
  def test_thresholds_say_the_same(self, rule, ties):
    """Passing a threshold and having a small p are one thing."""
    null, features = _random(6, 1_009, ties=ties), _random(7, 403, ties=ties)
    thresholds = measures.null_thresholds(null, 0.1, rule)
    count = round(thresholds.level * 1_009)
    p = measures.null_p_values(features, null)
    for measure, labels in measures.passes_by_measure(
        features, thresholds
    ).items():
      np.testing.assert_array_equal(
          labels, p[measure] <= (1 + count + 1e-9) / 1_010
      )
    # And the smaller the rule's p, the more surely it is semantic.
    labels = measures.is_semantic(features, thresholds, rule)
    whole = measures.rule_p_values(features, null, rule)
    self.assertLess(whole[labels].max(), whole[~labels].min())
    self.assertBetween(labels.mean(), 0.02, 0.5)

  @parameterized.product(rule=(*_VOTES, 'cosine'), ties=(None, 9))
  def test_is_a_p_value(self, rule, ties):
    """Over many nulls, p <= a no more often than a; the plain smallest is."""
    hits, plain, trials = np.zeros(4), 0.0, 400
    levels = np.array([0.02, 0.05, 0.2, 0.5])
    for trial in range(trials):
      null = _random(2 * trial, 149, ties=ties)
      features = _random(2 * trial + 1, 50, ties=ties)
      p = measures.rule_p_values(features, null, rule)
      hits += (p[:, None] <= levels[None]).mean(0) / trials
      singles = np.stack(list(measures.null_p_values(features, null).values()))
      plain += (singles.min(0) <= 0.05).mean() / trials
    # 400 nulls of 149 and 50 features: standard errors under 0.0012 sqrt(400
    # trials) at the four levels of 0.0009, 0.0013, 0.0023, 0.003.
    slack = 4 * np.array([0.0009, 0.0013, 0.0023, 0.003])
    np.testing.assert_array_less(hits, levels + slack)
    if ties is None:
      # Nor much too large: the loss is about one in 150.
      np.testing.assert_array_less(levels - 0.015 - slack, hits)
      self.assertGreater(plain, 0.1)

  def test_the_rule_by_hand(self):
    null, features = _random(8, 61), _random(9, 17, shift=0.5)
    columns = {m: getattr(null, m) for m in _MEASURES}
    sign = {
        m.name: 1 if m.low_is_coherent else -1 for m in measures.MEASURES[:3]
    }

    def counts(x):
      """Sorted over the measures: the first decides `any`, and so on."""
      return np.sort(
          [(sign[m] * columns[m] <= sign[m] * x[m]).sum() for m in _MEASURES]
      )

    chance = np.array(
        [counts({m: columns[m][i] for m in _MEASURES}) for i in range(61)]
    )
    for rule, votes in _VOTES.items():
      got = measures.rule_p_values(features, null, rule)
      for f in range(17):
        mine = counts({m: getattr(features, m)[f] for m in _MEASURES}) + 1
        below = (chance[:, votes - 1] <= mine[votes - 1]).sum()
        self.assertEqual(got[f], (1 + below) / 62)

  def test_never_under_its_resolution(self):
    null, features = _random(10, 99), _random(11, 7, shift=50.0)
    np.testing.assert_array_equal(
        measures.null_p_values(features, null)['cosine'], 0.01
    )
    # A feature ahead of all ties with the first of each measure.
    p = measures.rule_p_values(features, null)
    self.assertLessEqual(p.max(), 4 / 100)

  def test_refusals(self):
    null = _random(0, 31)
    with self.assertRaisesRegex(InputError, 'no random direction'):
      measures.null_p_values(null, _random(0, 0))
    with self.assertRaisesRegex(InputError, "did you mean 'cosine'"):
      measures.rule_p_values(null, null, 'cosin')


class QValuesTest(absltest.TestCase):

  def test_by_hand(self):
    p = np.array([0.01, 0.04, 0.03, 0.005])
    # Sorted: 0.005 x 4, 0.01 x 2, 0.03 x 4/3, 0.04.
    np.testing.assert_allclose(
        measures.q_values(p), [0.02, 0.04, 0.04, 0.02], rtol=1e-12
    )

  def test_equals_the_definition(self):
    rng = np.random.default_rng(0)
    p = np.round(rng.random(41) ** 2, 2) + 0.001
    want = [
        min(min(1.0, q * 41 / (p <= q).sum()) for q in p if q >= x) for x in p
    ]
    np.testing.assert_allclose(measures.q_values(p), want, rtol=1e-12)

  def test_false_discoveries(self):
    """A quarter of true features; of those called at 0.1, few are false."""
    false, found = [], []
    for trial in range(30):
      null = _random(3 * trial, 999)
      chance, true = _random(3 * trial + 1, 600), _random(3 * trial + 2, 200)
      true = true.replace(cosine=true.cosine + 8)
      both = measures.Coherence(*(
          np.concatenate([getattr(c, m) for c in (chance, true)])
          for m in _MEASURES
      ))
      called = measures.q_values(measures.rule_p_values(both, null)) <= 0.1
      false.append(called[:600].sum() / max(1, called.sum()))
      found.append(called[600:].mean())
    # At most 0.1 x 600 / 800 = 0.075 in expectation.
    self.assertBetween(np.mean(false), 0.03, 0.085)
    self.assertGreater(np.mean(found), 0.95)

  def test_none(self):
    self.assertEqual(measures.q_values(np.zeros(0)).shape, (0,))


if __name__ == '__main__':
  absltest.main()
