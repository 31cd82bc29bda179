"""Thresholds of resampled nulls: against resampling, and their coverage."""

import functools

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import pytest
import scipy.stats

from ooc_jax import measures

_SIX = measures.ALL_MEASURES


def _coherence(values, kinds=measures.MEASURES):
  """From rows [m, F] of numbers of which low is coherent."""
  return measures.Coherence(
      **{m.name: m.lowered(x) for m, x in zip(kinds, values, strict=True)}
  )


def _drawn(seed, size, shift=0.0, ties=None, kinds=measures.MEASURES):
  """Measures that depend on each other, of which a part is `shift` lower."""
  rng = np.random.default_rng(seed)
  values = rng.normal(size=(len(kinds), size)) + 0.6 * rng.normal(size=size)
  values[:, : size // 3] -= shift
  if ties is not None:
    values = np.round(values * ties) / ties
  return _coherence(values, kinds)


class ThresholdsTest(parameterized.TestCase):

  @parameterized.product(
      rule=(*measures.RULES, 'cosine'),
      ties=(None, 3),
      kinds=(measures.MEASURES, _SIX),
  )
  def test_are_those_of_the_rows_drawn(self, rule, ties, kinds):
    """All rows are near a threshold here, so the draws are known."""
    n, alpha, draws, seed = 24, 0.2, 100, 5
    null = _drawn(1, n, ties=ties, kinds=kinds)
    got = measures.resampled_thresholds(
        null, alpha, rule, draws=draws, seed=seed
    )
    weights = np.random.default_rng(seed).multinomial(
        n, [1 / n] * n + [0], size=draws
    )[:, :-1]
    for b, own in enumerate(weights):
      rows = np.repeat(np.arange(n), own)
      again = measures.Coherence(**{k: x[rows] for k, x in null.items()})
      want = measures.null_thresholds(again, alpha, rule)
      self.assertEqual(
          {k: float(x[b]) for k, x in got.items()}, dict(want.values)
      )

  @parameterized.parameters(*measures.RULES)
  def test_far_directions_do_not_matter(self, rule):
    """The spread of the share is that of resampling all of the null."""
    null, features = _drawn(2, 3_000), _drawn(3, 2_000, shift=1.5)
    cuts = measures.resampled_thresholds(null, 0.01, rule, draws=600, seed=0)
    got = measures.resampled_labels(features, cuts, rule)
    rng = np.random.default_rng(6)
    shares = []
    for _ in range(300):
      rows = rng.integers(0, 3_000, 3_000)
      again = measures.Coherence(**{k: x[rows] for k, x in null.items()})
      thresholds = measures.null_thresholds(again, 0.01, rule)
      shares.append(measures.is_semantic(features, thresholds, rule).mean())
    # Standard deviations of 600 and 300 draws differ by 5 %.
    np.testing.assert_allclose(got.error, np.std(shares), rtol=0.2)
    error = 4 * np.std(shares) / np.sqrt(300)
    self.assertAlmostEqual(got.shares.mean(), np.mean(shares), delta=error)

  def test_rates_are_the_labels_of_every_draw(self):
    null, features = _drawn(4, 1_000), _drawn(5, 500, shift=1.0)
    cuts = measures.resampled_thresholds(null, 0.02, draws=30, seed=0)
    got = measures.resampled_labels(features, cuts)
    labels = np.stack([
        measures.is_semantic(
            features,
            measures.Thresholds(
                {k: float(x[b]) for k, x in cuts.items()}, kind='null'
            ),
        )
        for b in range(30)
    ])
    np.testing.assert_allclose(got.rates, labels.mean(axis=0))
    np.testing.assert_allclose(got.shares, labels.mean(axis=1))
    self.assertTrue(((got.rates > 0) & (got.rates < 1)).any())


def _intervals(features, null, seed, rule, resample):
  """Of the share, and of its excess over chance."""
  thresholds = measures.null_thresholds(null, rule=rule)
  error = 0.0
  if resample:
    cuts = measures.resampled_thresholds(null, rule=rule, draws=100, seed=seed)
    error = measures.resampled_labels(features, cuts, rule).error
  labels = measures.is_semantic(features, thresholds, rule)
  chance = measures.is_semantic(null, thresholds, rule)
  return (
      measures.share_interval(labels, error=error),
      measures.excess_interval(labels, chance, error=error),
  )


@functools.cache
def _truth(rule, shift):
  """The share at the thresholds of a null without end, nearly."""
  null, features = _drawn(7, 300_000), _drawn(8, 300_000, shift)
  return measures.is_semantic(
      features, measures.null_thresholds(null, rule=rule), rule
  ).mean()


def share_coverage(trials, n, F, rule, shift, resample=True):
  """How often the truth is in the interval of the share, and of the excess.

  The truth of the excess is over alpha, at which the null is held.
  """
  truth = _truth(rule, shift)
  hits = np.zeros(2)
  for trial in range(trials):
    rng = np.random.default_rng(1_000 + trial)
    # Of the whole population, so that also the number of shifted ones varies.
    shifted = rng.binomial(F, (F // 3) / F)
    values = rng.normal(size=(len(measures.MEASURES), F))
    values += 0.6 * rng.normal(size=F)
    values[:, :shifted] -= shift
    null = _drawn(9_000 + trial, n)
    found = _intervals(_coherence(values), null, trial, rule, resample)
    for i, own in enumerate((truth, truth - 0.01)):
      hits[i] += found[i].low <= own <= found[i].high
  return hits / trials


class CoverageTest(parameterized.TestCase):

  @pytest.mark.slow
  def test_a_share_is_covered_with_the_error_of_its_thresholds(self):
    for covered in share_coverage(250, 4_096, 4_096, 'any', 1.5):
      # Binomial(250, 0.95) has a standard deviation of 1.4 %.
      self.assertBetween(covered, 0.91, 0.985)

  def test_and_is_not_without_it(self):
    share, excess = share_coverage(150, 4_096, 4_096, 'any', 1.5, False)
    self.assertLess(share, 0.85)
    self.assertLess(excess, 0.85)

  @parameterized.parameters(0.0, 0.5)
  @pytest.mark.slow
  def test_coverage_of_few(self, shift):
    """`python -m benchmarks.calibration` has 2,000 draws, and more cases."""
    for covered in share_coverage(400, 4_096, 1_024, 'any', shift):
      # 93 to 97 of 100, and three standard errors.
      self.assertBetween(covered, 0.93 - 0.038, 0.97 + 0.026)


class BothEndsTest(parameterized.TestCase):

  @parameterized.parameters(*measures.RULES)
  def test_a_null_is_held_at_alpha_over_both_ends(self, rule):
    shares = []
    for trial in range(20):
      null = _drawn(trial, 4_096, kinds=_SIX)
      fresh = _drawn(100 + trial, 4_096, kinds=_SIX)
      cuts = measures.null_thresholds(null, rule=rule)
      self.assertBetween(cuts.null_share, 0.008, 0.01)
      shares.append(measures.is_semantic(fresh, cuts, rule).mean())
      p = measures.rule_p_values(fresh, null, rule)
      self.assertLess(scipy.stats.kstest(p, 'uniform').statistic, 0.05)
    # Each is off by 0.0022, the mean by 0.0005.
    self.assertBetween(np.mean(shares), 0.0085, 0.0115)

  def test_an_end_votes_among_its_own_measures(self):
    values = {m.name: np.zeros(4) for m in _SIX}
    low = {m.name: m.lowered(-1.0) for m in _SIX}
    for name, row in (
        ('levenshtein', 0), ('cosine', 0), ('entropy', 0),
        ('levenshtein', 1), ('cosine', 1), ('bottom_entropy', 1),
        ('bottom_levenshtein', 2), ('bottom_cosine', 2), ('bottom_entropy', 2),
    ):  # fmt: skip
      values[name][row] = 2 * low[name]
    cuts = measures.Thresholds(low, kind='fixed')
    found = measures.Coherence(**values)
    for rule, want in (('any', [1, 1, 1, 0]), ('majority', [1, 1, 1, 0]),
                       ('all', [1, 0, 1, 0])):  # fmt: skip
      np.testing.assert_array_equal(
          measures.is_semantic(found, cuts, rule), np.bool_(want)
      )


if __name__ == '__main__':
  absltest.main()
