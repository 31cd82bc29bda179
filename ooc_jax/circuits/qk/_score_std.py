"""The standard deviation of plain scores, from a covariance.

Scores of a row r with partners p are linear in p, so their variance is rᵀCr
with C the covariance of the partners: [H, H] instead of all scores.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ooc_jax.circuits.numerics import exponent_of
from ooc_jax.circuits.numerics import times_power

_BLOCK = 256
# Where rᵀCr is this part of ‖r‖² ‖C‖ or less, float32 loses too many of its
# digits: with 2^-24 of rounding in C, 2^-12 leaves an error of about 2^-13 in
# the square root. Neurons of SmolLM2 lie at 5e-3 and above.
_LEAST = 2.0**-12
_HIGHEST = jax.lax.Precision.HIGHEST


def score_std(
    rows: Float[Array, 'rows H'],
    partners: Float[Array, 'partners H'],
    counts: Bool[Array, 'partners'] | None,
    mean: Float[Array, 'H'],
    number: Float[Array, ''],
) -> Float[Array, 'rows']:
  """Population standard deviation of each row's scores.

  Args:
    rows: One a score's row.
    partners: One a score's column.
    counts: Which of them count, or None for all.
    mean: Of the partners that count.
    number: How many those are.
  """
  away = partners - mean[None, :]
  if counts is not None:
    away = jnp.where(counts[:, None], away, 0.0)
  # Near 1, so that no square of a square overflows or vanishes.
  far = exponent_of(jnp.abs(away).max())
  size = exponent_of(jnp.abs(rows).max(axis=1))
  away, rows = times_power(away, -far), times_power(rows, -size[:, None])
  covariance = jnp.einsum('ph,pg->hg', away, away, precision=_HIGHEST) / number
  through = jnp.einsum('ch,hg->cg', rows, covariance, precision=_HIGHEST)
  variance = (through * rows).sum(axis=1)
  most = jnp.square(rows).sum(axis=1) * jnp.linalg.norm(covariance)
  lost = variance < _LEAST * most
  directly = jax.lax.cond(
      lost.any(),
      lambda: _from_scores(rows, away) / number,
      lambda: variance,
  )
  # A choice for each row: no answer hangs on which rows share a device.
  variance = jnp.where(lost, directly, variance)
  return times_power(jnp.sqrt(jnp.maximum(variance, 0.0)), size + far)


def _from_scores(
    rows: Float[Array, 'rows H'], away: Float[Array, 'partners H']
) -> Float[Array, 'rows']:
  """Σ (score - mean)² of each row, a block of rows at a time."""
  C, H = rows.shape
  blocks = jnp.pad(rows, ((0, -C % _BLOCK), (0, 0))).reshape(-1, _BLOCK, H)

  def one_block(rows: Float[Array, 'block H']) -> Float[Array, 'block']:
    scores = jnp.einsum('ch,ph->cp', rows, away, precision=_HIGHEST)
    return jnp.square(scores).sum(axis=1)

  return jax.lax.map(one_block, blocks).reshape(-1)[:C]
