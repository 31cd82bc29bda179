"""How alike the top tokens of a feature are as directions."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np

from ooc_jax.measures import _checks


@functools.partial(jax.jit, static_argnames='block_size')
def _mean_cosine(top_ids_Fk, table_VD, block_size):
  num_top = top_ids_Fk.shape[1]

  def of_feature(top_ids_k):
    rows_kD = table_VD[top_ids_k].astype(jnp.float32)
    # |sum t|^2 counts every ordered pair and each row with itself; the rows'
    # own squares are subtracted as they are, not as k, so that rounding of
    # their norms cancels and a zero row takes nothing away.
    whole = jnp.sum(jnp.square(jnp.sum(rows_kD, axis=0)))
    own = jnp.sum(jnp.square(rows_kD))
    return (whole - own) / (num_top * (num_top - 1))

  return jax.lax.map(of_feature, top_ids_Fk, batch_size=block_size)


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
    table: One row of norm 1 per token, as in a `TokenSpace`; or of norm 0,
      whose cosine with every row then counts as 0.
    block_size: Features at a time; [block_size, k, D] is what is held.

  Returns:
    A number in [-1 / (k - 1), 1] per feature.

  Raises:
    InputError: There is no pair (k < 2).
  """
  _checks.check_num_top(top_ids.shape[1])
  return _mean_cosine(jnp.asarray(top_ids), table, block_size)
