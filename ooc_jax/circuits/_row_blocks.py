"""A walk over the rows of a large matrix, block by block, on the host."""

from collections.abc import Iterator
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp


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
