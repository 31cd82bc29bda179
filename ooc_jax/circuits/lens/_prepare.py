"""Directions made ready for a pass, and how far its products may be off."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ooc_jax.circuits.lens._moments import TableMoments
from ooc_jax.circuits.numerics import bfloat16_pieces
from ooc_jax.circuits.numerics import exponent_of
from ooc_jax.circuits.numerics import times_power

# Over what the norms and bounds themselves lose in float32, and what pieces in
# bfloat16 are longer than their sum.
_SLACK = 1.01
_UNIT_ROUNDOFF = 2.0**-24
# A number under 2^-126 may become zero: a row, or any of its three pieces.
_FLUSHED = 4 * 2.0**-126
# What products under it may add up to, near 1 at most.
_UNDERFLOW = 1e-33


class ScaledDirections(NamedTuple):
  """Directions divided by a power of two each, so that no product overflows.

  Attributes:
    row: Float32, of norm 1 to 2 (or 0).
    exponent: The power of two that was divided out of the direction.
    threshold: Logits, as asked for, above it are active.
  """

  row: Float[Array, 'F D']
  exponent: Int[Array, 'F']
  threshold: Float[Array, 'F']


class PreparedDirections(NamedTuple):
  """What goes with each direction; products x are of its scaled row.

  Attributes:
    pieces: They add up to the row: itself in float32, or three in bfloat16.
    centre: The mean of x over the rows that count, nearly.
    scale: A logit is scale * x - shift; a power of two.
    shift: See `scale`.
    threshold: Logits above it are active.
    size_error: x is off by at most size_error * size + least_error.
    least_error: See `size_error`.
    temperature: See `AffineMap`.
  """

  pieces: Float[Array, 'pieces F D']
  centre: Float[Array, 'F']
  scale: Float[Array, 'F']
  shift: Float[Array, 'F']
  threshold: Float[Array, 'F']
  size_error: Float[Array, 'F']
  least_error: Float[Array, 'F']
  temperature: Float[Array, 'F'] | None


class AffineMap(NamedTuple):
  """How products of a pass become logits, and what is known before the pass.

  Attributes:
    shift: Subtracted from every logit.
    mean: Of the logits.
    std: Of the logits, or None where it is not known yet.
    scale: Of the products, before the shift.
    temperature: Divides the logits of the softmax, so that their standard
      deviation is the spread that was asked for; None where none was.
  """

  shift: Float[Array, 'F']
  mean: Float[Array, 'F']
  std: Float[Array, 'F'] | None
  scale: Float[Array, 'F']
  temperature: Float[Array, 'F'] | None


def normalise(
    directions: Float[Array, 'F D'], threshold: Float[Array, 'F']
) -> ScaledDirections:
  """Divides each direction by a power of two near its norm: no digit goes."""
  first = exponent_of(jnp.abs(directions).max(axis=1))
  row = times_power(directions, -first[:, None])
  second = exponent_of(jnp.linalg.norm(row, axis=1))
  return ScaledDirections(
      times_power(row, -second[:, None]), first + second, threshold
  )


def prepare(
    scaled: ScaledDirections,
    moments: TableMoments,
    table_exponent: Int[Array, ''],
    *,
    screened: bool,
    centered: bool,
    spread: float | None = None,
) -> tuple[PreparedDirections, AffineMap]:
  """The rows of a pass, with what belongs to each.

  The error of a product x of a row d with a row u of the table obeys
    |d·u - x| ≤ γ ‖d‖ ‖u‖
  by Cauchy-Schwarz; γ = 2 D ε with ε = 2^-24 is twice the bound of a sum of D
  products in float32 in any order (Higham 2002, section 3.1; twice, since
  some accelerators truncate), and 64 ε more for scaling, the last rounding
  and, where the factors are in pieces, the sum of their products (5 ε) and
  the products of small pieces that are left out (2 ε; see `_scan`). Pieces
  that float32 cannot hold are bounded beside it.

  Args:
    scaled: The directions.
    moments: Of the table.
    table_exponent: The power of two near the table's largest row.
    screened: Whether the product is of pieces in bfloat16.
    centered: Whether the mean row is subtracted from the table.
    spread: See `LensSpec`; needs the covariance of the table.

  Returns:
    The directions, and how their products become logits; `std` is √(dᵀCd)
    where the covariance C is known.
  """
  d, D = scaled.row, scaled.row.shape[1]
  # In units of the table too, whose rows may be of any size.
  row = times_power(d, -table_exponent)
  std = None
  if moments.covariance is not None:
    through = jnp.einsum(
        'FD,DE->FE', d, moments.covariance, precision=jax.lax.Precision.HIGHEST
    )
    variance = jnp.maximum(_along(d, through), 0.0)
    std = times_power(jnp.sqrt(variance), scaled.exponent)
  exponent = scaled.exponent + table_exponent
  centre = _along(row, moments.mean[None])
  mean = times_power(centre, exponent)
  shift = mean if centered else jnp.zeros_like(mean)
  temperature = None if spread is None or std is None else std / spread
  size = times_power(jnp.linalg.norm(d, axis=1), -table_exponent)
  sum_error = (2 * D + 64) * _UNIT_ROUNDOFF * size
  flushed = _FLUSHED * D**0.5
  prepared = PreparedDirections(
      pieces=jnp.stack(bfloat16_pieces(row)) if screened else row[None],
      centre=centre,
      scale=times_power(jnp.ones_like(mean), exponent),
      shift=shift,
      threshold=scaled.threshold - shift,
      # Never 0, for it multiplies the minus infinity of rows that are masked.
      size_error=jnp.maximum(_SLACK * (sum_error + flushed), _UNDERFLOW),
      least_error=_SLACK * flushed * size + _UNDERFLOW,
      temperature=temperature,
  )
  return prepared, AffineMap(
      shift, mean - shift, std, prepared.scale, temperature
  )


def _along(x: Float[Array, 'F D'], y: Float[Array, '_ D']) -> Float[Array, 'F']:
  # Not a product of matrices, whose sums may depend on the place of a row.
  return (x * y).sum(axis=1)
