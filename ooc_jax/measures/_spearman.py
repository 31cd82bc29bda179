"""Rank correlation of values that come in groups, such as windows of a text.

Values of one window are alike, so it is windows that are drawn again, whole,
and never single values: as many values would give too narrow an interval.
"""

from typing import NamedTuple

from jaxtyping import Float, Int
import numpy as np

from ooc_jax._errors import InputError
from ooc_jax.measures._bootstrap import check_bootstrap


class Correlations(NamedTuple):
  """Spearman's correlation of several predictions with one truth.

  Attributes:
    values: [P]; NaN where either is constant.
    resampled: [draws, P] the same with the groups drawn again.
  """

  values: Float[np.ndarray, 'P']
  resampled: Float[np.ndarray, 'draws P']


def grouped_spearman(
    truth: Float[np.ndarray, 'n'],
    predictions: Float[np.ndarray, 'P n'],
    groups: Int[np.ndarray, 'n'],
    *,
    draws: int = 200,
    seed: int = 0,
) -> Correlations:
  """Spearman's correlation over all values, and over resampled groups.

  Ranks are taken anew in every draw, equal values at the middle of theirs.

  Args:
    truth: Of each value.
    predictions: Of the same values, a row a prediction.
    groups: Number of the group of each value, from 0. One seed and number of
      groups always draws the same groups.
    draws: How often the groups are drawn.
    seed: Of the draws.

  Raises:
    InputError: There are fewer than two values, or no draws.
  """
  check_bootstrap(0.95, max(draws, 1))
  if truth.size < 2:
    raise InputError(
        f'{truth.size} values have no correlation: give at least two.'
    )
  size = int(groups.max()) + 1
  rng = np.random.default_rng(seed)
  counts = rng.multinomial(size, np.full(size, 1 / size), size=draws)
  counts = np.concatenate([np.ones((1, size), counts.dtype), counts])
  weights = counts[:, groups].astype(np.float64)
  ranks = _ranks(truth, weights)
  found = np.stack(
      [_correlation(_ranks(x, weights), ranks, weights) for x in predictions],
      axis=1,
  )
  return Correlations(found[0], found[1:])


def _ranks(
    x: Float[np.ndarray, 'n'], weights: Float[np.ndarray, 'draws n']
) -> Float[np.ndarray, 'draws n']:
  """Middle ranks of values that each count `weights` times, less their mean."""
  _, place = np.unique(x, return_inverse=True)
  order = np.argsort(place, kind='stable')
  first = np.flatnonzero(np.diff(place[order], prepend=-1))
  of_value = np.add.reduceat(weights[:, order], first, axis=1)
  middle = np.cumsum(of_value, axis=1) - of_value / 2
  return middle[:, place] - weights.sum(axis=1, keepdims=True) / 2


def _correlation(
    a: Float[np.ndarray, 'draws n'],
    b: Float[np.ndarray, 'draws n'],
    weights: Float[np.ndarray, 'draws n'],
) -> Float[np.ndarray, 'draws']:
  products = (
      np.einsum('dn,dn,dn->d', weights, x, y)
      for x, y in ((a, b), (a, a), (b, b))
  )
  ab, aa, bb = products
  out = np.full(len(ab), np.nan)
  np.divide(ab, np.sqrt(aa * bb), out=out, where=(aa > 0) & (bb > 0))
  return out
