"""How alike the top tokens of a feature are as directions."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np

from ooc_jax.measures import _checks


@functools.partial(jax.jit, static_argnames=('block_size', 'shards'))
def _mean_cosine(top_ids_Fk, table_VD, block_size, shards):
  num_features, num_top = top_ids_Fk.shape

  def of_block(top_ids_SBk):
    rows_SBkD = table_VD[top_ids_SBk].astype(jnp.float32)
    # |sum t|^2 counts every ordered pair and each row with itself; the rows'
    # own squares are subtracted as they are, not as k, so that rounding of
    # their norms cancels and a zero row takes nothing away.
    whole_SB = jnp.sum(jnp.square(jnp.sum(rows_SBkD, axis=2)), axis=2)
    own_SB = jnp.sum(jnp.square(rows_SBkD), axis=(2, 3))
    return (whole_SB - own_SB) / (num_top * (num_top - 1))

  # Blocks are cut within the shards: a loop over blocks of whole features
  # would have every device measure all of them.
  per_shard = num_features // shards
  size = min(block_size, per_shard)
  top_ids_SRk = top_ids_Fk.reshape(shards, per_shard, num_top)
  padding = (0, 0), (0, -per_shard % size), (0, 0)
  top_ids_SNBk = jnp.pad(top_ids_SRk, padding).reshape(
      shards, -1, size, num_top
  )
  cosine_NSB = jax.lax.map(of_block, top_ids_SNBk.swapaxes(0, 1))
  cosine_SR = cosine_NSB.swapaxes(0, 1).reshape(shards, -1)[:, :per_shard]
  return cosine_SR.reshape(num_features)


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
  num_features, num_top = top_ids.shape
  _checks.check_num_top(num_top)
  if not num_features:
    return jnp.zeros(0, jnp.float32)
  shards = 1
  if isinstance(top_ids, jax.Array) and not isinstance(
      top_ids, jax.core.Tracer
  ):
    shards = num_features // top_ids.sharding.shard_shape(top_ids.shape)[0]
  return _mean_cosine(jnp.asarray(top_ids), table, block_size, shards)
