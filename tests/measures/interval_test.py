"""The interval of a share: against SciPy, and how often it covers the truth."""

import functools

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import scipy.stats

from ooc_jax import measures
from ooc_jax._errors import InputError
from ooc_jax.measures._bootstrap import newcombe


def _labels(num_true, size, seed=0):
  labels = np.arange(size) < num_true
  return np.random.default_rng(seed).permutation(labels)


def _coverage(interval, truth, counts, weights):
  """The share of counts, weighted, whose interval has the truth in it."""
  covers = [x.low <= truth <= x.high for x in map(interval, counts)]
  return np.sum(weights * covers) / np.sum(weights)


class ShareIntervalTest(parameterized.TestCase):

  @parameterized.product(num_true=(0, 1, 9, 61, 112, 113), level=(0.8, 0.95))
  def test_half_of_the_count_itself_is_beyond_an_end(self, num_true, level):
    got = measures.share_interval(_labels(num_true, 113), level=level)
    self.assertEqual(got.share, num_true / 113)
    tail = (1 - level) / 2
    if num_true:
      over = scipy.stats.binom(113, got.low)
      half = over.pmf(num_true) / 2
      self.assertAlmostEqual(over.sf(num_true) + half, tail, places=9)
    else:
      self.assertEqual(got.low, 0)
    if num_true < 113:
      under = scipy.stats.binom(113, got.high)
      half = under.pmf(num_true) / 2
      self.assertAlmostEqual(under.cdf(num_true) - half, tail, places=9)
    else:
      self.assertEqual(got.high, 1)

  def test_is_within_clopper_and_pearsons(self):
    for num_true in (0, 1, 40, 113):
      got = measures.share_interval(_labels(num_true, 113))
      outer = scipy.stats.binomtest(num_true, 113).proportion_ci()
      self.assertBetween(got.low, outer.low, got.share)
      self.assertBetween(got.high, got.share, outer.high)

  def _covered(self, truth, size, interval):
    """Not by drawing: over every count there may be, by its probability."""
    ends = scipy.stats.binom.interval(1 - 1e-9, size, truth)
    counts = np.arange(ends[0], ends[1] + 1).astype(int)
    weights = scipy.stats.binom.pmf(counts, size, truth)
    return _coverage(interval, truth, counts, weights)

  @parameterized.product(
      truth=(0.003, 0.01, 0.05, 0.3, 0.8), size=(1_024, 8_192)
  )
  def test_covers_the_truth_as_often_as_it_says(self, truth, size):
    """Resampling the labels covers 0.3 % of 1,024 in 82 % of samples."""
    covered = self._covered(
        truth, size, lambda n: measures.share_interval(np.arange(size) < n)
    )
    self.assertBetween(covered, 0.93, 0.97)

  def test_covers_rare_features_too(self):
    """Where 0.01 to 6 of 1,024 are expected; Wilson's interval does not."""
    expected = np.geomspace(0.01, 6, 120)

    @functools.cache
    def mid_p(n):
      return measures.share_interval(np.arange(1_024) < n)

    @functools.cache
    def wilson(n):
      return scipy.stats.binomtest(n, 1_024).proportion_ci(method='wilson')

    ours, theirs = (
        np.array([self._covered(x / 1_024, 1_024, y) for x in expected])
        for y in (mid_p, wilson)
    )
    self.assertGreater(ours.min(), 0.915)
    # Nearly always there is none: the interval of none has the truth in it, or
    # has it not.
    rare = np.exp(-expected) > 0.97
    self.assertGreater(ours[rare].min(), 0.97)
    self.assertBetween(ours[expected > 2.5].mean(), 0.94, 0.97)
    self.assertLess(theirs.min(), 0.86)

  def test_the_error_of_thresholds_adds_by_its_variance(self):
    labels, error = _labels(3_000, 10_000), 0.02
    got = measures.share_interval(labels, error=error)
    std = np.sqrt(0.3 * 0.7 / 10_000 + error**2)
    # So many features are left that it is nearly the normal interval.
    np.testing.assert_allclose(got.high - got.low, 2 * 1.96 * std, rtol=0.01)
    self.assertEqual(
        measures.share_interval(labels, error=0.0),
        measures.share_interval(labels),
    )

  def test_no_labels(self):
    with self.assertRaisesRegex(InputError, 'at least one feature'):
      measures.share_interval(np.zeros(0, bool))

  @parameterized.parameters(0.0, 1.0, 95.0)
  def test_levels_that_are_none(self, level):
    with self.assertRaisesRegex(InputError, 'between 0 and 1'):
      measures.share_interval(_labels(3, 7), level=level)


class ExcessIntervalTest(parameterized.TestCase):

  def test_is_newcombes(self):
    """His table II, (a): 56 of 70 and 48 of 80, of Wilson's intervals."""
    shares = []
    for num_true, size in ((56, 70), (48, 80)):
      ends = scipy.stats.binomtest(num_true, size).proportion_ci(
          method='wilson'
      )
      shares.append(measures.ShareInterval(num_true / size, *ends))
    np.testing.assert_allclose(
        newcombe(*shares), (0.2, 0.0524, 0.3339), atol=5e-5
    )
    ours, theirs = _labels(56, 70), _labels(48, 80)
    self.assertEqual(
        measures.excess_interval(ours, theirs),
        newcombe(*map(measures.share_interval, (ours, theirs))),
    )

  def test_few_random_directions_widen_it(self):
    labels = _labels(300, 1_000)
    few = measures.excess_interval(labels, _labels(10, 100))
    many = measures.excess_interval(labels, _labels(1_000, 10_000))
    alone = measures.share_interval(labels)
    self.assertGreater(few.high - few.low, 1.2 * (many.high - many.low))
    self.assertGreater(many.high - many.low, alone.high - alone.low)

  @parameterized.parameters((0.1, 0.1), (0.3, 0.01), (0.02, 0.01))
  def test_covers_the_truth_as_often_as_it_says(self, truth, chance):
    rng = np.random.default_rng(1)
    covered, trials = 0, 2_000
    for a, b in zip(
        rng.binomial(1_024, truth, trials),
        rng.binomial(4_096, chance, trials),
        strict=True,
    ):
      got = measures.excess_interval(np.arange(1_024) < a, np.arange(4_096) < b)
      covered += got.low <= truth - chance <= got.high
    # Binomial(2000, 0.95) has a standard deviation of 0.5 %.
    self.assertBetween(covered / trials, 0.93, 0.97)

  def test_a_share_that_thresholds_were_solved_for_is_no_estimate(self):
    labels, null = _labels(300, 1_000), _labels(40, 4_096)
    got = measures.excess_interval(labels, null, error=0.01)
    share = measures.share_interval(labels, error=0.01)
    np.testing.assert_allclose(got, np.array(share) - 40 / 4_096, atol=1e-15)

  def test_no_null(self):
    with self.assertRaisesRegex(InputError, 'at least one feature'):
      measures.excess_interval(np.ones(3, bool), np.zeros(0, bool))


if __name__ == '__main__':
  absltest.main()
