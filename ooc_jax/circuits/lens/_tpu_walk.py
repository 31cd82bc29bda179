"""The fused walk as a grid for Mosaic: features by blocks of rows, in turn.

Outputs that a block of rows does not change stay in VMEM until the next: sums
in 128 lanes, each with a peak of the softmax of its own, so that nothing goes
from lane to lane.
"""

import functools

import jax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
import jax.numpy as jnp
from jaxtyping import Array, Float

from ooc_jax.circuits.lens import _tile
from ooc_jax.circuits.lens._scan import ScanSpec

LANES = 128
# Features that share a tile of the table, and that are reduced at once: two
# registers a chunk.
FEATURES, STEP = 512, 16
# Of a tile of the table: 5 MB in bfloat16, twice, of 128 MB.
_ENTRIES = 1024 * 2560
_VMEM = 100 * 2**20


def groups_of(V: int) -> _tile.Groups:
  members = min(max(pl.next_power_of_2(V) // 4096, 8), 64)
  return _tile.Groups(members, LANES, pl.cdiv(V, members * LANES))


def walk(
    pieces: Float[Array, 'pieces F D'],
    table: Float[Array, 'V D'],
    rows: Float[Array, 'keep_scale rows'],
    own: Float[Array, 'F 8'],
    groups: _tile.Groups,
    spec: ScanSpec,
    interpret: bool,
) -> _tile.Found:
  """Found by a grid of features by blocks of rows."""
  (num, F, D), V = pieces.shape, table.shape[0]
  ends, softmaxes = 1 + spec.bottom, 1 + spec.both_ends
  f_size = min(FEATURES, F)
  span = groups.members * LANES
  v_size = min(span, max(LANES, _power_of_2(_ENTRIES // D)))
  per_span, chunks = span // v_size, v_size // LANES
  lanes = (f_size, LANES)
  structure = jax.tree.structure(_tile.nothing((1, 1), softmaxes))

  def kernel(piece_ref, table_ref, row_ref, own_ref, *refs):
    total_ref, value_ref, place_ref, x_ref = refs
    block = pl.program_id(1)

    @pl.when(block == 0)
    def _():
      for i, x in enumerate(jax.tree.leaves(_tile.nothing(lanes, softmaxes))):
        total_ref[i] = x

    within = jax.lax.rem(block, per_span)

    @pl.when(within == 0)
    def _():
      value_ref[...] = jnp.full(value_ref.shape, -jnp.inf, jnp.float32)
      place_ref[...] = jnp.zeros(place_ref.shape, jnp.int32)

    x_ref[...] = _tile.add_products(
        None, [piece_ref[i] for i in range(num)], table_ref[...]
    )
    start = within * chunks

    def some_features(i, carry):
      f = pl.ds(pl.multiple_of(i * STEP, STEP), STEP)
      read = []
      for c in range(chunks):
        v = pl.ds(c * LANES, LANES)
        read.append(_tile.mask(x_ref[f, v], *(r[None] for r in row_ref[:, v])))
      furthest = []
      for end in range(ends):
        place = place_ref[end, f]
        first, second, third = (value_ref[n, end, f] for n in range(3))
        best = _tile.Largest(first, second, third, place & 0xFFFF, place >> 16)
        for c, (x, keep) in enumerate(read):
          x = _tile.towards(end, x, keep)
          best = _tile.insert(best, x, start + c)
        for n in range(3):
          value_ref[n, end, f] = best[n]
        place_ref[end, f] = best.first_at | best.second_at << 16
        furthest.append(best.first)
      running = jax.tree.unflatten(
          structure, [total_ref[n, f] for n in range(structure.num_leaves)]
      )
      running = _tile.add_tile(
          running,
          read,
          furthest,
          _tile.Own(*(own_ref[f, n : n + 1] for n in range(5))),
          spec.softcap,
          lambda terms: functools.reduce(jnp.add, terms),
      )
      for n, x in enumerate(jax.tree.leaves(running)):
        total_ref[n, f] = x
      return carry

    jax.lax.fori_loop(0, f_size // STEP, some_features, 0)

  totals = structure.num_leaves
  total, value, place = pl.pallas_call(
      kernel,
      grid=(F // f_size, pl.cdiv(V, v_size)),
      in_specs=[
          pl.BlockSpec((num, f_size, D), lambda f, v: (0, f, 0)),
          pl.BlockSpec((v_size, D), lambda f, v: (v, 0)),
          pl.BlockSpec((rows.shape[0], v_size), lambda f, v: (0, v)),
          pl.BlockSpec((f_size, own.shape[1]), lambda f, v: (f, 0)),
      ],
      # What a block does not change stays in VMEM until its features change.
      out_specs=[
          pl.BlockSpec((totals, *lanes), lambda f, v: (0, f, 0)),
          pl.BlockSpec(
              (3, ends, *lanes),
              lambda f, v: (0, 0, f, jax.lax.div(v, per_span)),
          ),
          pl.BlockSpec(
              (ends, *lanes), lambda f, v: (0, f, jax.lax.div(v, per_span))
          ),
      ],
      out_shape=[
          jax.ShapeDtypeStruct((totals, F, LANES), jnp.float32),
          jax.ShapeDtypeStruct((3, ends, F, groups.spans * LANES), jnp.float32),
          jax.ShapeDtypeStruct((ends, F, groups.spans * LANES), jnp.int32),
      ],
      scratch_shapes=[pltpu.VMEM((f_size, v_size), jnp.float32)],
      compiler_params=pltpu.CompilerParams(
          dimension_semantics=('parallel', 'arbitrary'),
          vmem_limit_bytes=_VMEM,
      ),
      interpret=interpret,
      name='lens_walk',
  )(pieces, table, rows, own)
  return _tile.Found(jax.tree.unflatten(structure, list(total)), value, place)


def _power_of_2(n: int) -> int:
  """The largest that is no more than n, which is over 0."""
  return 1 << (n.bit_length() - 1)
