"""Two populations: numbers, effect size and test, against their definitions."""

from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
from scipy import stats

import ooc_jax
from ooc_jax import measures
from ooc_jax.measures import _populations


def _delta(first, second):
  """By all pairs."""
  return np.sign(first[:, None] - second[None, :]).mean()


class PopulationsTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.rng = np.random.default_rng(3)

  def test_numbers(self):
    x = self.rng.normal(size=31)
    found = measures.population(x)
    self.assertEqual(found.size, 31)
    self.assertAlmostEqual(found.mean, x.mean())
    self.assertAlmostEqual(found.median, np.median(x))
    self.assertAlmostEqual(found.p75, np.quantile(x, 0.75))
    self.assertEqual(measures.population(x[:0]), (0, None, None, None))

  def test_split(self):
    labels = np.asarray([True, False, True])
    first, second = measures.split_by_label(np.asarray([1.0, 2.0, 3.0]), labels)
    np.testing.assert_array_equal(first, [1, 3])
    np.testing.assert_array_equal(second, [2])

  @parameterized.parameters((17, 40, False), (40, 9, True), (1, 2, False))
  def test_delta_is_that_of_all_pairs(self, n, m, ties):
    first, second = self.rng.normal(size=n), self.rng.normal(size=m) + 0.4
    if ties:
      first, second = np.round(first), np.round(second)
    found = measures.cliffs_delta(first, second, draws=10, seed=0)
    self.assertAlmostEqual(found.delta, _delta(first, second), places=12)
    swapped = measures.cliffs_delta(second, first, draws=10, seed=0)
    self.assertAlmostEqual(swapped.delta, -found.delta, places=12)

  def test_ends(self):
    low, high = np.arange(7.0), np.arange(5.0) + 20
    self.assertEqual(
        measures.cliffs_delta(high, low, draws=5, seed=0), (1, 1, 1, 0)
    )
    self.assertEqual(
        measures.cliffs_delta(low, low, draws=5, seed=0).delta, 0.0
    )

  def test_interval_is_that_of_a_plain_bootstrap(self):
    first, second = self.rng.normal(size=30), self.rng.normal(size=45) + 0.5
    first = np.round(first, 1)  # Some ties.
    found = measures.cliffs_delta(first, second, draws=4000, seed=5)
    plain = [
        _delta(self.rng.choice(first, 30), self.rng.choice(second, 45))
        for _ in range(4000)
    ]
    low, high = np.quantile(plain, (0.025, 0.975))
    # Quantiles of 4,000 draws of standard deviation 0.13 are good to 0.01.
    self.assertAlmostEqual(found.low, low, delta=0.02)
    self.assertAlmostEqual(found.high, high, delta=0.02)
    self.assertAlmostEqual(found.error, np.std(plain), delta=0.006)
    self.assertEqual(
        found, measures.cliffs_delta(first, second, draws=4000, seed=5)
    )

  def test_interval_holds_a_planted_delta(self):
    """Normals d apart have delta 2 Phi(d / sqrt 2) - 1."""
    truth = 2 * stats.norm.cdf(0.5 / np.sqrt(2)) - 1
    held = 0
    for seed in range(60):
      first = self.rng.normal(size=80) + 0.5
      second = self.rng.normal(size=150)
      found = measures.cliffs_delta(first, second, draws=400, seed=seed)
      held += found.low <= truth <= found.high
    # 95 % of 60, less three standard errors.
    self.assertGreaterEqual(held, 52)

  def test_blocks_of_resamples_do_not_matter(self):
    first, second = self.rng.normal(size=700), self.rng.normal(size=900)
    whole = measures.cliffs_delta(first, second, draws=300, seed=1)
    with mock.patch.object(_populations, '_BLOCK', 1600 * 7):
      parts = measures.cliffs_delta(first, second, draws=300, seed=1)
    self.assertEqual(whole.delta, parts.delta)
    # Other numbers are drawn, of the same distribution.
    self.assertAlmostEqual(whole.error, parts.error, delta=0.2 * whole.error)

  @parameterized.parameters(False, True)
  def test_mann_whitney_is_scipys(self, ties):
    first, second = self.rng.normal(size=33) + 0.5, self.rng.normal(size=52)
    if ties:
      first, second = np.round(first), np.round(second)
    found = measures.mann_whitney(first, second)
    expected = stats.mannwhitneyu(first, second, method='asymptotic')
    self.assertAlmostEqual(found.u, expected.statistic, places=8)
    self.assertAlmostEqual(found.p_value, expected.pvalue, places=12)
    self.assertLess(found.p_value, 0.2)

  def test_equal_values_are_no_difference(self):
    found = measures.mann_whitney(np.ones(4), np.ones(7))
    self.assertEqual(found, (14.0, 1.0))

  def test_error_of_the_median(self):
    medians, errors = [], []
    for _ in range(400):
      x = self.rng.exponential(size=60)
      medians.append(np.median(x))
      errors.append(measures.median_error(x))
    # 400 medians give their spread to 4 %; the interval rounds outwards.
    self.assertBetween(np.mean(errors) / np.std(medians), 0.9, 1.25)
    self.assertGreater(measures.median_error(np.full(5, 2.0)), 0)

  @parameterized.parameters(
      (lambda x: measures.cliffs_delta(x[:0], x, seed=0), 'population of 0'),
      (lambda x: measures.cliffs_delta(x, x, draws=0, seed=0), 'draws'),
      (lambda x: measures.mann_whitney(x, x * np.nan), 'not finite'),
      (lambda x: measures.median_error(x[:1]), 'median of 1'),
  )
  def test_refusals(self, call, message):
    with self.assertRaisesRegex(ooc_jax.InputError, message):
      call(np.arange(4.0))


if __name__ == '__main__':
  absltest.main()
