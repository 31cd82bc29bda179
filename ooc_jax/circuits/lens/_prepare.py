"""Directions made ready for a pass, and how far its logits may be off.

A screened pass multiplies directions rounded to bfloat16. A slope and an offset
then put its products on a line with the true logits: from the covariance of the
table where that is known, else from a sample of its rows.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ooc_jax.circuits.lens._moments import TableMoments
from ooc_jax.circuits.numerics import divide
from ooc_jax.circuits.numerics import exponent_of
from ooc_jax.circuits.numerics import times_power
from ooc_jax.circuits.numerics import to_bfloat16

# Over what the norms and bounds themselves lose in float32.
_SLACK = 1.001
_UNIT_ROUNDOFF = 2.0**-24
_UNDERFLOW = 1e-33
# Rows of a sample, of all shards together. The slope is then off by about
# ρ / 64, with ρ the rms error of a product over the standard deviation of the
# products.
_SAMPLE = 4096


class ScaledDirections(NamedTuple):
  """Directions divided by a power of two each, so that no product overflows.

  Attributes:
    row: Float32, of norm 1 to 2 (or 0).
    exponent: The power of two that was divided out of the direction.
    threshold: Logits, as asked for, above it are active.
  """

  row: Float[Array, 'F D']
  exponent: Int[Array, 'F']
  threshold: Float[Array, 'F']


class PreparedDirections(NamedTuple):
  """What goes with each direction; products x are of its scaled row.

  Attributes:
    row: [F, D], as it is multiplied.
    centre: The mean of x over the rows that count, nearly.
    slope: A logit is slope * x + offset.
    offset: See `slope`.
    threshold: Logits above it are active.
    size_error: x is off by at most size_error * size + loss_error * loss.
    loss_error: See `size_error`.
    temperature: See `AffineMap`.
  """

  row: Float[Array, 'F D']
  centre: Float[Array, 'F']
  slope: Float[Array, 'F']
  offset: Float[Array, 'F']
  threshold: Float[Array, 'F']
  size_error: Float[Array, 'F']
  loss_error: Float[Array, 'F']
  temperature: Float[Array, 'F'] | None


class AffineMap(NamedTuple):
  """How products of a pass become logits, and what is known before the pass.

  Attributes:
    shift: Subtracted from every logit.
    mean: Of the logits.
    std: Of the logits, or None where it is not known yet.
    slope: A logit is about slope * x + constant.
    temperature: Divides the logits of the softmax, so that their standard
      deviation is the spread that was asked for; None where none was.
  """

  shift: Float[Array, 'F']
  mean: Float[Array, 'F']
  std: Float[Array, 'F'] | None
  slope: Float[Array, 'F']
  temperature: Float[Array, 'F'] | None


class TableSample(NamedTuple):
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


def normalise(
    directions: Float[Array, 'F D'], threshold: Float[Array, 'F']
) -> ScaledDirections:
  """Divides each direction by a power of two near its norm: no digit goes."""
  first = exponent_of(jnp.abs(directions).max(axis=1))
  row = times_power(directions, -first[:, None])
  second = exponent_of(jnp.linalg.norm(row, axis=1))
  return ScaledDirections(
      times_power(row, -second[:, None]), first + second, threshold
  )


def sample_table(
    table: Float[Array, 'V D'],
    keep: Bool[Array, 'V'],
    scale: Float[Array, 'V'] | None,
    axis: str | None,
) -> TableSample:
  """The sample of one shard.

  Args:
    table: One shard of it.
    keep: Which of its rows count.
    scale: Multiplies products with a row, or None.
    axis: The mesh axis over which rows are spread, or None.
  """
  V = table.shape[0]
  shards = 1 if axis is None else jax.lax.axis_size(axis)
  size = min(V, -(-_SAMPLE // shards))
  index = jnp.asarray([i * V // size for i in range(size)], jnp.int32)
  # Without the barriers XLA:CPU rounds the whole table and then takes the rows.
  held, index = jax.lax.optimization_barrier((table, index))
  rows = held.at[index].get(mode='promise_in_bounds')
  rows = jax.lax.optimization_barrier(rows)
  losses = None
  if table.dtype != jnp.bfloat16:
    rows = rows.astype(jnp.float32)
    losses = (rows - to_bfloat16(rows)).astype(jnp.bfloat16)
  return TableSample(
      rows.astype(jnp.bfloat16),
      losses,
      None if scale is None else scale[index],
      keep[index].astype(jnp.float32),
  )


def prepare(
    scaled: ScaledDirections,
    moments: TableMoments,
    table_exponent: Int[Array, ''],
    *,
    screened: bool,
    centered: bool,
    spread: float | None = None,
    sample: TableSample | None = None,
    axis: str | None = None,
) -> tuple[PreparedDirections, AffineMap]:
  """The rows of a pass, with what belongs to each.

  A screened pass multiplies q, the direction d rounded to bfloat16. With the
  covariance C of the table, s = dᵀCq / qᵀCq is the slope of the regression of
  the logits d·u on q·u, so that s·(q·u - q·mean(u)) + d·mean(u) has the mean
  of d·u and errors that are uncorrelated with it. One product with C is enough
  for this and for dᵀCd: with e = d - q, qᵀCq = dᵀCq - dᵀCe + eᵀCe, and eᵀCe,
  small beside the others, is taken as Σ e_i² C_ii, its mean over roundings that
  know nothing of each other. Without C the slope is that on a sample of the
  table.

  The error of a product x = q·u' (u' the row u as it is multiplied) obeys
    |d·u - x| ≤ ‖d - q‖ ‖u'‖ + ‖d‖ ‖u - u'‖ + γ ‖q‖ ‖u'‖
  by Cauchy-Schwarz; γ = 2 D ε with ε = 2^-24 is twice the bound of a sum of D
  products in float32 in any order (Higham 2002, section 3.1; twice, since
  some accelerators truncate), and 64 ε more for scaling and the last rounding.

  Args:
    scaled: The directions.
    moments: Of the table.
    table_exponent: The power of two near the table's largest row.
    screened: Whether the product is in bfloat16.
    centered: Whether the mean row is subtracted from the table.
    spread: See `LensSpec`; needs the covariance of the table.
    sample: Of the table; needed where it is screened without its covariance.
    axis: The mesh axis over which rows of the table are spread, or None.

  Returns:
    The directions, and how their products become logits; `std` is √(dᵀCd)
    where C is known.
  """
  d, D = scaled.row, scaled.row.shape[1]
  q = to_bfloat16(d) if screened else d
  # In units of the table too, whose rows may be of any size.
  row = times_power(q, -table_exponent)
  slope = jnp.ones_like(d[:, 0])
  std = None
  if moments.covariance is not None:
    through = _through(d, moments.covariance)
    variance = _along(d, through)
    if screened:
      lost = d - q
      both = _along(q, through)
      own = _along(lost * lost, jnp.diagonal(moments.covariance)[None])
      slope = _ratio(both, both - _along(lost, through) + own)
    std = times_power(jnp.sqrt(jnp.maximum(variance, 0.0)), scaled.exponent)
  elif sample is not None:
    lost = times_power(d - q, -table_exponent)
    slope = _sampled_slope(sample, row, lost, axis)
  exponent = scaled.exponent + table_exponent
  centre = _along(row, moments.mean[None])
  true_centre = _along(times_power(d, -table_exponent), moments.mean[None])
  mean = times_power(true_centre, exponent)
  shift = mean if centered else jnp.zeros_like(mean)
  scale = times_power(jnp.float32(1), -table_exponent)
  temperature = None if spread is None or std is None else std / spread
  sum_error = (2 * D + 64) * _UNIT_ROUNDOFF * jnp.linalg.norm(q, axis=1)
  # A row rounded to bfloat16 is longer by 2^-8 of itself at most.
  size_error = 1.01 * (jnp.linalg.norm(d - q, axis=1) + sum_error)
  prepared = PreparedDirections(
      row=row.astype(jnp.bfloat16) if screened else row,
      centre=centre,
      slope=times_power(slope, exponent),
      offset=times_power(true_centre - slope * centre, exponent) - shift,
      threshold=scaled.threshold - shift,
      # Never 0, for it multiplies the minus infinity of rows that are masked.
      size_error=jnp.maximum(_SLACK * scale * size_error, _UNDERFLOW),
      loss_error=_SLACK * scale * jnp.linalg.norm(d, axis=1),
      temperature=temperature,
  )
  return prepared, AffineMap(
      shift, mean - shift, std, prepared.slope, temperature
  )


def _sampled_slope(
    sample: TableSample,
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
  return 1 + divide(covariance, variance)


def _along(x: Float[Array, 'F D'], y: Float[Array, '_ D']) -> Float[Array, 'F']:
  # Not a product of matrices, whose sums may depend on the place of a row.
  return (x * y).sum(axis=1)


def _through(x: Float[Array, 'F D'], y: Float[Array, 'D D']) -> Array:
  return jnp.einsum('FD,DE->FE', x, y, precision=jax.lax.Precision.HIGHEST)


def _ratio(x, y):
  """x / y, and 1 where y is not positive."""
  return jnp.where(y > 0, x / jnp.where(y > 0, y, 1.0), 1.0)


def _product(x: Float[Array, 'F D'], rows: Float[Array, 'n D']):
  return jnp.einsum(
      'FD,nD->Fn',
      x.astype(jnp.bfloat16),
      rows,
      preferred_element_type=jnp.float32,
  )
