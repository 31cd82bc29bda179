"""Two populations: numbers, effect size and test, against their definitions."""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
from scipy import stats

import ooc_jax
from ooc_jax import measures


def _delta(first, second):
  """By all pairs."""
  return np.sign(first[:, None] - second[None, :]).mean()


def delta_coverage(rng, n, m, truth, repeats, width=1.0, level=0.95):
  """How often the interval holds the delta of normals d apart.

  That is 2 Phi(d / sqrt(1 + width²)) - 1, with the first `width` times as wide.
  """
  shift = np.sqrt(1 + width**2) * stats.norm.ppf((truth + 1) / 2)
  inside = 0
  for _ in range(repeats):
    first = width * rng.normal(size=n) + shift
    found = measures.cliffs_delta(first, rng.normal(size=m), level=level)
    inside += found.low <= truth <= found.high
  return inside / repeats


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

  @parameterized.parameters((17, 40, False), (40, 9, True), (2, 3, False))
  def test_delta_is_that_of_all_pairs(self, n, m, ties):
    first, second = self.rng.normal(size=n), self.rng.normal(size=m) + 0.4
    if ties:
      first, second = np.round(first), np.round(second)
    found = measures.cliffs_delta(first, second)
    self.assertAlmostEqual(found.delta, _delta(first, second), places=12)
    swapped = measures.cliffs_delta(second, first)
    self.assertAlmostEqual(swapped.delta, -found.delta, places=12)

  def test_equal_populations(self):
    found = measures.cliffs_delta(np.arange(7.0), np.arange(7.0))
    self.assertEqual(found.delta, 0.0)
    self.assertAlmostEqual(found.low, -found.high)
    self.assertEqual(
        measures.cliffs_delta(np.ones(4), np.ones(5)), (0.0, 0.0, 0.0, 0.0)
    )

  def test_error_is_that_of_a_plain_bootstrap(self):
    first, second = self.rng.normal(size=30), self.rng.normal(size=45) + 0.5
    first = np.round(first, 1)  # Some ties.
    found = measures.cliffs_delta(first, second)
    plain = [
        _delta(self.rng.choice(first, 30), self.rng.choice(second, 45))
        for _ in range(2000)
    ]
    self.assertAlmostEqual(found.error, np.std(plain), delta=0.01)
    low, high = np.quantile(plain, (0.025, 0.975))
    self.assertAlmostEqual(found.low, low, delta=0.05)
    self.assertAlmostEqual(found.high, high, delta=0.05)

  @parameterized.product(
      sizes=((10, 20), (10, 1000), (20, 500), (50, 300), (200, 800)),
      truth=(0.0, 0.3, 0.6),
  )
  def test_interval_holds_a_planted_delta(self, sizes, truth):
    """`python -m benchmarks.calibration` has 4,000 draws, and more shapes."""
    coverage = delta_coverage(self.rng, *sizes, truth, 400)
    # 93 to 98 of 100 by those, and three standard errors.
    self.assertBetween(coverage, 0.93 - 0.038, 0.98 + 0.021)

  def test_variance_is_cliffs_unbiased_one(self):
    """His formula (1993, equation 8) over all pairs, with ties."""
    first = np.round(self.rng.normal(size=12), 1)
    second = np.round(self.rng.normal(size=7) + 0.5, 1)
    won = np.sign(first[:, None] - second[None])
    n, m = won.shape
    rows, columns = won.mean(axis=1), won.mean(axis=0)
    variance = m**2 * ((rows - won.mean()) ** 2).sum()
    variance += n**2 * ((columns - won.mean()) ** 2).sum()
    variance -= ((won - won.mean()) ** 2).sum()
    variance /= n * m * (n - 1) * (m - 1)
    found = measures.cliffs_delta(first, second)
    self.assertAlmostEqual(found.error, np.sqrt(variance))
    # Symmetrical in the logit, as wide as Student's t of Satterthwaite says.
    low, middle, high = np.arctanh((found.low, found.delta, found.high))
    self.assertAlmostEqual((low + high) / 2, middle)
    parts = np.array([rows.var(ddof=1) / n, columns.var(ddof=1) / m])
    freedom = parts.sum() ** 2 / (parts**2 / (n - 1, m - 1)).sum()
    reach = (high - middle) * (1 - found.delta**2) / found.error
    self.assertAlmostEqual(reach, stats.t.ppf(0.975, freedom))

  def test_wholly_ahead_is_not_without_width(self):
    """Of ten pairs that are all won, the share won is over 0.69."""
    found = measures.cliffs_delta(np.arange(10.0) + 50, np.arange(30.0))
    self.assertEqual((found.delta, found.high), (1, 1))
    share = stats.beta.ppf(0.025, 10, 1)  # Clopper and Pearson.
    self.assertAlmostEqual(found.low, 2 * share - 1)
    turned = measures.cliffs_delta(np.arange(30.0), np.arange(10.0) + 50)
    self.assertEqual((turned.low, turned.delta), (-1, -1))
    self.assertAlmostEqual(turned.high, -found.low)

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
      (lambda x: measures.cliffs_delta(x[:1], x), 'population of 1'),
      (lambda x: measures.cliffs_delta(x, x, level=1.0), 'level'),
      (lambda x: measures.mann_whitney(x, x * np.nan), 'not finite'),
      (lambda x: measures.median_error(x[:1]), 'median of 1'),
  )
  def test_refusals(self, call, message):
    with self.assertRaisesRegex(ooc_jax.InputError, message):
      call(np.arange(4.0))


if __name__ == '__main__':
  absltest.main()
