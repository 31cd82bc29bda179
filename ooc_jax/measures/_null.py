"""Random directions: what chance alone would predict."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np

from ooc_jax._errors import InputError

# At least so many a layer: 41 of them are 1 %.
NULL_SIZE = 4096
_BLOCK = 256  # Directions at a time: [256, F] normal numbers are held.


def isotropic_directions(
    num_directions: int,
    width: int,
    *,
    seed: int,
    norms: Float[Array | np.ndarray, 'F'] | None = None,
) -> Float[Array, 'n D']:
  """Directions that are uniform on the sphere.

  Args:
    num_directions: n.
    width: D.
    seed: Of the draw; another seed for another layer draws other directions.
    norms: Of a dictionary's directions: each random one is given one of them,
      drawn with replacement. That matters under conventions that keep the norm
      (`raw`, `folded`), where it sets the entropy. 1 if None.

  Raises:
    InputError: There is no direction, no dimension or no norm.
  """
  _check(num_directions, width=width)
  key, norm_key = jax.random.split(jax.random.key(seed))
  rows = jax.random.normal(key, (num_directions, width), jnp.float32)
  rows /= jnp.linalg.norm(rows, axis=1, keepdims=True)
  if norms is None:
    return rows
  _check(num_directions, norms=norms.size)
  drawn = jax.random.choice(norm_key, jnp.asarray(norms), (num_directions,))
  return rows * drawn.astype(jnp.float32)[:, None]


def matched_directions(
    decoder: Float[Array | np.ndarray, 'F D'],
    num_directions: int,
    *,
    seed: int,
) -> Float[Array, 'n D']:
  """Normal directions with the mean and covariance of a dictionary's rows.

  A row is mean + sum_f g_f (decoder_f - mean) / sqrt(F), g of independent
  standard normals: a normal vector whose covariance is (1/F) sum_f (d_f - mean)
  (d_f - mean)^T exactly, of whatever rank, with no matrix to factorise.

  Args:
    decoder: One direction a row; rows may be sharded.
    num_directions: n.
    seed: Of the draw; another seed for another layer draws other numbers.

  Raises:
    InputError: There is no direction, or no row of `decoder`.
  """
  decoder = jnp.asarray(decoder)
  _check(num_directions, width=decoder.shape[1], rows=decoder.shape[0])
  return _matched(decoder, num_directions, seed)


@functools.partial(jax.jit, static_argnums=1)
def _matched(decoder_FD, num_directions: int, seed):
  decoder_FD = decoder_FD.astype(jnp.float32)
  mean_1D = jnp.mean(decoder_FD, axis=0, keepdims=True)
  size = decoder_FD.shape[0]

  def row_block(key):
    g_NF = jax.random.normal(key, (_BLOCK, size), jnp.float32)
    # Weights that sum to 0 give the centred rows without a second table.
    g_NF -= jnp.mean(g_NF, axis=1, keepdims=True)
    return mean_1D + jnp.matmul(
        g_NF, decoder_FD, precision='highest'
    ) / jnp.sqrt(jnp.float32(size))

  num_blocks = -(-num_directions // _BLOCK)
  keys = jax.random.split(jax.random.key(seed), num_blocks)
  rows = jax.lax.map(row_block, keys).reshape(-1, decoder_FD.shape[1])
  return rows[:num_directions]


def _check(num_directions: int, **sizes: int) -> None:
  for name, size in {'number of directions': num_directions, **sizes}.items():
    if size < 1:
      raise InputError(
          f'Random directions were asked for with a {name} of {size}: give at'
          ' least 1.'
      )
