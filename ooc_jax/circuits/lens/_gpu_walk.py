"""The fused walk as a grid for Triton: features by spans, side by side.

A program loops over the tiles of its span, two at a time, and inside these over
D: nothing stays on the chip from program to program. Spans are joined as lanes
are. Two tiles share what is read of the directions, which is most of what goes
from the L2 cache to a core; each is one sum, of all pieces, so that both stay
in accumulators. Such a sum is rounded once for 16 columns of a piece: less
often than the bound on its error counts, which is once a column.
"""

import jax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu
import jax.numpy as jnp
from jaxtyping import Array, Float

from ooc_jax.circuits.lens import _tile
from ooc_jax.circuits.lens._scan import ScanSpec

# Features, and rows, of a tile.
TILE = 128
_TOGETHER = 2
# Columns of D at a time (half of them where the table is float32), and tiles of
# a span.
_COLUMNS, _TILES = 64, 32


def groups_of(V: int) -> _tile.Groups:
  members = min(max(pl.next_power_of_2(V) // 2048, 8), TILE)
  tiles = min(_TILES, _TOGETHER * pl.cdiv(V, _TOGETHER * TILE))
  return _tile.Groups(
      members, tiles * TILE // members, pl.cdiv(V, tiles * TILE)
  )


def walk(
    pieces: Float[Array, 'pieces F D'],
    table: Float[Array, 'V D'],
    rows: Float[Array, 'keep_scale rows'],
    own: Float[Array, 'F 8'],
    groups: _tile.Groups,
    spec: ScanSpec,
    interpret: bool,
) -> _tile.Found:
  """Found by a grid of features by spans, each of which is a few tiles.

  Columns of a tile are rows of the table, `tiles` apart.
  """
  (num, F, D), V = pieces.shape, table.shape[0]
  ends, softmaxes = 1 + spec.bottom, 1 + spec.both_ends
  f_size, members = min(TILE, F), groups.members
  lanes = TILE // members  # Groups of a tile.
  tiles = groups.stride // lanes
  columns = _COLUMNS * 2 // table.dtype.itemsize
  structure = jax.tree.structure(_tile.nothing((1, 1), softmaxes))

  def kernel(piece_ref, table_ref, row_ref, own_ref, *refs):
    total_ref, value_ref, place_ref = refs
    span = pl.program_id(1)
    f = pl.program_id(0) * f_size + jnp.arange(f_size, dtype=jnp.int32)
    mine = _tile.Own(*(plgpu.load(own_ref.at[f, n])[:, None] for n in range(5)))
    column = jnp.arange(TILE, dtype=jnp.int32)
    lane = jnp.arange(lanes, dtype=jnp.int32)

    def rows_of(tile):
      return span * (tiles * TILE) + tile + tiles * column

    def some_tiles(i, running):
      some = [_TOGETHER * i + n for n in range(_TOGETHER)]
      inside = [jnp.minimum(rows_of(tile), V - 1) for tile in some]

      def some_columns(k, sums):
        d = k * columns + jnp.arange(columns, dtype=jnp.int32)
        mask = None if D % columns == 0 else (d < D)[None]

        def read(ref, *index):
          where = ref.at[(*index[:-1], index[-1][:, None], d[None])]
          if mask is None:
            return plgpu.load(where)
          shape = index[-1].shape[0], columns
          return plgpu.load(where, mask=jnp.broadcast_to(mask, shape), other=0)

        mine = [read(piece_ref, n, f) for n in range(num)]
        return [
            _tile.add_products(x, mine, read(table_ref, row))
            for x, row in zip(sums, inside, strict=True)
        ]

      sums = [jnp.zeros((f_size, TILE), jnp.float32)] * _TOGETHER
      sums = jax.lax.fori_loop(0, pl.cdiv(D, columns), some_columns, sums)
      for tile, x in zip(some, sums, strict=True):
        running = one_tile(tile, x, running)
      return running

    def one_tile(tile, x, running):
      row = rows_of(tile)
      x, keep = _tile.mask(
          x,
          *(plgpu.load(row_ref.at[n, row])[None] for n in range(rows.shape[0])),
      )
      group = (span * tiles * lanes + tile + tiles * lane)[:, None]
      furthest = []
      for end in range(ends):
        grouped = _tile.towards(end, x, keep)
        best = _tile.largest(grouped.reshape(f_size, members, lanes))
        for n in range(3):
          plgpu.store(value_ref.at[n, end, group, f[None]], best[n].T)
        place = best.first_at | best.second_at << 16
        plgpu.store(place_ref.at[end, group, f[None]], place.T)
        furthest.append(best.first.max(axis=1)[:, None])
      return _tile.add_tile(
          running,
          [(x, keep)],
          furthest,
          mine,
          spec.softcap,
          lambda terms: terms[0].sum(axis=1)[:, None],
      )

    running = _tile.nothing((f_size, 1), softmaxes)
    running = jax.lax.fori_loop(0, tiles // _TOGETHER, some_tiles, running)
    for n, x in enumerate(jax.tree.leaves(running)):
      plgpu.store(total_ref.at[n, span, f], x.sum(axis=1))

  count = groups.spans * groups.stride
  total, value, place = pl.pallas_call(
      kernel,
      grid=(F // f_size, groups.spans),
      out_shape=[
          jax.ShapeDtypeStruct(
              (structure.num_leaves, groups.spans, F), jnp.float32
          ),
          jax.ShapeDtypeStruct((3, ends, count, F), jnp.float32),
          jax.ShapeDtypeStruct((ends, count, F), jnp.int32),
      ],
      compiler_params=plgpu.CompilerParams(num_warps=8, num_stages=2),
      interpret=interpret,
      name='lens_walk',
  )(pieces, table, rows, own)
  running = jax.tree.unflatten(structure, [x.T for x in total])
  value, place = (x.swapaxes(-1, -2) for x in (value, place))
  return _tile.Found(running, value, place)
