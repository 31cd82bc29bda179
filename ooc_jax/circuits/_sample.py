"""A sample of a table, on which rounded products are held against true ones."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ooc_jax.circuits._moments import to_bfloat16

# Rows, of all shards together. The slope is then off by about ρ / 64, with ρ
# the rms error of a product over the standard deviation of the products.
_SIZE = 4096


class Sample(NamedTuple):
  """Rows evenly spaced over (one shard of) a table.

  Attributes:
    rows: In bfloat16, as a screened pass multiplies them.
    losses: What rounding took from them, or None where nothing.
    scale: Multiplies products with a row, or None.
    weight: 1 where a row counts, else 0.
  """

  rows: Float[Array, 'n D']
  losses: Float[Array, 'n D'] | None
  scale: Float[Array, 'n'] | None
  weight: Float[Array, 'n']


def take_sample(
    table: Float[Array, 'V D'],
    keep: Bool[Array, 'V'],
    scale: Float[Array, 'V'] | None,
    axis: str | None,
) -> Sample:
  """The sample of one shard.

  Args:
    table: One shard of it.
    keep: Which of its rows count.
    scale: Multiplies products with a row, or None.
    axis: The mesh axis over which rows are spread, or None.
  """
  V = table.shape[0]
  shards = 1 if axis is None else jax.lax.axis_size(axis)
  size = min(V, -(-_SIZE // shards))
  index = jnp.asarray([i * V // size for i in range(size)], jnp.int32)
  # Else XLA:CPU rounds the whole table and then takes the rows.
  held, index = jax.lax.optimization_barrier((table, index))
  rows = held.at[index].get(mode='promise_in_bounds')
  rows = jax.lax.optimization_barrier(rows)
  losses = None
  if table.dtype != jnp.bfloat16:
    rows = rows.astype(jnp.float32)
    losses = (rows - to_bfloat16(rows)).astype(jnp.bfloat16)
  return Sample(
      rows.astype(jnp.bfloat16),
      losses,
      None if scale is None else scale[index],
      keep[index].astype(jnp.float32),
  )


def sampled_slope(
    sample: Sample,
    q: Float[Array, 'F D'],
    rest: Float[Array, 'F D'],
    axis: str | None,
) -> Float[Array, 'F']:
  """The slope of the regression of true products on rounded ones.

  With u' and l a row in bfloat16 and what it lost, the rounded product is
  x = q·u', and the true one is x + e with e = rest·u' + (q + rest)·l: small,
  so that bfloat16 does for it. The slope is 1 + cov(e, x) / var(x).

  Args:
    sample: Of the table.
    q: Directions as a screened pass multiplies them.
    rest: What rounding took from them.
    axis: The mesh axis over which rows are spread, or None.
  """
  x, e = _product(q, sample.rows), _product(rest, sample.rows)
  if sample.losses is not None:
    e += _product(q + rest, sample.losses)
  if sample.scale is not None:
    x, e = x * sample.scale[None], e * sample.scale[None]
  weight = sample.weight[None]

  def mean(terms):
    sums = (terms * weight).sum(axis=1), weight.sum()
    if axis is not None:
      sums = jax.lax.psum(sums, axis)
    return sums[0] / jnp.maximum(sums[1], 1)

  x -= mean(x)[:, None]
  variance = mean(x * x)
  covariance = mean(x * e)
  some = variance > 0
  return 1 + jnp.where(some, covariance / jnp.where(some, variance, 1.0), 0.0)


def _product(x: Float[Array, 'F D'], rows: Float[Array, 'n D']):
  return jnp.einsum(
      'FD,nD->Fn',
      x.astype(jnp.bfloat16),
      rows,
      preferred_element_type=jnp.float32,
  )
