"""Rank correlation with groups: SciPy, repeated values, and coverage."""

import math

from absl.testing import absltest
import numpy as np
import pytest
import scipy.stats

import ooc_jax
from ooc_jax import measures


class GroupedSpearmanTest(absltest.TestCase):

  def test_is_scipys_with_ties(self):
    rng = np.random.default_rng(0)
    truth = rng.normal(size=300)
    predictions = np.stack([
        truth + rng.normal(size=300),
        np.round(truth),
        -rng.integers(0, 5, 300).astype(float),
        np.zeros(300),
    ])
    found = measures.grouped_spearman(
        truth, predictions, rng.integers(0, 9, 300), draws=3
    )
    for value, row in zip(found.values[:3], predictions[:3], strict=True):
      expected = scipy.stats.spearmanr(row, truth).statistic
      self.assertAlmostEqual(value, expected, 12)
    self.assertTrue(np.isnan(found.values[3]))

  def test_a_draw_is_scipys_of_the_groups_repeated(self):
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(8), 25)
    truth = np.round(rng.normal(size=200), 1)
    row = np.round(truth + rng.normal(size=200), 1)
    found = measures.grouped_spearman(truth, row[None], groups, draws=5, seed=7)
    draws = np.random.default_rng(7).multinomial(8, np.full(8, 1 / 8), size=5)
    for i, counts in enumerate(draws):
      again = np.repeat(np.arange(200), counts[groups])
      expected = scipy.stats.spearmanr(row[again], truth[again]).statistic
      self.assertAlmostEqual(found.resampled[i, 0], expected, 12)

  @pytest.mark.slow
  def test_intervals_cover_the_truth_where_windows_are_alike(self):
    # Each window shifts both, together: pairs are normal, with correlation rho.
    rng = np.random.default_rng(2)
    windows, each, runs, shared = 40, 16, 200, 0.7
    rho = 0.5
    mix = np.linalg.cholesky([[1, rho], [rho, 1]])
    truth = 6 / math.pi * math.asin(rho / 2)
    groups = np.repeat(np.arange(windows), each)
    covered, naive = 0, 0
    for seed in range(runs):
      x = math.sqrt(shared) * rng.normal(size=(windows, 1, 2))
      x = x + math.sqrt(1 - shared) * rng.normal(size=(windows, each, 2))
      x = x.reshape(-1, 2) @ mix.T
      for unit in (groups, np.arange(len(groups))):
        found = measures.grouped_spearman(
            x[:, 0], x[:, 1][None], unit, draws=100, seed=seed
        )
        low, high = np.quantile(found.resampled[:, 0], (0.025, 0.975))
        if unit is groups:
          covered += low <= truth <= high
        else:
          naive += low <= truth <= high
    # 95% aimed at; a bootstrap of 40 groups is a little narrow.
    self.assertBetween(covered / runs, 0.88, 0.99)
    self.assertLess(naive / runs, 0.7)

  def test_refuses_what_has_no_correlation(self):
    one = np.zeros(1)
    with self.assertRaisesRegex(ooc_jax.InputError, 'at least two'):
      measures.grouped_spearman(one, one[None], np.zeros(1, int))


if __name__ == '__main__':
  absltest.main()
