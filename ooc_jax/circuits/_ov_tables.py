"""What the vectors of a head give at each row of a large table.

Axis letters: V rows of the table, D width, H head width, S shards, B rows of
a block.
"""

import functools

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jaxtyping import Array, Float

from ooc_jax.circuits._row_blocks import RowBlocks
from ooc_jax.circuits._row_blocks import jit_step

# Rows that are cast to float32 at a time.
_ROWS = 8192


def read_output(
    rows: Float[Array, 'V D'],
    output: Float[Array, 'H D'],
    *,
    unit_rows: bool = False,
) -> Float[Array, 'V H']:
  """rows · outputᵀ in float32, without a float32 copy of the rows.

  Args:
    rows: Of any float dtype; may be sharded over its rows.
    output: What a head writes from each of its H coordinates.
    unit_rows: Whether rows are divided by their norms; one of zeros stays.
  """
  if rows.dtype == jnp.float32 or isinstance(rows, jax.core.Tracer):
    return _whole(rows, output, unit_rows=unit_rows)
  blocks = RowBlocks.of(rows, _ROWS)
  sharding = rows.sharding if isinstance(rows.sharding, NamedSharding) else None
  out = jnp.zeros(
      (rows.shape[0], output.shape[0]), jnp.float32, device=sharding
  )
  add = _add_unit_block if unit_rows else _add_block
  for start, _ in blocks.starts():
    out = add(out, rows, output, start, blocks=blocks)
  return out


def _product(rows: Array, output: Array, unit_rows: bool) -> Array:
  rows = rows.astype(jnp.float32)
  out = jnp.einsum(
      '...d,hd->...h', rows, output, precision=jax.lax.Precision.HIGHEST
  )
  if unit_rows:
    norm = jnp.linalg.norm(rows, axis=-1, keepdims=True)
    out = jnp.where(norm > 0, out / jnp.where(norm > 0, norm, 1.0), 0.0)
  return out


_whole = functools.partial(jax.jit, static_argnames='unit_rows')(_product)


@jit_step
def _add_block(out_VH, rows_VD, output_HD, start, *, blocks):
  rows_SBD = blocks.read(rows_VD, start)
  return blocks.write(out_VH, _product(rows_SBD, output_HD, False), start)


@jit_step
def _add_unit_block(out_VH, rows_VD, output_HD, start, *, blocks):
  rows_SBD = blocks.read(rows_VD, start)
  return blocks.write(out_VH, _product(rows_SBD, output_HD, True), start)
