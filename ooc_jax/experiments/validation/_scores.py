"""Means of scores beside chance: intervals and one-sided tests."""

from typing import Any

from jaxtyping import Bool, Float
import numpy as np
import pyarrow as pa
import scipy  # Its stats, slow to import, come when they are used.

from ooc_jax.results import tables

LEVEL = 0.05
_DRAWS = 2000
_SCHEMA = tables.VALIDATION_FEATURES


def score(
    features: pa.Table,
    null: pa.Table,
    name: str,
    sampled: Bool[np.ndarray, 'F'],
    rng: np.random.Generator,
) -> dict[str, Any] | None:
  """Mean of a score with its interval, and the excess over either null.

  P values are one-sided and of Student's t: of the differences between a
  feature's score and that with other features' lists, and by Welch of features
  and random directions.

  Returns:
    None where no feature has the score.
  """
  values = _SCHEMA.array(features, name)[sampled]
  chance = _SCHEMA.array(features, tables.permuted_name(name))[sampled]
  random = tables.VALIDATION_NULL.array(null, name)
  known = ~np.isnan(values) & ~np.isnan(chance)
  values, chance = values[known], chance[known]
  random = random[~np.isnan(random)]
  if values.size < 2:
    return None
  low, high = _bootstrap(values, rng)
  pairs = values - chance
  own: dict[str, Any] = {
      'count': int(values.size),
      'mean': float(values.mean()),
      'low': low,
      'high': high,
      'permuted': _excess(float(chance.mean()), one_sided(pairs), pairs, rng),
      'random': None,
  }
  if random.size > 1:
    p = welch(values, random)
    low, high = _bootstrap(values, rng, random)
    own['random'] = {
        'mean': float(random.mean()),
        'excess': float(values.mean() - random.mean()),
        'low': low,
        'high': high,
        'p_value': p,
    }
  return own


def _excess(
    mean: float,
    p: float,
    pairs: Float[np.ndarray, 'n'],
    rng: np.random.Generator,
) -> dict[str, float]:
  low, high = _bootstrap(pairs, rng)
  return {
      'mean': mean,
      'excess': float(pairs.mean()),
      'low': low,
      'high': high,
      'p_value': p,
  }


def _bootstrap(
    values: Float[np.ndarray, 'n'],
    rng: np.random.Generator,
    less: Float[np.ndarray, 'm'] | None = None,
) -> tuple[float, float]:
  """The 95% interval of a mean, or of a mean less another."""
  drawn = rng.choice(values, (_DRAWS, values.size)).mean(axis=1)
  if less is not None:
    drawn -= rng.choice(less, (_DRAWS, less.size)).mean(axis=1)
  low, high = np.quantile(drawn, (0.025, 0.975))
  return float(low), float(high)


def one_sided(values: Float[np.ndarray, 'n']) -> float:
  """P that the mean is not over 0; 1 where all values are one number <= 0."""
  if values.size < 2 or values.std() == 0:
    return float(values.size < 2 or values[0] <= 0)
  return float(scipy.stats.ttest_1samp(values, 0, alternative='greater').pvalue)


def welch(
    first: Float[np.ndarray, 'n'], second: Float[np.ndarray, 'm']
) -> float:
  if first.std() == 0 and second.std() == 0:
    return float(first[0] <= second[0])
  return float(
      scipy.stats.ttest_ind(
          first, second, equal_var=False, alternative='greater'
      ).pvalue
  )


def known_mean(values: np.ndarray) -> float | None:
  known = values[~np.isnan(values)]
  return float(known.mean()) if known.size else None
