"""Tokens that training hardly touched, found from the unembedding alone."""

from collections.abc import Iterator
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float
import numpy as np

from ooc_jax._errors import InputError


class RowBlocks(NamedTuple):
  """How to walk over the rows of a matrix without a second copy of it.

  The shards of a sharded matrix become an axis S of their own, [V, D] ->
  [S, R, D], and blocks are cut from R: each device reads its own rows, and
  nothing is gathered.

  The walk is a loop on the host, one jitted call a block: out of a jitted loop
  XLA:CPU moves the cast of a bfloat16 matrix to float32, whole.
  """

  shards: int
  rows: int  # Of one shard.
  size: int  # Rows of a block, in each shard.

  @classmethod
  def of(cls, x_VD: jax.Array, block_size: int) -> 'RowBlocks':
    rows = x_VD.sharding.shard_shape(x_VD.shape)[0]
    return cls(x_VD.shape[0] // rows, rows, min(block_size, rows))

  def starts(self) -> Iterator[tuple[int, int]]:
    """First row of every block, and how many of its rows were seen before.

    All blocks have one size, so the last one reaches back.
    """
    for first in range(0, self.rows, self.size):
      start = min(first, self.rows - self.size)
      yield start, first - start

  def read(self, x: jax.Array, start: jax.Array) -> jax.Array:
    """The block of [V, ...] at `start`, [S, B, ...]."""
    x = x.reshape(self.shards, self.rows, *x.shape[1:])
    return jax.lax.dynamic_slice_in_dim(x, start, self.size, axis=1)

  def write(self, x: jax.Array, block: jax.Array, start: jax.Array):
    """`x` [V, ...] with `block` [S, B, ...] written at `start`."""
    x_SR = x.reshape(self.shards, self.rows, *x.shape[1:])
    x_SR = jax.lax.dynamic_update_slice_in_dim(x_SR, block, start, axis=1)
    return x_SR.reshape(x.shape)

  def read_new(self, mask_V: jax.Array, start: jax.Array, skip: jax.Array):
    """The block of a mask [S, B], False where its rows were seen before."""
    new_B = jnp.arange(self.size) >= skip
    return self.read(mask_V, start) & new_B[None]


# Jits a step over one block: updates its first argument in place.
jit_step = functools.partial(
    jax.jit, static_argnames='blocks', donate_argnums=0
)


@jit_step
def _add_rows(sum_D, x_VD, mask_V, start, skip, *, blocks):
  rows_SBD = blocks.read(x_VD, start).astype(jnp.float32)
  new_SB = blocks.read_new(mask_V, start, skip)
  return sum_D + jnp.sum(rows_SBD, axis=(0, 1), where=new_SB[:, :, None])


def mean_row(x_VD, mask_V, blocks: RowBlocks):
  """Mean of the rows in the mask, in float32; zeros where there is none."""
  sum_D = jnp.zeros(x_VD.shape[1], jnp.float32)
  for start, skip in blocks.starts():
    sum_D = _add_rows(sum_D, x_VD, mask_V, start, skip, blocks=blocks)
  return sum_D / jnp.maximum(jnp.sum(mask_V), 1).astype(jnp.float32)


@jit_step
def _mark_near(near_V, x_VD, mean_D, direction_D, cosine, start, *, blocks):
  """Marks the rows of a block whose cosine to the direction is over a level."""
  rows_SBD = blocks.read(x_VD, start).astype(jnp.float32) - mean_D[None, None]
  dot_SB = jnp.einsum('SBD,D->SB', rows_SBD, direction_D, precision='highest')
  squares_SB = jnp.sum(jnp.square(rows_SBD), axis=2)
  norms_SB = jnp.sqrt(squares_SB * jnp.sum(jnp.square(direction_D)))
  # Not divided, so that a zero row or direction is near nothing.
  return blocks.write(near_V, dot_SB > cosine * norms_SB, start)


def undertrained_tokens(
    unembedding: Float[Array, 'V D'],
    seeds: Bool[Array | np.ndarray, 'V'],
    *,
    cosine: float = 0.6,
    block_size: int = 4096,
) -> Bool[Array, 'V']:
  """Flags the tokens whose unembedding row looks like that of an unseen token.

  After Land and Bartolo (2024, arXiv 2405.05417): rows of tokens that were
  never a target all moved alike, away from every output. With rows centred on
  the mean over all V, r is the mean row of the seeds, refined once as the mean
  of the rows whose cosine to it is over `cosine`; flagged are the rows whose
  cosine to the refined r is over `cosine`.

  Args:
    unembedding: One row per token, of any float type; may be sharded.
    seeds: Tokens that no text holds: reserved, unused, control characters.
      Without any, nothing is flagged. A seed is not flagged for being one;
      where most seeds are trained after all, they share no direction and
      nothing is flagged either.
    cosine: The setting above, in [0, 1).
    block_size: Rows at a time, on each device; [block_size, D] is held.

  Returns:
    True where a token is under-trained.

  Raises:
    InputError: `cosine` is out of range, or a row is not finite.
  """
  if not 0.0 <= cosine < 1.0:
    raise InputError(
        f'The cosine over which a token counts as under-trained is {cosine}:'
        ' give a number from 0 to below 1 (0.6 by default).'
    )
  blocks = RowBlocks.of(unembedding, block_size)
  near_V = jnp.asarray(seeds)
  mean_D = mean_row(unembedding, jnp.ones_like(near_V), blocks)
  if not np.isfinite(mean_D).all():
    raise InputError(
        'The unembedding has rows that are not finite: load the weights again.'
    )
  level = jnp.float32(cosine)
  for _ in range(2):  # Once from the seeds, once refined.
    # Without rows there is no direction, rather than that of minus the mean.
    direction_D = jnp.where(
        near_V.any(), mean_row(unembedding, near_V, blocks) - mean_D, 0.0
    )
    near_V = jnp.zeros_like(near_V)
    for start, _ in blocks.starts():
      near_V = _mark_near(
          near_V, unembedding, mean_D, direction_D, level, start, blocks=blocks
      )
  return near_V
