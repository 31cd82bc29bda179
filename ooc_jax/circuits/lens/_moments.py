"""What is known of a vocabulary table once a model: mean, covariance, norms."""

from typing import Any

import flax
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ooc_jax.circuits.numerics import Blocks
from ooc_jax.circuits.numerics import divide
from ooc_jax.circuits.numerics import exponent_of
from ooc_jax.circuits.numerics import times_power
from ooc_jax.circuits.numerics import triangle

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
  """

  # Any: JAX also fills its pytrees with shapes, shardings and batches.
  mean: Float[Array, 'D'] | Any
  covariance: Float[Array, 'D D'] | None | Any
  norms: Float[Array, 'V'] | Any


def row_moments(
    table: Float[Array, 'V D'],
    keep: Bool[Array, 'V'],
    blocks: Blocks,
    *,
    unit_rows: bool,
    covariance: bool,
    axis: str | None,
) -> TableMoments:
  """The moments of (one shard of) a table, a block of rows at a time.

  Args:
    table: Rows of any float dtype.
    keep: Which rows count.
    blocks: How to walk over them.
    unit_rows: Whether the moments are of rows divided by their norms.
    covariance: Whether it is wanted; it costs V·D² operations, and an eighth
      more.
    axis: The mesh axis over which rows are spread, or None.
  """
  V, D = table.shape
  keep = keep.astype(jnp.float32)
  held = max(V, blocks.rows)

  def weights(b):
    fresh = blocks.fresh(b).astype(jnp.float32)
    return blocks.read(keep, b) * fresh

  def first_pass(b, carry):
    total, lost, norms = carry
    rows = blocks.read(table, b).astype(jnp.float32)
    norm = _norms(rows)
    weight = weights(b)
    if unit_rows:
      weight = weight * divide(1.0, norm)
    term = jnp.einsum('V,VD->D', weight, rows, precision='highest') - lost
    new = total + term  # Kahan's sum.
    norms = jax.lax.dynamic_update_slice_in_dim(
        norms, norm, blocks.start(b), axis=0
    )
    return new, (new - total) - term, norms

  total, _, norms = jax.lax.fori_loop(
      0,
      blocks.count,
      first_pass,
      (
          jnp.zeros(D, jnp.float32),
          jnp.zeros(D, jnp.float32),
          jnp.zeros(held, jnp.float32),
      ),
  )
  count = jnp.maximum(_sum(keep.sum(), axis), 1)
  mean = _sum(total, axis) / count

  def second_pass(b, carry):
    rows = blocks.read(table, b).astype(jnp.float32)
    if unit_rows:
      rows *= divide(1.0, _norms(rows))[:, None]
    rows = ((rows - mean[None]) * weights(b)[:, None])[None]
    # As a batch of one: XLA:CPU sums a small product in order otherwise, which
    # costs half of a digit.
    return [
        strip
        + jnp.einsum(
            'BVD,BVE->DE',
            rows[:, :, first:last],
            rows[:, :, first:],
            precision='highest',
        )
        for strip, (first, last) in zip(carry, triangle(D), strict=True)
    ]

  found = None
  if covariance:
    start = [jnp.zeros((b - a, D - a), jnp.float32) for a, b in triangle(D)]
    strips = jax.lax.fori_loop(0, blocks.count, second_pass, start)
    upper = jnp.concatenate(
        [jnp.pad(x, ((0, 0), (D - x.shape[1], 0))) for x in strips]
    )
    found = _sum(jnp.triu(upper) + jnp.triu(upper, 1).T, axis) / count
  return TableMoments(mean, found, norms[:V])


def _sum(x, axis: str | None):
  return x if axis is None else jax.lax.psum(x, axis)


def _norms(rows: Float[Array, 'V D']) -> Float[Array, 'V']:
  def plain(rows):  # XLA:CPU sums a product faster than it reduces rows.
    return jnp.sqrt(jnp.einsum('VD,VD->V', rows, rows, precision='highest'))

  def scaled(rows):
    exponent = exponent_of(jnp.abs(rows).max(axis=1))
    return times_power(plain(times_power(rows, -exponent[:, None])), exponent)

  first = plain(rows)
  squares = jnp.square(first)
  safe = ((squares > _SAFE[0]) & (squares < _SAFE[1])).all()
  return jax.lax.cond(safe, lambda _: first, scaled, rows)
