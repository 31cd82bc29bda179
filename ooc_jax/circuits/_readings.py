"""Statistics of logits, from the sums and ends that a pass leaves."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ooc_jax.circuits._certify import Ends
from ooc_jax.circuits._feature import Line
from ooc_jax.circuits._powers import times_power
from ooc_jax.circuits._settings import Readings
from ooc_jax.circuits._settings import Settings
from ooc_jax.circuits._sums import Sums
from ooc_jax.model import softcap as apply_softcap


def make_readings(
    ends: Ends,
    sums: Sums,
    line: Line,
    exponent: Int[Array, 'F'],
    count: Float[Array, ''],
    recomputed: Bool[Array, 'F'],
    settings: Settings,
) -> Readings:
  """Everything about the logits of some features.

  Args:
    ends: Of the whole vocabulary.
    sums: Likewise.
    line: From products to logits.
    exponent: Of the power of two that goes back on the exact products.
    count: How many tokens count.
    recomputed: Passed on.
    settings: Of the lens.
  """
  logits = times_power(ends.value, exponent[None, :, None])
  shift = line.shift[:, None]
  top = logits[0] - shift
  m1, m2, m3, m4 = (sums.power_sums / count).T
  variance = jnp.maximum(m2 - m1**2, 0.0)
  third = m3 - 3 * m1 * m2 + 2 * m1**3
  fourth = m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4
  capped = apply_softcap(top, settings.softcap)
  below = capped - capped[:, :1]
  terms = jnp.exp(below)
  top_sum = terms.sum(axis=1)
  return Readings(
      top_ids=ends.row[0],
      top_logits=top,
      bottom_ids=ends.row[1],
      bottom_logits=-logits[1] - shift,
      mean=line.mean,
      std=jnp.sqrt(variance) * line.slope if line.std is None else line.std,
      skewness=divide(third, variance**1.5),
      kurtosis=jnp.where(variance > 0, divide(fourth, variance**2) - 3, 0.0),
      # -Σ p log p with p = exp(y - peak) / partition.
      entropy=jnp.log(sums.partition) - sums.weighted / sums.partition,
      top_mass=top_sum * jnp.exp(capped[:, 0] - sums.peak) / sums.partition,
      top_entropy=jnp.log(top_sum) - (terms * below).sum(axis=1) / top_sum,
      active_share=sums.active.astype(jnp.float32) / count,
      recomputed=recomputed,
  )


def divide(x: Array | float, y: Float[Array, 'F']) -> Float[Array, 'F']:
  """x / y, and 0 where y is 0."""
  return jnp.where(y > 0, x / jnp.where(y > 0, y, 1.0), 0.0)


def inverse(x: Float[Array, '_']) -> Float[Array, '_']:
  """1 / x, and 0 where x is 0."""
  return divide(1.0, x)
