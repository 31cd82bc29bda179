"""The summary of experiment 1, from the tables of its layers."""

from collections.abc import Mapping
import dataclasses
import json
from typing import Any

import numpy as np
import pyarrow as pa

from ooc_jax import measures
from ooc_jax import results

_MEASURES = tuple(measures.LOW_IS_COHERENT)
_WEIGHTS = b'ooc_jax.weights'


def coherence_of(table: pa.Table) -> measures.Coherence:
  """The three measures of a layer's features."""
  return measures.Coherence(
      **{name: table[name].to_numpy() for name in _MEASURES}
  )


def with_weights(table: pa.Table, weights: Mapping[str, str]) -> pa.Table:
  """The table with the SHA-256 of the files its layer was read from."""
  value = json.dumps(weights, sort_keys=True)
  return table.replace_schema_metadata(
      {**(table.schema.metadata or {}), _WEIGHTS: value}
  )


def labels_table(
    coherences: Mapping[int, measures.Coherence],
    thresholds: measures.Thresholds,
    rule: str,
) -> pa.Table:
  """One row a feature of every layer: which measures pass, and the label."""
  columns: dict[str, list[np.ndarray]] = {}
  for layer, coherence in coherences.items():
    labels = measures.semantic(coherence, thresholds, rule)
    rows = {
        'layer': np.full(labels.size, layer, np.int32),
        'feature': np.arange(labels.size, dtype=np.int32),
        'semantic': labels,
        **{
            f'{name}_passes': passes
            for name, passes in measures.passes(coherence, thresholds).items()
        },
    }
    for name, values in rows.items():
      columns.setdefault(name, []).append(values)
  return pa.table({name: np.concatenate(c) for name, c in columns.items()})


def summarize(
    tables: Mapping[int, pa.Table],
    coherences: Mapping[int, measures.Coherence],
    thresholds: measures.Thresholds,
    *,
    rule: str,
    seed: int,
    examples: int,
) -> dict[str, Any]:
  """The shares, medians and examples of `results.Summary`."""
  layers = [
      {
          'layer': layer,
          'weights': json.loads(table.schema.metadata[_WEIGHTS]),
          **_row(coherences[layer], table, thresholds, rule, seed + layer),
      }
      for layer, table in tables.items()
  ]
  pooled = measures.Coherence(**{
      name: np.concatenate([getattr(c, name) for c in coherences.values()])
      for name in _MEASURES
  })
  every = pa.concat_tables(
      [t.select(['undertrained', 'top_ids']) for t in tables.values()]
  )
  return {
      'layers': layers,
      'total': _row(pooled, every, thresholds, rule, seed),
      'thresholds': dataclasses.asdict(thresholds),
      'examples': _examples(tables, pooled, examples),
  }


def _row(
    coherence: measures.Coherence,
    table: pa.Table,
    thresholds: measures.Thresholds,
    rule: str,
    seed: int,
) -> dict[str, Any]:
  labels = measures.semantic(coherence, thresholds, rule)
  interval = measures.bootstrap_share(labels, seed=seed)
  k = table.schema.field('top_ids').type.list_size
  return {
      'features': int(labels.size),
      'semantic': interval._asdict(),
      'measures': {
          name: float(passes.mean())
          for name, passes in measures.passes(coherence, thresholds).items()
      },
      'median': {
          name: float(np.median(getattr(coherence, name))) for name in _MEASURES
      },
      'undertrained': float(table['undertrained'].to_numpy().mean() / k),
  }


def _examples(
    tables: Mapping[int, pa.Table], pooled: measures.Coherence, count: int
) -> list[results.Example]:
  """The features of lowest mean rank in the measures, one a top token."""
  ranks = np.zeros(pooled.cosine.size)
  for name, low in measures.LOW_IS_COHERENT.items():
    values = getattr(pooled, name) * (1 if low else -1)
    # Ranks of equal values by position: stable, so the same in every run.
    order = np.argsort(values, kind='stable')
    ranks[order] += np.arange(values.size)
  where = [
      (layer, feature)
      for layer, table in tables.items()
      for feature in range(table.num_rows)
  ]
  chosen, shown = [], set()
  for i in np.argsort(ranks, kind='stable'):
    if len(chosen) == count:
      break
    layer, feature = where[i]
    tokens = tables[layer]['top_tokens'][feature].as_py()
    # Many features predict the same word: it is shown once.
    word = tokens[0].strip().casefold()
    if word not in shown:
      shown.add(word)
      chosen.append((layer, feature, tokens))
  return [
      {
          'layer': layer,
          'feature': feature,
          'levenshtein': tables[layer]['levenshtein'][feature].as_py(),
          'cosine': tables[layer]['cosine'][feature].as_py(),
          'entropy': tables[layer]['entropy'][feature].as_py(),
          'tokens': tokens,
      }
      for layer, feature, tokens in chosen
  ]
