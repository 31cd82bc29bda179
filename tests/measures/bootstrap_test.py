"""The interval of a share: against resampling labels, and its coverage."""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from ooc_jax import measures
from ooc_jax._errors import InputError


def _labels(num_true, size, seed=0):
  labels = np.arange(size) < num_true
  return np.random.default_rng(seed).permutation(labels)


class BootstrapShareTest(parameterized.TestCase):

  @parameterized.product(num_true=(9, 61), level=(0.8, 0.95))
  def test_equals_resampling_the_labels(self, num_true, level):
    """The definition: draw F labels with replacement, take their mean."""
    labels = _labels(num_true, 113)
    got = measures.bootstrap_share(labels, level=level, seed=3)
    rng = np.random.default_rng(4)
    draws = labels[rng.integers(0, 113, (40_000, 113))].mean(1)
    want = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    self.assertEqual(got.share, num_true / 113)
    # Shares are multiples of 1/113; two samples may fall one step apart.
    np.testing.assert_allclose([got.low, got.high], want, atol=1.01 / 113)

  def test_interval_covers_the_truth_as_often_as_it_says(self):
    rng = np.random.default_rng(5)
    truth, trials = 0.3, 500
    covered = 0
    for trial in range(trials):
      labels = rng.random(211) < truth
      got = measures.bootstrap_share(labels, level=0.9, draws=999, seed=trial)
      covered += got.low <= truth <= got.high
    # Binomial(500, 0.9) has a standard deviation of 1.3 %; the percentile
    # interval itself is off by less than that at F = 211.
    self.assertBetween(covered / trials, 0.86, 0.94)

  def test_width_shrinks_as_one_over_the_root(self):
    few = measures.bootstrap_share(_labels(100, 400), seed=6)
    many = measures.bootstrap_share(_labels(4_000, 16_000), seed=6)
    ratio = (few.high - few.low) / (many.high - many.low)
    self.assertBetween(ratio, 5.8, 6.9)  # The root of 40 is 6.3.
    # 1.96 standard deviations to each side.
    want = 2 * 1.96 * np.sqrt(0.25 * 0.75 / 16_000)
    np.testing.assert_allclose(many.high - many.low, want, rtol=0.04)

  def test_same_seed_same_interval_whatever_the_order(self):
    # So many that two draws of the interval would not agree by chance.
    a = measures.bootstrap_share(_labels(50_021, 100_003, seed=7), seed=8)
    b = measures.bootstrap_share(_labels(50_021, 100_003, seed=9), seed=8)
    self.assertEqual(a, b)

  def test_another_seed_draws_anew(self):
    labels = _labels(50_021, 100_003)
    a = measures.bootstrap_share(labels, seed=8)
    b = measures.bootstrap_share(labels, seed=9)
    self.assertEqual(a.share, b.share)
    self.assertNotEqual(a, b)

  @parameterized.parameters(0, 71)
  def test_all_alike_has_no_width(self, num_true):
    got = measures.bootstrap_share(_labels(num_true, 71), seed=0)
    self.assertEqual(got, (num_true / 71,) * 3)

  def test_no_labels(self):
    with self.assertRaisesRegex(InputError, 'at least one feature'):
      measures.bootstrap_share(np.zeros(0, bool), seed=0)

  @parameterized.parameters((0.0, 10), (1.0, 10), (95.0, 10), (0.95, 0))
  def test_settings_out_of_range(self, level, draws):
    with self.assertRaisesRegex(InputError, 'between 0 and 1'):
      measures.bootstrap_share(_labels(3, 7), level=level, draws=draws, seed=0)


class BootstrapExcessTest(absltest.TestCase):

  def test_is_a_difference_with_the_error_of_both(self):
    labels, null = _labels(300, 1_000), _labels(41, 4_096)
    got = measures.bootstrap_excess(labels, null, seed=3)
    p, q = 0.3, 41 / 4_096
    self.assertAlmostEqual(got.share, p - q, places=12)
    error = np.sqrt(p * (1 - p) / 1_000 + q * (1 - q) / 4_096)
    # Two binomials of this size are normal to a few percent of their width.
    np.testing.assert_allclose(got.low, p - q - 1.96 * error, atol=0.1 * error)
    np.testing.assert_allclose(got.high, p - q + 1.96 * error, atol=0.1 * error)

  def test_few_random_directions_widen_it(self):
    labels = _labels(300, 1_000)
    few = measures.bootstrap_excess(labels, _labels(10, 100), seed=0)
    many = measures.bootstrap_excess(labels, _labels(1_000, 10_000), seed=0)
    alone = measures.bootstrap_share(labels, seed=0)
    self.assertGreater(few.high - few.low, 1.2 * (many.high - many.low))
    self.assertGreater(many.high - many.low, alone.high - alone.low)

  def test_chance_against_chance_is_around_zero(self):
    rng = np.random.default_rng(1)
    outside = 0
    for trial in range(300):
      a, b = rng.random(700) < 0.1, rng.random(900) < 0.1
      got = measures.bootstrap_excess(a, b, draws=999, seed=trial)
      outside += not got.low <= 0.0 <= got.high
    # Binomial(300, 0.05): 15 with a standard deviation of 3.8.
    self.assertBetween(outside, 4, 28)

  def test_no_null(self):
    with self.assertRaisesRegex(InputError, 'at least one feature'):
      measures.bootstrap_excess(np.ones(3, bool), np.zeros(0, bool), seed=0)


if __name__ == '__main__':
  absltest.main()
