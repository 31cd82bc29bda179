"""The lens of (one shard of) features over (one shard of) a vocabulary.

No array of F x V is held. Features go in blocks, and for each the table goes
by in blocks of rows; every statistic is reduced as logits are produced.

Axis letters: F features, V vocabulary (of one shard), D width.
"""

from collections.abc import Callable
import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ooc_jax.circuits import _certify
from ooc_jax.circuits import _merge
from ooc_jax.circuits import _recount
from ooc_jax.circuits._blocks import Blocks
from ooc_jax.circuits._candidates import Positions
from ooc_jax.circuits._certify import Ends
from ooc_jax.circuits._feature import Line
from ooc_jax.circuits._feature import Unit
from ooc_jax.circuits._feature import normalise
from ooc_jax.circuits._feature import prepare
from ooc_jax.circuits._moments import TableMoments
from ooc_jax.circuits._powers import exponent_of
from ooc_jax.circuits._powers import times_power
from ooc_jax.circuits._readings import inverse
from ooc_jax.circuits._readings import make_readings
from ooc_jax.circuits._sample import Sample
from ooc_jax.circuits._sample import take_sample
from ooc_jax.circuits._screen import Wanted
from ooc_jax.circuits._screen import screen
from ooc_jax.circuits._settings import Readings
from ooc_jax.circuits._settings import Settings
from ooc_jax.circuits._sums import Sums
from ooc_jax.circuits._sums import with_true_logits


class _Shard(NamedTuple):
  """One shard of a table, and what is known of it."""

  table: Float[Array, 'V D']
  keep: Bool[Array, 'V']
  moments: TableMoments
  exponent: Int[Array, '']  # Of the power of two near its largest row.
  positions: Positions
  sample: Sample | None = None  # Where a screened pass needs one.


class Found(NamedTuple):
  """What one pass over the table leaves of some features."""

  ends: Ends
  sums: Sums
  line: Line


def first_look(
    directions: Float[Array, 'F D'],
    table: Float[Array, 'V D'],
    keep: Bool[Array, 'V'],
    moments: TableMoments,
    threshold: Float[Array, 'F'],
    settings: Settings,
) -> tuple[Readings, Found]:
  """Everything about `directions` @ `table`.T over the kept rows.

  Under `jax.shard_map` arrays are those of one shard (but `moments.mean` and
  `.covariance` are of the whole table), and the readings are of its features,
  equal along the vocabulary axis.

  Returns:
    The readings, true but for the ends of features that are marked
    `recomputed`; and what `second_look` needs to find those.
  """
  s = settings
  shard = _shard(table, keep, moments, s)
  if s.screened and moments.covariance is None:
    scale = inverse(moments.norms) if s.unit else None
    shard = shard._replace(sample=take_sample(table, keep, scale, s.vocab_axis))
  blocks = Blocks.choose(directions.shape[0], table.shape[0], s.platform)
  found = _by_blocks(
      lambda some: _read_block(some, shard, blocks, s),
      normalise(directions, threshold),
      blocks.features,
  )
  none = _merge.first_rows(keep, s.k)
  zero = ~directions.astype(bool).any(axis=1)
  ends = jax.tree.map(
      lambda x, y: jnp.where(zero.reshape((1, -1) + (1,) * (x.ndim - 2)), y, x),
      found.ends,
      none,
  )
  found = found._replace(
      ends=_merge.join_ends(ends, table.shape[0], s.vocab_axis),
      sums=_merge.join_sums(found.sums, s.vocab_axis),
  )
  uncertain = ~found.ends.certain
  return _finish(directions, shard, found, uncertain, s), found


def second_look(
    directions: Float[Array, 'F D'],
    table: Float[Array, 'V D'],
    keep: Bool[Array, 'V'],
    moments: TableMoments,
    found: Found,
    settings: Settings,
) -> Readings:
  """The readings with all ends proven; costs little where all were."""
  s = settings
  shard = _shard(table, keep, moments, s)
  unit = normalise(directions, jnp.zeros(directions.shape[0]))

  def join(ends: Ends) -> Ends:
    return _merge.join_ends(ends, table.shape[0], s.vocab_axis)

  def closer(rows) -> Ends:
    return join(_look_closer(rows, shard, s))

  def last(rows) -> Ends:
    rows = times_power(rows, -shard.exponent)
    return join(_recount.all_products(rows, table, keep, s.k, s.unit))

  ends = found.ends
  for look, num in ((closer, _recount.CLOSER), (last, _recount.LAST)):
    ends = _recount.recount(ends, unit.row, look, num, s.feature_axis)
  uncertain = ~found.ends.certain
  return _finish(directions, shard, found._replace(ends=ends), uncertain, s)


def _finish(directions, shard: _Shard, found: Found, uncertain, s: Settings):
  unit = normalise(directions, jnp.zeros(directions.shape[0]))
  count = _merge.total(shard.keep.sum(), s.vocab_axis).astype(jnp.float32)
  exponent = unit.exponent + shard.exponent
  return make_readings(*found, exponent, count, uncertain, s)


def _shard(table, keep, moments: TableMoments, s: Settings) -> _Shard:
  size = jnp.where(keep, moments.norms, 0.0).max()
  size = jnp.float32(1) if s.unit else _merge.largest(size, s.vocab_axis)
  blocks = Blocks.choose(1, table.shape[0], s.platform)
  positions = _positions(keep, moments, blocks, s)
  return _Shard(table, keep, moments, exponent_of(size), positions)


def _positions(
    keep: Bool[Array, 'V'], moments: TableMoments, blocks: Blocks, s: Settings
) -> Positions:
  """One number per position of a walk over the table."""
  block = jnp.arange(blocks.count, dtype=jnp.int32)
  fresh = jax.vmap(blocks.fresh)(block).ravel()
  row = blocks.rows_at(jnp.arange(fresh.size, dtype=jnp.int32))
  keep = keep[row] & fresh
  size, loss, scale = moments.norms[row], None, None
  if moments.losses is not None and s.screened:
    loss = moments.losses[row]
  if s.unit:
    scale = inverse(size)
    size = size * scale
    loss = None if loss is None else loss * scale
  return Positions(
      keep=keep.astype(jnp.float32),
      size=jnp.where(keep, size, -jnp.inf),
      loss=loss,
      scale=scale,
  )


def _by_blocks(look: Callable[[Unit], Found], unit: Unit, size: int) -> Found:
  """`look` for `size` features at a time."""
  F = unit.row.shape[0]
  blocks = jax.tree.map(
      lambda x: jnp.pad(x, [(0, -F % size)] + [(0, 0)] * (x.ndim - 1)).reshape(
          -1, size, *x.shape[1:]
      ),
      unit,
  )
  found = jax.lax.map(look, blocks)

  def flat(x, axis: int):  # [blocks, ..., f, ...] -> [..., F, ...]
    x = jnp.moveaxis(x, 0, axis)
    x = x.reshape(*x.shape[:axis], -1, *x.shape[axis + 2 :])
    return jax.lax.slice_in_dim(x, 0, F, axis=axis)

  ends = jax.tree.map(lambda x: flat(x, 1), found.ends)
  rest = jax.tree.map(lambda x: flat(x, 0), found._replace(ends=None))
  return rest._replace(ends=ends)


def _read_block(
    unit: Unit, shard: _Shard, blocks: Blocks, s: Settings
) -> Found:
  feature, line = prepare(
      unit,
      shard.moments,
      shard.exponent,
      screened=s.screened,
      centered=s.centered,
      sample=shard.sample,
      axis=s.vocab_axis,
  )
  # Enough that the certificate hardly ever fails on real weights.
  more = 32 if shard.positions.loss is None else 64
  wanted = Wanted(
      candidates=s.k + more + s.k // 2,
      softcap=s.softcap,
  )
  sums, candidates = screen(
      feature, shard.table, shard.positions, blocks, wanted
  )
  ends, exact = _certify.certify(
      candidates,
      times_power(unit.row, -shard.exponent),
      shard.table,
      blocks,
      k=s.k,
      unit=s.unit,
      # A softmax is made of few tokens, and true logits are for the asking.
      whole_top=s.screened,
  )
  exponent = (unit.exponent + shard.exponent)[:, None]
  logits = times_power(exact[0], exponent) - line.shift[:, None]
  sums = with_true_logits(sums, candidates.value[0], logits, feature, s.softcap)
  return Found(ends, sums, line)


def _look_closer(rows: Float[Array, 'F D'], shard: _Shard, s: Settings) -> Ends:
  """The ends by a float32 pass that keeps many candidates."""
  F, V = rows.shape[0], shard.table.shape[0]
  unit = Unit(rows, jnp.zeros(F, jnp.int32), jnp.zeros(F))
  feature, _ = prepare(
      unit,
      dataclasses.replace(shard.moments, covariance=None),
      shard.exponent,
      screened=False,
      centered=False,
  )
  blocks = Blocks.choose(F, V, s.platform)
  wanted = Wanted(max(256, 4 * s.k), statistics=False)
  positions = shard.positions._replace(loss=None)
  _, candidates = screen(feature, shard.table, positions, blocks, wanted)
  ends, _ = _certify.certify(
      candidates, feature.row, shard.table, blocks, k=s.k, unit=s.unit
  )
  return ends
