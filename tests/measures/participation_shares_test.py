"""Intervals of participation: they cover the truth as often as they say."""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import pytest

from ooc_jax import InputError
from ooc_jax import measures

_SHIFTS = (0.0, 0.7, -0.4)
_M = (1, 2, 4)
_WHOLE = -1
_FEATURES = 300


def _draw(rng, size, together, shifts=_SHIFTS):
  """Layer -> [4, size] numbers that the heads of a feature share in part."""
  common = np.sqrt(together)
  own = np.sqrt(1 - together)
  return {
      x: (
          common * rng.normal(size=(1, size))
          + own * rng.normal(size=(4, size))
          + shift
      )
      for x, shift in enumerate(shifts)
  }


def _cutoffs(kind, own, null):
  """'quantile', 'null' of the excess, or 'another' null."""
  if kind == 'quantile':
    return measures.quantile_cutoffs(own, 0.75)
  return measures.head_cutoffs(null, 0.05)


def participation_coverage(kind, trials, seed=0, alone=False):
  """(what, m, layer) -> how often the interval holds the truth; the rare ones.

  With `alone`, thresholds are taken for known, as a plain interval does.
  """
  rng = np.random.default_rng(seed)

  def sample(features, directions):
    own, null = _draw(rng, features, 0.5), _draw(rng, directions, 0.2, (0,) * 3)
    other = null if kind != 'another' else _draw(rng, directions, 0.2, (0,) * 3)
    cuts = _cutoffs(kind, own, other)
    if alone:
      cuts = measures.Cutoffs(cuts.at, cuts.at, cuts.at, 1.0)
    return measures.participation_shares(own, cuts, _M, null, whole=_WHOLE)

  truth = sample(100_000, 100_000)
  found = {}
  for _ in range(trials):
    for layer, got in sample(_FEATURES, 1_000).items():
      for m in _M:
        for name in ('at_least', 'excess'):
          interval = getattr(got, name)[m]
          true = getattr(truth[layer], name)[m].share
          found.setdefault((name, m, layer), []).append(
              interval.low <= true <= interval.high
          )
      mean = got.mean_heads
      if kind != 'quantile' or layer != _WHOLE:
        found.setdefault(('mean', 0, layer), []).append(
            mean.low <= truth[layer].mean_heads.mean <= mean.high
        )
  rates = {key: float(np.mean(x)) for key, x in found.items()}
  # Of few features any interval covers more than it says: see `mid_p`.
  rare = {
      (name, m, layer)
      for layer, own in truth.items()
      for m in _M
      for name in ('at_least', 'excess')
      if len(_SHIFTS if layer == _WHOLE else (0,)) * _FEATURES
      * own.at_least[m].share < 5
  }  # fmt: skip
  return rates, rare


class ParticipationSharesTest(parameterized.TestCase):

  def _check(self, kind, trials, seed):
    found, rare = participation_coverage(kind, trials, seed)
    common = [rate for key, rate in found.items() if key not in rare]
    # One has a standard deviation of 1.8 % of 150, the mean of all a fifth.
    error = np.sqrt(0.95 * 0.05 / trials)
    for key, rate in found.items():
      most = 1.0 if key in rare else 0.965 + 3.5 * error
      self.assertBetween(rate, 0.935 - 3.5 * error, most, key)
    self.assertBetween(np.mean(common), 0.945 - error, 0.96 + error)

  @parameterized.parameters('quantile', 'null', 'another')
  @pytest.mark.slow
  def test_covers_the_truth(self, kind):
    self._check(kind, 120, 0)

  @parameterized.parameters('quantile', 'null', 'another')
  @pytest.mark.slow
  def test_each_covers_the_truth(self, kind):
    """`python -m benchmarks.calibration` has 2,000 draws."""
    self._check(kind, 300, 1)

  @parameterized.parameters('quantile', 'null')
  @pytest.mark.slow
  def test_with_thresholds_for_known_it_would_not(self, kind):
    """The fault of a plain interval."""
    found, rare = participation_coverage(kind, 150, alone=True)
    wrong = [
        key
        for key, x in found.items()
        if key not in rare and not 0.91 < x < 0.985
    ]
    self.assertNotEmpty(wrong, found)

  def test_shares_are_counted(self):
    rng = np.random.default_rng(3)
    own, null = _draw(rng, 70, 0.5), _draw(rng, 90, 0.5)
    cuts = measures.head_cutoffs(null, 0.1)
    found = measures.participation_shares(own, cuts, _M, null, whole=_WHOLE)
    self.assertEqual(set(found), {0, 1, 2, _WHOLE})
    counts = {
        x: [
            (s[x] > measures.null_cutoffs(null[x], 0.1)[:, None]).sum(axis=0)
            for s in (own, null)
        ]
        for x in own
    }
    counts[_WHOLE] = [
        np.concatenate(x) for x in zip(*counts.values(), strict=True)
    ]
    for x, (mine, theirs) in counts.items():
      self.assertAlmostEqual(found[x].mean_heads.mean, mine.mean())
      for m in _M:
        share = found[x].at_least[m]
        self.assertAlmostEqual(share.share, (mine >= m).mean())
        self.assertBetween(share.share, share.low, share.high)
        self.assertAlmostEqual(
            found[x].excess[m].share, (mine >= m).mean() - (theirs >= m).mean()
        )

  def test_a_quantile_of_one_head_leaves_nothing_open(self):
    """A quarter of its features is over it, whoever they are."""
    own = {0: np.random.default_rng(0).normal(size=(1, 4_000))}
    cuts = measures.quantile_cutoffs(own, 0.75)
    found = measures.participation_shares(own, cuts, (1,), whole=_WHOLE)
    self.assertEqual(found[_WHOLE], found[0])
    share = found[0].at_least[1]
    plain = measures.share_interval(own[0][0] > cuts.at[0][0])
    self.assertLess(share.high - share.low, 0.2 * (plain.high - plain.low))
    self.assertEqual(found[0].excess, {})

  def test_many_directions_leave_features_alone(self):
    """Then it is that of a share of as many features as there are."""
    rng = np.random.default_rng(0)
    own = {0: rng.normal(size=(2, 200)) + 1}
    null = {0: rng.normal(size=(2, 400_000))}
    cuts = measures.head_cutoffs(null, 0.05)
    found = measures.participation_shares(own, cuts, (1, 2), whole=_WHOLE)
    counts = measures.head_counts(measures.participates(own[0], cuts.at[0]))
    for m in (1, 2):
      np.testing.assert_allclose(
          found[0].at_least[m],
          measures.share_interval(counts >= m),
          rtol=0.01,
      )

  def test_no_feature_and_every_feature(self):
    own = {0: np.zeros((2, 50)), 1: np.ones((2, 50))}
    null = {x: np.tile(np.linspace(0.1, 0.9, 50), (2, 1)) for x in own}
    cuts = measures.head_cutoffs(null, 0.1)
    found = measures.participation_shares(own, cuts, (1,), null, whole=_WHOLE)
    none, every = found[0].at_least[1], found[1].at_least[1]
    self.assertEqual((none.share, none.low), (0, 0))
    self.assertGreater(none.high, 0.05)
    self.assertEqual((every.share, every.high), (1, 1))
    self.assertLess(every.low, 0.95)

  def test_refusals(self):
    own = {0: np.ones((2, 7))}
    cuts = measures.quantile_cutoffs(own, 0.5)
    with self.assertRaisesRegex(InputError, 'At least 3 of 2 heads'):
      measures.participation_shares(own, cuts, (3,), whole=_WHOLE)
    with self.assertRaisesRegex(InputError, 'has no feature'):
      measures.participation_shares(
          {0: np.ones((2, 0))}, cuts, (1,), whole=_WHOLE
      )


if __name__ == '__main__':
  absltest.main()
