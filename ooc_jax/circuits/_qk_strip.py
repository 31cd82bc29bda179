"""Scores of some queries with all keys, reduced in both roles at once.

A strip holds whole rows, so the softmax of its rows is final, and one product
serves rows (query role) and columns (key role).

Axis letters: f queries of one strip, K keys, H head width, k top-k, g groups.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ooc_jax.circuits._topk import grouped_topk
from ooc_jax.model import softcap as apply_softcap

# Queries per group in the key role: of the best groups all scores are made
# again, so few are wasted, and an eighth of the scores is searched.
GROUP = 8
# Keys per group in the query role, where the scores are still at hand.
_KEY_GROUP = 32
# Keys come in a multiple of this.
LANES = 128
_HIGHEST = jax.lax.Precision.HIGHEST


class Keys(NamedTuple):
  """What every strip meets.

  Attributes:
    rows: [K, H] float32; K is a multiple of `LANES`.
    counts: [K] which keys a query sees, or None for all.
    number: How many those are.
    mean_row: [H] of the keys that count.
    mean_query: [H] of all queries.
    centre: [K] mean score of each key; with a softcap, near enough.
  """

  rows: Float[Array, 'K H']
  counts: Bool[Array, 'K'] | None
  number: Float[Array, '']
  mean_row: Float[Array, 'H']
  mean_query: Float[Array, 'H']
  centre: Float[Array, 'K']


class Rows(NamedTuple):
  """The query role of a strip; scores before the softcap in `top`."""

  top: tuple[Float[Array, 'f k'], Int[Array, 'f k']]
  mean: Float[Array, 'f']
  std: Float[Array, 'f'] | None  # Or None without a softcap: see _qk_spread.
  peak: Float[Array, 'f']
  partition: Float[Array, 'f']  # Σ exp(y - peak)
  weighted: Float[Array, 'f']  # Σ exp(y - peak)·(y - peak)


class Columns(NamedTuple):
  """The key role of a strip: what its queries add to each key."""

  total: Float[Array, 'K'] | None  # Σ y, or None without a softcap.
  second: Float[Array, 'K'] | None  # Σ (y - centre)², likewise.
  received: Float[Array, 'K']
  largest: Float[Array, 'K']


def strip(
    queries: Float[Array, 'f H'],
    real: Bool[Array, 'f'] | None,
    keys: Keys,
    *,
    k: int,
    softcap: float | None,
) -> tuple[Rows, Columns, Float[Array, 'g K']]:
  """All statistics of a strip.

  Args:
    queries: Float32, times the scale; f is a multiple of `GROUP`.
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
  scores = once(jnp.einsum('fh,kh->fk', queries, keys.rows, precision=_HIGHEST))
  y = scores if softcap is None else once(apply_softcap(scores, softcap))
  rows, weights = _query_role(queries, scores, y, keys, k, softcap)
  share, masked = 1.0 / rows.partition, scores
  one = jnp.ones_like(share)
  if real is not None:
    one = real.astype(jnp.float32)
    share *= one
    masked = jnp.where(real[:, None], scores, -jnp.inf)
  total = second = None
  if softcap is not None:
    away = jnp.square(y - keys.centre[None, :])
    if real is not None:
      away *= one[:, None]
    total, second = _dot('f,fk->k', one, y), away.sum(axis=0)
  columns = Columns(
      total=total,
      second=second,
      received=_dot('f,fk->k', share, weights),
      largest=(weights * share[:, None]).max(axis=0),
  )
  f, K = scores.shape
  maxima = masked.reshape(f // GROUP, GROUP, K).max(axis=1)
  return once((rows, columns, maxima))


def _query_role(
    queries: Float[Array, 'f H'],
    scores: Float[Array, 'f K'],
    y: Float[Array, 'f K'],
    keys: Keys,
    k: int,
    softcap: float | None,
) -> tuple[Rows, Float[Array, 'f K']]:
  """The rows' statistics, and exp(y - peak), 0 for keys that do not count."""
  seen, one = scores, jnp.ones_like(keys.centre)
  if keys.counts is not None:
    one = keys.counts.astype(jnp.float32)
    seen = jnp.where(keys.counts[None, :], scores, -jnp.inf)
  top = grouped_topk(seen, k, _KEY_GROUP)
  # The cap is monotone: the largest score stays the largest. Not top[0][:, 0]:
  # with that XLA:CPU no longer sees a top-k and sorts, six times as slow.
  peak = apply_softcap(top[0].max(axis=1), softcap)
  below = y - peak[:, None]
  if keys.counts is not None:
    below = jnp.where(keys.counts[None, :], below, -jnp.inf)
  weights = once(jnp.exp(below))
  mean, std = _dot('fh,h->f', queries, keys.mean_row), None
  if softcap is not None:
    centre = apply_softcap(mean, softcap)
    away = jnp.square(y - centre[:, None]) * one[None, :]
    mean = _dot('fk,k->f', y, one) / keys.number
    variance = away.sum(axis=1) / keys.number - jnp.square(mean - centre)
    std = jnp.sqrt(jnp.maximum(variance, 0.0))
  return (
      Rows(
          top=top,
          mean=mean,
          std=std,
          peak=peak,
          partition=_dot('fk,k->f', weights, one),
          weighted=(weights * (y - once(peak)[:, None])).sum(axis=1),
      ),
      weights,
  )


def once(x: Any) -> Any:
  """`x`, made by itself: neither merged with its uses nor made again there."""
  return jax.lax.optimization_barrier(x)


def _dot(subscripts: str, *arrays: Array) -> Array:
  """A sum of products; plain sums are faster so on CPU too."""
  return jnp.einsum(subscripts, *arrays, precision=_HIGHEST)
