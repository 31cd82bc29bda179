"""What a fused pass does with one tile of products, where the tile lies.

The tile comes in chunks of columns, and every sum and list is kept in lanes:
entry [f, n] of all chunks goes to lane n, as a vector unit of a TPU adds, or
the tile is one chunk and each sum has one lane, as a GPU's threads reduce. The
lanes are joined at the end, like shards of a vocabulary, by `join_lanes`.

Plain functions of arrays with operations that Mosaic and Triton both have.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ooc_jax.circuits.lens._sums import LOWEST
from ooc_jax.circuits.lens._sums import Softmax
from ooc_jax.circuits.lens._sums import Sums
from ooc_jax.circuits.lens._sums import kahan
from ooc_jax.circuits.lens._sums import rescale
from ooc_jax.model import softcap as apply_softcap


class Groups(NamedTuple):
  """How rows of a table are grouped; group g = span · stride + lane.

  Attributes:
    members: Rows of a group, `stride` apart.
    stride: Groups of a span; a span is `members` · `stride` rows.
    spans: In all; the last may reach past the table.
  """

  members: int
  stride: int
  spans: int

  def first(self, group: Int[Array, '...']) -> Int[Array, '...']:
    """Its first row."""
    span, lane = group // self.stride, group % self.stride
    return span * self.members * self.stride + lane

  def most(self, x: Float[Array, 'rows']) -> Float[Array, 'groups']:
    """The largest of each group, of one number per row."""
    return x.reshape(self.spans, self.members, self.stride).max(axis=1).ravel()

  @property
  def rows(self) -> int:
    """Of all spans."""
    return self.spans * self.members * self.stride


class Own(NamedTuple):
  """What goes with each direction, [f, 1]; see `PreparedDirections`."""

  centre: Array
  scale: Array
  shift: Array
  threshold: Array
  inverse: Array  # Of the temperature.


class Running(NamedTuple):
  """Sums so far, [f, lanes] each; see `Sums`."""

  powers: tuple[Array, ...]
  lost: tuple[Array, ...]
  active: Array
  softmaxes: tuple[Softmax, ...]  # Of the logits, and maybe of minus them.


class Largest(NamedTuple):
  """The largest of each group, [f, groups], and where two of them stand."""

  first: Array
  second: Array
  third: Array
  first_at: Array
  second_at: Array


class Found(NamedTuple):
  """What a kernel leaves: sums in lanes, and the largest of the groups."""

  running: Running  # [F, lanes]
  value: Float[Array, 'three ends F groups']
  place: Int[Array, 'ends F groups']  # Two, in 16 bits each.


def add_products(
    so_far: Array | None, pieces: Sequence[Array], rows: Array
) -> Array:
  """Products [f, n] of directions with rows, as `_scan` makes them.

  Args:
    so_far: What this gave for other columns, or None.
    pieces: Of the directions [f, D]: one of float32, or three of bfloat16.
    rows: [n, D] of the table, in any float dtype.
  """
  single = pieces[0].dtype == jnp.float32
  others = (rows.astype(jnp.float32),) if single else _bfloat16_pieces(rows)
  pairs = [(i, j) for j in range(len(others)) for i in range(len(pieces) - j)]
  # From the smallest; those left out are under float32.
  for i, j in reversed(pairs):
    term = jax.lax.dot_general(
        pieces[i],
        others[j],
        (((1,), (1,)), ((), ())),
        precision=jax.lax.Precision.HIGHEST if single else None,
        preferred_element_type=jnp.float32,
    )
    so_far = term if so_far is None else so_far + term
  assert so_far is not None
  return so_far


def _bfloat16_pieces(x: Array) -> tuple[Array, ...]:
  """`numerics.bfloat16_pieces`, of operations that a kernel has."""
  if x.dtype == jnp.bfloat16:
    return (x,)
  rest, pieces = x.astype(jnp.float32), []
  for _ in range(3):
    bits = jax.lax.bitcast_convert_type(rest, jnp.int32)
    bits += 0x7FFF + ((bits >> 16) & 1)  # To the nearest, ties to even.
    piece = jax.lax.bitcast_convert_type(bits & ~0xFFFF, jnp.float32)
    pieces.append(piece.astype(jnp.bfloat16))
    rest = rest - piece
  return tuple(pieces)


def mask(
    x: Array, keep: Array, scale: Array | None = None
) -> tuple[Array, Array]:
  """Products [f, n], zeros where a row does not count, and whether it does.

  What stands in rows that do not count, or past the table, may be anything.

  Args:
    x: Products.
    keep: [1, n] over 0 for rows that count.
    scale: [1, n] multiplies the products, or None.
  """
  counts = keep > 0
  return jnp.where(counts, x if scale is None else x * scale, 0.0), counts


def towards(end: int, x: Array, keep: Array) -> Array:
  """What is largest at the top (end 0) or at the bottom, of rows that count."""
  return jnp.where(keep, (x, -x)[end], -jnp.inf)


def nothing(shape: tuple[int, int], softmaxes: int) -> Running:
  """Sums before the first tile."""
  zero = jnp.zeros(shape, jnp.float32)
  none = Softmax(jnp.full(shape, LOWEST, jnp.float32), zero, zero)
  return Running((zero,) * 4, (zero,) * 4, zero, (none,) * softmaxes)


def insert(best: Largest, x: Array, at: Array | int) -> Largest:
  """The largest with one more member of each group, at place `at`."""
  leads, follows = x > best.first, x > best.second
  return Largest(
      first=jnp.maximum(best.first, x),
      second=jnp.maximum(best.second, jnp.minimum(best.first, x)),
      third=jnp.maximum(best.third, jnp.minimum(best.second, x)),
      first_at=jnp.where(leads, at, best.first_at),
      second_at=jnp.where(
          leads, best.first_at, jnp.where(follows, at, best.second_at)
      ),
  )


def largest(x: Array) -> Largest:
  """The largest of groups that lie along axis 1 of [f, members, groups]."""
  members = x.shape[1]
  at = jax.lax.broadcasted_iota(jnp.int32, x.shape, 1)

  def furthest(x):
    high = x.max(axis=1)
    return high, jnp.where(x == high[:, None], at, members).min(axis=1)

  first, first_at = furthest(x)
  x = jnp.where(at == first_at[:, None], -jnp.inf, x)
  second, second_at = furthest(x)
  x = jnp.where(at == second_at[:, None], -jnp.inf, x)
  return Largest(first, second, x.max(axis=1), first_at, second_at)


def add_tile(
    running: Running,
    chunks: Sequence[tuple[Array, Array]],
    furthest: Sequence[Array],
    own: Own,
    softcap: float | None,
    total: Callable[[list[Array]], Array],
) -> Running:
  """The sums with one more tile.

  Args:
    running: So far.
    chunks: Products [f, n], zeros where a row does not count, and a mask
      [1, n] of the rows that do.
    furthest: No less than the largest product of the tile; and than the
      largest of minus them, where a softmax of those is made.
    own: What goes with each direction.
    softcap: See `ScanSpec`.
    total: Sums chunks [f, n] into [f, lanes].
  """
  # One after the other: registers are few.
  away = [jnp.where(keep, x - own.centre, 0.0) for x, keep in chunks]
  power, pairs = away, []
  for powers, lost in zip(running.powers, running.lost, strict=True):
    pairs.append(kahan(powers, lost, total(power)))
    power = [x * y for x, y in zip(power, away, strict=True)]
  logits = [x * own.scale - own.shift for x, _ in chunks]
  over = total([
      jnp.where((x > own.threshold) & keep, 1.0, 0.0)
      for x, (_, keep) in zip(logits, chunks, strict=True)
  ])
  ys = [apply_softcap(x, softcap) * own.inverse for x in logits]
  softmaxes = []
  for i, softmax in enumerate(running.softmaxes):
    sign = (1, -1)[i]
    high = sign * furthest[i] * own.scale - own.shift
    high = sign * apply_softcap(high, softcap) * own.inverse
    # No row of a lane may count so far.
    high = jnp.where(furthest[i] > -jnp.inf, high, LOWEST)
    peak = jnp.maximum(softmax.peak, high)
    below = [sign * y - peak for y in ys]
    terms = [
        jnp.where(keep, jnp.exp(y), 0.0)
        for y, (_, keep) in zip(below, chunks, strict=True)
    ]
    old = rescale(softmax, peak)
    softmaxes.append(
        Softmax(
            peak,
            old.partition + total(terms),
            old.weighted
            + total([t * y for t, y in zip(terms, below, strict=True)]),
        )
    )
  return Running(
      tuple(new for new, _ in pairs),
      tuple(lost for _, lost in pairs),
      running.active + over,
      tuple(softmaxes),
  )


def join_lanes(running: Running) -> Sums:
  """The sums of features from those of [F, lanes]."""

  def end(softmax: Softmax) -> Softmax:
    peak = softmax.peak.max(axis=1, keepdims=True)
    own = rescale(softmax, peak)
    return Softmax(
        peak[:, 0], own.partition.sum(axis=1), own.weighted.sum(axis=1)
    )

  def stack(lanes) -> Float[Array, 'F 4']:
    return jnp.stack([x.sum(axis=1) for x in lanes], axis=1)

  top, *bottom = map(end, running.softmaxes)
  return Sums(
      power_sums=stack(running.powers),
      lost=stack(running.lost),
      top=top,
      bottom=bottom[0] if bottom else None,
      active=running.active.sum(axis=1).astype(jnp.int32),
  )
