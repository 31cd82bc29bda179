"""What stands for chance in experiment 2, sent through the same heads."""

import dataclasses

from _attention_study import AttentionStudy
import _sides
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool
import numpy as np
import pyarrow as pa

import ooc_jax
from ooc_jax import circuits
from ooc_jax import measures


def nulls_table(
    model: ooc_jax.Model,
    dictionary: ooc_jax.Dictionary,
    layer: int,
    study: AttentionStudy,
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
    study: The settings.
    mask: [V] tokens that count.
    mesh: That queries and keys are spread over.

  Returns:
    Columns `null`, `direction` and for each context a list [N]; None without
    a null.
  """
  tables = []
  for name in study.null_kinds:
    if name == 'permuted':
      found = _permuted(model, dictionary, layer, study, mesh)
    else:
      rows = (
          _random(dictionary, layer, study)
          if name == 'random'
          else _tokens(model, dictionary.size, layer, study, mask)
      )
      found = measures.participation_statistics(
          ooc_jax.attention_statistics(
              model,
              # At the layer's input, whatever the layer.
              dataclasses.replace(
                  _sides.of_directions(rows), site=dictionary.site
              ),
              layer,
              offset=study.offset,
              k=min(study.partners, len(rows)),
              mesh=mesh,
          )
      )
    tables.append(_table(name, found))
  return pa.concat_tables(tables) if tables else None


def null_statistic(table: pa.Table, name: str, context: str) -> np.ndarray:
  """[N, n] of one null in one context."""
  own = table.filter(pa.array(np.asarray(table['null']) == name))
  column = own[context].combine_chunks()
  size = column.type.list_size
  return column.flatten().to_numpy().reshape(-1, size).T


def _random(
    dictionary: ooc_jax.Dictionary, layer: int, study: AttentionStudy
) -> np.ndarray:
  # Lengths do not count: the norm before the attention takes them away.
  if study.null == 'matched':
    rows = measures.matched_directions(
        dictionary.decoder, dictionary.size, seed=study.seed + layer
    )
  else:
    rows = measures.isotropic_directions(
        dictionary.size, dictionary.decoder.shape[1], seed=study.seed + layer
    )
  return circuits.to_host(rows)


def _tokens(
    model: ooc_jax.Model,
    size: int,
    layer: int,
    study: AttentionStudy,
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
    rng = np.random.default_rng((study.seed, layer, 1))
    ids = np.sort(rng.choice(ids, size, replace=False))
  # Only these rows: the table of a large model is gigabytes.
  rows = circuits.to_host(table[jnp.asarray(ids)]).astype(np.float32)
  return rows - circuits.to_host(mean)[None] / number


def _permuted(
    model: ooc_jax.Model,
    dictionary: ooc_jax.Dictionary,
    layer: int,
    study: AttentionStudy,
    mesh: Mesh | None,
) -> dict[str, np.ndarray]:
  config = model.config
  found = []
  for head in range(config.num_heads):
    queries = circuits.head_queries(
        model, dictionary.decoder, layer, head, offset=study.offset
    )
    keys = circuits.to_host(
        circuits.head_keys(model, dictionary.decoder, layer, head)
    )
    # The same keys for all heads that share them.
    rng = np.random.default_rng((study.seed, layer, head // config.group_size))
    found.append(
        measures.participation_statistics(
            circuits.qk_statistics(
                queries,
                rng.permuted(keys, axis=0),
                scale=config.attention_scale,
                softcap=config.attention_softcap,
                k=study.partners,
                mesh=mesh,
            )
        )
    )
  return {x: np.stack([one[x] for one in found]) for x in measures.CONTEXTS}


def _table(name: str, found: dict[str, np.ndarray]) -> pa.Table:
  heads, size = found['query_pre'].shape
  columns = {
      x: pa.FixedSizeListArray.from_arrays(
          pa.array(np.ascontiguousarray(found[x].T).ravel()), heads
      )
      for x in measures.CONTEXTS
  }
  return pa.table({
      'null': [name] * size,
      'direction': np.arange(size, dtype=np.int32),
      **columns,
  })
