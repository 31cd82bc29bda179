"""How sure a share of features is."""

from typing import NamedTuple

from jaxtyping import Bool
import numpy as np

from ooc_jax._errors import InputError


class ShareInterval(NamedTuple):
  """A share and the ends of its interval, each in [0, 1]."""

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
  if not labels.size:
    raise InputError(
        'There are no labels to take a share of: give at least one feature.'
    )
  if not 0.0 < level < 1.0 or draws < 1:
    raise InputError(
        f'The bootstrap has level {level} and {draws} draws: give a level'
        ' between 0 and 1 and at least one draw.'
    )
  share = float(labels.mean())
  rng = np.random.default_rng(seed)
  resampled = rng.binomial(labels.size, share, draws) / labels.size
  low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
  return ShareInterval(share, float(low), float(high))
