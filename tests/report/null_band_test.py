"""Where a dictionary of random directions would lie, against SciPy."""

import math

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
from scipy import stats

from ooc_jax import report


class NullBandTest(parameterized.TestCase):

  @parameterized.product(
      share=(0.003, 0.01, 0.37, 0.98), features=(1, 57, 1536, 16384)
  )
  def test_a_known_chance_gives_the_binomial(self, share, features):
    low, high = report.null_band(share, features)
    wanted = stats.binom.ppf([0.025, 0.975], features, share) / features
    np.testing.assert_allclose((low, high), wanted, rtol=1e-12)

  @parameterized.product(
      share=(0.0, 0.01, 0.37, 1.0), features=(57, 1536), directions=(64, 4096)
  )
  def test_an_estimated_chance_gives_the_beta_binomial(
      self, share, features, directions
  ):
    low, high = report.null_band(share, features, directions, level=0.9)
    a, b = share * directions + 0.5, (1 - share) * directions + 0.5
    law = stats.betabinom(features, a, b)
    # Not `ppf`, which starts from the normal law and may miss by one.
    cdf = law.cdf(np.arange(features + 1))
    wanted = [np.argmax(cdf >= x) / features for x in (0.05, 0.95)]
    np.testing.assert_allclose((low, high), wanted, rtol=1e-12)

  def test_the_band_holds_what_it_says(self):
    rng = np.random.default_rng(0)
    features, directions, inside = 400, 300, 0
    for _ in range(2000):
      chance = rng.beta(2, 60)
      share = rng.binomial(directions, chance) / directions
      low, high = report.null_band(share, features, directions)
      inside += low <= rng.binomial(features, chance) / features <= high
    # 95% and a little more, for the counts are whole; 2 standard errors: 1%.
    self.assertBetween(inside / 2000, 0.94, 0.985)

  def test_more_directions_narrow_the_band_to_the_binomial(self):
    widths = [
        np.diff(report.null_band(0.01, 1536, m))[0] for m in (64, 512, 10**9)
    ]
    self.assertGreater(widths[0], widths[1])
    self.assertGreater(widths[1], widths[2])
    self.assertEqual(
        report.null_band(0.01, 1536, 10**9), report.null_band(0.01, 1536)
    )

  def test_no_number(self):
    for band in (report.null_band(math.nan, 5), report.null_band(0.1, 0)):
      np.testing.assert_array_equal(band, [math.nan, math.nan])
    self.assertEqual(report.null_band(0.0, 7), (0.0, 0.0))
    self.assertEqual(report.null_band(1.0, 7), (1.0, 1.0))

  def test_no_share_is_an_error(self):
    with self.assertRaisesRegex(ValueError, '1.5'):
      report.null_band(1.5, 7)


if __name__ == '__main__':
  absltest.main()
