"""Where the share of a dictionary of random directions would fall."""

import numpy as np


def null_band(
    share: float,
    features: int,
    directions: int | None = None,
    *,
    level: float = 0.95,
) -> tuple[float, float]:
  """The central interval of the share in a dictionary of random directions.

  With the chance of one random direction known, the number of semantic ones
  among F is Binomial(F, share). It is known from `directions` of them only:
  under Jeffreys' prior Beta(1/2, 1/2) the number among F more is beta-binomial,
  which is wider.

  Args:
    share: Of the random directions that the rule calls semantic, 0 to 1.
    features: F, of the dictionary.
    directions: How many random directions `share` is of; None: so many that
      its own error does not count.
    level: How much of the distribution the band holds.

  Returns:
    Lower and upper end, 0 to 1; NaN where share is NaN or there is no feature.

  Raises:
    ValueError: The share is no share.
  """
  if np.isnan(share) or features < 1:
    return float('nan'), float('nan')
  if not 0.0 <= share <= 1.0:
    raise ValueError(f'A null share of {share} is not between 0 and 1.')
  if directions is None and share in (0.0, 1.0):
    return share, share
  # Ratios of neighbouring probabilities need no gamma function, and their sum
  # of logarithms does not underflow.
  k = np.arange(features, dtype=np.float64)
  if directions is None:
    ratio = np.log(features - k) - np.log1p(k) + np.log(share / (1 - share))
  else:
    a, b = share * directions + 0.5, (1 - share) * directions + 0.5
    ratio = np.log(features - k) - np.log1p(k)
    ratio += np.log(k + a) - np.log(features - k - 1 + b)
  logs = np.concatenate([[0.0], np.cumsum(ratio)])
  cumulated = np.cumsum(np.exp(logs - logs.max()))
  tail = (1 - level) / 2
  ends = np.searchsorted(cumulated / cumulated[-1], [tail, 1 - tail])
  return float(ends[0] / features), float(ends[1] / features)
