"""Exact top-k of rows or columns, in two stages.

Stage one finds the k groups with the largest maxima, stage two sorts only
their members. The k largest entries lie in those groups: every other group's
maximum is beaten by k entries. Ties go to the lower id, as in `lax.top_k`.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

_STAGE = 16  # Rows a group in the first stage of `column_topk`.


def grouped_topk(
    x: Float[Array, 'F V'], k: int, group: int
) -> tuple[Float[Array, 'F n'], Int[Array, 'F n']]:
  """The n = min(k, V) largest entries of every row, largest first.

  Args:
    x: Rows to search; V is a multiple of `group`.
    k: How many.
    group: Entries per group of the first stage.

  Returns:
    Values and column indices; equal values by rising index.
  """
  F, V = x.shape
  k = min(k, V)
  # Where most groups survive, the first stage only costs.
  if 2 * k * group >= V:
    return _top_k(x, k)
  x_FGg = x.reshape(F, V // group, group)
  _, best = _top_k(x_FGg.max(axis=-1), k)
  # Rising group index keeps candidates in rising id, so ties resolve low.
  best = jnp.sort(best, axis=-1)
  candidates = jnp.take_along_axis(x_FGg, best[:, :, None], axis=1)
  values, index = _top_k(candidates.reshape(F, k * group), k)
  group_of = jnp.take_along_axis(best, index // group, axis=1)
  return values, group_of * group + index % group


def column_topk(
    x: Float[Array, 'rows columns'], n: int
) -> tuple[Float[Array, 'columns n'], Int[Array, 'columns n']]:
  """The min(n, g) largest entries of every column, and their rows.

  Equal entries by rising row. Of the matrix only a few rows are transposed.
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


def merge_topk(
    left: tuple[Float[Array, 'F n'], Int[Array, 'F n']],
    right: tuple[Float[Array, 'F m'], Int[Array, 'F m']],
    k: int,
) -> tuple[Float[Array, 'F k'], Int[Array, 'F k']]:
  """The k largest of two sorted candidate lists; all ids of left are lower."""
  values = jnp.concatenate([left[0], right[0]], axis=1)
  ids = jnp.concatenate([left[1], right[1]], axis=1)
  values, index = jax.lax.top_k(values, k)
  return values, jnp.take_along_axis(ids, index, axis=1)


def _top_k(
    x: Float[Array, 'F V'], k: int
) -> tuple[Float[Array, 'F k'], Int[Array, 'F k']]:
  # XLA:CPU runs a top-k on one core, but two of them side by side.
  half = len(x) // 2
  first, second = jax.lax.top_k(x[:half], k), jax.lax.top_k(x[half:], k)
  return (
      jnp.concatenate([first[0], second[0]]),
      jnp.concatenate([first[1], second[1]]),
  )
