"""One result out of those of the shards of a vocabulary.

Of every shard, k candidates an end and a few numbers go to the others, for
each feature: never logits, never rows of the table. Without an axis there is
one shard, and nothing to do.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from ooc_jax.circuits import _certify
from ooc_jax.circuits._certify import Ends
from ooc_jax.circuits._sums import Sums
from ooc_jax.circuits._sums import rescale


def total(x: Array, axis: str | None) -> Array:
  """Sum over the shards."""
  return x if axis is None else jax.lax.psum(x, axis)


def largest(x: Array, axis: str | None) -> Array:
  """Largest over the shards."""
  return x if axis is None else jax.lax.pmax(x, axis)


def join_ends(ends: Ends, rows: int, axis: str | None) -> Ends:
  """The ends over all shards of `rows` rows each, counted from the first."""
  if axis is None:
    return ends
  first = jax.lax.axis_index(axis).astype(jnp.int32) * rows
  # A row that is not there overflows, and is not looked at.
  value, rest, row = (
      jax.lax.all_gather(x, axis, axis=2, tiled=True)
      for x in (ends.value, ends.rest, ends.row + first)
  )
  every = Ends(value, rest, row, jax.lax.pmax(ends.left_out, axis))
  return _certify.best(every, ends.value.shape[2])


def join_sums(sums: Sums, axis: str | None) -> Sums:
  """The sums over all shards."""
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


def first_rows(keep: Bool[Array, 'V'], k: int) -> Ends:
  """The ends of a direction of zeros: all tie, so the first rows that count."""
  order = jnp.where(keep, -jnp.arange(keep.size, dtype=jnp.float32), -jnp.inf)
  order, row = jax.lax.top_k(order, min(k, keep.size))
  value = jnp.where(jnp.isneginf(order), order, 0.0)
  value, rest, row = (
      jnp.tile(x, (2, 1, 1)) for x in (value, jnp.zeros_like(value), row)
  )
  ends = Ends(value, rest, row, jnp.full((2, 1), -jnp.inf))
  return _certify.pad_ends(ends, k)
