"""How sure a share of features is."""

import math
from typing import NamedTuple

from jaxtyping import Bool
import numpy as np
import scipy  # Its optimize, slow to import, comes when it is used.
from scipy import special

from ooc_jax._errors import InputError

_MOST = 1e9  # Features; of more, beta distributions have too few digits.


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
  """The share of true labels, with the mid-P interval; see `mid_p`.

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
  return ShareInterval(share, *mid_p(share, size, level))


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
    ours: With its interval.
    chance: With its own.
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


def mid_p(
    share: float, size: float, level: float = 0.95
) -> tuple[float, float]:
  """Ends of the mid-P interval of a share of `size` features.

  That of Clopper and Pearson, with half of the chance of the count itself on
  either side (Lancaster 1961, JASA 56:223; Agresti and Gottard 2007, Comput.
  Stat. Data Anal. 51:6447). A share of few features is a whole number of them,
  and no interval covers it evenly: of one count or two Wilson's begins too
  late, and covers 84 % where 0.18 are expected. This one covers 92 % or more of
  any share at a nominal 95, 95 on the mean where 3 to 20 are expected, and
  more, up to 99, where fewer are: nearly always there is then none, and the
  interval of none has the truth in it.

  Args:
    share: From 0 to 1.
    size: Over 0; may be broken, and infinite.
    level: How often the interval should cover the truth.
  """
  size = min(size, _MOST)
  count, tail = share * size, (1 - level) / 2
  return (
      _mixed_beta_quantile(count, size - count, tail),
      _mixed_beta_quantile(count, size - count, 1 - tail),
  )


def _mixed_beta_quantile(
    count: float, rest: float, probability: float
) -> float:
  """Of Beta(count, rest + 1) and Beta(count + 1, rest), half of each."""
  below, above = (count, rest + 1), (count + 1, rest)
  # Without an argument over 0 a beta distribution is a point at that end.
  if not count:
    p = 2 * probability - 1
    return float(special.betaincinv(*above, p)) if p > 0 else 0.0
  if not rest:
    p = 2 * probability
    return float(special.betaincinv(*below, p)) if p < 1 else 1.0
  found = scipy.optimize.root_scalar(
      lambda x: special.betainc(*below, x)
      + special.betainc(*above, x)
      - 2 * probability,
      bracket=(0.0, 1.0),
      xtol=1e-15,
      rtol=1e-12,
  )
  return found.root


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
