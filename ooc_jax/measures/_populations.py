"""Two populations of features compared: numbers, effect size and test.

Shapes: n features of the first population, m of the second, u distinct values,
r resamples.
"""

from typing import NamedTuple

from jaxtyping import Bool, Float
import numpy as np
from scipy import special

from ooc_jax._errors import InputError
from ooc_jax.measures._bootstrap import check_bootstrap
from ooc_jax.measures._bootstrap import percentile_interval

# Numbers a block of resamples holds: 32 MB.
_BLOCK = 2**22
_NORMAL = 1.96


class Population(NamedTuple):
  """One population; None where it is empty."""

  size: int
  mean: float | None
  median: float | None
  p75: float | None


class EffectSize(NamedTuple):
  """Cliff's delta, from -1 to 1, with its bootstrap interval.

  Attributes:
    delta: Share of pairs in which the first is larger, less that in which the
      second is.
    low: Lower end of the interval.
    high: Its upper end.
    error: Standard deviation over the resamples.
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
    draws: int = 1000,
    seed: int,
) -> EffectSize:
  """Cliff's delta (1993, Psychol. Bull. 114:494) with a bootstrap interval.

  O((n + m) log(n + m)) for the ranks, then O(n + m) a resample: the distinct
  values are sorted once, and a resample only changes how often each occurs.
  Both populations are resampled, each by itself; percentile interval.

  Args:
    first: Values of one population.
    second: Of the other.
    level: How much of the bootstrap distribution the interval holds.
    draws: Number of resamples.
    seed: Of the resamples.

  Raises:
    InputError: A population is empty or not finite, or level or draws are out
      of range.
  """
  ours, theirs, size = _places(first, second)
  check_bootstrap(level, draws)
  rng = np.random.default_rng(seed)
  at_once = max(_BLOCK // (first.size + second.size), 1)
  drawn = []
  for start in range(0, draws, at_once):
    rows = min(at_once, draws - start)
    a = _counts(ours[rng.integers(0, ours.size, (rows, ours.size))], size)
    b = _counts(theirs[rng.integers(0, theirs.size, (rows, theirs.size))], size)
    drawn.append(_delta(a, b))
  deltas = np.concatenate(drawn)
  low, high = percentile_interval(deltas, level)
  delta = _delta(_counts(ours[None], size), _counts(theirs[None], size))[0]
  return EffectSize(float(delta), low, high, float(deltas.std()))


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
  ours, theirs, size = _places(first, second)
  n, m = ours.size, theirs.size
  a, b = _counts(ours[None], size), _counts(theirs[None], size)
  u = (1 + float(_delta(a, b)[0])) * n * m / 2
  together = (a + b)[0].astype(np.float64)
  ties = float((together**3 - together).sum()) / ((n + m) * (n + m - 1))
  variance = n * m / 12 * (n + m + 1 - ties)
  if variance <= 0:  # All values are equal.
    return MannWhitney(u, 1.0)
  z = max(abs(u - n * m / 2) - 0.5, 0.0) / np.sqrt(variance)
  return MannWhitney(u, float(2 * special.ndtr(-z)))


def _places(first: np.ndarray, second: np.ndarray):
  """Where each value stands among the distinct ones of both."""
  for values in (first, second):
    if not (values.size and np.isfinite(values).all()):
      raise InputError(
          f'A population of {values.size} features is empty or has a value that'
          ' is not finite, and cannot be compared: leave its layer out.'
      )
  distinct, places = np.unique(
      np.concatenate([first, second]), return_inverse=True
  )
  return places[: first.size], places[first.size :], distinct.size


def _counts(places: np.ndarray, size: int) -> np.ndarray:
  """[r, u] how often each distinct value occurs in each row of places."""
  rows = places.shape[0]
  flat = places + size * np.arange(rows)[:, None]
  return np.bincount(flat.ravel(), minlength=rows * size).reshape(rows, size)


def _delta(a: np.ndarray, b: np.ndarray) -> np.ndarray:
  """[r] from counts of the two populations over rising values."""
  n, m = a.sum(axis=1), b.sum(axis=1)
  # Twice the pairs won: integers, so no order of addition matters.
  wins = (a * (2 * np.cumsum(b, axis=1) - b)).sum(axis=1)
  return wins / (n * m) - 1.0
