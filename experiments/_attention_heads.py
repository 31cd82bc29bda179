"""One row a head: what it does with the dictionary, whatever the threshold."""

import dataclasses
from typing import Any

from _attention_study import AttentionStudy
import _sides
from jax.sharding import Mesh
from jaxtyping import Array, Bool
import numpy as np
import pyarrow as pa

import ooc_jax
from ooc_jax import circuits

# Keys of a head whose writes are read.
_KEYS = 3
_COPY = 5  # As `ov_copying`: among so many most raised features.
_SCHEMA = pa.schema([
    ('layer', pa.int32()),
    ('head', pa.int32()),
    ('kv_head', pa.int32()),
    ('features', pa.int32()),
    ('selectivity', pa.float64()),
    ('median_selectivity', pa.float64()),
    ('diagonal_mass', pa.float64()),
    ('entropy', pa.float64()),
    ('best_query', pa.int32()),
    ('best_key', pa.int32()),
    ('best_score', pa.float64()),
    ('preferred_offset', pa.int32()),
    ('preferred_score', pa.float64()),
    ('score_at_0', pa.float64()),
    ('profile', pa.list_(pa.float32())),
    ('copy_score', pa.float64()),
    ('positive_share', pa.float64()),
    ('eigenvalue_score', pa.float64()),
    ('self_write_z', pa.float64()),
    ('write_features', pa.list_(pa.int32())),
    ('write_tokens', pa.list_(pa.list_(pa.string()))),
])


def heads_table(
    model: ooc_jax.Model,
    dictionary: ooc_jax.Dictionary,
    attention: ooc_jax.AttentionStatistics,
    study: AttentionStudy,
    mask: Bool[Array, 'V'],
    tokens: np.ndarray,
    mesh: Mesh | None = None,
) -> pa.Table:
  """Selectivity, diagonal, distance and writes of every head of a layer.

  Columns that need an explanation:
    selectivity: mean over queries of the largest weight times F; 1 where every
      query sees all keys alike.
    diagonal_mass: mean weight of a query on its own key; 1/F by chance.
    best_query, best_key: the pair with the largest score.
    preferred_offset: distance at which the strongest pairs score most, on
      mean; `profile` holds that mean for distances from 0.
    copy_score, positive_share, eigenvalue_score: of `ov_copying`; null where
      encoders do not read the stream. self_write_z: mean of its `z_score`.
    write_features: keys that receive most weight; write_tokens: top tokens of
      what the head writes where it attends to each of them.

  Args:
    model: With attention, norms and vocabulary tables.
    dictionary: At the layer's input.
    attention: Of both.
    study: The settings.
    mask: [V] tokens that count.
    tokens: [V] strings.
    mesh: Of the model.
  """
  layer = attention.layer
  size = dictionary.size
  profiles = circuits.head_profiles(
      model, dictionary, attention, pairs=study.pairs, context=study.context
  )
  mean, preferred = map(circuits.to_host, (profiles.mean, profiles.preferred))
  largest = np.asarray(attention.largest_weight, np.float64)
  maximum = np.asarray(attention.query.maximum)
  own = np.asarray(attention.self_weight, np.float64)
  rows = []
  for i, head in enumerate(attention.heads):
    query = int(np.argmax(maximum[i]))
    rows.append({
        'layer': layer,
        'head': head,
        'kv_head': head // model.config.group_size,
        'features': size,
        'selectivity': float(largest[i].mean() * size),
        'median_selectivity': float(np.median(largest[i]) * size),
        'diagonal_mass': float(own[i].mean()),
        'entropy': float(np.asarray(attention.entropy[i], np.float64).mean()),
        'best_query': query,
        'best_key': int(attention.query.top_ids[i, query, 0]),
        'best_score': float(maximum[i, query]),
        'preferred_offset': int(preferred[i]),
        'preferred_score': float(mean[i, preferred[i]]),
        'score_at_0': float(mean[i, 0]),
        'profile': mean[i].tolist(),
        **_copying(model, dictionary, layer, head, mesh),
        **_writes(
            model,
            dictionary,
            np.asarray(attention.received[i]),
            (layer, head),
            study,
            mask,
            tokens,
        ),
    })
  return pa.Table.from_pylist(rows, _SCHEMA)


def _copying(model, dictionary, layer, head, mesh) -> dict[str, Any]:
  if not dictionary.reads_stream:
    return {}
  copying = circuits.ov_copying(
      model, dictionary, layer, head, min(_COPY, dictionary.size), mesh=mesh
  )
  return {
      'copy_score': copying.copy_score,
      'positive_share': copying.positive_share,
      'eigenvalue_score': copying.eigenvalue_score,
      'self_write_z': float(
          circuits.to_host(copying.z_score).astype(np.float64).mean()
      ),
  }


def _writes(
    model: ooc_jax.Model,
    dictionary: ooc_jax.Dictionary,
    received: np.ndarray,
    place: tuple[int, int],
    study: AttentionStudy,
    mask: Bool[Array, 'V'],
    tokens: np.ndarray,
) -> dict[str, Any]:
  keys = np.argsort(-received, kind='stable')[:_KEYS]
  found: dict[str, Any] = {'write_features': keys.tolist()}
  if not study.write_tokens:
    return found
  few = _sides.of_directions(circuits.to_host(dictionary.decoder[keys]))
  lens = ooc_jax.ov_lens(
      model,
      dataclasses.replace(few, site=dictionary.site),
      *place,
      k=study.write_tokens,
      mask=mask,
  )
  return found | {
      'write_tokens': tokens[circuits.to_host(lens.top_ids)].tolist()
  }
