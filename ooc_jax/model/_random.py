"""A model whose weights are drawn anew: the control of a trained one."""

import dataclasses
from typing import Any
import zlib

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ooc_jax.model._model import Model


def random_weights(model: Model, seed: int) -> Model:
  """The same architecture and tokenizer with random weights.

  Every matrix is normal with the root mean square that it had, and every norm
  is as at the start of training (gain 1). What a measure still finds here is
  no work of training (Heap et al. 2025, arXiv 2501.17727).

  Args:
    model: With any of its parts.
    seed: Another one gives other weights; parts that are not loaded do not
      change those that are.
  """
  key = jax.random.key(seed)

  def draw(path: Any, x: Array) -> Array:
    name = '/'.join(part.key for part in path)
    if x.ndim == 1:
      return jnp.full_like(x, 1.0 - model.config.norm_offset)
    # crc32, because Python's own hash of a string differs between runs.
    own = jax.random.fold_in(key, zlib.crc32(name.encode()))
    return _like(x, own)

  params = jax.tree_util.tree_map_with_path(draw, model.params)
  return dataclasses.replace(model, params=params)


@jax.jit
def _like(x: Float[Array, '...'], key: Any) -> Float[Array, '...']:
  scale = jnp.sqrt(jnp.mean(jnp.square(x.astype(jnp.float32))))
  drawn = jax.random.normal(key, x.shape, jnp.float32) * scale
  return drawn.astype(x.dtype)
