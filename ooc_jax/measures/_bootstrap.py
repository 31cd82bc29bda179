"""How sure a share of features is."""

import math
from typing import NamedTuple

from jaxtyping import Bool, Float
import numpy as np
import scipy.stats

from ooc_jax._errors import InputError


class ShareInterval(NamedTuple):
  """A share and the ends of its interval, each in [0, 1].

  Of an excess, which is a difference of two shares, each is in [-1, 1].
  """

  share: float
  low: float
  high: float


def share_interval(
    labels: Bool[np.ndarray, 'F'],
    *,
    error: float = 0.0,
    level: float = 0.95,
) -> ShareInterval:
  """The share of true labels, with Wilson's interval (1927, JASA 22:209).

  Unlike resampling it has a width where no label, or every label, is true. The
  error of the thresholds is added by its variance: the interval is that of as
  many features as would have the variance of both together, n' = p (1 - p) /
  (p (1 - p) / F + error²).

  Args:
    labels: One a feature.
    error: Standard deviation of the share over draws of the null from which
      the thresholds were taken; see `Resampled`.
    level: How often the interval should cover the truth.

  Raises:
    InputError: There is no label, or the level is not between 0 and 1.
  """
  _check_level(level)
  if not labels.size:
    raise InputError(
        'There are no labels to take a share of: give at least one feature.'
    )
  share = float(labels.mean())
  variance = share * (1 - share) / labels.size + error**2
  size = effective_size(share, variance, labels.size)
  return ShareInterval(share, *wilson(share, size, level))


def excess_interval(
    labels: Bool[np.ndarray, 'F'],
    null_labels: Bool[np.ndarray, 'n'],
    *,
    error: float | None = None,
    level: float = 0.95,
) -> ShareInterval:
  """The share of true labels over chance, with its interval.

  Where the thresholds were solved for at a share of the null, that share is no
  estimate: what varies is which thresholds it gave, and that is `error`. Where
  they were given, both shares are estimates, and their intervals are joined by
  Newcombe's method (1998, Stat. Med. 17:873, his tenth).

  Args:
    labels: One a feature.
    null_labels: One a random direction, by the same thresholds.
    error: As of `share_interval`, for thresholds that come from this null;
      None for others.
    level: How often the interval should cover the truth.

  Returns:
    Share of features less share of random directions, and its interval.

  Raises:
    InputError: As `share_interval`.
  """
  ours = share_interval(labels, error=error or 0.0, level=level)
  chance = share_interval(null_labels, level=level)
  if error is not None:
    return ShareInterval(*(x - chance.share for x in ours))
  return newcombe(ours, chance)


def newcombe(ours: ShareInterval, chance: ShareInterval) -> ShareInterval:
  """The difference of two shares that vary by themselves, from their intervals.

  Args:
    ours: With Wilson's interval.
    chance: With Wilson's interval.
  """
  excess = ours.share - chance.share
  below = math.hypot(ours.share - ours.low, chance.high - chance.share)
  above = math.hypot(ours.high - ours.share, chance.share - chance.low)
  return ShareInterval(excess, excess - below, excess + above)


def effective_size(share: float, variance: float, size: int) -> float:
  """Of how many features, drawn one by one, a share has this variance.

  Args:
    share: From 0 to 1.
    variance: Of it, from all that varies.
    size: How many features there are, which is the answer where the share is 0
      or 1 and has no variance to compare with.
  """
  own = share * (1 - share)
  if not own:
    return float(size)
  return own / variance if variance > 0 else math.inf


def wilson(
    share: float, size: float, level: float = 0.95
) -> tuple[float, float]:
  """Ends of Wilson's interval of a share of `size` features, also a broken one.

  Args:
    share: From 0 to 1.
    size: Over 0; may be infinite.
    level: How often the interval should cover the truth.
  """
  n, variance = size, share * (1 - share)
  z = float(scipy.stats.norm.isf((1 - level) / 2))
  middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
  half = z / (1 + z**2 / n) * math.sqrt(variance / n + (z / (2 * n)) ** 2)
  # The ends of no feature and of every feature are exact.
  low = 0.0 if share == 0 else max(middle - half, 0.0)
  high = 1.0 if share == 1 else min(middle + half, 1.0)
  return low, high


def check_bootstrap(level: float, draws: int) -> None:
  """Refuses a level that is none, and no draws."""
  _check_level(level)
  if draws < 1:
    raise InputError(
        f'The bootstrap has {draws} draws: give at least one draw.'
    )


def _check_level(level: float) -> None:
  if not 0.0 < level < 1.0:
    raise InputError(
        f'The level of an interval is {level}: give a number between 0 and 1.'
    )


def percentile_interval(
    resampled: Float[np.ndarray, 'draws'], level: float
) -> tuple[float, float]:
  """The quantiles between which a share `level` of the resamples lies."""
  low, high = np.quantile(resampled, ((1 - level) / 2, (1 + level) / 2))
  return float(low), float(high)
