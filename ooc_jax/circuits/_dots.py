"""Inner products to more digits than float32 has."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ooc_jax.circuits._blocks import fold_last

# Keeps 12 of the 24 significant bits of a float32, its sign and exponent.
_HIGH_HALF = 0xFFFFF000


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


class Dot(NamedTuple):
  """Inner products in two float32 numbers, to about 2^-36 of Σ|x y|.

  Attributes:
    value: Rounded once to float32; +0 for zero of either sign.
    rest: What rounding took: the product is value + rest.
  """

  value: Float[Array, '...']
  rest: Float[Array, '...']


def exact_dots(x: Float[Array, 'P D'], y: Float[Array, 'P D']) -> Dot:
  """x[p] · y[p].

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
