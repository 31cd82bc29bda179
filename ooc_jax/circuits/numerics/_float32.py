"""What float32 alone does not give: its powers of two, and longer products."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ooc_jax.circuits.numerics._blocks import fold_last

_BIAS = 127
# Leaves 12 of the 24 significant bits of a float32, its sign and exponent.
_HIGH_HALF = 0xFFFFF000


def exponent_of(x: Float[Array, '...']) -> Int[Array, '...']:
  """e such that 1 <= |x| / 2^e < 2 for normal numbers, and 0 for zero."""
  bits = jax.lax.bitcast_convert_type(jnp.abs(x), jnp.int32)
  return jnp.where(x == 0, 0, (bits >> 23) - _BIAS)


def times_power(
    x: Float[Array, '...'], exponent: Int[Array, '...']
) -> Float[Array, '...']:
  """x·2^exponent, exact unless it overflows or underflows."""
  # In halves, for one factor may be beyond float32 where the result is not.
  half = exponent >> 1
  return x * _power(half) * _power(exponent - half)


def scaled_rows(
    x: Float[Array, 'F D'], *, centered: bool = False
) -> tuple[Float[Array, 'F D'], Int[Array, 'F'], Float[Array, 'F']]:
  """Rows divided by a power of two each, so that no square over- or underflows.

  Args:
    x: Of any length that float32 can hold.
    centered: Whether a row's mean is subtracted, as LayerNorm does.

  Returns:
    The rows, the exponents (x is row·2^exponent), and the norms of the rows.
  """
  x = x.astype(jnp.float32)
  exponent = exponent_of(jnp.abs(x).max(axis=1))
  row = times_power(x, -exponent[:, None])
  if centered:
    row = row - row.mean(axis=1, keepdims=True)
  # By itself, so that its digits do not depend on what is compiled with it.
  row = jax.lax.optimization_barrier(row)
  return row, exponent, jnp.linalg.norm(row, axis=1)


def bfloat16_pieces(x: Float[Array, '...']) -> tuple[Float[Array, '...'], ...]:
  """Bfloat16 numbers that add up to `x`: itself, or three.

  Three times 8 significant bits are the 24 of a float32, so nothing is lost but
  what is under 2^-126. A piece is at most 2^-8 of the one before it.
  """
  if x.dtype == jnp.bfloat16:
    return (x,)
  rest, pieces = x.astype(jnp.float32), []
  for _ in range(3):
    # A cast there and back would not do: XLA may drop both.
    piece = jax.lax.reduce_precision(rest, exponent_bits=8, mantissa_bits=7)
    pieces.append(piece.astype(jnp.bfloat16))
    rest = rest - piece
  return tuple(pieces)


def divide(x: Array | float, y: Float[Array, '...']) -> Float[Array, '...']:
  """x / y, and 0 where y is not above 0."""
  return jnp.where(y > 0, x / jnp.where(y > 0, y, 1.0), 0.0)


class Dot(NamedTuple):
  """Inner products in two float32 numbers, to about 2^-36 of Σ|x y|.

  Attributes:
    value: Rounded once to float32; +0 for zero of either sign.
    rest: What rounding took: the product is value + rest.
  """

  value: Float[Array, '...']
  rest: Float[Array, '...']


def compensated_dots(x: Float[Array, 'n D'], y: Float[Array, 'n D']) -> Dot:
  """x[i] · y[i].

  The result depends on the two rows alone: not on the block, the mesh or the
  device that computes it. Every product of halves is exact in float32, so it
  is the same whether or not it is fused into a sum, and sums carry their
  rounding errors along (the dot product of Ogita, Rump and Oishi 2005, doi
  10.1137/030601818).

  Args:
    x: Float32 rows.
    y: Rows of any float dtype. Products should neither overflow nor come near
      the smallest float32.

  Returns:
    The products.
  """
  x_high, x_low = _halves(x)
  if y.dtype == jnp.float32:
    y_high, y_low = _halves(y)
    low = (x_high * y_low + x_low * y_high) + x_low * y_low
  else:  # At most 11 significant bits.
    y_high = y.astype(jnp.float32)
    low = x_low * y_high
  pair = (x_high * y_high, low)
  while pair[0].shape[1] > 1:
    pair = fold_last(pair, _add)
  value, rest = _add((pair[0][:, 0], jnp.float32(0)), (pair[1][:, 0], 0.0))
  return Dot(jnp.where(value == 0, 0.0, value), rest)


def _power(exponent):
  """2^exponent for exponents of normal numbers."""
  bits = (exponent + _BIAS).astype(jnp.int32) << 23
  return jax.lax.bitcast_convert_type(bits, jnp.float32)


def _halves(x: Float[Array, '...']) -> tuple[Array, Array]:
  """x as a sum of two numbers of 12 significant bits each."""
  bits = jax.lax.bitcast_convert_type(x, jnp.uint32) & jnp.uint32(_HIGH_HALF)
  high = jax.lax.bitcast_convert_type(bits, jnp.float32)
  return high, x - high


def _add(left, right):
  """Sum of two (value, error) pairs; the error of the sum is exact (Knuth)."""
  total = left[0] + right[0]
  seen = total - left[0]
  error = (left[0] - (total - seen)) + (right[0] - seen)
  return total, (left[1] + right[1]) + error
