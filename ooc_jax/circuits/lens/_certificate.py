"""From candidates to the true top and bottom k, with a certificate.

The answer is defined by `compensated_dots`: the k tokens whose inner products
are largest (smallest); equal ones by rising id. A pass whose logits are a
little off bounds its errors, so that

  true k-th largest > the most that a token left out can be

proves that no other token belongs to the answer. Where it does not hold, the
feature is computed again with more candidates, and at last product by product.

Of every shard of a vocabulary, k candidates an end go to the others for each
feature: never logits, never rows of the table.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ooc_jax.circuits.lens._scan import Candidates
from ooc_jax.circuits.numerics import Blocks
from ooc_jax.circuits.numerics import Dot
from ooc_jax.circuits.numerics import compensated_dots
from ooc_jax.circuits.numerics import divide
from ooc_jax.circuits.numerics import exponent_of
from ooc_jax.circuits.numerics import times_power

# Features at a time: in a finer pass, and with all their products.
FINER_PASS, PRODUCT_BY_PRODUCT = 32, 8
_ROWS = 128  # Of the table at a time, in the latter case.
_NO_ROW = jnp.iinfo(jnp.int32).max  # Of an entry that is not there.


class TopBottom(NamedTuple):
  """The k largest and the k smallest products: axis 0 has top and bottom.

  Where the bottom is not asked for, axis 0 has the top alone.

  Attributes:
    value: Negated at the bottom, so both fall.
    rest: What rounding took from `value`, with the same sign.
    row: Rows of the table.
    left_out: No other product is over this.
  """

  value: Float[Array, 'ends F k']
  rest: Float[Array, 'ends F k']
  row: Int[Array, 'ends F k']
  left_out: Float[Array, 'ends F']

  @property
  def certain(self) -> Bool[Array, 'F']:
    """Whether top and bottom are proven; equal is not, ids break ties."""
    proven = (self.value[:, :, -1] > self.left_out) | jnp.isneginf(
        self.left_out
    )
    return proven.all(axis=0)


def products(
    directions: Float[Array, 'n D'], rows: Float[Array, 'n D'], unit_rows: bool
) -> Dot:
  """The inner products that define the answer.

  Args:
    directions: Float32.
    rows: Of the table.
    unit_rows: Whether rows are divided by their norms; 0 where that is 0. The
      quotient is rounded, and has no rest.
  """
  if not unit_rows:
    return compensated_dots(directions, rows)
  rows = rows.astype(jnp.float32)
  # Near 1, so that no square overflows.
  exponent = exponent_of(jnp.abs(rows).max(axis=1))
  rows = times_power(rows, -exponent[:, None])
  norms = jnp.sqrt(compensated_dots(rows, rows).value)
  dots = compensated_dots(directions, rows).value
  cosines = divide(dots, norms)
  return Dot(cosines, jnp.zeros_like(cosines))


def certify(
    candidates: Candidates,
    directions: Float[Array, 'F D'],
    table: Float[Array, 'V D'],
    blocks: Blocks,
    *,
    k: int,
    unit_rows: bool,
) -> TopBottom:
  """The k best candidates, by exact products.

  Args:
    candidates: Of a pass.
    directions: Float32, as `products` takes them.
    table: One row a token.
    blocks: How the pass went.
    k: How many.
    unit_rows: See `products`.
  """
  num = candidates.value.shape[2]
  bound = candidates.value + candidates.error
  # k candidates are truly over this, so others below it need no product. They
  # are sorted by their bound.
  least = jnp.where(
      jnp.isfinite(bound), candidates.value - candidates.error, -jnp.inf
  )
  floor = least[:, :, : min(k, num)].min(axis=2)
  needed = bound >= floor[:, :, None]
  counts = (needed & jnp.isfinite(bound)).sum(axis=2, dtype=jnp.int32)
  rows = blocks.rows_at(candidates.position)
  exact = _exact(counts, rows, directions, table, unit_rows)
  extremes = best(TopBottom(*exact, rows, candidates.left_out), min(k, num))
  return _pad(extremes, k)


def best(extremes: TopBottom, k: int) -> TopBottom:
  """The k largest, largest first; equal ones by rising row."""
  row = jnp.where(jnp.isneginf(extremes.value), _NO_ROW, extremes.row)
  # All are keys, so equal ones are the same: no order among them to keep, for
  # which compilers would sort places along.
  value, rest, row = jax.lax.sort(
      (-extremes.value, -extremes.rest, row),
      dimension=2,
      num_keys=3,
      is_stable=False,
  )
  return TopBottom(
      -value[:, :, :k], -rest[:, :, :k], row[:, :, :k], extremes.left_out
  )


def join_shards(extremes: TopBottom, rows: int, axis: str | None) -> TopBottom:
  """Top and bottom of all shards, `rows` rows each, counted from the first."""
  if axis is None:
    return extremes
  first = jax.lax.axis_index(axis).astype(jnp.int32) * rows
  # A row that is not there overflows, and is never read.
  value, rest, row = (
      jax.lax.all_gather(x, axis, axis=2, tiled=True)
      for x in (extremes.value, extremes.rest, extremes.row + first)
  )
  every = TopBottom(value, rest, row, jax.lax.pmax(extremes.left_out, axis))
  return best(every, extremes.value.shape[2])


def first_rows(keep: Bool[Array, 'V'], k: int, ends: int) -> TopBottom:
  """Of a direction of zeros: all tie, so the first rows that count."""
  # A count, as a search for the largest sorts a vocabulary on a TPU, and of the
  # time that the lens takes to compile a sixth goes to that.
  nth = jnp.arange(1, min(k, keep.size) + 1, dtype=jnp.int32)
  row = jnp.searchsorted(jnp.cumsum(keep, dtype=jnp.int32), nth)
  row = row.astype(jnp.int32)
  value = jnp.where(row < keep.size, 0.0, -jnp.inf)
  row = jnp.minimum(row, keep.size - 1)
  value, rest, row = (
      jnp.tile(x, (ends, 1, 1)) for x in (value, jnp.zeros_like(value), row)
  )
  extremes = TopBottom(
      value, rest, row, jnp.full((ends, 1), -jnp.inf, jnp.float32)
  )
  return _pad(extremes, k)


def recompute_uncertain(
    extremes: TopBottom,
    rows: Float[Array, 'F D'],
    method: Callable[[Float[Array, 'n D']], TopBottom],
    size: int,
    axis: str | None,
) -> TopBottom:
  """Computes the uncertain features again by `method`, `size` at a time.

  Costs nothing where all are certain. Under `jax.shard_map` every shard takes
  as many turns as the one with most uncertain features, for `method` may talk
  to others.

  Args:
    extremes: What is known so far.
    rows: One for each feature.
    method: Gives top and bottom of some rows.
    size: How many rows it is given.
    axis: The mesh axis over which features are spread, or None.
  """
  F = rows.shape[0]
  uncertain = ~extremes.certain
  count = uncertain.sum(dtype=jnp.int32)
  turns = -(-count // size)
  if axis is not None:
    turns = jax.lax.pmax(turns, axis)
  order = jnp.argsort(~uncertain, stable=True).astype(jnp.int32)
  order = jnp.pad(order, (0, size))

  def turn(state):
    i, extremes = state
    feature = jax.lax.dynamic_slice_in_dim(order, i * size, size)
    fresh = method(rows[feature])
    # Past the end of the list, written nowhere.
    place = i * size + jnp.arange(size, dtype=jnp.int32)
    target = jnp.where(place < count, feature, F)
    extremes = jax.tree.map(
        lambda x, new: x.at[:, target].set(new, mode='drop'), extremes, fresh
    )
    return i + 1, extremes

  return jax.lax.while_loop(
      lambda state: state[0] < turns, turn, (jnp.int32(0), extremes)
  )[1]


def all_products(
    rows: Float[Array, 'n D'],
    table: Float[Array, 'V D'],
    keep: Bool[Array, 'V'],
    k: int,
    unit_rows: bool,
    ends: int,
) -> TopBottom:
  """Top and bottom by every inner product: the last resort.

  For features that have hundreds of products within rounding of the k-th,
  such as copies of one token.
  """
  f, V = rows.shape[0], table.shape[0]
  size = min(_ROWS, V)
  blocks = -(-V // size)

  def step(b, so_far: TopBottom) -> TopBottom:
    start = jnp.minimum(b * size, V - size)
    block = jax.lax.dynamic_slice_in_dim(table, start, size)
    row = start + jnp.arange(size, dtype=jnp.int32)
    counts = jax.lax.dynamic_slice_in_dim(keep, start, size)
    counts &= row >= b * size  # The last block reaches back.
    mine, theirs = jax.lax.optimization_barrier(
        (jnp.repeat(rows, size, axis=0), jnp.tile(block, (f, 1)))
    )
    dots = products(mine, theirs, unit_rows)
    value, rest = (
        jnp.stack([x, -x][:ends]).reshape(ends, f, size)
        for x in (dots.value, dots.rest)
    )
    fresh = TopBottom(
        jnp.where(counts[None, None], value, -jnp.inf),
        rest,
        jnp.broadcast_to(row[None, None], value.shape),
        so_far.left_out,
    )
    every = jax.tree.map(
        lambda x, new: jnp.concatenate([x, new], axis=-1), so_far, fresh
    )
    every = every._replace(left_out=so_far.left_out)
    return best(every, k)

  none = jnp.zeros((ends, f, 0), jnp.float32)
  start = TopBottom(
      none,
      none,
      none.astype(jnp.int32),
      jnp.full((ends, f), -jnp.inf, jnp.float32),
  )
  return jax.lax.fori_loop(0, blocks, step, _pad(start, k))


def _pad(extremes: TopBottom, k: int) -> TopBottom:
  """Made k wide with entries that no other is below."""
  padding = [(0, 0), (0, 0), (0, k - extremes.value.shape[2])]
  return TopBottom(
      jnp.pad(extremes.value, padding, constant_values=-jnp.inf),
      jnp.pad(extremes.rest, padding),
      jnp.pad(extremes.row, padding, constant_values=_NO_ROW),
      extremes.left_out,
  )


def _exact(
    counts: Int[Array, 'ends F'],
    rows: Int[Array, 'ends F candidates'],
    directions: Float[Array, 'F D'],
    table: Float[Array, 'V D'],
    unit_rows: bool,
) -> Dot:
  """Exact products of the first `counts` candidates; -inf for the others."""
  ends, F = rows.shape[:2]
  size = ends * F  # Pairs at a time.
  last = jnp.cumsum(counts.ravel(), dtype=jnp.int32)
  step = jnp.arange(size, dtype=jnp.int32)

  def some_pairs(i, out):
    pair = i * size + step
    pair_row = jnp.searchsorted(last, pair, side='right').astype(jnp.int32)
    real = pair_row < size
    pair_row = jnp.minimum(pair_row, size - 1)
    column = pair - (last - counts.ravel())[pair_row]
    column = jnp.where(real, column, 0)
    row = rows.reshape(size, -1)[pair_row, column]
    # Without barriers XLA:CPU casts a whole bfloat16 table to float32 ahead of
    # the loop, and gathers entry by entry inside the loop over products.
    whole, row, feature = jax.lax.optimization_barrier(
        (table, row, pair_row % F)
    )
    mine, theirs = jax.lax.optimization_barrier((
        directions.at[feature].get(mode='promise_in_bounds'),
        whole.at[row].get(mode='promise_in_bounds'),
    ))
    dots = products(mine, theirs, unit_rows)
    sign = jnp.where(pair_row < F, jnp.float32(1), jnp.float32(-1))
    pair_row = jnp.where(real, pair_row, size)  # Past the end, written nowhere.
    return jax.tree.map(
        lambda x, new: x.at[pair_row, column].set(sign * new, mode='drop'),
        out,
        dots,
    )

  shape = (size, rows.shape[2])
  out = Dot(
      jnp.full(shape, -jnp.inf, jnp.float32), jnp.zeros(shape, jnp.float32)
  )
  turns = -(-last[-1] // size)
  out = jax.lax.fori_loop(0, turns, some_pairs, out)
  return jax.tree.map(lambda x: x.reshape(rows.shape), out)
