"""The lens of (one shard of) features over (one shard of) a vocabulary.

No array of F x V is held. Features go in blocks, and for each the table goes
by in blocks of rows; every statistic is reduced as logits are produced. Under
`jax.shard_map` F and V are those of one shard.
"""

from collections.abc import Callable
import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ooc_jax.circuits.lens import _certificate
from ooc_jax.circuits.lens._certificate import TopBottom
from ooc_jax.circuits.lens._lens import Lens
from ooc_jax.circuits.lens._lens import LensSpec
from ooc_jax.circuits.lens._lens import assemble
from ooc_jax.circuits.lens._moments import TableMoments
from ooc_jax.circuits.lens._prepare import AffineMap
from ooc_jax.circuits.lens._prepare import ScaledDirections
from ooc_jax.circuits.lens._prepare import normalise
from ooc_jax.circuits.lens._prepare import prepare
from ooc_jax.circuits.lens._scan import Positions
from ooc_jax.circuits.lens._scan import ScanSpec
from ooc_jax.circuits.lens._scan import scan
from ooc_jax.circuits.lens._sums import Sums
from ooc_jax.circuits.lens._sums import join_sums
from ooc_jax.circuits.numerics import Blocks
from ooc_jax.circuits.numerics import divide
from ooc_jax.circuits.numerics import exponent_of
from ooc_jax.circuits.numerics import times_power


class _Shard(NamedTuple):
  """One shard of a table, and what is known of it."""

  table: Float[Array, 'V D']
  keep: Bool[Array, 'V']
  moments: TableMoments
  exponent: Int[Array, '']  # Of the power of two near its largest row.
  positions: Positions


class PassResult(NamedTuple):
  """What one pass over the table leaves of some features."""

  extremes: TopBottom
  sums: Sums
  affine: AffineMap


def certified_pass(
    directions: Float[Array, 'F D'],
    table: Float[Array, 'V D'],
    keep: Bool[Array, 'V'],
    moments: TableMoments,
    threshold: Float[Array, 'F'],
    spec: LensSpec,
) -> tuple[Lens, PassResult]:
  """Everything about `directions` @ `table`.T over the rows that count.

  Under `jax.shard_map` arrays are those of one shard (but `moments.mean` and
  `.covariance` are of the whole table), and the lens is of its features, equal
  along the vocabulary axis.

  Returns:
    The lens without its mask, true but for top and bottom of features that are
    marked `recomputed`; and what `resolve_uncertain` needs to find those.
  """
  shard = _shard(table, keep, moments, spec)
  blocks = Blocks.choose(directions.shape[0], table.shape[0], spec.platform)
  result = _by_blocks(
      lambda some: _block_result(some, shard, blocks, spec),
      normalise(directions, threshold),
      blocks.features,
  )
  none = _certificate.first_rows(keep, spec.k, 1 + spec.bottom)
  zero = ~directions.astype(bool).any(axis=1)
  extremes = jax.tree.map(
      lambda x, y: jnp.where(zero.reshape((1, -1) + (1,) * (x.ndim - 2)), y, x),
      result.extremes,
      none,
  )
  result = result._replace(
      extremes=_certificate.join_shards(
          extremes, table.shape[0], spec.vocab_axis
      ),
      sums=join_sums(result.sums, spec.vocab_axis),
  )
  uncertain = ~result.extremes.certain
  return _finish(directions, shard, result, uncertain, spec), result


def resolve_uncertain(
    directions: Float[Array, 'F D'],
    table: Float[Array, 'V D'],
    keep: Bool[Array, 'V'],
    moments: TableMoments,
    result: PassResult,
    spec: LensSpec,
) -> Lens:
  """The lens with every top and bottom proven; costs little where all were."""
  shard = _shard(table, keep, moments, spec)
  scaled = normalise(directions, jnp.zeros(directions.shape[0], jnp.float32))

  def join(extremes: TopBottom) -> TopBottom:
    return _certificate.join_shards(extremes, table.shape[0], spec.vocab_axis)

  def finer_pass(rows) -> TopBottom:
    return join(_finer_pass(rows, shard, spec))

  def product_by_product(rows) -> TopBottom:
    rows = times_power(rows, -shard.exponent)
    return join(
        _certificate.all_products(
            rows, table, keep, spec.k, spec.unit_rows, 1 + spec.bottom
        )
    )

  extremes = result.extremes
  for method, size in (
      (finer_pass, _certificate.FINER_PASS),
      (product_by_product, _certificate.PRODUCT_BY_PRODUCT),
  ):
    extremes = _certificate.recompute_uncertain(
        extremes, scaled.row, method, size, spec.feature_axis
    )
  uncertain = ~result.extremes.certain
  result = result._replace(extremes=extremes)
  return _finish(directions, shard, result, uncertain, spec)


def _finish(
    directions: Float[Array, 'F D'],
    shard: _Shard,
    result: PassResult,
    uncertain: Bool[Array, 'F'],
    spec: LensSpec,
) -> Lens:
  scaled = normalise(directions, jnp.zeros(directions.shape[0], jnp.float32))
  count = shard.keep.sum()
  if spec.vocab_axis is not None:
    count = jax.lax.psum(count, spec.vocab_axis)
  exponent = scaled.exponent + shard.exponent
  return assemble(*result, exponent, count.astype(jnp.float32), uncertain, spec)


def _shard(table, keep, moments: TableMoments, spec: LensSpec) -> _Shard:
  size = jnp.where(keep, moments.norms, 0.0).max()
  if spec.unit_rows:
    size = jnp.float32(1)
  elif spec.vocab_axis is not None:
    size = jax.lax.pmax(size, spec.vocab_axis)
  blocks = Blocks.choose(1, table.shape[0], spec.platform)
  positions = _positions(keep, moments, blocks, spec)
  return _Shard(table, keep, moments, exponent_of(size), positions)


def _positions(
    keep: Bool[Array, 'V'],
    moments: TableMoments,
    blocks: Blocks,
    spec: LensSpec,
) -> Positions:
  """One number per position of a walk over the table."""
  block = jnp.arange(blocks.count, dtype=jnp.int32)
  fresh = jax.vmap(blocks.fresh)(block).ravel()
  row = blocks.rows_at(jnp.arange(fresh.size, dtype=jnp.int32))
  keep = keep[row] & fresh
  size, scale = moments.norms[row], None
  if spec.unit_rows:
    scale = divide(1.0, size)
    size = size * scale
  return Positions(
      keep=keep.astype(jnp.float32),
      size=jnp.where(keep, size, -jnp.inf),
      scale=scale,
  )


def _by_blocks(
    run: Callable[[ScaledDirections], PassResult],
    scaled: ScaledDirections,
    size: int,
) -> PassResult:
  """`run` for `size` features at a time."""
  F = scaled.row.shape[0]
  blocks = jax.tree.map(
      lambda x: jnp.pad(x, [(0, -F % size)] + [(0, 0)] * (x.ndim - 1)).reshape(
          -1, size, *x.shape[1:]
      ),
      scaled,
  )
  result = jax.lax.map(run, blocks)

  def flat(x, axis: int):  # [blocks, ..., size, ...] -> [..., F, ...]
    x = jnp.moveaxis(x, 0, axis)
    x = x.reshape(*x.shape[:axis], -1, *x.shape[axis + 2 :])
    return jax.lax.slice_in_dim(x, 0, F, axis=axis)

  extremes = jax.tree.map(lambda x: flat(x, 1), result.extremes)
  rest = jax.tree.map(lambda x: flat(x, 0), result._replace(extremes=None))
  return rest._replace(extremes=extremes)


def _block_result(
    scaled: ScaledDirections, shard: _Shard, blocks: Blocks, spec: LensSpec
) -> PassResult:
  prepared, affine = prepare(
      scaled,
      shard.moments,
      shard.exponent,
      screened=spec.screened,
      centered=spec.centered,
      spread=spec.spread,
  )
  scan_spec = ScanSpec(
      spec.k + _more(scaled.row.shape[1], spec.k),
      spec.softcap,
      both_ends=spec.both_ends,
      bottom=spec.bottom,
  )
  walk = scan
  if spec.kernel == 'pallas':
    # Half a second of imports, for this alone.
    from ooc_jax.circuits.lens import _fused

    walk = functools.partial(_fused.scan, platform=spec.platform)
  sums, candidates = walk(
      prepared, shard.table, shard.positions, blocks, scan_spec
  )
  extremes = _certificate.certify(
      candidates,
      times_power(scaled.row, -shard.exponent),
      shard.table,
      blocks,
      k=spec.k,
      unit_rows=spec.unit_rows,
  )
  return PassResult(extremes, sums, affine)


def _more(width: int, k: int) -> int:
  """Candidates beyond k: the certificate then hardly ever fails."""
  # The bound on the error of a sum over D grows as D, the distance of
  # neighbours near the k-th of V normal numbers falls as 1 / (k √D): their
  # ratio is over k D^1.5 / 2^18 at 2^18 tokens. Four times that, for norms
  # differ, and as many as stay after a chance of 2^-12.
  return min(32 + k // 2, 12 + int(k * width**1.5 / 2**16))


def _finer_pass(
    rows: Float[Array, 'F D'], shard: _Shard, spec: LensSpec
) -> TopBottom:
  """Top and bottom by a float32 pass that keeps many candidates."""
  F, V = rows.shape[0], shard.table.shape[0]
  prepared, _ = prepare(
      ScaledDirections(
          rows, jnp.zeros(F, jnp.int32), jnp.zeros(F, jnp.float32)
      ),
      dataclasses.replace(shard.moments, covariance=None),
      shard.exponent,
      screened=False,
      centered=False,
  )
  blocks = Blocks.choose(F, V, spec.platform)
  _, candidates = scan(
      prepared,
      shard.table,
      shard.positions,
      blocks,
      ScanSpec(max(256, 4 * spec.k), statistics=False, bottom=spec.bottom),
  )
  return _certificate.certify(
      candidates,
      prepared.pieces[0],
      shard.table,
      blocks,
      k=spec.k,
      unit_rows=spec.unit_rows,
  )
