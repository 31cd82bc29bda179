"""From candidates to the true ends of the vocabulary, with a certificate.

The answer is defined by `exact_dots`: the k tokens whose inner products,
rounded to float32, are largest (smallest); equal ones by rising id. A pass
whose logits are a little off bounds its errors, so that

  true k-th largest > the most that a token left out can be

proves that no other token belongs to the answer. Where it does not hold, the
feature is looked at again, more closely.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ooc_jax.circuits._blocks import Blocks
from ooc_jax.circuits._dots import exact_dots
from ooc_jax.circuits._powers import exponent_of
from ooc_jax.circuits._powers import times_power
from ooc_jax.circuits._screen import Candidates


class Ends(NamedTuple):
  """The k largest and the k smallest products; axis 0 has the ends, top first.

  Attributes:
    value: Negated at the bottom, so both fall.
    row: Rows of the table.
    left_out: No other product is over this.
  """

  value: Float[Array, '2 F k']
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
) -> Float[Array, 'P']:
  """The inner products that define the answer.

  Args:
    directions: Float32.
    rows: Of the table.
    unit: Whether rows are divided by their norms; 0 where that is 0.
  """
  if not unit:
    return exact_dots(directions, rows)
  rows = rows.astype(jnp.float32)
  # Near 1, so that no square overflows.
  exponent = exponent_of(jnp.abs(rows).max(axis=1))
  rows = times_power(rows, -exponent[:, None])
  norms = jnp.sqrt(exact_dots(rows, rows))
  dots = exact_dots(directions, rows)
  return jnp.where(norms > 0, dots / jnp.where(norms > 0, norms, 1.0), 0.0)


def certify(
    candidates: Candidates,
    directions: Float[Array, 'F D'],
    table: Float[Array, 'V D'],
    blocks: Blocks,
    *,
    k: int,
    unit: bool,
) -> tuple[Ends, Float[Array, '2 F c']]:
  """The k best candidates, by exact products.

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
  needed = ((bound >= floor[:, :, None]) & jnp.isfinite(bound)).sum(axis=2)
  rows = blocks.rows_at(candidates.position)
  exact = _exact(needed.max().astype(jnp.int32), rows, directions, table, unit)
  exact = jnp.where(jnp.isfinite(bound), exact, -jnp.inf)
  left_out = candidates.left_out
  value, row = best(exact, rows, min(k, num))
  return Ends(*pad_ends(value, row, k), left_out), exact


def pad_ends(value, row, k: int):
  """[2, F, n] made k wide with entries that no other is below."""
  padding = [(0, 0), (0, 0), (0, k - value.shape[2])]
  return (
      jnp.pad(value, padding, constant_values=-jnp.inf),
      jnp.pad(row, padding, constant_values=jnp.iinfo(jnp.int32).max),
  )


def best(value: Float[Array, '2 F n'], row: Int[Array, '2 F n'], k: int):
  """The k largest, largest first; equal values by rising row."""
  worst = jnp.iinfo(jnp.int32).max
  keys = (-value, jnp.where(jnp.isneginf(value), worst, row))
  value, row = jax.lax.sort(keys, dimension=2, num_keys=2)
  return -value[:, :, :k], row[:, :, :k]


def _exact(
    counts: Int[Array, '2 F'],
    rows: Int[Array, '2 F c'],
    directions: Float[Array, 'F D'],
    table: Float[Array, 'V D'],
    unit: bool,
) -> Float[Array, '2 F c']:
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
    pairs = (
        x.at[index].get(mode='promise_in_bounds')
        for x, index in ((directions, feature), (held, row))
    )
    dots = products(*jax.lax.optimization_barrier(tuple(pairs)), unit)
    dots = jnp.where(line < F, dots, -dots)
    line = jnp.where(real, line, size)  # Past the end, written nowhere.
    return out.at[line, column].set(dots, mode='drop')

  out = jnp.full((size, rows.shape[2]), -jnp.inf)
  turns = -(-last[-1] // size)
  return jax.lax.fori_loop(0, turns, some_pairs, out).reshape(rows.shape)
