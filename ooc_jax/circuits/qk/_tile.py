"""Scores of a tile, some queries with all keys, reduced in both roles at once.

A tile holds whole rows, so the softmax of its rows is final, and one product
serves rows (query role) and columns (key role). Of a column only the maxima of
groups of queries are kept: the k largest scores of a key lie in the k groups
with the largest maxima (every other group is beaten by k scores), and only
those scores are made again, by `best_queries`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ooc_jax.circuits.numerics import FOLD
from ooc_jax.circuits.numerics import fold_reduce
from ooc_jax.circuits.numerics import grouped_topk

# Queries per group in the key role: of the best groups all scores are made
# again, so few are wasted, and an eighth of the scores is searched.
GROUP = 8
# Keys per group in the query role, where the scores are still at hand.
_KEY_GROUP = 32
# Keys come in a multiple of this.
LANES = 128
# Keys that are folded side by side; the widest of them that divides.
_KEY_LANES = (LANES // FOLD, 64, 512)
# Keys searched at once: the rows of their queries fit in a core's cache.
_KEYS_AT_ONCE = 32
_HIGHEST = jax.lax.Precision.HIGHEST


class Keys(NamedTuple):
  """What every tile meets.

  Attributes:
    rows: [K, H] float32; K is a multiple of `LANES`.
    counts: [K] which keys a query sees, or None for all.
    number: How many those are.
    mean_row: [H] of the keys that count.
    mean_query: [H] of all queries.
    centre: [K] mean score of each key; with a softcap, near enough, and in
      units of it.
  """

  rows: Float[Array, 'keys H']
  counts: Bool[Array, 'keys'] | None
  number: Float[Array, '']
  mean_row: Float[Array, 'H']
  mean_query: Float[Array, 'H']
  centre: Float[Array, 'keys']


class Rows(NamedTuple):
  """The query role of a tile; scores before the softcap in `top`."""

  top: tuple[Float[Array, 'rows k'], Int[Array, 'rows k']]
  mean: Float[Array, 'rows']
  std: Float[Array, 'rows'] | None  # Or None without a softcap: see _score_std.
  peak: Float[Array, 'rows']
  partition: Float[Array, 'rows']  # Σ exp(y - peak)
  weighted: Float[Array, 'rows']  # Σ exp(y - peak)·(y - peak)


class Columns(NamedTuple):
  """The key role of a tile: what its queries add to each key."""

  # In units of the softcap, or None without one.
  total: Float[Array, 'keys'] | None  # Σ t
  second: Float[Array, 'keys'] | None  # Σ (t - centre)²
  received: Float[Array, 'keys']
  largest: Float[Array, 'keys']


def reduce_tile(
    queries: Float[Array, 'rows H'],
    real: Bool[Array, 'rows'] | None,
    keys: Keys,
    *,
    k: int,
    softcap: float | None,
) -> tuple[Rows, Columns, Float[Array, 'groups keys']]:
  """All statistics of a tile.

  Args:
    queries: Float32, times the scale; as many as a multiple of `GROUP`.
    real: Which queries are no padding, or None for all.
    keys: All of them.
    k: How many partners of each query to keep.
    softcap: Bound on the scores, or None.

  Returns:
    Statistics of the rows, sums of the columns, and the largest score (before
    the softcap) of each key in each group of queries, -inf for padding.
  """
  # The barriers keep XLA:CPU from making scores and weights again, or slower,
  # in each reduction.
  scores = barrier(
      jnp.einsum('fh,kh->fk', queries, keys.rows, precision=_HIGHEST)
  )
  t = scores if softcap is None else barrier(in_units(scores, softcap))
  rows, weights = _query_role(queries, scores, t, keys, k, softcap)
  share, masked = 1.0 / rows.partition, scores
  one = jnp.ones_like(share)
  if real is not None:
    one = real.astype(jnp.float32)
    share *= one
    masked = jnp.where(real[:, None], scores, -jnp.inf)
  total = second = None
  if softcap is not None:
    away = jnp.square(t - keys.centre[None, :])
    if real is not None:
      away *= one[:, None]
    # Queries of padding are zeros, and so are their scores.
    total, second = _over_queries((t, away), 'ss')
  weights *= share[:, None]
  received, largest = _over_queries((weights, weights), 'sM')
  f, K = scores.shape
  maxima = masked.reshape(f // GROUP, GROUP, K).max(axis=1)
  return barrier((rows, Columns(total, second, received, largest), maxima))


def in_units(
    scores: Float[Array, '*n'], softcap: float | None
) -> Float[Array, '*n']:
  """Scores after the softcap, in units of it: c·tanh(x/c) / c.

  In tiles the factor comes last: to multiply every score by it is another pass.
  """
  return scores if softcap is None else jnp.tanh(scores / softcap)


def _query_role(
    queries: Float[Array, 'rows H'],
    scores: Float[Array, 'rows keys'],
    t: Float[Array, 'rows keys'],
    keys: Keys,
    k: int,
    softcap: float | None,
) -> tuple[Rows, Float[Array, 'rows keys']]:
  """The rows' statistics, and exp(y - peak), 0 for keys that do not count."""
  seen, one = scores, jnp.ones_like(keys.centre)
  if keys.counts is not None:
    one = keys.counts.astype(jnp.float32)
    seen = jnp.where(keys.counts[None, :], scores, -jnp.inf)
  top = grouped_topk(seen, k, _KEY_GROUP)
  # The cap is monotone: the largest score stays the largest. Not top[0][:, 0]:
  # with that XLA:CPU no longer sees a top-k and sorts, six times as slow.
  peak = barrier(in_units(top[0].max(axis=1), softcap))
  unit = 1.0 if softcap is None else softcap
  below = t - peak[:, None]
  kept = below
  if keys.counts is not None:
    kept = jnp.where(keys.counts[None, :], below, -jnp.inf)
  weights = barrier(jnp.exp(unit * kept))
  mean, std = _dot('fh,h->f', queries, keys.mean_row), None
  if softcap is not None:
    centre = in_units(mean, softcap)
    away = jnp.square(t - centre[:, None])
    if keys.counts is not None:
      away *= one[None, :]
    total, second = _over_keys((t * one[None, :], away))
    mean = total / keys.number
    variance = second / keys.number - jnp.square(mean - centre)
    std = unit * jnp.sqrt(jnp.maximum(variance, 0.0))
    mean *= unit
  partition, weighted = _over_keys((weights, weights * below))
  return (
      Rows(
          top=top,
          mean=mean,
          std=std,
          peak=unit * peak,
          partition=partition,
          weighted=unit * weighted,
      ),
      weights,
  )


def _over_queries(
    xs: tuple[Float[Array, 'rows keys'], ...], kinds: str
) -> tuple[Float[Array, 'keys'], ...]:
  """Each of `xs` reduced over the queries of a tile, in one pass for all.

  `kinds` as in `fold_reduce`.
  """
  f, K = xs[0].shape
  # The barrier: reduced in two steps, which is faster than XLA's one.
  parts = barrier(
      fold_reduce([x.reshape(1, f // FOLD, FOLD, K) for x in xs], kinds)
  )
  return tuple(
      x[0].sum(axis=0) if kind == 's' else x[0].max(axis=0)
      for x, kind in zip(parts, kinds, strict=True)
  )


def _over_keys(
    xs: tuple[Float[Array, 'rows keys'], ...],
) -> tuple[Float[Array, 'rows'], ...]:
  """The sum over the keys of each of `xs`, in one pass for all."""
  f, K = xs[0].shape
  lanes = max(x for x in _KEY_LANES if not K % (FOLD * x))
  parts = fold_reduce(
      [x.reshape(f, -1, FOLD, lanes) for x in xs], 's' * len(xs)
  )
  return tuple(x.sum(axis=(1, 2)) for x in barrier(parts))


def best_queries(
    keys: Float[Array, 'keys H'],
    groups: Int[Array, 'keys n'],
    queries: Float[Array, 'queries H'],
    real: Bool[Array, 'queries'],
    k: int,
) -> tuple[Float[Array, 'keys k'], Int[Array, 'keys k']]:
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
  padding = -C % _KEYS_AT_ONCE

  def one_block(args):
    rows, mine = args
    counts = (mine < len(grouped))[:, :, None]
    mine = jnp.minimum(mine, len(grouped) - 1)
    members = grouped[mine].reshape(*mine.shape, GROUP, H)
    scores = jnp.einsum(
        'cngh,ch->cng', members, rows, precision=jax.lax.Precision.HIGHEST
    )
    scores = jnp.where(counts & real[mine], scores, -jnp.inf)
    scores, index = jax.lax.top_k(scores.reshape(_KEYS_AT_ONCE, -1), k)
    group = jnp.take_along_axis(mine, index // GROUP, axis=1)
    return scores, group * GROUP + index % GROUP

  blocks = (
      jnp.pad(keys, ((0, padding), (0, 0))).reshape(-1, _KEYS_AT_ONCE, H),
      jnp.pad(groups, ((0, padding), (0, 0))).reshape(
          -1, _KEYS_AT_ONCE, groups.shape[1]
      ),
  )
  found = jax.lax.map(one_block, blocks)
  return tuple(x.reshape(-1, k)[:C] for x in found)


def barrier(x: Any) -> Any:
  """`x`, made by itself: neither fused with its uses nor made again there."""
  return jax.lax.optimization_barrier(x)


def _dot(subscripts: str, *arrays: Array) -> Array:
  """A sum of products; plain sums are faster so on CPU too."""
  return jnp.einsum(subscripts, *arrays, precision=_HIGHEST)
