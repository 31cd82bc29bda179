"""How the queries of a head are cut into strips, whatever devices there are.

Axis letters: Q queries, S segments, R queries of a segment, B strips, f
queries of a strip, K keys with padding, H head width.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ooc_jax.circuits._qk_strip import GROUP
from ooc_jax.circuits._qk_strip import LANES

# Sums of the key role are kept for this many fixed parts of the queries and
# added in one order: 1, 2, 4 or 8 devices give the same bits. Two for each of 8
# devices, as a loop of one step is compiled to other bits than one of more.
_SEGMENTS = 16
# A strip is at most so many scores (64 MB), or so few rows; only a few strips
# are held. At F = 16384 a strip of 128 rows stays in a CPU's last cache.
_STRIP = 2**24
_MOST_ROWS, _LEAST_ROWS = 128, 32
# The most group maxima that are held before they are searched: 128 MB.
_MAXIMA = 2**25


class Layout(NamedTuple):
  """S segments of `segment` queries, each in `strips` strips of `rows` rows."""

  queries: int
  keys: int  # With padding.
  segments: int
  segment: int
  strips: int
  rows: int

  @classmethod
  def of(cls, queries: int, keys: int, devices: int) -> 'Layout':
    """The layout on so many devices; without padding where it can be."""
    keys += -keys % math.lcm(LANES, devices)
    segments = math.lcm(_SEGMENTS, devices)
    segment = -(-queries // segments)
    most = min(max(_STRIP // keys, _LEAST_ROWS), _MOST_ROWS)
    strips = -(-segment // most)
    rows = -(-segment // (strips * GROUP)) * GROUP
    return cls(queries, keys, segments, segment, strips, rows)

  @property
  def width(self) -> int:
    """Rows of a segment with its padding."""
    return self.strips * self.rows

  @property
  def groups(self) -> int:
    """Groups of queries, those of padding too."""
    return self.segments * self.width // GROUP

  def strips_at_once(self, devices: int) -> int:
    """Strips whose group maxima are searched together."""
    strips = self.segments * self.strips // devices
    most = max(_MAXIMA // (self.rows // GROUP * self.keys), 1)
    return max(n for n in range(1, strips + 1) if not strips % n and n <= most)

  def cut(self, x: Float[Array, 'Q H']) -> Float[Array, 'B f H']:
    """Queries in strips; zeros where there is none."""
    whole = self.segments * self.segment
    x = jnp.pad(x, ((0, whole - self.queries), (0, 0)))
    x = x.reshape(self.segments, self.segment, -1)
    x = jnp.pad(x, ((0, 0), (0, self.width - self.segment), (0, 0)))
    return x.reshape(-1, self.rows, x.shape[-1])

  def real(self) -> Bool[Array, 'B f']:
    """True where a strip's row is a query."""
    positions = jnp.arange(self.segments * self.width, dtype=jnp.int32)
    return (self.ids(positions) < self.queries).reshape(-1, self.rows)

  def join(self, x: Array) -> Array:
    """[B, f, ...] -> [Q, ...], the inverse of `cut`."""
    x = x.reshape(self.segments, self.width, *x.shape[2:])[:, : self.segment]
    return x.reshape(-1, *x.shape[2:])[: self.queries]

  def positions(self, ids: Int[Array, '*n']) -> Int[Array, '*n']:
    """Where queries stand among the rows of all strips."""
    return ids // self.segment * self.width + ids % self.segment

  def ids(self, positions: Int[Array, '*n']) -> Int[Array, '*n']:
    """The inverse of `positions`; Q for padding."""
    within = positions % self.width
    ids = positions // self.width * self.segment + within
    real = (within < self.segment) & (ids < self.queries)
    return jnp.where(real, ids, self.queries)
