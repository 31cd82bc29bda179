"""The best partners of a key, by the groups of queries that hold them.

The k largest scores of a key lie in the k groups of queries with the largest
maxima (every other group is beaten by k scores). Only those scores are made
again.

Axis letters: C keys, P queries with padding, H head width, k top-k.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ooc_jax.circuits._qk_strip import GROUP

# Keys at once: their queries' rows fit in a core's cache.
_BLOCK = 32
_STAGE = 16  # Rows a group in the first stage of `column_topk`.


def column_topk(
    x: Float[Array, 'g K'], n: int
) -> tuple[Float[Array, 'K n'], Int[Array, 'K n']]:
  """The min(n, g) largest entries of every column, and their rows.

  In two stages, as `grouped_topk`, so that only a few rows are transposed.
  Equal entries by rising row.
  """
  g, K = x.shape
  n = min(n, g)
  if 2 * n * _STAGE >= g:
    return tuple(jax.lax.top_k(x.T, n))
  x = jnp.pad(x, ((0, -g % _STAGE), (0, 0)), constant_values=-jnp.inf)
  x = x.reshape(-1, _STAGE, K)
  _, best = jax.lax.top_k(x.max(axis=1).T, n)
  best = jnp.sort(best, axis=1)
  members = jnp.take_along_axis(x, best.T[:, None, :], axis=0)
  values, index = jax.lax.top_k(members.reshape(-1, K).T, n)
  stage = jnp.take_along_axis(best, index // _STAGE, axis=1)
  return values, stage * _STAGE + index % _STAGE


def refine(
    keys: Float[Array, 'C H'],
    groups: Int[Array, 'C n'],
    queries: Float[Array, 'P H'],
    real: Bool[Array, 'P'],
    k: int,
) -> tuple[Float[Array, 'C k'], Int[Array, 'C k']]:
  """The k queries of largest score for each key.

  Args:
    keys: One key a row.
    groups: For each key, which groups of `GROUP` queries to search, or any
      number past the last group for none.
    queries: All queries, times the scale.
    real: Which of them are no padding.
    k: How many to keep.

  Returns:
    Scores and positions in `queries`, largest first, equal ones by rising
    position.
  """
  C, H = keys.shape
  # Rising groups keep candidates in rising position, so ties resolve low.
  groups = jnp.sort(groups, axis=1)
  grouped = queries.reshape(-1, GROUP * H)
  real = real.reshape(-1, GROUP)
  padding = -C % _BLOCK

  def one_block(args):
    rows, mine = args
    counts = (mine < len(grouped))[:, :, None]
    mine = jnp.minimum(mine, len(grouped) - 1)
    members = grouped[mine].reshape(*mine.shape, GROUP, H)
    scores = jnp.einsum(
        'cngh,ch->cng', members, rows, precision=jax.lax.Precision.HIGHEST
    )
    scores = jnp.where(counts & real[mine], scores, -jnp.inf)
    scores, index = jax.lax.top_k(scores.reshape(_BLOCK, -1), k)
    group = jnp.take_along_axis(mine, index // GROUP, axis=1)
    return scores, group * GROUP + index % GROUP

  blocks = (
      jnp.pad(keys, ((0, padding), (0, 0))).reshape(-1, _BLOCK, H),
      jnp.pad(groups, ((0, padding), (0, 0))).reshape(
          -1, _BLOCK, groups.shape[1]
      ),
  )
  found = jax.lax.map(one_block, blocks)
  return tuple(x.reshape(-1, k)[:C] for x in found)
