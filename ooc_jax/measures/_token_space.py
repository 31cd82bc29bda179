"""How alike the top tokens of a feature are as directions, in a token space."""

from collections.abc import Sequence
import functools
from typing import Any

from flax import struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int
import numpy as np

from ooc_jax._errors import InputError
from ooc_jax.circuits import TableMoments
from ooc_jax.circuits import readable_mask
from ooc_jax.circuits import table_moments
from ooc_jax.circuits import to_host
from ooc_jax.circuits import unembedding_table
from ooc_jax.measures import _measure
from ooc_jax.model import Model

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


def _num_shards(x: jax.Array) -> int:
  """Over how many devices the rows lie; a traced array is taken as whole."""
  if isinstance(x, jax.core.Tracer):
    return 1
  return x.shape[0] // x.sharding.shard_shape(x.shape)[0]


@functools.partial(
    jax.jit, static_argnames=('shards', 'size'), donate_argnums=0
)
def _write_rows(table_VE, u_VD, mean_D, map_DE, start, *, shards, size):
  """Writes a block of rows of each shard: (u - mean) @ map over its norm.

  One call a block, from a loop on the host: out of a jitted loop XLA:CPU moves
  the cast of a bfloat16 matrix to float32, whole.
  """
  table_SRE = table_VE.reshape(shards, -1, table_VE.shape[1])
  u_SRD = u_VD.reshape(shards, -1, u_VD.shape[1])
  rows_SBD = jax.lax.dynamic_slice_in_dim(u_SRD, start, size, axis=1)
  rows_SBE = rows_SBD.astype(jnp.float32) - mean_D[None, None]
  if map_DE is not None:
    rows_SBE = jnp.einsum('SBD,DE->SBE', rows_SBE, map_DE, precision='highest')
  norm_SB1 = jnp.linalg.norm(rows_SBE, axis=-1, keepdims=True)
  rows_SBE = rows_SBE / jnp.where(norm_SB1 > 0, norm_SB1, 1.0)
  table_SRE = jax.lax.dynamic_update_slice_in_dim(
      table_SRE, rows_SBE, start, axis=1
  )
  return table_SRE.reshape(table_VE.shape)


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
    moments: TableMoments | None = None,
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
    moments: `circuits.table_moments` of this table and mask, with the
      covariance; found here if None.
    block_size: Rows at a time, on each device.

  Returns:
    The space, its table in float32.

  Raises:
    InputError: The kind is unknown, fewer than two rows are kept, a row is not
      finite, or the moments have no covariance.
  """
  _measure.check_known(kind, TOKEN_SPACES, 'token space')
  keep = np.asarray(keep)
  if keep.sum() < 2:
    raise InputError(
        f'The mask keeps {keep.sum()} of {len(keep)} tokens and a token space'
        ' needs at least two: give a mask that keeps the readable tokens.'
    )
  centred = kind == 'centred'
  if moments is None:
    moments = table_moments(unembedding, keep, covariance=not centred)
  map_DE = None
  if not centred:
    if moments.covariance is None:
      raise InputError(
          f'The moments of the table have no covariance, of which the {kind}'
          ' token space is made: find them with covariance=True.'
      )
    covariance_DD = to_host(moments.covariance).astype(np.float64)
    map_DE = jnp.asarray(_linear_map(covariance_DD, kind), jnp.float32)
  mean_D = jnp.asarray(to_host(moments.mean))
  table_VE = jnp.zeros(
      unembedding.shape, jnp.float32, device=unembedding.sharding
  )
  shards = _num_shards(unembedding)
  rows = unembedding.shape[0] // shards
  size = min(block_size, rows)
  for first in range(0, rows, size):
    table_VE = _write_rows(
        table_VE,
        unembedding,
        mean_D,
        map_DE,
        min(first, rows - size),  # The last block reaches back.
        shards=shards,
        size=size,
    )
  return TokenSpace(table_VE, kind)


def model_token_space(model: Model, kind: str = 'whitened') -> TokenSpace:
  """The token space of a model over its readable tokens; see `token_space`."""
  return token_space(unembedding_table(model), readable_mask(model), kind)


@functools.partial(jax.jit, static_argnames=('sizes', 'block_size', 'shards'))
def _mean_cosines(top_ids_Fk, table_VD, sizes, block_size, shards):
  num_features, num_top = top_ids_Fk.shape

  def of_block(top_ids_SBk):
    rows_SBkD = table_VD[top_ids_SBk].astype(jnp.float32)

    def of_first(k):
      first_SBkD = rows_SBkD[:, :, :k]
      # |sum t|^2 counts every ordered pair and each row with itself; the rows'
      # own squares are subtracted as they are, not as k, so that rounding of
      # their norms cancels and a zero row takes nothing away.
      whole_SB = jnp.sum(jnp.square(jnp.sum(first_SBkD, axis=2)), axis=2)
      own_SB = jnp.sum(jnp.square(first_SBkD), axis=(2, 3))
      return (whole_SB - own_SB) / (k * (k - 1))

    return jnp.stack([of_first(k) for k in sizes])

  # Blocks are cut within the shards: a loop over blocks of whole features
  # would have every device measure all of them.
  per_shard = num_features // shards
  size = min(block_size, per_shard)
  top_ids_SRk = top_ids_Fk.reshape(shards, per_shard, num_top)
  padding = (0, 0), (0, -per_shard % size), (0, 0)
  top_ids_SNBk = jnp.pad(top_ids_SRk, padding).reshape(
      shards, -1, size, num_top
  )
  cosine_NZSB = jax.lax.map(of_block, top_ids_SNBk.swapaxes(0, 1))
  cosine_ZSNB = jnp.moveaxis(cosine_NZSB, 0, 2)
  cosine_ZSR = cosine_ZSNB.reshape(len(sizes), shards, -1)[:, :, :per_shard]
  return cosine_ZSR.reshape(len(sizes), num_features)


def mean_pairwise_cosine(
    top_ids: Int[Array | np.ndarray, 'F k'],
    table: Float[Array, 'V D'],
    *,
    block_size: int = 64,
) -> Float[Array, 'F']:
  """Mean over pairs of top tokens of the cosine of their rows of `table`.

  Computed from the norm of the rows' sum, (|sum t|^2 - sum |t|^2) / (k (k-1)),
  in float32 without a matrix product, so no precision setting enters.

  Args:
    top_ids: The top tokens of each feature, in any order. Ids are not checked
      here, so that this works under `jit`: JAX clamps what is out of range.
      Sharded features stay on their devices.
    table: One row of norm 1 per token, as in a `TokenSpace`; or of norm 0,
      whose cosine with every row then counts as 0.
    block_size: Features at a time, on each device; [block_size, k, D] is what
      is held.

  Returns:
    A number in [-1 / (k - 1), 1] per feature.

  Raises:
    InputError: There is no pair (k < 2).
  """
  return mean_pairwise_cosines(
      top_ids, table, top_ids.shape[1:], block_size=block_size
  )[0]


def mean_pairwise_cosines(
    top_ids: Int[Array | np.ndarray, 'F k'],
    table: Float[Array, 'V D'],
    sizes: Sequence[int],
    *,
    block_size: int = 64,
) -> Float[Array, 'sizes F']:
  """`mean_pairwise_cosine` of the first top tokens, at each size.

  Args:
    top_ids: See there.
    table: See there.
    sizes: How many of the top tokens, at most k.
    block_size: See there.

  Raises:
    InputError: There is no pair (a size under 2).
  """
  _measure.check_num_top(min(sizes))
  if not top_ids.shape[0]:
    return jnp.zeros((len(sizes), 0), jnp.float32)
  top_ids = jnp.asarray(top_ids)[:, : max(sizes)]
  return _mean_cosines(
      top_ids, table, tuple(sizes), block_size, _num_shards(top_ids)
  )


COSINE = _measure.Measure(
    name='cosine',
    description='mean pairwise cosine of the top tokens in the token space',
    low_is_coherent=False,
    compute=lambda lens, strings, space: mean_pairwise_cosine(
        lens.top_ids, space.table
    ),
    compute_sizes=lambda lens, strings, space, sizes: to_host(
        mean_pairwise_cosines(lens.top_ids, space.table, sizes)
    ),
    label='cosine',
    short_label='cos',
    limits=(-1.0, 1.0),
)
