"""How the queries of a head are cut into tiles, and what devices exchange.

A `Layout` depends on the devices only in how many tiles each of them gets.
"""

import functools
import math
import operator
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ooc_jax.circuits.qk._tile import GROUP
from ooc_jax.circuits.qk._tile import LANES

# Sums of the key role are kept for this many fixed parts of the queries and
# added in one order: 1, 2, 4 or 8 devices give the same bits. Two for each of 8
# devices, as a loop of one step is compiled to other bits than one of more.
_SEGMENTS = 16
# A tile is at most so many scores (64 MB), or so few rows; only a few tiles
# are held. At F = 16384 a tile of 128 rows stays in a CPU's last cache.
_TILE = 2**24
_MOST_ROWS, _LEAST_ROWS = 128, 32
# The most group maxima that are held before they are searched: 128 MB.
_MAXIMA = 2**25


class Layout(NamedTuple):
  """Segments of `segment` queries, each in `tiles` tiles of `rows` rows."""

  queries: int
  keys: int  # With padding.
  segments: int
  segment: int
  tiles: int
  rows: int

  @classmethod
  def of(cls, queries: int, keys: int, devices: int) -> 'Layout':
    """The layout on so many devices; without padding where it can be."""
    keys += -keys % math.lcm(LANES, devices)
    segments = math.lcm(_SEGMENTS, devices)
    segment = -(-queries // segments)
    most = min(max(_TILE // keys, _LEAST_ROWS), _MOST_ROWS)
    tiles = -(-segment // most)
    rows = -(-segment // (tiles * GROUP)) * GROUP
    return cls(queries, keys, segments, segment, tiles, rows)

  @property
  def width(self) -> int:
    """Rows of a segment with its padding."""
    return self.tiles * self.rows

  @property
  def groups(self) -> int:
    """Groups of queries, those of padding too."""
    return self.segments * self.width // GROUP

  def tiles_at_once(self, devices: int) -> int:
    """Tiles whose group maxima are searched together."""
    tiles = self.segments * self.tiles // devices
    most = max(_MAXIMA // (self.rows // GROUP * self.keys), 1)
    return max(n for n in range(1, tiles + 1) if not tiles % n and n <= most)

  def cut(self, x: Float[Array, 'queries H']) -> Float[Array, 'tiles rows H']:
    """Queries in tiles; zeros where there is none."""
    whole = self.segments * self.segment
    x = jnp.pad(x, ((0, whole - self.queries), (0, 0)))
    x = x.reshape(self.segments, self.segment, -1)
    x = jnp.pad(x, ((0, 0), (0, self.width - self.segment), (0, 0)))
    return x.reshape(-1, self.rows, x.shape[-1])

  def real(self) -> Bool[Array, 'tiles rows']:
    """True where a tile's row is a query."""
    positions = jnp.arange(self.segments * self.width, dtype=jnp.int32)
    return (self.ids(positions) < self.queries).reshape(-1, self.rows)

  def join(self, x: Array) -> Array:
    """[tiles, rows, ...] -> [queries, ...], the inverse of `cut`."""
    x = x.reshape(self.segments, self.width, *x.shape[2:])[:, : self.segment]
    return x.reshape(-1, *x.shape[2:])[: self.queries]

  def positions(self, ids: Int[Array, '*n']) -> Int[Array, '*n']:
    """Where queries stand among the rows of all tiles."""
    return ids // self.segment * self.width + ids % self.segment

  def ids(self, positions: Int[Array, '*n']) -> Int[Array, '*n']:
    """The inverse of `positions`; the number of queries for padding."""
    within = positions % self.width
    ids = positions // self.width * self.segment + within
    real = (within < self.segment) & (ids < self.queries)
    return jnp.where(real, ids, self.queries)


def gather(x: Array, axis: str | None) -> Array:
  """Rows of all devices; nothing to do where there is one (no axis)."""
  return x if axis is None else jax.lax.all_gather(x, axis, tiled=True)


def to_key_owners(x: Array, axis: str | None) -> Array:
  """[segments, keys] of each device -> those of all, for its own keys."""
  if axis is None:
    return x
  return jax.lax.all_to_all(x, axis, split_axis=1, concat_axis=0, tiled=True)


def my_part(x: Float[Array, 'keys'], axis: str | None) -> Float[Array, 'own']:
  """This device's entries of what all devices hold."""
  if axis is None:
    return x
  size = len(x) // jax.lax.axis_size(axis)
  start = jax.lax.axis_index(axis) * size
  return jax.lax.dynamic_slice_in_dim(x, start, size)


def sum_in_order(x: Float[Array, 'segments own']) -> Float[Array, 'own']:
  """Σ over segments; a reduction's order may depend on how many are own."""
  return functools.reduce(operator.add, x)


def merge_groups(
    best: tuple[Float[Array, 'keys n'], Int[Array, 'keys n']],
    groups: int,
    axis: str | None,
) -> Int[Array, 'own n']:
  """The best groups of this device's keys, over all devices.

  Args:
    best: Maxima of each device's best groups, counted from its own first, and
      which those are; -inf where there is none.
    groups: How many all devices have; the number of a group that is not there.
    axis: Of the mesh, or None.
  """
  values, ids = best
  if axis is not None:
    n = values.shape[1]
    own = groups // jax.lax.axis_size(axis)
    ids += jax.lax.axis_index(axis) * own
    # Devices in order, so equal maxima go to the lower group. Keys last, for a
    # TPU's compiler takes 45 s to send [131072, 10] by its rows.
    values, ids = (to_key_owners(x.T, axis).T for x in (values, ids))
    values, index = jax.lax.top_k(values, n)
    ids = jnp.take_along_axis(ids, index, axis=1)
  return jnp.where(values > -jnp.inf, ids, groups)
