"""Directions made ready for a pass, and how far its logits may be off."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ooc_jax.circuits._moments import TableMoments
from ooc_jax.circuits._moments import to_bfloat16
from ooc_jax.circuits._powers import exponent_of
from ooc_jax.circuits._powers import times_power
from ooc_jax.circuits._sample import Sample
from ooc_jax.circuits._sample import sampled_slope
from ooc_jax.circuits._sums import Feature

# Over what the norms and bounds themselves lose in float32.
_SLACK = 1.001
_UNIT_ROUNDOFF = 2.0**-24
_UNDERFLOW = 1e-33


class Unit(NamedTuple):
  """Directions in units of their own and of the table.

  Attributes:
    row: Float32, of norm 1 to 2 (or 0).
    exponent: The power of two that was divided out of the direction.
    threshold: Logits, as asked for, above it are active.
  """

  row: Float[Array, 'F D']
  exponent: Int[Array, 'F']
  threshold: Float[Array, 'F']


class Line(NamedTuple):
  """How products of a pass become logits, and what is known before it.

  Attributes:
    shift: Subtracted from every logit.
    mean: Of the logits.
    std: Of the logits, or None where it is not known yet.
    slope: A logit is about slope * x + constant.
  """

  shift: Float[Array, 'F']
  mean: Float[Array, 'F']
  std: Float[Array, 'F'] | None
  slope: Float[Array, 'F']


def normalise(
    directions: Float[Array, 'F D'], threshold: Float[Array, 'F']
) -> Unit:
  """Divides each direction by a power of two near its norm: no digit goes."""
  first = exponent_of(jnp.abs(directions).max(axis=1))
  row = times_power(directions, -first[:, None])
  second = exponent_of(jnp.linalg.norm(row, axis=1))
  return Unit(times_power(row, -second[:, None]), first + second, threshold)


def prepare(
    unit: Unit,
    moments: TableMoments,
    table_exponent: Int[Array, ''],
    *,
    screened: bool,
    centered: bool,
    sample: Sample | None = None,
    axis: str | None = None,
) -> tuple[Feature, Line]:
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
    unit: The directions.
    moments: Of the table.
    table_exponent: The power of two near the table's largest row.
    screened: Whether the product is in bfloat16.
    centered: Whether the mean row is subtracted from the table.
    sample: Of the table; needed where it is screened without its covariance.
    axis: The mesh axis over which rows of the table are spread, or None.

  Returns:
    The features, and their lines; `std` is √(dᵀCd) where C is known.
  """
  d, D = unit.row, unit.row.shape[1]
  q = to_bfloat16(d) if screened else d
  # In units of the table too, whose rows may be of any size.
  row = times_power(q, -table_exponent)
  slope = jnp.ones_like(d[:, 0])
  spread = None
  if moments.covariance is not None:
    through = _through(d, moments.covariance)
    spread = _along(d, through)
    if screened:
      lost = d - q
      both = _along(q, through)
      own = _along(lost * lost, jnp.diagonal(moments.covariance)[None])
      slope = _ratio(both, both - _along(lost, through) + own)
    spread = times_power(jnp.sqrt(jnp.maximum(spread, 0.0)), unit.exponent)
  elif sample is not None:
    lost = times_power(d - q, -table_exponent)
    slope = sampled_slope(sample, row, lost, axis)
  exponent = unit.exponent + table_exponent
  centre = _along(row, moments.mean[None])
  true_centre = _along(times_power(d, -table_exponent), moments.mean[None])
  mean = times_power(true_centre, exponent)
  shift = mean if centered else jnp.zeros_like(mean)
  scale = times_power(jnp.float32(1), -table_exponent)
  sum_error = (2 * D + 64) * _UNIT_ROUNDOFF * jnp.linalg.norm(q, axis=1)
  # A row rounded to bfloat16 is longer by 2^-8 of itself at most.
  size_error = 1.01 * (jnp.linalg.norm(d - q, axis=1) + sum_error)
  feature = Feature(
      row=row.astype(jnp.bfloat16) if screened else row,
      centre=centre,
      slope=times_power(slope, exponent),
      offset=times_power(true_centre - slope * centre, exponent) - shift,
      threshold=unit.threshold - shift,
      # Never 0, for it multiplies the minus infinity of rows that are masked.
      size_error=jnp.maximum(_SLACK * scale * size_error, _UNDERFLOW),
      loss_error=_SLACK * scale * jnp.linalg.norm(d, axis=1),
  )
  return feature, Line(shift, mean - shift, spread, feature.slope)


def _along(x: Float[Array, 'F D'], y: Float[Array, '_ D']) -> Float[Array, 'F']:
  # Not a product of matrices, whose sums may depend on the place of a row.
  return (x * y).sum(axis=1)


def _through(x: Float[Array, 'F D'], y: Float[Array, 'D D']) -> Array:
  return jnp.einsum('FD,DE->FE', x, y, precision=jax.lax.Precision.HIGHEST)


def _ratio(x, y):
  """x / y, and 1 where y is not positive."""
  return jnp.where(y > 0, x / jnp.where(y > 0, y, 1.0), 1.0)
