"""One pass of directions over a table: sums, and candidates for both ends.

The logits of a block are made once, reduced, and forgotten once the largest
groups among a few blocks are known. They may be rounded (a product in
bfloat16, and any float32 sum is): `_certify` decides what follows for true
logits, and needs for it that every token left out is bounded.

Axis letters: F features (of one block), V rows of a block, P positions.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ooc_jax.circuits._blocks import Blocks
from ooc_jax.circuits._blocks import fold_reduce
from ooc_jax.model import softcap as apply_softcap

# A finite stand-in for minus infinity, whose differences are finite.
_LOWEST = -1e38
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


class Feature(NamedTuple):
  """What goes with each direction; products x are of its normalised row.

  Attributes:
    row: [F, D], as it is multiplied.
    centre: The mean of x over the kept rows, nearly.
    slope: A logit is slope * x + offset.
    offset: See `slope`.
    threshold: Logits above it are active.
    size_error: x is off by at most size_error * size + loss_error * loss.
    loss_error: See `size_error`.
  """

  row: Float[Array, 'F D']
  centre: Float[Array, 'F']
  slope: Float[Array, 'F']
  offset: Float[Array, 'F']
  threshold: Float[Array, 'F']
  size_error: Float[Array, 'F']
  loss_error: Float[Array, 'F']


class Sums(NamedTuple):
  """What a pass leaves of the logits y, per feature, over the kept rows."""

  power_sums: Float[Array, 'F 4']  # Of x - centre.
  lost: Float[Array, 'F 4']  # Kahan's compensation of them.
  peak: Float[Array, 'F']  # Largest y, after the softcap.
  partition: Float[Array, 'F']  # Σ exp(y - peak)
  weighted: Float[Array, 'F']  # Σ exp(y - peak)·(y - peak)
  active: Int[Array, 'F']


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


class _Kept(NamedTuple):
  """The best groups so far: bound, number and values of their members."""

  bound: Float[Array, '2 F g']
  group: Int[Array, '2 F g']
  value: Float[Array, '2 F g n']


class Wanted(NamedTuple):
  """What a pass is for; static under jit.

  Attributes:
    candidates: How many to keep at either end.
    softcap: Bound on the logits in the softmax, or None.
    statistics: Whether sums are wanted.
    active: Whether the tokens over the threshold are counted.
  """

  candidates: int
  softcap: float | None = None
  statistics: bool = True
  active: bool = False


def screen(
    feature: Feature,
    table: Float[Array, 'V D'],
    positions: Positions,
    blocks: Blocks,
    wanted: Wanted,
) -> tuple[Sums, Candidates]:
  """All logits of `feature` over `table`, reduced as they are made.

  Where `feature.row` is bfloat16 the product is of bfloat16 numbers with
  float32 sums, and `table` is rounded to it; otherwise both are float32 and
  the precision is highest.
  """
  F = feature.row.shape[0]
  lanes, joined = blocks.lanes, blocks.joined
  num = min(wanted.candidates, blocks.groups)
  size_G = blocks.group_max(positions.size).reshape(-1, lanes)
  loss_G = None
  if positions.loss is not None:
    loss_G = blocks.group_max(positions.loss).reshape(-1, lanes)
  rows = [
      None if x is None else x.reshape(blocks.count, blocks.rows)
      for x in positions
  ]

  def one_block(i, carry, first):
    sums, logits, bounds = carry
    block = first + i
    keep, size, _, scale = (None if x is None else x[block] for x in rows)
    assert size is not None  # Only losses and scales may be missing.
    x = _product(feature.row, blocks.read(table, block), keep, scale)
    mask = jnp.where(jnp.isfinite(size), 0.0, -jnp.inf)[None]
    high, low = fold_reduce(
        (blocks.fold(x + mask), blocks.fold(x - mask)), 'Mm'
    )
    ends = jnp.stack([high.max(axis=1), -low.min(axis=1)])
    error = _error(
        feature,
        size_G[block][None],
        None if loss_G is None else loss_G[block][None],
    )
    bounds = jax.lax.dynamic_update_slice(
        bounds, (ends + error[None])[:, :, None], (0, 0, i, 0)
    )
    logits = jax.lax.dynamic_update_slice(
        logits, x.reshape(F, 1, blocks.group, lanes), (0, i, 0, 0)
    )
    if wanted.statistics:
      sums = _absorb(sums, x, ends[0], keep, mask, feature, blocks, wanted)
    return sums, logits, bounds

  def some_blocks(carry, step):
    sums, logits, kept = carry
    first = step * joined
    sums, logits, bounds = jax.lax.fori_loop(
        0,
        jnp.minimum(joined, blocks.count - first),
        lambda i, inner: one_block(i, inner, first),
        (sums, logits, jnp.full((2, F, joined, lanes), -jnp.inf)),
    )
    return (sums, logits, _join(kept, logits, bounds, first, blocks)), None

  start = (
      _no_sums(F),
      jnp.zeros((F, joined, blocks.group, lanes)),
      _Kept(
          jnp.full((2, F, num), -jnp.inf),
          jnp.zeros((2, F, num), jnp.int32),
          jnp.zeros((2, F, num, blocks.group)),
      ),
  )
  (sums, _, kept), _ = jax.lax.scan(
      some_blocks,
      start,
      jnp.arange(-(-blocks.count // joined), dtype=jnp.int32),
  )
  return sums, _choose(kept, feature, positions, blocks, wanted.candidates)


def _product(row, table_VD, keep, scale) -> Float[Array, 'F V']:
  # Rows that do not count become zeros: they may hold anything finite.
  rounded = table_VD.astype(row.dtype) * keep.astype(row.dtype)[:, None]
  x = jnp.einsum(
      'FD,VD->FV',
      row,
      rounded,
      precision=jax.lax.Precision.HIGHEST,
      preferred_element_type=jnp.float32,
  )
  return x if scale is None else x * scale[None]


def _error(feature, size, loss):
  """Bound on the error of x, [F, ...] from [1, ...]."""
  shape = (-1,) + (1,) * (size.ndim - 1)
  error = feature.size_error.reshape(shape) * size + _UNDERFLOW
  if loss is None:
    return error
  return error + feature.loss_error.reshape(shape) * loss


def _join(kept: _Kept, logits, bounds, first, blocks: Blocks) -> _Kept:
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
  return _Kept(
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


def _choose(
    kept: _Kept, feature: Feature, positions: Positions, blocks: Blocks, num
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
  error = _error(
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


def _top_k(x: Float[Array, '2 F n'], k: int):
  # XLA:CPU knows a quick search for matrices only.
  values, index = jax.lax.top_k(x.reshape(-1, x.shape[2]), k)
  return values.reshape(*x.shape[:2], k), index.reshape(*x.shape[:2], k)


def _no_sums(F: int) -> Sums:
  return Sums(
      power_sums=jnp.zeros((F, 4)),
      lost=jnp.zeros((F, 4)),
      peak=jnp.full((F,), _LOWEST),
      partition=jnp.zeros((F,)),
      weighted=jnp.zeros((F,)),
      active=jnp.zeros((F,), jnp.int32),
  )


def _absorb(
    sums: Sums, x, highest, keep, mask, feature: Feature, blocks, wanted: Wanted
) -> Sums:
  """Adds one block of x [F, V] to the sums."""
  c = (x - feature.centre[:, None]) * keep[None]
  squares = c * c
  powers = fold_reduce(
      [blocks.fold(p) for p in (c, squares, squares * c, squares * squares)],
      'ssss',
  )
  power_sums, lost = _kahan(
      sums.power_sums, sums.lost, jnp.stack([_rest(p) for p in powers], axis=1)
  )

  logits = _line(x, feature)
  y = apply_softcap(logits, wanted.softcap)
  if wanted.softcap is not None:
    # XLA:CPU computes tanh and exp many entries at once only alone in a loop.
    y = jax.lax.optimization_barrier(y)
  highest = jnp.maximum(highest.max(axis=1), _LOWEST)
  peak = jnp.maximum(
      sums.peak, apply_softcap(_line(highest, feature), wanted.softcap)
  )
  terms = jnp.exp(y - peak[:, None] + mask)
  terms = jax.lax.optimization_barrier(terms)
  totals = fold_reduce(
      (blocks.fold(terms), blocks.fold(terms * (y - peak[:, None]))), 'ss'
  )
  partition, weighted = rescale(sums.peak, sums.partition, sums.weighted, peak)
  active = sums.active
  if wanted.active:
    over = (logits > feature.threshold[:, None]).astype(jnp.float32)
    active += jnp.einsum('FV,V->F', over, keep).astype(jnp.int32)
  return Sums(
      power_sums=power_sums,
      lost=lost,
      peak=peak,
      partition=partition + _rest(totals[0]),
      weighted=weighted + _rest(totals[1]),
      active=active,
  )


def _line(x, feature: Feature):
  shape = (-1,) + (1,) * (x.ndim - 1)
  return x * feature.slope.reshape(shape) + feature.offset.reshape(shape)


def rescale(old_peak, partition, weighted, peak):
  """The two sums of a softmax, taken about another peak."""
  drop = jnp.where(partition > 0, old_peak - peak, 0.0)
  factor = jnp.exp(drop)
  return factor * partition, factor * (weighted + drop * partition)


def _rest(x: Float[Array, 'F n lanes']) -> Float[Array, 'F']:
  return x.sum(axis=(1, 2))


def _kahan(total, lost, term):
  """One compensated addition (Kahan): keeps the low bits of a long sum."""
  y = term - lost
  new = total + y
  return new, (new - total) - y
