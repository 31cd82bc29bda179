"""One row a head: what it does with the dictionary, whatever the threshold."""

import dataclasses
from typing import Any

from jax.sharding import Mesh
from jaxtyping import Array, Bool
import numpy as np
import pyarrow as pa

from ooc_jax import circuits
from ooc_jax import dictionaries
from ooc_jax.circuits import AttentionStatistics
from ooc_jax.dictionaries import Dictionary
from ooc_jax.experiments.attention_participation._config import (
    AttentionParticipation,
)
from ooc_jax.experiments.attention_participation._inputs import StreamMean
from ooc_jax.model import Model
from ooc_jax.results import tables

# Keys of a head whose writes are read.
_KEYS = 3
_COPY = 5  # As `ov_copying`: among so many most raised features.


def heads_table(
    model: Model,
    dictionary: Dictionary,
    attention: AttentionStatistics,
    mean: StreamMean,
    config: AttentionParticipation,
    mask: Bool[Array, 'V'],
    tokens: np.ndarray,
    mesh: Mesh | None = None,
) -> pa.Table:
  """Selectivity, diagonal, distance and writes of every head of a layer.

  What the columns are is said by `results.tables.HEADS`.

  Args:
    model: With attention, norms and vocabulary tables.
    dictionary: At the layer's input.
    attention: Of both.
    mean: Of the stream, as far as it is known.
    config: The settings.
    mask: [V] tokens that count.
    tokens: [V] strings.
    mesh: Of the model.
  """
  layer = attention.layer
  size = dictionary.size
  profiles = circuits.head_profiles(
      model,
      dictionary,
      attention,
      pairs=config.pairs,
      context=config.context,
      bias=mean.bias,
  )
  course, preferred = map(circuits.to_host, (profiles.mean, profiles.preferred))
  of_mean = _of_mean(model, attention, mean, config.context)
  largest = np.asarray(attention.largest_weight, np.float64)
  maximum = np.asarray(attention.query.maximum)
  own = np.asarray(attention.self_weight, np.float64)
  rows = []
  for i, head in enumerate(attention.heads):
    query = int(np.argmax(maximum[i]))
    received = np.asarray(attention.received[i])
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
        'preferred_score': float(course[i, preferred[i]]),
        'score_at_0': float(course[i, 0]),
        'profile': course[i].tolist(),
        **(of_mean[i] if of_mean else {}),
        **_copying(model, dictionary, layer, head, mesh),
        'write_features': np.argsort(-received, kind='stable')[:_KEYS].tolist(),
        'top_key_share': float(received.max() / size),
    })
    constants = circuits.head_constants(model, layer, head)
    if constants is not None:
      lengths = (float(np.linalg.norm(x)) for x in constants)
      rows[-1] |= zip(('query_constant', 'key_constant'), lengths, strict=True)
    if config.write_tokens:
      rows[-1]['write_tokens'] = tokens[
          _written(model, dictionary, rows[-1], config.write_tokens, mask)
      ].tolist()
  return tables.HEADS.build_rows(rows)


def _of_mean(
    model: Model,
    attention: AttentionStatistics,
    mean: StreamMean,
    context: int,
) -> list[dict[str, Any]]:
  """What the mean of the stream does in each head; nothing where unknown."""
  if mean.bias is None:
    return []
  profiles = circuits.bias_profiles(
      model, mean.bias, attention.layer, attention.heads, context=context
  )
  course, preferred = map(circuits.to_host, (profiles.mean, profiles.preferred))
  query, key, own = (np.asarray(x, np.float64) for x in attention.bias)
  return [
      {
          'bias': mean.origin,
          'bias_score': float(own[i]),
          'query_bias_mean': float(query[i].mean()),
          'query_bias_std': float(query[i].std()),
          'key_bias_mean': float(key[i].mean()),
          'key_bias_std': float(key[i].std()),
          'bias_offset': int(preferred[i]),
          'bias_profile': course[i].tolist(),
      }
      for i in range(len(attention.heads))
  ]


def _copying(
    model: Model,
    dictionary: Dictionary,
    layer: int,
    head: int,
    mesh: Mesh | None,
) -> dict[str, Any]:
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


def _written(
    model: Model,
    dictionary: Dictionary,
    row: dict[str, Any],
    k: int,
    mask: Bool[Array, 'V'],
) -> np.ndarray:
  """Top ids of what the head of `row` writes for its `write_features`."""
  keys = circuits.to_host(dictionary.decoder[np.asarray(row['write_features'])])
  few = dictionaries.from_arrays(keys, keys, layer=row['layer'])
  lens = circuits.ov_lens(
      model,
      dataclasses.replace(few, site=dictionary.site),
      row['layer'],
      row['head'],
      k=k,
      mask=mask,
  )
  return circuits.to_host(lens.top_ids)
