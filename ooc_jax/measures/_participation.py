"""Which features take part in attention: thresholds and counts of heads.

A feature participates in a head, in a role, where its own statistic passes a
threshold: its largest score (`pre`, before the softmax) or its largest weight
(`post`).
"""

from collections.abc import Iterable, Mapping

from jaxtyping import Bool, Float, Int, Shaped
import numpy as np

from ooc_jax._errors import InputError
from ooc_jax.circuits import HeadStatistics
from ooc_jax.circuits import to_host
from ooc_jax.measures._null import allowed_of_null
from ooc_jax.measures._null import check_alpha

ROLES = ('query', 'key')
KINDS = ('pre', 'post')
# How a context is called: 'query_pre' and so on.
CONTEXTS = tuple(f'{role}_{kind}' for role in ROLES for kind in KINDS)
PARTICIPATION_QUANTILES = (0.75, 0.95, 0.99)


def participation_statistics(
    statistics: HeadStatistics,
) -> dict[str, Float[np.ndarray, '*N F']]:
  """What is compared with a threshold, for each of `CONTEXTS`.

  Args:
    statistics: Of one head or of all heads of a layer.

  Returns:
    `query_pre` and `key_pre`: a feature's largest score in that role;
    `query_post`: a query's largest weight; `key_post`: the largest weight that
    a key receives. Float32, on the host.
  """
  found = {
      'query_pre': statistics.query.maximum,
      'query_post': statistics.largest_weight,
      'key_pre': statistics.key.maximum,
      'key_post': statistics.largest_received,
  }
  return {
      name: to_host(found[name]).astype(np.float32, copy=False)
      for name in CONTEXTS
  }


def pooled_quantile(
    statistics: Iterable[Float[np.ndarray, '...']], quantile: float = 0.75
) -> float:
  """A quantile over all features, heads and layers together.

  Exact: the two order statistics around it are found among all numbers, and
  joined by a line, as `numpy.quantile` does.

  Args:
    statistics: An array of any shape for each layer.
    quantile: Above 0 and below 1.

  Raises:
    InputError: There is no number, one is not finite, or the quantile is out
      of range.
  """
  if not 0.0 < quantile < 1.0:
    raise InputError(
        f'The participation quantile is {quantile}: give a number between 0'
        ' and 1.'
    )
  parts = [np.ravel(x) for x in statistics]
  values = np.concatenate(parts) if parts else np.zeros(0, np.float32)
  _check_finite(values)
  place = quantile * (values.size - 1)
  low = int(place)
  high = min(low + 1, values.size - 1)
  values = np.partition(values, (low, high))
  first, second = float(values[low]), float(values[high])
  return first + (place - low) * (second - first)


def null_cutoffs(
    null: Float[np.ndarray, 'N n'], alpha: float = 0.01
) -> Float[np.ndarray, 'N']:
  """For each head the value that a share `alpha` of the null exceeds.

  Ties go the safe way: at most alpha n numbers of the null are above it.

  Args:
    null: The statistic of n directions that stand for chance, at each head.
    alpha: The share of them that may participate in a head.

  Raises:
    InputError: alpha n is under 1, alpha is out of range, or a number is not
      finite.
  """
  _check_finite(null)
  size = null.shape[1]
  check_alpha(alpha, size)
  place = size - 1 - allowed_of_null(alpha, size)
  return np.partition(null, place, axis=1)[:, place].astype(np.float64)


def participates(
    statistic: Float[np.ndarray, 'N F'],
    cutoffs: float | Float[np.ndarray, 'cutoffs'],
) -> Bool[np.ndarray, 'N F']:
  """Where a feature participates: strictly above the threshold.

  Args:
    statistic: One of `participation_statistics`, of a layer.
    cutoffs: One threshold, or one a head.

  Raises:
    InputError: There are more or fewer thresholds than heads.
  """
  limits = np.asarray(cutoffs, np.float64)
  if limits.ndim and limits.shape != statistic.shape[:1]:
    raise InputError(
        f'There are {limits.size} thresholds for {statistic.shape[0]} heads:'
        ' give one for all, or one a head.'
    )
  return statistic > np.broadcast_to(limits, statistic.shape[:1])[:, None]


def head_counts(
    participating: Bool[np.ndarray, 'N F'],
) -> Int[np.ndarray, 'F']:
  """In how many heads each feature participates."""
  return participating.sum(axis=0, dtype=np.int64)


def heads_errors(
    counts: Mapping[int, Int[np.ndarray, '_']],
) -> Float[np.ndarray, 'L']:
  """Standard error of the mean number of heads at each layer.

  One more feature is counted that is in half a head more or less than the mean,
  so that a layer where all features are alike is not without error.

  Args:
    counts: Layer -> heads of each feature.
  """
  return np.asarray([
      np.sqrt((x.var() * x.size + 0.25) / (x.size + 1) / x.size)
      for x in counts.values()
  ])


def _check_finite(values: Shaped[np.ndarray, '...']) -> None:
  if not values.size:
    raise InputError(
        'There is no statistic to take a participation threshold from: give at'
        ' least one feature and one head.'
    )
  if not np.isfinite(values).all():
    raise InputError(
        'A statistic of participation is not finite: leave out the features'
        ' with such directions.'
    )
