"""Spaces in which the similarity of two tokens is measured."""

from typing import Any

from flax import struct
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float
import numpy as np

from ooc_jax._errors import InputError
from ooc_jax.circuits._row_blocks import RowBlocks
from ooc_jax.circuits._row_blocks import jit_step
from ooc_jax.circuits._row_blocks import mean_row
from ooc_jax.measures import _checks

TOKEN_SPACES = ('whitened', 'top_removed', 'centred')

# Variances under this share of the largest are noise of the float32
# covariance (measured: under 3e-7 of the largest; the smallest true variance
# of two trained tables is 3e-4 of it) or exact zeros, as when fewer rows than
# dimensions are kept. Whitening drops those directions, as a pseudo-inverse.
_VARIANCE_FLOOR = 1e-6


@struct.dataclass
class TokenSpace:
  """The token directions of one model, each of norm 1.

  Attributes:
    table: One row per token; a row that the map sends to zero stays zero.
    kind: How they were made, one of `TOKEN_SPACES`.
  """

  # Any: JAX also fills its pytrees with shapes, shardings and batches.
  table: Float[Array, 'V D'] | Any
  kind: str = struct.field(pytree_node=False)


@jit_step
def _add_products(sum_DE, u_VD, keep_V, mean_D, start, skip, *, blocks):
  """Adds the outer products of the kept rows of a block."""
  rows_SBD = blocks.read(u_VD, start).astype(jnp.float32) - mean_D[None, None]
  new_SB = blocks.read_new(keep_V, start, skip)
  rows_SBD = jnp.where(new_SB[:, :, None], rows_SBD, 0.0)
  return sum_DE + jnp.einsum(
      'SBD,SBE->DE', rows_SBD, rows_SBD, precision='highest'
  )


@jit_step
def _write_rows(table_VE, u_VD, mean_D, map_DE, start, *, blocks):
  """Writes the rows of a block of (u - mean) @ map, divided by their norms."""
  rows_SBE = blocks.read(u_VD, start).astype(jnp.float32) - mean_D[None, None]
  if map_DE is not None:
    rows_SBE = jnp.einsum('SBD,DE->SBE', rows_SBE, map_DE, precision='highest')
  norm_SB1 = jnp.linalg.norm(rows_SBE, axis=-1, keepdims=True)
  rows_SBE = rows_SBE / jnp.where(norm_SB1 > 0, norm_SB1, 1.0)
  return blocks.write(table_VE, rows_SBE, start)


def _covariance(u_VD, keep_V, mean_D, blocks) -> np.ndarray:
  sum_DE = jnp.zeros((u_VD.shape[1],) * 2, jnp.float32)
  for start, skip in blocks.starts():
    sum_DE = _add_products(
        sum_DE, u_VD, keep_V, mean_D, start, skip, blocks=blocks
    )
  return np.asarray(sum_DE, np.float64) / int(keep_V.sum())


def _linear_map(covariance_DD: np.ndarray, kind: str) -> np.ndarray:
  """The symmetric matrix of a space, from an eigendecomposition in float64."""
  variance_D, basis_DD = np.linalg.eigh(covariance_DD)
  num_dims = len(variance_D)
  if kind == 'whitened':
    kept_D = variance_D > _VARIANCE_FLOOR * variance_D[-1]
    scale_D = np.where(kept_D, variance_D, np.inf) ** -0.5
    return (basis_DD * scale_D[None]) @ basis_DD.T
  top_DP = basis_DD[:, -max(1, num_dims // 100) :]
  return np.eye(num_dims) - top_DP @ top_DP.T


def token_space(
    unembedding: Float[Array, 'V D'],
    keep: Bool[Array | np.ndarray, 'V'],
    kind: str = 'whitened',
    *,
    block_size: int = 4096,
) -> TokenSpace:
  """Maps the rows of an unembedding to where their cosines mean something.

  With u a row, and mean and Cov taken over the rows of `keep` only:
    whitened: (u - mean) Cov^-1/2, the causal inner product of Park, Choe and
      Veitch (2023, arXiv 2311.03658). Directions in which the kept rows do not
      vary (variance under 1e-6 of the largest) are dropped.
    top_removed: u - mean without the first max(1, D // 100) principal
      components (Mu and Viswanath 2018, arXiv 1702.01417).
    centred: u - mean.
  Every row is mapped, kept or not, and then divided by its norm.

  Runs once a model. Beside the table itself, [block_size, D] and a few [D, D]
  are held; rows may be sharded over devices and then the table is likewise.

  Args:
    unembedding: One row per token, of any float type.
    keep: The tokens over which mean and covariance are taken: those that can
      be read.
    kind: One of `TOKEN_SPACES`.
    block_size: Rows at a time, on each device.

  Returns:
    The space, its table in float32.

  Raises:
    InputError: The kind is unknown, fewer than two rows are kept, or a kept
      row is not finite.
  """
  _checks.check_known(kind, TOKEN_SPACES, 'token space')
  keep = np.asarray(keep)
  if keep.sum() < 2:
    raise InputError(
        f'The mask keeps {keep.sum()} of {len(keep)} tokens and a token space'
        ' needs at least two: give a mask that keeps the readable tokens.'
    )
  keep = jnp.asarray(keep)
  blocks = RowBlocks.of(unembedding, block_size)
  mean_D = mean_row(unembedding, keep, blocks)
  if not np.isfinite(mean_D).all():
    raise InputError(
        'The unembedding has rows that are not finite among the kept tokens:'
        ' load the weights again, or mask those rows.'
    )
  map_DE = None
  if kind != 'centred':
    covariance_DD = _covariance(unembedding, keep, mean_D, blocks)
    map_DE = jnp.asarray(_linear_map(covariance_DD, kind), jnp.float32)
  table_VE = jnp.zeros(
      unembedding.shape, jnp.float32, device=unembedding.sharding
  )
  for start, _ in blocks.starts():
    table_VE = _write_rows(
        table_VE, unembedding, mean_D, map_DE, start, blocks=blocks
    )
  return TokenSpace(table_VE, kind)
