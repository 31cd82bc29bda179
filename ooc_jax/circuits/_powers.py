"""Powers of two: taking them out of float32 numbers, and putting them back."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

_BIAS = 127


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


def _power(exponent):
  """2^exponent for exponents of normal numbers."""
  bits = (exponent + _BIAS).astype(jnp.int32) << 23
  return jax.lax.bitcast_convert_type(bits, jnp.float32)
