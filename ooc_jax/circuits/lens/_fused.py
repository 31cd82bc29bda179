"""The walk of `_scan` in one kernel: no logit reaches the device's memory.

A tile of products is made by the tensor units and reduced where it lies, by
`_tile`: into the sums of the statistics, and for every group of tokens into
its two largest products, with their places, and the third. A group
is up to 128 rows of the table, a stride apart, so that neighbours (digits,
scripts) are in groups of their own. Of V / group groups the few with the
largest bounds hold all candidates; plain XLA looks them up, and what is left
out is bounded by the next group and by every group's third. So no product is
made twice, and what is written is a few per cent of the logits. Where three of
a feature's k best are in one group, its certificate fails, and it is computed
again as ever: with 4,000 groups and k = 10 that is one in 100,000.

A grid for each compiler: `_tpu_walk` (Mosaic) and `_gpu_walk` (Triton), around
one body. On a CPU the TPU's is interpreted, for tests: several times slower
than the plain walk.
"""

import functools

import jax
from jax.experimental import pallas as pl
import jax.numpy as jnp
from jaxtyping import Array, Float

from ooc_jax.circuits.lens import _gpu_walk
from ooc_jax.circuits.lens import _tile
from ooc_jax.circuits.lens import _tpu_walk
from ooc_jax.circuits.lens._prepare import PreparedDirections
from ooc_jax.circuits.lens._scan import Candidates
from ooc_jax.circuits.lens._scan import Positions
from ooc_jax.circuits.lens._scan import ScanSpec
from ooc_jax.circuits.lens._scan import error_bound
from ooc_jax.circuits.lens._scan import take
from ooc_jax.circuits.lens._scan import top_k
from ooc_jax.circuits.lens._sums import Sums
from ooc_jax.circuits.numerics import Blocks
from ooc_jax.circuits.numerics import divide

# By platform: the grid, and of how many features.
_GRIDS = {
    'tpu': (_tpu_walk, _tpu_walk.FEATURES),
    'gpu': (_gpu_walk, _gpu_walk.TILE),
    'cpu': (_tpu_walk, _tpu_walk.FEATURES),
}


def scan(
    prepared: PreparedDirections,
    table: Float[Array, 'V D'],
    positions: Positions,
    blocks: Blocks,
    spec: ScanSpec,
    *,
    platform: str,
) -> tuple[Sums, Candidates]:
  """All logits of `prepared` over `table`; see `_scan.scan`.

  Args:
    prepared: See `_scan.scan`.
    table: See `_scan.scan`.
    positions: See `_scan.scan`.
    blocks: The plain walk, whose positions these are.
    spec: Its sums are always made.
    platform: 'tpu', 'gpu', or 'cpu', where kernels are interpreted.
  """
  (_, F, _), V = prepared.pieces.shape, table.shape[0]
  grid, step = _GRIDS[platform]
  groups = grid.groups_of(V)
  step = min(step, max(_tpu_walk.STEP, pl.next_power_of_2(F)))
  row = jnp.arange(V, dtype=jnp.int32)
  each: Positions = jax.tree.map(
      lambda x: x[blocks.position_of(row)], positions
  )
  pad = [(0, groups.rows - V)]
  rows = [jnp.pad(each.keep, pad)]
  if each.scale is not None:
    rows.append(jnp.pad(each.scale, pad))
  inverse = jnp.ones_like(prepared.centre)
  if prepared.temperature is not None:
    inverse = divide(1.0, prepared.temperature)
  own = jnp.stack(
      [prepared.centre, prepared.scale, prepared.shift, prepared.threshold,
       inverse, *[inverse] * 3], axis=1,
  )  # fmt: skip
  more = [(0, -F % step), (0, 0)]
  found = grid.walk(
      jnp.pad(prepared.pieces, [(0, 0), *more]),
      table,
      jnp.stack(rows),
      jnp.pad(own, more),
      groups,
      spec,
      platform == 'cpu',
  )
  found = _tile.Found(
      jax.tree.map(lambda x: x[:F], found.running),
      found.value[:, :, :F],
      found.place[:, :F],
  )
  sizes = groups.most(jnp.pad(each.size, pad, constant_values=-jnp.inf))
  error = error_bound(prepared, sizes[None])
  candidates = _choose(
      found, prepared, each, error, groups, blocks, spec.candidates
  )
  return _tile.join_lanes(found.running), candidates


def _choose(
    found: _tile.Found,
    prepared: PreparedDirections,
    each: Positions,
    error: Float[Array, 'F groups'],
    groups: _tile.Groups,
    blocks: Blocks,
    num: int,
) -> Candidates:
  """The best tokens, of the groups whose first is the best."""
  first, second, third = found.value
  ends, F, count = first.shape
  kept = min(num, count)
  bound, group = top_k(first + error[None], kept)
  left_out = (third + error[None]).max(axis=2)
  if kept < count:
    left_out = jnp.maximum(left_out, bound[:, :, -1])
  place = take(found.place, group)
  value = jnp.concatenate([take(first, group), take(second, group)], axis=2)
  at = jnp.concatenate([place & 0xFFFF, place >> 16], axis=2)
  row = groups.first(jnp.tile(group, 2)) + at * groups.stride
  row = jnp.minimum(row, each.keep.size - 1)
  # Of each token now, not the largest of its group.
  exact = jax.vmap(functools.partial(error_bound, prepared))(each.size[row])
  real = ~jnp.isneginf(value)
  exact = jnp.where(real, exact, -jnp.inf)
  value = jnp.where(real, value, 0.0)
  kept = min(num, 2 * kept)
  bound, index = top_k(value + exact, kept)
  if kept < value.shape[2]:
    left_out = jnp.maximum(left_out, bound[:, :, -1])
  return Candidates(
      take(value, index),
      take(exact, index),
      blocks.position_of(take(row, index)),
      left_out,
  )
