"""Two populations of features compared: numbers, effect size and test.

Shapes: n features of the first population, m of the second, u distinct values.
"""

import math
from typing import NamedTuple

from jaxtyping import Bool, Float
import numpy as np
from scipy import special

from ooc_jax._errors import InputError

_NORMAL = 1.96


class Population(NamedTuple):
  """One population; None where it is empty."""

  size: int
  mean: float | None
  median: float | None
  p75: float | None


class EffectSize(NamedTuple):
  """Cliff's delta, from -1 to 1, with its interval.

  Attributes:
    delta: Share of pairs in which the first is larger, less that in which the
      second is.
    low: Lower end of the interval.
    high: Its upper end.
    error: Its standard error.
  """

  delta: float
  low: float
  high: float
  error: float


class MannWhitney(NamedTuple):
  """U of the first population (pairs it wins, ties half), two-sided p."""

  u: float
  p_value: float


def population(values: Float[np.ndarray, 'n']) -> Population:
  """Size, mean, median and third quartile."""
  if not values.size:
    return Population(0, None, None, None)
  x = values.astype(np.float64)
  median, p75 = np.quantile(x, (0.5, 0.75))
  return Population(x.size, float(x.mean()), float(median), float(p75))


def median_error(values: Float[np.ndarray, 'n']) -> float:
  """Standard error of the median, without a density.

  From the distribution-free 95% interval of order statistics: half its length
  over 1.96 (after McKean and Schrader 1984, Commun. Stat. Simul. Comput.
  13:751). Never 0, so that equal values are not without error: at least 1e-6
  of the median's size.

  Args:
    values: Two or more.

  Raises:
    InputError: There are fewer.
  """
  n = values.size
  if n < 2:
    raise InputError(
        f'The median of {n} features has no standard error: leave out the'
        ' layer.'
    )
  x = np.sort(values.astype(np.float64))
  reach = _NORMAL * np.sqrt(n) / 2
  low = max(int(np.floor((n - 1) / 2 - reach)), 0)
  high = min(int(np.ceil((n - 1) / 2 + reach)), n - 1)
  error = (x[high] - x[low]) / (2 * _NORMAL)
  return float(max(error, 1e-6 * abs(np.median(x)), 1e-12))


def split_by_label(
    values: Float[np.ndarray, 'F'], labels: Bool[np.ndarray, 'F']
) -> tuple[Float[np.ndarray, 'n'], Float[np.ndarray, 'm']]:
  """Values of the labelled features, and of the others."""
  return values[labels], values[~labels]


def cliffs_delta(
    first: Float[np.ndarray, 'n'],
    second: Float[np.ndarray, 'm'],
    *,
    level: float = 0.95,
) -> EffectSize:
  """Cliff's delta (1993, Psychol. Bull. 114:494) with its interval.

  The variance is Cliff's unbiased one, of how often the features of either
  population are ahead of the other's. The interval is symmetrical in the logit
  of (delta + 1) / 2, the share of pairs that the first population wins, with
  Student's t and the degrees of freedom of Satterthwaite, as of the test of
  Brunner and Munzel (2000, Biom. J. 42:17). Where one population is wholly
  ahead, and no variance is to be seen, it ends at what min(n, m) pairs without
  a feature in common would leave of a share of 1 (Clopper and Pearson).

  By simulation it covers 93 to 97 % at a nominal 95, of deltas up to 0.6 with
  ten features or more in the smaller population (98 % where both have ten);
  of deltas of 0.8 with so few, less.

  Args:
    first: Values of one population, two or more.
    second: Of the other.
    level: How often the interval holds the true delta.

  Raises:
    InputError: A population has fewer than two values or one that is not
      finite, or the level is not between 0 and 1.
  """
  _check(first, second, 2)
  if not 0.0 < level < 1.0:
    raise InputError(
        f'The level of an interval is {level}: give a number between 0 and 1.'
    )
  n, m = first.size, second.size
  wins, ties = _wins(first, second)
  lost, _ = _wins(second, first)
  # A sum of whole numbers: no order of addition matters.
  delta, tail = int(wins.sum()) / (n * m), (1 - level) / 2
  if abs(delta) == 1:
    least = 2 * tail ** (1 / min(n, m)) - 1
    low, high = sorted((delta, delta * least))
    return EffectSize(delta, low, high, 0.0)
  squares = n * m - int(ties.sum()) - n * m * delta**2  # Of all pairs.
  if not squares:
    return EffectSize(delta, delta, delta, 0.0)
  of_first = float((wins / m).var(ddof=1)) / n
  of_second = float((lost / n).var(ddof=1)) / m
  variance = max(
      of_first * m / (m - 1)
      + of_second * n / (n - 1)
      - squares / (n * m * (n - 1) * (m - 1)),
      squares / (n * m) / (n * m - 1),
  )
  freedom = (of_first + of_second) ** 2 / (
      of_first**2 / (n - 1) + of_second**2 / (m - 1)
  )
  error = math.sqrt(variance)
  reach = float(special.stdtrit(max(freedom, 1.0), 1 - tail)) * error
  # In the logit, whose slope there is 2 / (1 - delta²), and back.
  low, high = np.tanh(
      np.arctanh(delta) + np.array([-1, 1]) * reach / (1 - delta**2)
  )
  return EffectSize(delta, float(low), float(high), error)


def mann_whitney(
    first: Float[np.ndarray, 'n'], second: Float[np.ndarray, 'm']
) -> MannWhitney:
  """Mann-Whitney U with the normal approximation, for ties and continuity.

  As `scipy.stats.mannwhitneyu(first, second, method='asymptotic')`, two-sided.

  Args:
    first: Values of one population.
    second: Of the other.

  Raises:
    InputError: A population is empty or not finite.
  """
  _check(first, second, 1)
  n, m = first.size, second.size
  u = (n * m + int(_wins(first, second)[0].sum())) / 2
  _, together = np.unique(np.concatenate([first, second]), return_counts=True)
  together = together.astype(np.float64)
  ties = float((together**3 - together).sum()) / ((n + m) * (n + m - 1))
  variance = n * m / 12 * (n + m + 1 - ties)
  if variance <= 0:  # All values are equal.
    return MannWhitney(u, 1.0)
  z = max(abs(u - n * m / 2) - 0.5, 0.0) / np.sqrt(variance)
  return MannWhitney(u, float(2 * special.ndtr(-z)))


def _check(first: np.ndarray, second: np.ndarray, least: int) -> None:
  for values in (first, second):
    if not (values.size >= least and np.isfinite(values).all()):
      raise InputError(
          f'A population of {values.size} features is too small or has a value'
          ' that is not finite, and cannot be compared: leave its layer out.'
      )


def _wins(
    values: np.ndarray, others: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Of each value the others it is over less those it is under, and equals."""
  others = np.sort(others)
  over = np.searchsorted(others, values, side='left')
  not_under = np.searchsorted(others, values, side='right')
  return over + not_under - others.size, not_under - over
