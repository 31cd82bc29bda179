"""How sure a share of features is."""

from typing import NamedTuple

from jaxtyping import Bool, Float
import numpy as np

from ooc_jax._errors import InputError


class ShareInterval(NamedTuple):
  """A share and the ends of its interval, each in [0, 1].

  Of an excess, which is a difference of two shares, each is in [-1, 1].
  """

  share: float
  low: float
  high: float


def bootstrap_share(
    labels: Bool[np.ndarray, 'F'],
    *,
    level: float = 0.95,
    draws: int = 10_000,
    seed: int,
) -> ShareInterval:
  """The share of true labels with a percentile bootstrap interval.

  The share in F labels drawn with replacement is exactly Binomial(F, share) /
  F, so that is what is drawn: the cost does not grow with F, and the order of
  the features does not enter. Where no label, or every label, is true all
  resamples are alike and the interval has width 0.

  Args:
    labels: One a feature.
    level: How much of the bootstrap distribution the interval holds.
    draws: Number of resamples.
    seed: Of the resamples; the same seed gives the same interval.

  Returns:
    The share, and the (1 - level) / 2 and (1 + level) / 2 quantiles of the
    resampled shares.

  Raises:
    InputError: There is no label, no draw, or the level is not between 0 and 1.
  """
  share, resampled = _resample(
      labels, draws, level, np.random.default_rng(seed)
  )
  return ShareInterval(share, *percentile_interval(resampled, level))


def bootstrap_excess(
    labels: Bool[np.ndarray, 'F'],
    null_labels: Bool[np.ndarray, 'n'],
    *,
    level: float = 0.95,
    draws: int = 10_000,
    seed: int,
) -> ShareInterval:
  """The share of true labels over chance, with its bootstrap interval.

  Features and random directions are resampled alike, each by themselves. With
  thresholds fitted to the null, the share of the null is fixed by that, and
  what varies is how much of all directions those thresholds let through: to
  the same extent.

  Args:
    labels: One a feature.
    null_labels: One a random direction, by the same thresholds.
    level: How much of the bootstrap distribution the interval holds.
    draws: Number of resamples.
    seed: Of the resamples.

  Returns:
    Share of features less share of random directions, and its interval.

  Raises:
    InputError: As `bootstrap_share`.
  """
  rng = np.random.default_rng(seed)
  share, resampled = _resample(labels, draws, level, rng)
  chance, null_resampled = _resample(null_labels, draws, level, rng)
  return ShareInterval(
      share - chance, *percentile_interval(resampled - null_resampled, level)
  )


def check_bootstrap(level: float, draws: int) -> None:
  """Refuses a level that is none, and no draws."""
  if not 0.0 < level < 1.0 or draws < 1:
    raise InputError(
        f'The bootstrap has level {level} and {draws} draws: give a level'
        ' between 0 and 1 and at least one draw.'
    )


def percentile_interval(
    resampled: Float[np.ndarray, 'draws'], level: float
) -> tuple[float, float]:
  """The quantiles between which a share `level` of the resamples lies."""
  low, high = np.quantile(resampled, ((1 - level) / 2, (1 + level) / 2))
  return float(low), float(high)


def _resample(labels, draws, level, rng) -> tuple[float, np.ndarray]:
  """The share, and that of as many labels drawn with replacement."""
  if not labels.size:
    raise InputError(
        'There are no labels to take a share of: give at least one feature.'
    )
  check_bootstrap(level, draws)
  share = float(labels.mean())
  return share, rng.binomial(labels.size, share, draws) / labels.size
