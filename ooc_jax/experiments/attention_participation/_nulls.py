"""What stands for chance in experiment 2, sent through the same heads."""

import dataclasses
import functools

import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool
import numpy as np
import pyarrow as pa

from ooc_jax import circuits
from ooc_jax import dictionaries
from ooc_jax import measures
from ooc_jax.circuits.numerics import side_by_side
from ooc_jax.dictionaries import Dictionary
from ooc_jax.experiments.attention_participation._config import (
    AttentionParticipation,
)
from ooc_jax.experiments.attention_participation._inputs import StreamMean
from ooc_jax.model import Model
from ooc_jax.results import tables


def nulls_table(
    model: Model,
    dictionary: Dictionary,
    layer: int,
    mean: StreamMean,
    config: AttentionParticipation,
    mask: Bool[Array, 'V'],
    mesh: Mesh | None = None,
) -> pa.Table | None:
  """One row a direction of every null: what participation is decided by.

  Each null has as many directions as the dictionary has features, because the
  largest of more scores is larger:
    random: random directions in both roles;
    permuted: the dictionary's queries with keys whose every coordinate is
      permuted over the features by itself. (Whole keys in another order have
      the same largest score.) Its queries keep their meaning, its keys only
      the spread of their coordinates;
    tokens: as many tokens of the mask, drawn at random, in both roles: rows of
      the embedding less their mean over the mask. All of them, where there are
      fewer.

  Args:
    model: With attention, norms and embedding.
    dictionary: At the layer's input.
    layer: From 0.
    mean: Of the stream; where features stand on it, so do these directions.
    config: The settings.
    mask: [V] tokens that count.
    mesh: That queries and keys are spread over.

  Returns:
    Columns `null`, `direction` and for each context a list [N]; None without
    a null.
  """
  parts = []
  for name in config.null_kinds:
    if name == 'permuted':
      statistics = _permuted(model, dictionary, layer, mean, config, mesh)
    else:
      rows = (
          _random(dictionary, layer, config)
          if name == 'random'
          else _tokens(model, dictionary.size, layer, config, mask)
      )
      directions = dictionaries.from_arrays(rows, rows, layer=layer)
      statistics = measures.participation_statistics(
          circuits.attention_statistics(
              model,
              # At the layer's input, whatever the layer.
              dataclasses.replace(directions, site=dictionary.site),
              layer,
              offset=config.offset,
              k=min(config.partners, len(rows)),
              mesh=mesh,
              **mean.arguments,
          )
      )
    size = statistics[measures.CONTEXTS[0]].shape[1]
    parts.append(
        tables.NULLS.build({
            'null': [name] * size,
            'direction': np.arange(size, dtype=np.int32),
            **statistics,
        })
    )
  return pa.concat_tables(parts) if parts else None


def _random(
    dictionary: Dictionary, layer: int, config: AttentionParticipation
) -> np.ndarray:
  # Lengths do not count: the norm before the attention takes them away.
  if config.null == 'matched':
    rows = measures.matched_directions(
        dictionary.decoder, dictionary.size, seed=config.seed + layer
    )
  else:
    rows = measures.isotropic_directions(
        dictionary.size, dictionary.decoder.shape[1], seed=config.seed + layer
    )
  return circuits.to_host(rows)


def _tokens(
    model: Model,
    size: int,
    layer: int,
    config: AttentionParticipation,
    mask: Bool[Array, 'V'],
) -> np.ndarray:
  table = circuits.embedding_table(model)
  ids = np.flatnonzero(np.asarray(mask))
  mean = jnp.einsum(
      'v,vd->d',
      mask.astype(table.dtype),
      table,
      precision='highest',
      preferred_element_type=jnp.float32,
  )
  number = len(ids)
  if size < number:
    rng = np.random.default_rng((config.seed, layer, 1))
    ids = np.sort(rng.choice(ids, size, replace=False))
  # Only these rows: the table of a large model is gigabytes.
  rows = circuits.to_host(table[jnp.asarray(ids)]).astype(np.float32)
  return rows - circuits.to_host(mean)[None] / number


def _permuted(
    model: Model,
    dictionary: Dictionary,
    layer: int,
    mean: StreamMean,
    config: AttentionParticipation,
    mesh: Mesh | None,
) -> dict[str, np.ndarray]:
  heads, rows = [], dictionary.decoder
  on_mean = mean.length is not None
  if on_mean:
    rows = circuits.on_bias(model, rows, **mean.arguments)
  for first in range(0, model.config.num_heads, 2):
    runs = []
    for head in range(first, min(first + 2, model.config.num_heads)):
      queries = circuits.head_queries(
          model, rows, layer, head, offset=config.offset, biases=on_mean
      )
      keys = circuits.to_host(
          circuits.head_keys(model, rows, layer, head, biases=on_mean)
      )
      # The same keys for all heads that share them.
      group = head // model.config.group_size
      rng = np.random.default_rng((config.seed, layer, group))
      runs.append(
          functools.partial(
              circuits.qk_statistics,
              queries,
              rng.permuted(keys, axis=0),
              scale=model.config.attention_scale,
              softcap=model.config.attention_softcap,
              k=config.partners,
              mesh=mesh,
          )
      )
    found = side_by_side(runs, queries, mesh)
    heads += map(measures.participation_statistics, found)
  return {x: np.stack([one[x] for one in heads]) for x in measures.CONTEXTS}
