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
from ooc_jax.circuits.numerics import divide
from ooc_jax.circuits.numerics import fold_reduce
from ooc_jax.model import softcap as apply_softcap

# A finite stand-in for minus infinity, whose differences are finite.
LOWEST = -1e38


class Softmax(NamedTuple):
  """A softmax of the logits y of F features, or of minus them."""

  peak: Float[Array, 'F']  # Largest y, after the softcap.
  partition: Float[Array, 'F']  # Σ exp(y - peak)
  weighted: Float[Array, 'F']  # Σ exp(y - peak)·(y - peak)

  @property
  def entropy(self) -> Float[Array, 'F']:
    """-Σ p log p with p = exp(y - peak) / partition."""
    return jnp.log(self.partition) - self.weighted / self.partition


class Sums(NamedTuple):
  """What a pass leaves of the logits y, per feature, over the kept rows."""

  power_sums: Float[Array, 'F 4']  # Of x - centre.
  lost: Float[Array, 'F 4']  # Kahan's compensation of them.
  top: Softmax
  bottom: Softmax | None  # Of minus the logits.
  active: Int[Array, 'F']


def softmax_logits(
    logits: Float[Array, 'F *_'],
    softcap: float | None,
    temperature: Float[Array, 'F'] | None,
) -> Float[Array, 'F *_']:
  """What the softmax is of: after the softcap, and over the temperature.

  Where that is 0 all logits are equal, and they are made 0.
  """
  y = apply_softcap(logits, softcap)
  if temperature is None:
    return y
  return y * divide(1.0, temperature).reshape((-1,) + (1,) * (y.ndim - 1))


def no_sums(F: int, both_ends: bool) -> Sums:
  """Sums before the first block."""
  none = Softmax(
      peak=jnp.full((F,), LOWEST, jnp.float32),
      partition=jnp.zeros((F,), jnp.float32),
      weighted=jnp.zeros((F,), jnp.float32),
  )
  return Sums(
      power_sums=jnp.zeros((F, 4), jnp.float32),
      lost=jnp.zeros((F, 4), jnp.float32),
      top=none,
      bottom=none if both_ends else None,
      active=jnp.zeros((F,), jnp.int32),
  )


def absorb(
    sums: Sums,
    x: Float[Array, 'F V'],
    extremes: Float[Array, 'ends F'],
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
    extremes: Of the kept ones, the largest; and of minus them.
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
  power_sums, lost = kahan(
      sums.power_sums, sums.lost, jnp.stack([_rest(p) for p in powers], axis=1)
  )

  y = softmax_logits(logits, softcap, prepared.temperature)
  if softcap is not None:
    # XLA:CPU computes tanh and exp many entries at once only alone in a loop.
    y = jax.lax.optimization_barrier(y)

  def end(softmax: Softmax, sign: int) -> Softmax:
    furthest = sign * jnp.maximum(extremes[(1 - sign) // 2], LOWEST)
    furthest = softmax_logits(
        _logits(furthest, prepared), softcap, prepared.temperature
    )
    return _add_terms(softmax, sign * y, sign * furthest, mask, blocks)

  return Sums(
      power_sums=power_sums,
      lost=lost,
      top=end(sums.top, 1),
      bottom=None if sums.bottom is None else end(sums.bottom, -1),
      active=sums.active + _rest(over).astype(jnp.int32),
  )


def _add_terms(
    softmax: Softmax,
    y: Float[Array, 'F V'],
    highest: Float[Array, 'F'],
    mask: Float[Array, '1 V'],
    blocks: Blocks,
) -> Softmax:
  """A softmax with the logits of one more block."""
  peak = jnp.maximum(softmax.peak, highest)
  terms = jnp.exp(y - peak[:, None] + mask)
  terms = jax.lax.optimization_barrier(terms)
  totals = fold_reduce(
      (blocks.fold(terms), blocks.fold(terms * (y - peak[:, None]))), 'ss'
  )
  old = rescale(softmax, peak)
  return Softmax(
      peak=peak,
      partition=old.partition + _rest(totals[0]),
      weighted=old.weighted + _rest(totals[1]),
  )


def join_sums(sums: Sums, axis: str | None) -> Sums:
  """The sums over all shards of a vocabulary; without an axis there is one."""
  power_sums = sums.power_sums - sums.lost
  if axis is None:
    return sums._replace(power_sums=power_sums)

  def end(softmax: Softmax) -> Softmax:
    own = rescale(softmax, jax.lax.pmax(softmax.peak, axis))
    partition, weighted = jax.lax.psum((own.partition, own.weighted), axis)
    return Softmax(own.peak, partition, weighted)

  power_sums, active = jax.lax.psum((power_sums, sums.active), axis)
  return Sums(
      power_sums=power_sums,
      lost=jnp.zeros_like(power_sums),
      top=end(sums.top),
      bottom=None if sums.bottom is None else end(sums.bottom),
      active=active,
  )


def _logits(x, prepared: PreparedDirections):
  shape = (-1,) + (1,) * (x.ndim - 1)
  return x * prepared.scale.reshape(shape) - prepared.shift.reshape(shape)


def rescale(softmax: Softmax, peak: Float[Array, 'F *_']) -> Softmax:
  """The sums of a softmax, taken about another peak."""
  _, partition, weighted = softmax
  drop = jnp.where(partition > 0, softmax.peak - peak, 0.0)
  factor = jnp.exp(drop)
  return Softmax(
      peak, factor * partition, factor * (weighted + drop * partition)
  )


def _rest(x: Float[Array, 'F n lanes']) -> Float[Array, 'F']:
  return x.sum(axis=(1, 2))


def kahan(total, lost, term):
  """One compensated addition (Kahan): keeps the low bits of a long sum."""
  y = term - lost
  new = total + y
  return new, (new - total) - y
