"""What a head's scores look like for every feature, in both roles.

`qk_statistics` is the array-level core; `attention_statistics` takes a model
and a dictionary.
"""

from typing import Any

import flax
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int
import numpy as np

from ooc_jax._errors import InputError
from ooc_jax.circuits.numerics import compensated_dots
from ooc_jax.circuits.numerics import feature_mesh
from ooc_jax.circuits.numerics import on_mesh
from ooc_jax.circuits.qk._stream import stream
from ooc_jax.model import softcap as apply_softcap

# Of a score: its square, summed over millions of partners, is a float32.
_LONGEST = 1e15


@flax.struct.dataclass
class ScoreStatistics:
  """Scores before the softmax, of each feature in one role.

  As a query a feature is scored with all keys that count, as a key with all
  queries. Scores are after the attention softcap, where there is one.

  Attributes:
    maximum: [F].
    mean: [F].
    std: [F] population standard deviation.
    top_ids: [F, k] partners of the largest scores, largest first; equal
      scores by rising id.
    top_scores: [F, k] their scores.
  """

  # Any: JAX also fills its pytrees with shapes, shardings and batches.
  maximum: Float[Array, '*N F'] | Any
  mean: Float[Array, '*N F'] | Any
  std: Float[Array, '*N F'] | Any
  top_ids: Int[Array, '*N F k'] | Any
  top_scores: Float[Array, '*N F k'] | Any


@flax.struct.dataclass
class HeadStatistics:
  """Scores and weights of one head, or of N heads with a leading axis N.

  Weights are the softmax over all keys that count.

  Attributes:
    query: Scores of each feature as a query.
    key: Scores of each feature as a key, whether it counts or not.
    entropy: [F] nats, of a query's weights.
    largest_weight: [F] of a query; it is on its first top partner.
    self_weight: [F] of a query on the key of the same number, or None where
      queries and keys differ in number.
    log_partition: [F] log Σ exp(score) of a query: a weight is
      exp(score - log_partition).
    received: [F] of a key, weight summed over all queries; 0 for a key that
      does not count.
    largest_received: [F] of a key, the largest of those weights.
  """

  query: ScoreStatistics
  key: ScoreStatistics
  entropy: Float[Array, '*N F'] | Any
  largest_weight: Float[Array, '*N F'] | Any
  self_weight: Float[Array, '*N F'] | Any
  log_partition: Float[Array, '*N F'] | Any
  received: Float[Array, '*N F'] | Any
  largest_received: Float[Array, '*N F'] | Any

  @property
  def largest_partner(self) -> Int[Array, '*N F']:
    """The key with a query's largest weight."""
    return self.query.top_ids[..., 0]


def qk_statistics(
    queries: Float[Array | np.ndarray, 'queries H'],
    keys: Float[Array | np.ndarray, 'F H'],
    *,
    scale: float,
    softcap: float | None = None,
    k: int = 10,
    counts: Bool[Array | np.ndarray, 'F'] | None = None,
    mesh: Mesh | None = None,
) -> HeadStatistics:
  """Scores scale · queries · keysᵀ and their softmax, reduced as they are made.

  Float32 at highest precision; no array of Q x F is held. One product serves
  both roles and the softmax. May be called under `jit`.

  Args:
    queries: Of one head, position and norms applied; any float dtype.
    keys: Of the same head, position and norms applied; any float dtype.
    scale: Multiplies every score.
    softcap: Bound c of c·tanh(x/c) on the scores, or None.
    k: Partners to keep of every feature in each role.
    counts: True for a key that queries see; None for all. The others are no
      partner of a query and get no weight, but have their own scores.
    mesh: Splits both roles over its axis 'feature'. None takes the mesh of
      `queries` or `keys` where they are sharded; give it under `jit`. 1, 2, 4
      and 8 devices give the same bits.

  Raises:
    InputError: Shapes do not fit, `k`, `scale`, `softcap` or `mesh` is out of
      range, or a number is not finite (checked outside of `jit` only).
  """
  queries, keys = jnp.asarray(queries), jnp.asarray(keys)
  counts = None if counts is None else jnp.asarray(counts)
  _check_arguments(queries, keys, counts, scale, softcap, k)
  mesh = feature_mesh(mesh, queries, keys)
  q = on_mesh(queries.astype(jnp.float32) * jnp.float32(scale), mesh)
  k32 = on_mesh(keys.astype(jnp.float32), mesh)
  _check_finite(q, k32)
  rows, columns = stream(q, k32, counts, k=k, softcap=softcap, mesh=mesh)
  log_partition = rows.peak + jnp.log(rows.partition)
  return HeadStatistics(
      query=_scores(rows, softcap),
      key=_scores(columns, softcap),
      # -Σ p log p with p = exp(y - peak) / partition.
      entropy=jnp.log(rows.partition) - rows.weighted / rows.partition,
      largest_weight=1.0 / rows.partition,
      self_weight=_self_weight(q, k32, counts, log_partition, softcap),
      log_partition=log_partition,
      received=columns.received,
      largest_received=columns.largest,
  )


def _scores(role: Any, softcap: float | None) -> ScoreStatistics:
  top_scores = apply_softcap(role.top[0], softcap)
  return ScoreStatistics(
      maximum=top_scores[:, 0],
      mean=role.mean,
      std=role.std,
      top_ids=role.top[1],
      top_scores=top_scores,
  )


def _self_weight(
    queries: Float[Array, 'queries H'],
    keys: Float[Array, 'F H'],
    counts: Bool[Array, 'F'] | None,
    log_partition: Float[Array, 'queries'],
    softcap: float | None,
) -> Float[Array, 'F'] | None:
  if queries.shape != keys.shape:
    return None
  # Exact, for a sum's last bits would depend on how it is split over devices.
  scores = _own_dots(queries, keys)
  weights = jnp.exp(apply_softcap(scores, softcap) - log_partition)
  return weights if counts is None else jnp.where(counts, weights, 0.0)


@jax.jit
def _own_dots(x: Float[Array, 'F H'], y: Float[Array, 'F H']):
  return compensated_dots(x, y).value


def _check_arguments(
    queries: Array,
    keys: Array,
    counts: Array | None,
    scale: float,
    softcap: float | None,
    k: int,
) -> None:
  """Refuses shapes and settings that do not fit."""
  shapes = f'queries {queries.shape} and keys {keys.shape}'
  if (
      queries.ndim != 2
      or keys.ndim != 2
      or queries.shape[1] != keys.shape[1]
      or 0 in queries.shape + keys.shape
  ):
    raise InputError(
        f'{shapes} do not fit; give the [F, H] vectors of one head for both.'
    )
  if not (np.isfinite(scale) and scale > 0):
    raise InputError(f'scale is {scale}, not above zero.')
  if softcap is not None and not (np.isfinite(softcap) and softcap > 0):
    raise InputError(f'softcap is {softcap}, neither None nor above zero.')
  kept = keys.shape[0]
  if counts is not None:
    if counts.shape != (kept,) or counts.dtype != bool:
      raise InputError(
          f'counts is {counts.dtype} {counts.shape}, not bool ({kept},): it'
          ' says for every key whether it counts.'
      )
    if not isinstance(counts, jax.core.Tracer):
      kept = int(np.asarray(counts).sum())
  if not 1 <= k <= min(kept, queries.shape[0]):
    raise InputError(
        f'k={k} partners were asked for, with {shapes} and {kept} keys that'
        ' count; choose k between 1 and the smaller of the numbers.'
    )


def _check_finite(
    queries: Float[Array, 'queries H'], keys: Float[Array, 'F H']
) -> None:
  """Refuses what has no largest score; under `jit` there is nothing to see."""
  if isinstance(queries, jax.core.Tracer) or isinstance(keys, jax.core.Tracer):
    return
  longest = 1.0
  for name, x in (('queries', queries), ('keys', keys)):
    norms = jnp.linalg.norm(x, axis=1)
    longest *= float(norms.max())
    if not np.isfinite(longest):
      bad = ~jnp.isfinite(norms)
      raise InputError(
          f'{int(bad.sum())} {name}, the first of them {int(bad.argmax())}, are'
          ' not finite or so long that scores overflow float32: load'
          ' directions and weights again, or scale them down.'
      )
  if longest > _LONGEST:
    raise InputError(
        f'Scores could be as large as {longest:.1e}, and their squares overflow'
        ' float32: scale queries or keys down.'
    )
