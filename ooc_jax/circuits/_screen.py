"""One pass of directions over a table: sums, and candidates for both ends.

The logits of a block are made once, reduced, and forgotten once the largest
groups among a few blocks are known. They may be rounded (a product in
bfloat16, and any float32 sum is): `_certify` decides what follows for true
logits, and needs for it that every token left out is bounded.

Axis letters: F features (of one block), V rows of a block.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ooc_jax.circuits import _candidates
from ooc_jax.circuits import _sums
from ooc_jax.circuits._blocks import Blocks
from ooc_jax.circuits._blocks import fold_reduce
from ooc_jax.circuits._candidates import Candidates
from ooc_jax.circuits._candidates import Positions
from ooc_jax.circuits._sums import Feature
from ooc_jax.circuits._sums import Sums


class Wanted(NamedTuple):
  """What a pass is for; static under jit.

  Attributes:
    candidates: How many to keep at either end.
    softcap: Bound on the logits in the softmax, or None.
    statistics: Whether sums are wanted.
  """

  candidates: int
  softcap: float | None = None
  statistics: bool = True


def screen(
    feature: Feature,
    table: Float[Array, 'V D'],
    positions: Positions,
    blocks: Blocks,
    wanted: Wanted,
) -> tuple[Sums, Candidates]:
  """All logits of `feature` over `table`, reduced as they are made.

  Where `feature.row` is bfloat16 the product is of bfloat16 numbers with
  float32 sums, and `table` is rounded to it; otherwise both are float32 and
  the precision is highest.
  """
  F = feature.row.shape[0]
  lanes, joined = blocks.lanes, blocks.joined
  num = min(wanted.candidates, blocks.groups)
  size_G = blocks.group_max(positions.size).reshape(-1, lanes)
  loss_G = None
  if positions.loss is not None:
    loss_G = blocks.group_max(positions.loss).reshape(-1, lanes)
  rows = [
      None if x is None else x.reshape(blocks.count, blocks.rows)
      for x in positions
  ]

  def one_block(i, carry, first):
    sums, logits, bounds = carry
    block = first + i
    keep, size, _, scale = (None if x is None else x[block] for x in rows)
    # Only losses and scales may be missing.
    assert keep is not None and size is not None
    x = _product(feature.row, blocks.read(table, block), keep, scale)
    mask = jnp.where(jnp.isfinite(size), 0.0, -jnp.inf)[None]
    high, low = fold_reduce(
        (blocks.fold(x + mask), blocks.fold(x - mask)), 'Mm'
    )
    ends = jnp.stack([high.max(axis=1), -low.min(axis=1)])
    error = _candidates.error_bound(
        feature,
        size_G[block][None],
        None if loss_G is None else loss_G[block][None],
    )
    bounds = jax.lax.dynamic_update_slice(
        bounds, (ends + error[None])[:, :, None], (0, 0, i, 0)
    )
    logits = jax.lax.dynamic_update_slice(
        logits, x.reshape(F, 1, blocks.group, lanes), (0, i, 0, 0)
    )
    if wanted.statistics:
      sums = _sums.absorb(
          sums,
          x,
          ends[0].max(axis=1),
          keep,
          mask,
          feature,
          blocks,
          softcap=wanted.softcap,
      )
    return sums, logits, bounds

  def some_blocks(carry, step):
    sums, logits, kept = carry
    first = step * joined
    sums, logits, bounds = jax.lax.fori_loop(
        0,
        jnp.minimum(joined, blocks.count - first),
        lambda i, inner: one_block(i, inner, first),
        (sums, logits, jnp.full((2, F, joined, lanes), -jnp.inf)),
    )
    return (
        sums,
        logits,
        _candidates.join(kept, logits, bounds, first, blocks),
    ), None

  start = (
      _sums.no_sums(F),
      jnp.zeros((F, joined, blocks.group, lanes)),
      _candidates.none_kept(F, num, blocks),
  )
  (sums, _, kept), _ = jax.lax.scan(
      some_blocks,
      start,
      jnp.arange(-(-blocks.count // joined), dtype=jnp.int32),
  )
  return sums, _candidates.choose(
      kept, feature, positions, blocks, wanted.candidates
  )


def _product(row, table_VD, keep, scale) -> Float[Array, 'F V']:
  # Rows that do not count become zeros: they may hold anything finite.
  # (A choice, as XLA:CPU multiplies bfloat16 numbers in two steps.)
  rounded = jnp.where(keep[:, None] > 0, table_VD, 0).astype(row.dtype)
  x = jnp.einsum(
      'FD,VD->FV',
      row,
      rounded,
      precision=jax.lax.Precision.HIGHEST,
      preferred_element_type=jnp.float32,
  )
  return x if scale is None else x * scale[None]
