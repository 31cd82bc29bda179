"""One pass of directions over a table: sums, and candidates for top and bottom.

The logits of a block are made once, reduced, and forgotten once the largest
groups among a few blocks are known. They are rounded, as any float32 sum is:
`_certificate` decides what follows for true logits, and needs for it that every
token left out is bounded. So a pass keeps whole groups of tokens, those with
the largest bounds, and at its end the best tokens of these groups are its
candidates.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ooc_jax.circuits.lens import _sums
from ooc_jax.circuits.lens._prepare import PreparedDirections
from ooc_jax.circuits.lens._sums import Sums
from ooc_jax.circuits.numerics import Blocks
from ooc_jax.circuits.numerics import bfloat16_pieces
from ooc_jax.circuits.numerics import fold_reduce


class ScanSpec(NamedTuple):
  """What a pass is for; static under jit.

  Attributes:
    candidates: How many to keep at either end.
    softcap: Bound on the logits in the softmax, or None.
    statistics: Whether sums are made, too.
    both_ends: Whether they are of a softmax of minus the logits, too.
    bottom: Whether candidates are kept at the bottom, too.
  """

  candidates: int
  softcap: float | None = None
  statistics: bool = True
  both_ends: bool = False
  bottom: bool = True


class Positions(NamedTuple):
  """One number per position of the walk over a table.

  Attributes:
    keep: 1 where a row counts, else 0.
    size: Norm of the row; minus infinity where it does not count.
    scale: Multiplies the row's logits, or None.
  """

  keep: Float[Array, 'positions']
  size: Float[Array, 'positions']
  scale: Float[Array, 'positions'] | None


class Candidates(NamedTuple):
  """The largest and the smallest x: axis 0 has top and bottom, or the top.

  Values of the bottom are negated, so that larger is further out in both.

  Attributes:
    value: x, sorted by what it could be at most, largest first.
    error: Bound on its error; minus infinity where a row does not count.
    position: Where it was found.
    left_out: No x that is not listed is truly over this.
  """

  value: Float[Array, 'ends F candidates']
  error: Float[Array, 'ends F candidates']
  position: Int[Array, 'ends F candidates']
  left_out: Float[Array, 'ends F']


class BestGroups(NamedTuple):
  """The best groups so far: bound, number and values of their members."""

  bound: Float[Array, 'ends F groups']
  group: Int[Array, 'ends F groups']
  value: Float[Array, 'ends F groups members']


def scan(
    prepared: PreparedDirections,
    table: Float[Array, 'V D'],
    positions: Positions,
    blocks: Blocks,
    spec: ScanSpec,
) -> tuple[Sums, Candidates]:
  """All logits of `prepared` over `table`, reduced as they are made.

  Where `prepared.pieces` are bfloat16, products are of bfloat16 numbers with
  float32 sums; otherwise both factors are float32 and the precision is highest.
  """
  F, ends = prepared.centre.shape[0], 1 + spec.bottom
  lanes, joined = blocks.lanes, blocks.joined
  num = min(spec.candidates, blocks.groups)
  sizes = blocks.group_max(positions.size).reshape(-1, lanes)
  rows = [
      None if x is None else x.reshape(blocks.count, blocks.rows)
      for x in positions
  ]

  def one_block(i, carry, first):
    sums, logits, bounds = carry
    block = first + i
    keep, size, scale = (None if x is None else x[block] for x in rows)
    assert keep is not None and size is not None  # Only scales may be missing.
    x = _products(prepared.pieces, blocks.read(table, block), keep, scale)
    mask = jnp.where(jnp.isfinite(size), 0.0, -jnp.inf)[None]
    high, *low = fold_reduce(
        (blocks.fold(x + mask), blocks.fold(x - mask))[:ends], 'Mm'[:ends]
    )
    extremes = jnp.stack([high.max(axis=1), *(-y.min(axis=1) for y in low)])
    error = error_bound(prepared, sizes[block][None])
    bounds = jax.lax.dynamic_update_slice_in_dim(
        bounds, (extremes + error[None])[:, :, None], i, axis=2
    )
    logits = jax.lax.dynamic_update_slice_in_dim(
        logits, x.reshape(F, 1, blocks.group, lanes), i, axis=1
    )
    if spec.statistics:
      sums = _sums.absorb(
          sums,
          x,
          extremes.max(axis=2),
          keep,
          mask,
          prepared,
          blocks,
          softcap=spec.softcap,
      )
    return sums, logits, bounds

  def some_blocks(carry, step):
    sums, logits, best = carry
    first = step * joined
    sums, logits, bounds = jax.lax.fori_loop(
        0,
        jnp.minimum(joined, blocks.count - first),
        lambda i, inner: one_block(i, inner, first),
        (
            sums,
            logits,
            jnp.full((ends, F, joined, lanes), -jnp.inf, jnp.float32),
        ),
    )
    return (
        sums,
        logits,
        _join(best, logits, bounds, first, blocks),
    ), None

  start = (
      _sums.no_sums(F, spec.both_ends),
      jnp.zeros((F, joined, blocks.group, lanes), jnp.float32),
      _no_groups(ends, F, num, blocks),
  )
  (sums, _, best), _ = jax.lax.scan(
      some_blocks,
      start,
      jnp.arange(-(-blocks.count // joined), dtype=jnp.int32),
  )
  return sums, _choose(best, prepared, positions, blocks, spec.candidates)


def _products(pieces, table, keep, scale) -> Float[Array, 'F V']:
  """Products of rows with those of a table.

  Both in float32, or in pieces that each are 2^-8 of the one before: the third
  of one side with the second of the other, and less, is under float32.
  """
  # Rows that do not count become zeros: they may hold anything finite.
  # (A choice, as XLA:CPU multiplies bfloat16 numbers in two steps.)
  table = jnp.where(keep[:, None] > 0, table, 0)
  if pieces.dtype == jnp.bfloat16:
    others, precision = bfloat16_pieces(table), 'default'
  else:
    others, precision = (table.astype(jnp.float32),), 'highest'
  terms = [
      jnp.einsum(
          'PFD,VD->PFV',
          pieces[: len(pieces) - i],
          other,
          precision=precision,
          preferred_element_type=jnp.float32,
      )
      for i, other in enumerate(others)
  ]
  # From the smallest to the largest.
  x = functools.reduce(jnp.add, (x for y in terms[::-1] for x in y[::-1]))
  return x if scale is None else x * scale[None]


def _no_groups(ends: int, F: int, num: int, blocks: Blocks) -> BestGroups:
  """No group is known before the first block."""
  return BestGroups(
      jnp.full((ends, F, num), -jnp.inf, jnp.float32),
      jnp.zeros((ends, F, num), jnp.int32),
      jnp.zeros((ends, F, num, blocks.group), jnp.float32),
  )


def error_bound(prepared, size):
  """Bound on the error of x, [F, ...] from [1, ...]."""
  error, least = (
      x.reshape((-1,) + (1,) * (size.ndim - 1))
      for x in (prepared.size_error, prepared.least_error)
  )
  return error * size + least


def _join(
    best: BestGroups, logits, bounds, first, blocks: Blocks
) -> BestGroups:
  """The best groups of those known and those of the blocks just made."""
  ends, F, num = best.bound.shape
  # The known groups come first: they are large, and the search is then quicker.
  bound, index = top_k(
      jnp.concatenate([best.bound, bounds.reshape(ends, F, -1)], axis=2), num
  )
  old = jnp.minimum(index, num - 1)
  new = jnp.maximum(index - num, 0)
  members = blocks.positions(new)  # Within these blocks.
  fresh = take(logits.reshape(1, F, -1), members.reshape(ends, F, -1)).reshape(
      members.shape
  )
  is_old = index < num
  return BestGroups(
      bound,
      jnp.where(
          is_old,
          take(best.group, old),
          new + first * blocks.lanes,
      ),
      jnp.where(
          is_old[..., None],
          take(best.value, old[..., None]),
          fresh,
      ),
  )


def _choose(
    best: BestGroups,
    prepared: PreparedDirections,
    positions: Positions,
    blocks: Blocks,
    num,
) -> Candidates:
  """The best tokens of the best groups."""
  ends, F = best.bound.shape[:2]
  sign = jnp.float32([1, -1][:ends]).reshape(ends, 1, 1)
  value = best.value.reshape(ends, F, -1) * sign
  position = blocks.positions(best.group).reshape(ends, F, -1)
  flat = position.reshape(ends * F, -1)
  each = prepared._replace(
      size_error=jnp.tile(prepared.size_error, ends),
      least_error=jnp.tile(prepared.least_error, ends),
  )
  error = error_bound(each, positions.size[flat]).reshape(value.shape)
  # What stands for no group yet has no members.
  known = jnp.repeat(~jnp.isneginf(best.bound), blocks.group, axis=2)
  error = jnp.where(known, error, -jnp.inf)
  num = min(num, value.shape[2])
  bound, index = top_k(value + error, num)
  left_out = jnp.full((ends, F), -jnp.inf, jnp.float32)
  if num < value.shape[2]:
    left_out = bound[:, :, -1]
  if best.bound.shape[2] < blocks.groups:
    left_out = jnp.maximum(left_out, best.bound[:, :, -1])
  return Candidates(
      take(value, index),
      take(error, index),
      take(position, index),
      left_out,
  )


def take(x: Array, index: Int[Array, '...']) -> Array:
  return jnp.take_along_axis(x, index, axis=2, mode='promise_in_bounds')


def top_k(
    x: Float[Array, 'ends F n'], k: int
) -> tuple[Float[Array, 'ends F k'], Int[Array, 'ends F k']]:
  # XLA:CPU knows a quick search for matrices only, and runs it on one core,
  # but two of them side by side.
  values, indices = zip(*(jax.lax.top_k(end, k) for end in x), strict=True)
  return jnp.stack(values), jnp.stack(indices)
