"""Which directions of a dictionary lie nearest to one, by cosine.

As in a lens, scores are made a tile at a time and only the largest are kept:
F·F·D products, and no array [F, F]. The product finds a few more than are
asked for; their cosines are then taken by compensated products, which depend on
the two rows alone. So equal rows have equal cosines, their order is that of
their ids, and one device and many give the same. Over a mesh each device has
its rows, and the blocks that they are compared with are gathered one by one.
"""

from collections.abc import Sequence
import functools
import math
from typing import Any

import flax
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int
import numpy as np

from ooc_jax._errors import InputError
from ooc_jax.circuits.numerics import FEATURE
from ooc_jax.circuits.numerics import VOCAB
from ooc_jax.circuits.numerics import compensated_dots
from ooc_jax.circuits.numerics import divide
from ooc_jax.circuits.numerics import grouped_topk
from ooc_jax.circuits.numerics import mesh_of
from ooc_jax.circuits.numerics import on_mesh
from ooc_jax.circuits.numerics import scaled_rows

_HIGHEST = jax.lax.Precision.HIGHEST
# Floats of a block that is compared with, 128 MB, and its most rows.
_BLOCK, _MOST_ROWS = 2**25, 2**14
# Floats of a tile of scores, and of the rows that it takes exactly: 32 MB each.
_TILE = 2**23
# Beyond k, for what float32 rounds: some 1e-6 of a cosine.
_SPARE = 6
_GROUP = 32


@flax.struct.dataclass
class Nearest:
  """The nearest other directions, the nearest first.

  Attributes:
    ids: [n, k] their rows; equal cosines by rising row.
    cosines: [n, k] from -1 to 1.
  """

  # Any: JAX also fills its pytrees with shapes, shardings and batches.
  ids: Int[Array, 'n k'] | Any
  cosines: Float[Array, 'n k'] | Any


def nearest_directions(
    directions: Float[Array | np.ndarray, 'F D'],
    k: int = 10,
    *,
    of: Sequence[int] | None = None,
    mesh: Mesh | None = None,
) -> Nearest:
  """The k other directions of the largest cosine with each.

  Float32 at highest precision. Opposite directions have cosine -1, and so are
  the farthest. A direction of zeros has cosine 0 with all. If more than six
  others are within rounding of the k-th cosine, any of them may be the last.

  Args:
    directions: Of any float dtype and length.
    k: How many; no more than there are others.
    of: Rows whose nearest are found; None is all.
    mesh: Spreads the work over its axes 'feature' and 'vocab'. None takes that
      of `directions`, where they are sharded.

  Raises:
    InputError: There are fewer than two directions, `k` is below 1, a row is
      not there, or a direction is not finite (seen outside of `jit` only).
  """
  directions = jnp.asarray(directions)
  if len(directions) < 2 or k < 1:
    raise InputError(
        f'k={k} nearest of directions {directions.shape} were asked for; give'
        ' [F, D] with at least two rows, and k of at least 1.'
    )
  F = len(directions)
  own = np.asarray(range(F) if of is None else of)
  if own.dtype.kind not in 'iu' or own.ndim != 1 or not own.size:
    raise InputError(f'of={of} are no rows: give some of their numbers.')
  if not (0 <= own.min() and own.max() < F):
    raise InputError(f'of={own.min()} to {own.max()}: there are {F} rows.')
  mesh = mesh_of(directions) if mesh is None else mesh
  rows = on_mesh(directions, mesh)
  queries = rows if of is None else rows[jnp.asarray(own)]
  found, finite = _nearest(
      queries, own.astype(np.int32), rows, k=min(k, F - 1), mesh=mesh
  )
  if not isinstance(finite, jax.core.Tracer) and not finite:
    raise InputError(
        'Some directions are not finite: load them again, or leave those out.'
    )
  return found


@functools.partial(jax.jit, static_argnames=('k', 'mesh'))
def _nearest(
    queries: Float[Array, 'n D'],
    own: Int[Array, 'n'],
    rows: Float[Array, 'F D'],
    *,
    k: int,
    mesh: Mesh | None,
) -> tuple[Nearest, Array]:
  n, F = len(queries), len(rows)
  axes = () if mesh is None else mesh.axis_names
  axes = tuple(x for x in (FEATURE, VOCAB) if x in axes)
  devices = math.prod(mesh.shape[x] for x in axes) if mesh is not None else 1
  part = functools.partial(_of_device, size=F, k=k, axes=axes, devices=devices)
  if devices > 1:
    parts = jax.P(axes)
    part = jax.shard_map(
        part,
        mesh=mesh,
        in_specs=(parts, parts, parts),
        out_specs=(parts, parts),
        check_vma=False,
    )
  more = -n % devices
  cosines, ids = part(
      jnp.pad(queries, ((0, more), (0, 0))),
      jnp.pad(own, (0, more)),
      jnp.pad(rows, ((0, -F % devices), (0, 0))),
  )
  finite = jnp.isfinite(rows).all() & jnp.isfinite(queries).all()
  return Nearest(ids[:n], jnp.clip(cosines[:n], -1.0, 1.0)), finite


def _of_device(
    queries: Float[Array, 'n D'],
    own: Int[Array, 'n'],
    rows: Float[Array, 'f D'],
    *,
    size: int,
    k: int,
    axes: tuple[str, ...],
    devices: int,
) -> tuple[Float[Array, 'n k'], Int[Array, 'n k']]:
  """What one device finds for its queries among the rows of all."""
  n, f, D = len(queries), *rows.shape
  most = min(_MOST_ROWS, max(_BLOCK // D, 1))
  blocks = -(-f * devices // most)
  each = -(-f // blocks)  # Rows of a device in a block.
  width = each * devices
  width += -width % _GROUP
  c = min(k + _SPARE, width)
  high = min(max(_TILE // max(width, c * D), 1), n)
  first = jnp.arange(devices, dtype=jnp.int32)[:, None] * f

  def against(best, block):
    # The last block reaches back, and what it repeats does not count.
    start = jnp.minimum(block * each, f - each)
    at = start + jnp.arange(each, dtype=jnp.int32)
    new = (at >= block * each)[None]
    ids = jnp.where(new, first + at[None], size).ravel()
    there = _unit_rows(rows, start, each)
    if devices > 1:
      there = jax.lax.all_gather(there, axes, tiled=True)
    padding = width - len(ids)
    there = jnp.pad(there, ((0, padding), (0, 0)))
    ids = jnp.pad(ids, (0, padding), constant_values=size)

    def tile(found, number):
      start = jnp.minimum(number * high, n - high)
      mine = _unit_rows(queries, start, high)
      mine_own = jax.lax.dynamic_slice_in_dim(own, start, high)
      counts = (ids[None] < size) & (ids[None] != mine_own[:, None])
      scores = jnp.einsum('nd,fd->nf', mine, there, precision=_HIGHEST)
      scores = jnp.where(counts, scores, -jnp.inf)
      screened, index = grouped_topk(scores, c, _GROUP)
      exact = compensated_dots(
          jnp.repeat(mine, c, axis=0), there[index.ravel()]
      ).value.reshape(high, c)
      exact = jnp.where(screened > -jnp.inf, exact, -jnp.inf)
      new = exact, ids[index]
      return (
          tuple(
              jax.lax.dynamic_update_slice_in_dim(x, y, start, axis=0)
              for x, y in zip(found, new, strict=True)
          ),
          None,
      )

    empty = jnp.zeros((n, c), jnp.float32), jnp.zeros((n, c), jnp.int32)
    found, _ = jax.lax.scan(
        tile, empty, jnp.arange(-(-n // high), dtype=jnp.int32)
    )
    values, ids = (
        jnp.concatenate(x, axis=1) for x in zip(best, found, strict=True)
    )
    falling, ids = jax.lax.sort((-values, ids), num_keys=2)
    return (-falling[:, :k], ids[:, :k]), None

  none = jnp.full((n, k), -jnp.inf, jnp.float32), jnp.zeros((n, k), jnp.int32)
  numbers = jnp.arange(blocks, dtype=jnp.int32)
  return jax.lax.scan(against, none, numbers)[0]


def _unit_rows(
    x: Float[Array, 'n D'], start: Int[Array, ''], size: int
) -> Float[Array, 'size D']:
  """Some rows at length 1 in float32; those of zeros stay."""
  # Without the barrier XLA:CPU casts all rows ahead of the loop.
  x, start = jax.lax.optimization_barrier((x, start))
  rows, _, _ = scaled_rows(jax.lax.dynamic_slice_in_dim(x, start, size))
  norms = jnp.sqrt(compensated_dots(rows, rows).value)
  return divide(rows, norms[:, None])
