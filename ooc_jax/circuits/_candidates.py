"""The tokens that may be at either end, as a pass sees them.

A pass keeps whole groups of tokens, those with the largest bounds; at its end
the best tokens of these groups are its candidates.

Axis letters: F features (of one block), P positions, g groups, n a group's
members, c candidates.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ooc_jax.circuits._blocks import Blocks
from ooc_jax.circuits._sums import Feature

# What terms too small for float32 may add up to, in products near 1 at most.
_UNDERFLOW = 1e-33


class Positions(NamedTuple):
  """One number per position of the walk over a table.

  Attributes:
    keep: 1 where a row counts, else 0.
    size: Norm of the row; minus infinity where it does not count.
    loss: Norm of what rounding takes from the row, or None where nothing.
    scale: Multiplies the row's logits, or None.
  """

  keep: Float[Array, 'P']
  size: Float[Array, 'P']
  loss: Float[Array, 'P'] | None
  scale: Float[Array, 'P'] | None


class Candidates(NamedTuple):
  """The largest and the smallest x: axis 0 has the ends, top first.

  Values of the bottom are negated, so that larger is further out in both.

  Attributes:
    value: x, sorted by what it could be at most, largest first.
    error: Bound on its error; minus infinity where a row does not count.
    position: Where it was found.
    left_out: No x that is not listed is truly over this.
  """

  value: Float[Array, '2 F c']
  error: Float[Array, '2 F c']
  position: Int[Array, '2 F c']
  left_out: Float[Array, '2 F']


class Kept(NamedTuple):
  """The best groups so far: bound, number and values of their members."""

  bound: Float[Array, '2 F g']
  group: Int[Array, '2 F g']
  value: Float[Array, '2 F g n']


def none_kept(F: int, num: int, blocks: Blocks) -> Kept:
  """Before the first block."""
  return Kept(
      jnp.full((2, F, num), -jnp.inf),
      jnp.zeros((2, F, num), jnp.int32),
      jnp.zeros((2, F, num, blocks.group)),
  )


def error_bound(feature, size, loss):
  """Bound on the error of x, [F, ...] from [1, ...]."""
  shape = (-1,) + (1,) * (size.ndim - 1)
  error = feature.size_error.reshape(shape) * size + _UNDERFLOW
  if loss is None:
    return error
  return error + feature.loss_error.reshape(shape) * loss


def join(kept: Kept, logits, bounds, first, blocks: Blocks) -> Kept:
  """The best groups of those kept and those of the blocks just made."""
  F, num = kept.bound.shape[1:]
  # Those kept come first: they are large, and the search is then quicker.
  bound, index = _top_k(
      jnp.concatenate([kept.bound, bounds.reshape(2, F, -1)], axis=2), num
  )
  old = jnp.minimum(index, num - 1)
  new = jnp.maximum(index - num, 0)
  members = blocks.positions(new)  # Within these blocks.
  fresh = _take(logits.reshape(1, F, -1), members.reshape(2, F, -1)).reshape(
      members.shape
  )
  is_old = index < num
  return Kept(
      bound,
      jnp.where(
          is_old,
          _take(kept.group, old),
          new + first * blocks.lanes,
      ),
      jnp.where(
          is_old[..., None],
          _take(kept.value, old[..., None]),
          fresh,
      ),
  )


def choose(
    kept: Kept, feature: Feature, positions: Positions, blocks: Blocks, num
) -> Candidates:
  """The best tokens of the best groups."""
  F = kept.bound.shape[1]
  sign = jnp.float32([1, -1]).reshape(2, 1, 1)
  value = kept.value.reshape(2, F, -1) * sign
  position = blocks.positions(kept.group).reshape(2, F, -1)
  flat = position.reshape(2 * F, -1)
  twice = jax.tree.map(
      lambda x: jnp.tile(x, 2), (feature.size_error, feature.loss_error)
  )
  both = feature._replace(size_error=twice[0], loss_error=twice[1])
  error = error_bound(
      both,
      positions.size[flat],
      None if positions.loss is None else positions.loss[flat],
  ).reshape(value.shape)
  # What stands for no group yet has no members.
  held = jnp.repeat(~jnp.isneginf(kept.bound), blocks.group, axis=2)
  error = jnp.where(held, error, -jnp.inf)
  num = min(num, value.shape[2])
  bound, index = _top_k(value + error, num)
  left_out = jnp.full((2, F), -jnp.inf)
  if num < value.shape[2]:
    left_out = bound[:, :, -1]
  if kept.bound.shape[2] < blocks.groups:
    left_out = jnp.maximum(left_out, kept.bound[:, :, -1])
  return Candidates(
      _take(value, index),
      _take(error, index),
      _take(position, index),
      left_out,
  )


def _take(x: Array, index: Int[Array, '...']) -> Array:
  return jnp.take_along_axis(x, index, axis=2, mode='promise_in_bounds')


def _top_k(
    x: Float[Array, '2 F n'], k: int
) -> tuple[Float[Array, '2 F k'], Int[Array, '2 F k']]:
  # XLA:CPU knows a quick search for matrices only, and runs it on one core,
  # but two of them side by side.
  top, bottom = jax.lax.top_k(x[0], k), jax.lax.top_k(x[1], k)
  return jnp.stack([top[0], bottom[0]]), jnp.stack([top[1], bottom[1]])
