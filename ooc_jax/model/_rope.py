"""Rotary position embedding over the P rotate-half pairs (i, i + P).

P is H/2, or fewer where only the first entries of a head turn.
"""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np

from ooc_jax.model._config import Llama3Scaling
from ooc_jax.model._config import Rope


def rope_frequencies(rope: Rope | None, head_dim: int) -> np.ndarray:
  """Radians per position of every rotary pair.

  Args:
    rope: The embedding's settings; None where nothing turns.
    head_dim: H, even.

  Returns:
    Float64 [P]: `base ** (-2i/2P)`, then the scaling (Llama 3.1:
    interpolation between kept and divided frequencies, `rope_type` "llama3" of
    transformers). The reference code computes them in float32, which is up to
    4e-7 from this, relatively; float32 angles are off by as much anyway.
  """
  if rope is None:
    return np.zeros(0)
  width = rope.rotary_dim or head_dim
  exponents = np.arange(0, width, 2, dtype=np.float64) / width
  frequencies = rope.base**-exponents / rope.linear_factor
  if rope.divisors is not None:
    frequencies = frequencies / np.asarray(rope.divisors, np.float64)
  if rope.llama3 is not None:
    frequencies = _llama3(frequencies, rope.llama3)
  return frequencies


def _llama3(frequencies: np.ndarray, scaling: Llama3Scaling) -> np.ndarray:
  turns = scaling.original_context * frequencies / (2 * math.pi)
  low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
  # 0 below `low` turns over the original context, 1 above `high`.
  keep = np.clip((turns - low) / (high - low), 0.0, 1.0)
  return keep * frequencies + (1 - keep) * frequencies / scaling.factor


def apply_rope(
    x: Float[Array, 'B T N H'],
    positions: Int[Array, 'B T'],
    frequencies: Float[np.ndarray, 'P'],
) -> Float[Array, 'B T N H']:
  """Rotates pairs (i, i + P) of `x` by position times frequency.

  Angles are float32 whatever `x` is: bfloat16 cannot hold position 4097.

  Args:
    x: Queries or keys.
    positions: Position of each token.
    frequencies: From `rope_frequencies`.

  Returns:
    The rotated `x`, in its dtype.
  """
  P = len(frequencies)
  if not P:
    return x
  angles_BTP = positions[..., None].astype(jnp.float32) * jnp.asarray(
      frequencies, jnp.float32
  ).reshape(1, 1, -1)
  cos = jnp.cos(angles_BTP)[:, :, None, :]
  sin = jnp.sin(angles_BTP)[:, :, None, :]
  first, second, rest = jnp.split(x.astype(jnp.float32), (P, 2 * P), axis=-1)
  rotated = jnp.concatenate(
      [first * cos - second * sin, second * cos + first * sin, rest], axis=-1
  )
  return rotated.astype(x.dtype)
