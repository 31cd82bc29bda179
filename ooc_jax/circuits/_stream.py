"""Streams directions over a vocabulary: statistics, softmax and top-k at once.

No array of F x V is held. Features go in blocks, and for each block the table
goes by in blocks of rows; every statistic is reduced as logits are produced.
Extra memory is a few times FEATURE_BLOCK x VOCAB_BLOCK floats, whatever F and
V are.

Axis letters: F features (of one block), V vocabulary (of one block), D width.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ooc_jax.circuits._topk import grouped_topk
from ooc_jax.circuits._topk import merge_topk
from ooc_jax.model import softcap as apply_softcap

# 512 x 8192 float32 logits are 16 MB: large enough for the matrix product to
# run at its peak, small enough to stay in a CPU's last cache.
FEATURE_BLOCK = 512
VOCAB_BLOCK = 8192
_GROUP = 32
# Sums over a block run in this many independent lanes: that vectorises, and
# the rounding error grows with V / _LANES instead of V.
_LANES = 64


class Reading(NamedTuple):
  """How logits are made from `directions @ table.T`, one number a feature.

  Attributes:
    shift: Subtracted from every logit.
    threshold: Logits above it, before the shift, count as active.
  """

  shift: Float[Array, 'F']
  threshold: Float[Array, 'F']


class Totals(NamedTuple):
  """What a pass over the vocabulary leaves, per feature.

  `power_sums` are of w·(logit - centre), powers 1 to 4.
  """

  top: tuple[Float[Array, 'F k'], Int[Array, 'F k']]
  bottom: tuple[Float[Array, 'F k'], Int[Array, 'F k']]
  power_sums: Float[Array, '4 F']
  lost: Float[Array, '4 F']  # Kahan's compensation of the power sums.
  peak: Float[Array, 'F']
  partition: Float[Array, 'F']  # Σ exp(y - peak)
  weighted: Float[Array, 'F']  # Σ exp(y - peak)·(y - peak)
  active: Int[Array, 'F']


@functools.partial(jax.jit, static_argnames=('k', 'softcap'))
def stream(
    directions: Float[Array, 'F D'],
    table: Float[Array, 'V D'],
    row_scale: Float[Array, 'V'] | None,
    keep: Bool[Array, 'V'],
    reading: Reading,
    *,
    k: int,
    softcap: float | None,
) -> tuple[Totals, Float[Array, 'F'], Float[Array, 'F']]:
  """All totals of `directions` against the kept rows of `table`.

  Args:
    directions: Float32 rows.
    table: Rows of any float dtype; cast to float32 a block at a time.
    row_scale: Multiplies each row's logits, or None.
    keep: Which rows count.
    reading: Shift and threshold a feature.
    k: How many of the largest and of the smallest to keep.
    softcap: Bound on the logits inside the softmax, or None.

  Returns:
    The totals, and the centre and the weight w of the power sums.
  """
  F, D = directions.shape
  block = min(FEATURE_BLOCK, F)
  padding = -F % block
  per_feature = (directions, reading)
  blocks = jax.tree.map(
      lambda x: jnp.pad(x, [(0, padding)] + [(0, 0)] * (x.ndim - 1)).reshape(
          -1, block, *x.shape[1:]
      ),
      per_feature,
  )
  mean_row = _mean_row(table, row_scale, keep)

  def one_block(args):
    rows, row_reading = args
    return _feature_block(
        rows, row_reading, table, row_scale, keep, mean_row, k, softcap
    )

  return _join(jax.lax.map(one_block, blocks), F)


def _join(out, F: int):
  """[blocks, ..., f, ...] -> [..., F, ...] for every total."""
  totals, centre, weight = out

  def rows(x: Array) -> Array:
    return x.reshape(-1, *x.shape[2:])[:F]

  def columns(x: Array) -> Array:
    return jnp.moveaxis(x, 0, 1).reshape(x.shape[1], -1)[:, :F]

  joined = jax.tree.map(rows, totals._replace(power_sums=None, lost=None))
  joined = joined._replace(
      power_sums=columns(totals.power_sums), lost=columns(totals.lost)
  )
  return joined, rows(centre), rows(weight)


def _vocab_blocks(V: int) -> tuple[int, int]:
  """Rows per block, a multiple of the lanes, and how many blocks."""
  size = min(VOCAB_BLOCK, -(-V // _LANES) * _LANES)
  return size, -(-V // size)


def _table_block(
    table: Float[Array, 'V D'],
    row_scale: Float[Array, 'V'] | None,
    keep: Bool[Array, 'V'],
    b: Int[Array, ''],
) -> tuple[Float[Array, 'v D'], Bool[Array, 'v'], Int[Array, '']]:
  """Block `b` in float32, which rows of it count, and its first id.

  The last block starts early enough to be whole; rows that the block before
  had are masked. A table shorter than a block is padded.
  """
  V = table.shape[0]
  size, _ = _vocab_blocks(V)
  if size > V:
    table = jnp.pad(table, ((0, size - V), (0, 0)))
    keep = jnp.pad(keep, (0, size - V))
    if row_scale is not None:
      row_scale = jnp.pad(row_scale, (0, size - V))
    V = size
  start = jnp.minimum(b * size, V - size)
  # Without the barrier XLA:CPU casts a whole bfloat16 table to float32 ahead
  # of the loop: a second copy of twice the size.
  table, start = jax.lax.optimization_barrier((table, start))
  rows = jax.lax.dynamic_slice_in_dim(table, start, size).astype(jnp.float32)
  if row_scale is not None:
    rows *= jax.lax.dynamic_slice_in_dim(row_scale, start, size)[:, None]
  fresh = start + jnp.arange(size, dtype=jnp.int32) >= b * size
  return rows, jax.lax.dynamic_slice_in_dim(keep, start, size) & fresh, start


def _mean_row(
    table: Float[Array, 'V D'],
    row_scale: Float[Array, 'V'] | None,
    keep: Bool[Array, 'V'],
) -> Float[Array, 'D']:
  """Mean of the kept rows, a block at a time."""

  def add(total, b):
    rows, counts, _ = _table_block(table, row_scale, keep, b)
    kept = jnp.where(counts[:, None], rows, 0.0)
    lanes = kept.reshape(-1, _LANES, table.shape[1]).sum(axis=0)
    return total + lanes.sum(axis=0), None

  _, blocks = _vocab_blocks(table.shape[0])
  total, _ = jax.lax.scan(
      add,
      jnp.zeros(table.shape[1], jnp.float32),
      jnp.arange(blocks, dtype=jnp.int32),
  )
  return total / jnp.maximum(keep.sum(), 1).astype(jnp.float32)


def mean_kept_row(
    table: Float[Array, 'V D'],
    row_scale: Float[Array, 'V'] | None,
    keep: Bool[Array, 'V'],
) -> Float[Array, 'D']:
  """Mean row that `centered` subtracts; float32."""
  return jax.jit(_mean_row)(table, row_scale, keep)


def _feature_block(
    directions, reading, table, row_scale, keep, mean_row, k, softcap
):
  F = directions.shape[0]
  # Powers are taken about d·mean(u), close to the true mean, and in units of
  # a power of two near the direction's norm: no cancellation, no overflow.
  centre = jnp.einsum(
      'fd,d->f', directions, mean_row, precision=jax.lax.Precision.HIGHEST
  )
  norm = jnp.linalg.norm(directions, axis=-1)
  weight = jnp.where(norm > 0, jnp.exp2(-jnp.round(jnp.log2(norm))), 1.0)

  def step(totals: Totals, b) -> tuple[Totals, None]:
    rows, counts, start = _table_block(table, row_scale, keep, b)
    logits = jnp.einsum(
        'fd,vd->fv', directions, rows, precision=jax.lax.Precision.HIGHEST
    )
    return (
        _absorb(
            totals, logits, counts, start, reading, centre, weight, k, softcap
        ),
        None,
    )

  _, blocks = _vocab_blocks(table.shape[0])
  start = Totals(
      top=(jnp.full((F, k), -jnp.inf), jnp.zeros((F, k), jnp.int32)),
      bottom=(jnp.full((F, k), -jnp.inf), jnp.zeros((F, k), jnp.int32)),
      power_sums=jnp.zeros((4, F)),
      lost=jnp.zeros((4, F)),
      peak=jnp.full((F,), jnp.finfo(jnp.float32).min),
      partition=jnp.zeros((F,)),
      weighted=jnp.zeros((F,)),
      active=jnp.zeros((F,), jnp.int32),
  )
  totals, _ = jax.lax.scan(step, start, jnp.arange(blocks, dtype=jnp.int32))
  shift = reading.shift[:, None]
  return (
      totals._replace(
          top=(totals.top[0] - shift, totals.top[1]),
          bottom=(-totals.bottom[0] - shift, totals.bottom[1]),
      ),
      centre,
      weight,
  )


def _absorb(
    totals, logits, counts, start, reading, centre, weight, k, softcap
) -> Totals:
  """Adds one block of logits [F, V] to the totals."""
  counts = counts[None, :]
  # Minus infinity in both searches: what is masked is never found.
  found = grouped_topk(jnp.where(counts, logits, -jnp.inf), k, _GROUP)
  top = merge_topk(totals.top, (found[0], found[1] + start), k)
  found = grouped_topk(jnp.where(counts, -logits, -jnp.inf), k, _GROUP)
  bottom = merge_topk(totals.bottom, (found[0], found[1] + start), k)

  c = jnp.where(counts, (logits - centre[:, None]) * weight[:, None], 0.0)
  squares = c * c
  powers = (c, squares, squares * c, squares * squares)
  power_sums, lost = _kahan(
      totals.power_sums, totals.lost, jnp.stack([_row_sums(p) for p in powers])
  )

  shifted = logits - reading.shift[:, None]
  active = (counts & (logits > reading.threshold[:, None])).sum(
      axis=-1, dtype=jnp.int32
  )
  # The cap is monotone, so the block's peak is that of its largest logit.
  peak = apply_softcap(top[0][:, 0] - reading.shift, softcap)
  below = apply_softcap(shifted, softcap) - peak[:, None]
  # exp underflows to exactly 0 long before this.
  below = jnp.where(counts, below, -1e4)
  terms = jnp.exp(below)
  drop = totals.peak - peak
  rescale = jnp.exp(drop)
  old = jnp.where(totals.partition > 0, drop * totals.partition, 0.0)
  return Totals(
      top=top,
      bottom=bottom,
      power_sums=power_sums,
      lost=lost,
      peak=peak,
      partition=rescale * totals.partition + _row_sums(terms),
      weighted=rescale * (totals.weighted + old) + _row_sums(terms * below),
      active=totals.active + active,
  )


def _row_sums(x: Float[Array, 'F V']) -> Float[Array, 'F']:
  return x.reshape(x.shape[0], -1, _LANES).sum(axis=1).sum(axis=-1)


def _kahan(total, lost, term):
  """One compensated addition (Kahan): keeps the low bits of a long sum."""
  y = term - lost
  new = total + y
  return new, (new - total) - y
