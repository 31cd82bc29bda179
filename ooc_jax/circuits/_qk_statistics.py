"""What a head's scores look like for every feature, in both roles.

`qk_statistics` is the array-level core; `attention_statistics` takes a model
and a dictionary.
"""

from typing import Any

import flax
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec
from jaxtyping import Array, Bool, Float, Int
import numpy as np

from ooc_jax._errors import InputError
from ooc_jax.circuits._dots import exact_dots
from ooc_jax.circuits._mesh import FEATURE
from ooc_jax.circuits._mesh import axis_of
from ooc_jax.circuits._mesh import mesh_of
from ooc_jax.circuits._qk_checks import check_finite
from ooc_jax.circuits._qk_checks import check_settings
from ooc_jax.circuits._qk_stream import stream
from ooc_jax.model import softcap as apply_softcap


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
    queries: Float[Array | np.ndarray, 'Q H'],
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
    keys: Likewise.
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
      range, or a number is not finite (looked at outside of `jit` only).
  """
  queries, keys = jnp.asarray(queries), jnp.asarray(keys)
  counts = None if counts is None else jnp.asarray(counts)
  check_settings(queries, keys, counts, scale, softcap, k)
  mesh = feature_mesh(mesh, queries, keys)
  q = _placed(queries.astype(jnp.float32) * jnp.float32(scale), mesh)
  k32 = _placed(keys.astype(jnp.float32), mesh)
  check_finite(q, k32)
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


def feature_mesh(mesh: Mesh | None, *arrays: Array) -> Mesh | None:
  """`mesh`, or the one that an array lies on, if it has our axis.

  Raises:
    InputError: `mesh` has no axis 'feature'.
  """
  if mesh is not None and FEATURE not in mesh.axis_names:
    raise InputError(
        f'The mesh has the axes {mesh.axis_names}, and none is {FEATURE!r},'
        ' over which queries and keys are spread; name one so.'
    )
  mesh = mesh_of(*arrays) if mesh is None else mesh
  return mesh if axis_of(mesh, FEATURE) else None


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
    queries: Float[Array, 'Q H'],
    keys: Float[Array, 'F H'],
    counts: Bool[Array, 'F'] | None,
    log_partition: Float[Array, 'Q'],
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
  return exact_dots(x, y).value


def _placed(x: Array, mesh: Mesh | None) -> Array:
  """`x` on the devices of the mesh; where it is there already, as it lies."""
  if mesh is None or isinstance(x, jax.core.Tracer):
    return x
  if x.sharding.device_set == set(mesh.devices.flat):
    return x
  return jax.device_put(x, NamedSharding(mesh, PartitionSpec()))
