"""What is known of a vocabulary table once a model: mean, covariance, norms."""

import functools
from typing import Any

import flax
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ooc_jax.circuits.numerics import Blocks
from ooc_jax.circuits.numerics import divide
from ooc_jax.circuits.numerics import exponent_of
from ooc_jax.circuits.numerics import fold_last
from ooc_jax.circuits.numerics import times_power
from ooc_jax.circuits.numerics import to_bfloat16

# Squares between these neither overflow nor lose digits when summed.
_SAFE = (1e-20, 1e34)


@flax.struct.dataclass
class TableMoments:
  """Of the rows of a table; made by `table_moments`.

  Attributes:
    mean: [D] of the kept rows.
    covariance: [D, D] of the kept rows about their mean (divided by their
      number), or None.
    norms: [V] of all rows.
    losses: [V] norm of what a row loses when it is rounded to bfloat16; None
      where the table is bfloat16.
  """

  # Any: JAX also fills its pytrees with shapes, shardings and batches.
  mean: Float[Array, 'D'] | Any
  covariance: Float[Array, 'D D'] | None | Any
  norms: Float[Array, 'V'] | Any
  losses: Float[Array, 'V'] | None | Any


def row_moments(
    table: Float[Array, 'V D'],
    keep: Bool[Array, 'V'],
    blocks: Blocks,
    *,
    unit_rows: bool,
    covariance: bool,
    losses: bool,
    axis: str | None,
) -> TableMoments:
  """The moments of (one shard of) a table, a block of rows at a time.

  Args:
    table: Rows of any float dtype.
    keep: Which rows count.
    blocks: How to walk over them.
    unit_rows: Whether the moments are of rows divided by their norms.
    covariance: Whether it is wanted; it costs 2·V·D² operations.
    losses: Whether they are wanted.
    axis: The mesh axis over which rows are spread, or None.
  """
  V, D = table.shape
  keep = keep.astype(jnp.float32)
  held = max(V, blocks.rows)

  def weights(b):
    fresh = blocks.fresh(b).astype(jnp.float32)
    return blocks.read(keep, b) * fresh

  def first_pass(b, carry):
    total, lost, norms, lossy = carry
    rows = blocks.read(table, b).astype(jnp.float32)
    norm, loss = _norms(rows, losses)
    weight = weights(b)
    if unit_rows:
      weight = weight * divide(1.0, norm)
    term = jnp.einsum('V,VD->D', weight, rows, precision='highest') - lost
    new = total + term  # Kahan's sum.
    put = functools.partial(
        jax.lax.dynamic_update_slice_in_dim,
        start_index=blocks.start(b),
        axis=0,
    )
    norms = put(norms, norm)
    if losses:
      lossy = put(lossy, loss)
    return new, (new - total) - term, norms, lossy

  total, _, norms, lossy = jax.lax.fori_loop(
      0,
      blocks.count,
      first_pass,
      (
          jnp.zeros(D, jnp.float32),
          jnp.zeros(D, jnp.float32),
          jnp.zeros(held, jnp.float32),
          jnp.zeros(held, jnp.float32),
      ),
  )
  count = jnp.maximum(_sum(keep.sum(), axis), 1)
  mean = _sum(total, axis) / count

  def second_pass(b, carry):
    rows = blocks.read(table, b).astype(jnp.float32)
    if unit_rows:
      rows *= divide(1.0, _norms(rows, False)[0])[:, None]
    rows = ((rows - mean[None]) * weights(b)[:, None])[None]
    # As a batch of one: XLA:CPU sums a small product in order otherwise, which
    # costs half of a digit.
    return carry + jnp.einsum('BVD,BVE->DE', rows, rows, precision='highest')

  found = None
  if covariance:
    found = jax.lax.fori_loop(
        0, blocks.count, second_pass, jnp.zeros((D, D), jnp.float32)
    )
    found = _sum(found, axis) / count
  return TableMoments(mean, found, norms[:V], lossy[:V] if losses else None)


def _sum(x, axis: str | None):
  return x if axis is None else jax.lax.psum(x, axis)


def _norms(rows: Float[Array, 'V D'], lossy: bool):
  """Norm of each row, and of what it loses in bfloat16 (zeros if nothing)."""

  def plain(rows):
    return _root_sums(rows, lossy)

  def scaled(rows):
    exponent = exponent_of(jnp.abs(rows).max(axis=1))
    near_one = times_power(rows, -exponent[:, None])
    return tuple(times_power(x, exponent) for x in _root_sums(near_one, lossy))

  first = plain(rows)
  squares = jnp.square(first[0])
  safe = ((squares > _SAFE[0]) & (squares < _SAFE[1])).all()
  return jax.lax.cond(safe, lambda _: first, scaled, rows)


def _root_sums(rows, lossy: bool):
  if not lossy:  # XLA:CPU sums a product faster than it reduces rows.
    squares = jnp.einsum('VD,VD->V', rows, rows, precision='highest')
    return jnp.sqrt(squares), jnp.zeros_like(squares)
  terms = jnp.square(rows), jnp.square(rows - to_bfloat16(rows))
  while terms[0].shape[1] > 1:
    terms = fold_last(terms, lambda a, b: (a[0] + b[0], a[1] + b[1]))
  return tuple(jnp.sqrt(x[:, 0]) for x in terms)
