"""Sums over the logits of some features, from blocks of rows and from shards.

A block of logits is added as soon as it is made: sums of powers for the
moments, the running peak and partition of the softmax, and the count over a
threshold.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ooc_jax.circuits.lens._prepare import PreparedDirections
from ooc_jax.circuits.numerics import Blocks
from ooc_jax.circuits.numerics import fold_reduce
from ooc_jax.model import softcap as apply_softcap

# A finite stand-in for minus infinity, whose differences are finite.
_LOWEST = -1e38
# Of a softmax's partition; a smaller part is not told from rounding.
_LEAST_REST = 2.0**-21


class Sums(NamedTuple):
  """What a pass leaves of the logits y, per feature, over the kept rows."""

  power_sums: Float[Array, 'F 4']  # Of x - centre.
  lost: Float[Array, 'F 4']  # Kahan's compensation of them.
  peak: Float[Array, 'F']  # Largest y, after the softcap.
  partition: Float[Array, 'F']  # Σ exp(y - peak)
  weighted: Float[Array, 'F']  # Σ exp(y - peak)·(y - peak)
  active: Int[Array, 'F']


def no_sums(F: int) -> Sums:
  """Sums before the first block."""
  return Sums(
      power_sums=jnp.zeros((F, 4)),
      lost=jnp.zeros((F, 4)),
      peak=jnp.full((F,), _LOWEST),
      partition=jnp.zeros((F,)),
      weighted=jnp.zeros((F,)),
      active=jnp.zeros((F,), jnp.int32),
  )


def absorb(
    sums: Sums,
    x: Float[Array, 'F V'],
    highest: Float[Array, 'F'],
    keep: Float[Array, 'V'],
    mask: Float[Array, '1 V'],
    prepared: PreparedDirections,
    blocks: Blocks,
    *,
    softcap: float | None,
) -> Sums:
  """Adds one block of products to the sums.

  Args:
    sums: So far.
    x: The products.
    highest: Of the kept ones.
    keep: 1 for rows that count, else 0.
    mask: 0 for rows that count, else minus infinity.
    prepared: What goes with each direction.
    blocks: How the walk goes.
    softcap: See `ScanSpec`.
  """
  c = (x - prepared.centre[:, None]) * keep[None]
  squares = c * c
  logits = _logits(x, prepared)
  # Counted also where nobody asks: as one more sum it costs next to nothing,
  # and another program to compile would.
  over = jnp.where(logits > prepared.threshold[:, None], keep[None], 0.0)
  terms = (c, squares, squares * c, squares * squares, over)
  *powers, over = fold_reduce([blocks.fold(x) for x in terms], 'sssss')
  power_sums, lost = _kahan(
      sums.power_sums, sums.lost, jnp.stack([_rest(p) for p in powers], axis=1)
  )

  y = apply_softcap(logits, softcap)
  if softcap is not None:
    # XLA:CPU computes tanh and exp many entries at once only alone in a loop.
    y = jax.lax.optimization_barrier(y)
  highest = jnp.maximum(highest, _LOWEST)
  peak = jnp.maximum(
      sums.peak, apply_softcap(_logits(highest, prepared), softcap)
  )
  terms = jnp.exp(y - peak[:, None] + mask)
  terms = jax.lax.optimization_barrier(terms)
  totals = fold_reduce(
      (blocks.fold(terms), blocks.fold(terms * (y - peak[:, None]))), 'ss'
  )
  partition, weighted = rescale(sums.peak, sums.partition, sums.weighted, peak)
  return Sums(
      power_sums=power_sums,
      lost=lost,
      peak=peak,
      partition=partition + _rest(totals[0]),
      weighted=weighted + _rest(totals[1]),
      active=sums.active + _rest(over).astype(jnp.int32),
  )


def with_true_logits(
    sums: Sums,
    x: Float[Array, 'F c'],
    logits: Float[Array, 'F c'],
    prepared: PreparedDirections,
    softcap: float | None,
) -> Sums:
  """The softmax with the true logits of some tokens for those of the pass.

  Args:
    sums: Of the pass.
    x: Products of the pass.
    logits: The true ones, minus infinity where they are not known.
    prepared: What goes with each direction.
    softcap: See `ScanSpec`.
  """
  known = jnp.isfinite(logits)
  seen = _logits(x, prepared)
  seen = apply_softcap(seen, softcap) - sums.peak[:, None]
  terms = jnp.where(known, jnp.exp(seen), 0.0)
  rest = sums.partition - terms.sum(axis=1)
  weighted = sums.weighted - jnp.where(known, terms * seen, 0.0).sum(axis=1)
  # Less is rounding of the difference.
  real = rest > _LEAST_REST * sums.partition
  rest, weighted = (jnp.where(real, y, 0.0) for y in (rest, weighted))

  true = jnp.where(known, apply_softcap(logits, softcap), -jnp.inf)
  peak = true.max(axis=1)
  peak = jnp.where(jnp.isfinite(peak), peak, sums.peak)
  below = jnp.where(known, true - peak[:, None], 0.0)
  terms = jnp.where(known, jnp.exp(below), 0.0)
  rest, weighted = rescale(sums.peak, rest, weighted, peak)
  return sums._replace(
      peak=peak,
      partition=rest + terms.sum(axis=1),
      weighted=weighted + (terms * below).sum(axis=1),
  )


def join_sums(sums: Sums, axis: str | None) -> Sums:
  """The sums over all shards of a vocabulary; without an axis there is one."""
  sums = sums._replace(power_sums=sums.power_sums - sums.lost)
  if axis is None:
    return sums
  peak = jax.lax.pmax(sums.peak, axis)
  partition, weighted = rescale(sums.peak, sums.partition, sums.weighted, peak)
  power_sums, partition, weighted, active = jax.lax.psum(
      (sums.power_sums, partition, weighted, sums.active), axis
  )
  return Sums(
      power_sums=power_sums,
      lost=jnp.zeros_like(power_sums),
      peak=peak,
      partition=partition,
      weighted=weighted,
      active=active,
  )


def _logits(x, prepared: PreparedDirections):
  shape = (-1,) + (1,) * (x.ndim - 1)
  return x * prepared.slope.reshape(shape) + prepared.offset.reshape(shape)


def rescale(
    old_peak: Float[Array, 'F'],
    partition: Float[Array, 'F'],
    weighted: Float[Array, 'F'],
    peak: Float[Array, 'F'],
) -> tuple[Float[Array, 'F'], Float[Array, 'F']]:
  """The two sums of a softmax, taken about another peak."""
  drop = jnp.where(partition > 0, old_peak - peak, 0.0)
  factor = jnp.exp(drop)
  return factor * partition, factor * (weighted + drop * partition)


def _rest(x: Float[Array, 'F n lanes']) -> Float[Array, 'F']:
  return x.sum(axis=(1, 2))


def _kahan(total, lost, term):
  """One compensated addition (Kahan): keeps the low bits of a long sum."""
  y = term - lost
  new = total + y
  return new, (new - total) - y
