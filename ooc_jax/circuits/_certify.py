"""From candidates to the true ends of the vocabulary, with a certificate.

The answer is defined by `exact_dots`: the k tokens whose inner products are
largest (smallest); equal ones by rising id. A pass whose logits are a little
off bounds its errors, so that

  true k-th largest > the most that a token left out can be

proves that no other token belongs to the answer. Where it does not hold, the
feature is looked at again, more closely.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ooc_jax.circuits._blocks import Blocks
from ooc_jax.circuits._candidates import Candidates
from ooc_jax.circuits._dots import Dot
from ooc_jax.circuits._dots import exact_dots
from ooc_jax.circuits._powers import exponent_of
from ooc_jax.circuits._powers import times_power

_NO_ROW = jnp.iinfo(jnp.int32).max  # Of an entry that is not there.


class Ends(NamedTuple):
  """The k largest and the k smallest products; axis 0 has the ends, top first.

  Attributes:
    value: Negated at the bottom, so both fall.
    rest: What rounding took from it, likewise.
    row: Rows of the table.
    left_out: No other product is over this.
  """

  value: Float[Array, '2 F k']
  rest: Float[Array, '2 F k']
  row: Int[Array, '2 F k']
  left_out: Float[Array, '2 F']

  @property
  def certain(self) -> Bool[Array, 'F']:
    """Whether both ends are proven. Equal is not enough: ids break ties."""
    proven = (self.value[:, :, -1] > self.left_out) | jnp.isneginf(
        self.left_out
    )
    return proven.all(axis=0)


def products(
    directions: Float[Array, 'P D'], rows: Float[Array, 'P D'], unit: bool
) -> Dot:
  """The inner products that define the answer.

  Args:
    directions: Float32.
    rows: Of the table.
    unit: Whether rows are divided by their norms; 0 where that is 0. The
      quotient is rounded, and has no rest.
  """
  if not unit:
    return exact_dots(directions, rows)
  rows = rows.astype(jnp.float32)
  # Near 1, so that no square overflows.
  exponent = exponent_of(jnp.abs(rows).max(axis=1))
  rows = times_power(rows, -exponent[:, None])
  norms = jnp.sqrt(exact_dots(rows, rows).value)
  dots = exact_dots(directions, rows).value
  cosines = jnp.where(norms > 0, dots / jnp.where(norms > 0, norms, 1.0), 0.0)
  return Dot(cosines, jnp.zeros_like(cosines))


def certify(
    candidates: Candidates,
    directions: Float[Array, 'F D'],
    table: Float[Array, 'V D'],
    blocks: Blocks,
    *,
    k: int,
    unit: bool,
    whole_top: bool = False,
) -> tuple[Ends, Float[Array, '2 F c']]:
  """The k best candidates, by exact products.

  Args:
    candidates: Of a pass.
    directions: Float32, as `products` takes them.
    table: Likewise.
    blocks: How the pass went.
    k: How many.
    unit: See `products`.
    whole_top: Whether candidates for the top are looked at where the answer
      does not need it, too.

  Returns:
    The ends, and the exact values of all candidates that were looked at
    (negated at the bottom), minus infinity for the others.
  """
  num = candidates.value.shape[2]
  bound = candidates.value + candidates.error
  # k candidates are truly over this, so others below it need no look. They
  # are sorted by their bound.
  least = jnp.where(
      jnp.isfinite(bound), candidates.value - candidates.error, -jnp.inf
  )
  floor = least[:, :, : min(k, num)].min(axis=2)
  needed = bound >= floor[:, :, None]
  if whole_top:
    needed = needed.at[0].set(True)
  counts = (needed & jnp.isfinite(bound)).sum(axis=2, dtype=jnp.int32)
  rows = blocks.rows_at(candidates.position)
  exact = _exact(counts, rows, directions, table, unit)
  ends = best(Ends(*exact, rows, candidates.left_out), min(k, num))
  return pad_ends(ends, k), exact.value


def pad_ends(ends: Ends, k: int) -> Ends:
  """Made k wide with entries that no other is below."""
  padding = [(0, 0), (0, 0), (0, k - ends.value.shape[2])]
  return Ends(
      jnp.pad(ends.value, padding, constant_values=-jnp.inf),
      jnp.pad(ends.rest, padding),
      jnp.pad(ends.row, padding, constant_values=_NO_ROW),
      ends.left_out,
  )


def best(ends: Ends, k: int) -> Ends:
  """The k largest, largest first; equal ones by rising row."""
  row = jnp.where(jnp.isneginf(ends.value), _NO_ROW, ends.row)
  value, rest, row = jax.lax.sort(
      (-ends.value, -ends.rest, row), dimension=2, num_keys=3
  )
  return Ends(-value[:, :, :k], -rest[:, :, :k], row[:, :, :k], ends.left_out)


def _exact(
    counts: Int[Array, '2 F'],
    rows: Int[Array, '2 F c'],
    directions: Float[Array, 'F D'],
    table: Float[Array, 'V D'],
    unit: bool,
) -> Dot:
  """Exact products of the first `counts` candidates; -inf for the others."""
  F = rows.shape[1]
  size = 2 * F  # Pairs at a time.
  last = jnp.cumsum(counts.ravel(), dtype=jnp.int32)
  step = jnp.arange(size, dtype=jnp.int32)

  def some_pairs(i, out):
    pair = i * size + step
    line = jnp.searchsorted(last, pair, side='right').astype(jnp.int32)
    real = line < size
    line = jnp.minimum(line, size - 1)
    column = pair - (last - counts.ravel())[line]
    column = jnp.where(real, column, 0)
    row = rows.reshape(size, -1)[line, column]
    # Without barriers XLA:CPU casts a whole bfloat16 table to float32 ahead of
    # the loop, and gathers entry by entry inside the loop over products.
    held, row, feature = jax.lax.optimization_barrier((table, row, line % F))
    mine, theirs = jax.lax.optimization_barrier((
        directions.at[feature].get(mode='promise_in_bounds'),
        held.at[row].get(mode='promise_in_bounds'),
    ))
    dots = products(mine, theirs, unit)
    sign = jnp.where(line < F, jnp.float32(1), jnp.float32(-1))
    line = jnp.where(real, line, size)  # Past the end, written nowhere.
    return jax.tree.map(
        lambda x, new: x.at[line, column].set(sign * new, mode='drop'),
        out,
        dots,
    )

  shape = (size, rows.shape[2])
  out = Dot(jnp.full(shape, -jnp.inf), jnp.zeros(shape))
  turns = -(-last[-1] // size)
  out = jax.lax.fori_loop(0, turns, some_pairs, out)
  return jax.tree.map(lambda x: x.reshape(rows.shape), out)
