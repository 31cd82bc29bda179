"""The summary of experiment 1, from the tables of its layers and nulls."""

from collections.abc import Iterable, Mapping
import json
from typing import Any

from _labels import MEASURES
from _labels import Side
from _labels import prefix_of
import _shapes
from _study import Study
import numpy as np
import pyarrow as pa

from ooc_jax import measures

_WEIGHTS = b'ooc_jax.weights'


def with_weights(table: pa.Table, weights: Mapping[str, str]) -> pa.Table:
  """The table with the SHA-256 of the files its layer was read from."""
  value = json.dumps(dict(weights), sort_keys=True)
  return table.replace_schema_metadata(
      {**(table.schema.metadata or {}), _WEIGHTS: value}
  )


def side_summary(
    side: Side, tables: Mapping[int, pa.Table], study: Study
) -> dict[str, Any]:
  """Shares and medians of every layer and of all, and the shape over depth."""
  prefix = prefix_of(side.name)
  layers: list[dict[str, Any]] = []
  for layer, table in tables.items():
    cuts = side.thresholds[layer]
    row = _row(
        measures.is_semantic(side.coherences[layer], cuts, study.rule),
        measures.is_semantic(side.nulls[layer], cuts, study.rule),
        measures.passes_by_measure(side.coherences[layer], cuts),
        side.coherences[layer],
        study.seed + layer,
    )
    layers.append({
        'layer': layer,
        'weights': json.loads(table.schema.metadata[_WEIGHTS]),
        **row,
        'undertrained': _undertrained([table], prefix),
        'thresholds': cuts.as_dict(),
    })
  pooled = measures.Coherence.concatenate(list(side.coherences.values()))
  whole = [
      (side.coherences[x], side.nulls[x], side.thresholds[x]) for x in tables
  ]
  passes = [measures.passes_by_measure(c, cuts) for c, _, cuts in whole]
  total = _row(
      np.concatenate(
          [measures.is_semantic(c, cuts, study.rule) for c, _, cuts in whole]
      ),
      _null_labels(side, study.rule),
      {name: np.concatenate([x[name] for x in passes]) for name in MEASURES},
      pooled,
      study.seed,
  )
  first = next(iter(side.thresholds.values()))
  return {
      'layers': layers,
      'total': total | {'undertrained': _undertrained(tables.values(), prefix)},
      'thresholds': first.as_dict(),
      'shape': _shapes.share_shape(
          [row['layer'] for row in layers],
          [row['semantic']['share'] for row in layers],
          [row['features'] for row in layers],
      ),
  }


def _null_labels(side: Side, rule: str) -> np.ndarray:
  """Labels of all random directions; a null of all layers counts once."""
  distinct = {
      id(null): (null, side.thresholds[layer])
      for layer, null in side.nulls.items()
  }
  return np.concatenate([
      measures.is_semantic(null, cuts, rule) for null, cuts in distinct.values()
  ])


def _undertrained(tables: Iterable[pa.Table], prefix: str) -> float:
  """Share of the top tokens that look under-trained."""
  tables = list(tables)
  counts = np.concatenate(
      [t[f'{prefix}undertrained'].to_numpy() for t in tables]
  )
  k = tables[0].schema.field(f'{prefix}top_ids').type.list_size
  return float(counts.mean() / k)


def _row(
    labels: np.ndarray,
    null_labels: np.ndarray,
    passes: Mapping[str, np.ndarray],
    coherence: measures.Coherence,
    seed: int,
) -> dict[str, Any]:
  interval = measures.bootstrap_share(labels, seed=seed)
  excess = measures.bootstrap_excess(labels, null_labels, seed=seed)
  return {
      'features': int(labels.size),
      'semantic': interval._asdict(),
      'null_share': float(null_labels.mean()),
      'null_directions': int(null_labels.size),
      'excess': excess.share,
      'excess_low': excess.low,
      'excess_high': excess.high,
      'measures': {name: float(x.mean()) for name, x in passes.items()},
      'median': {
          name: float(np.median(getattr(coherence, name))) for name in MEASURES
      },
  }


def agreement(
    side: Side, output: Side, tables: Mapping[int, pa.Table], rule: str
) -> dict[str, Any]:
  """How far a side says the same of a feature as the output side.

  Args:
    side: Another side.
    output: The output side.
    tables: Layer -> its features.
    rule: Of the labels.

  Returns:
    `shared_tokens`: mean share of top tokens in common; `both`: share of
    features with both labels; `phi`: correlation of the labels, None where one
    of them is constant.
  """
  shared = np.concatenate(
      [t[f'{prefix_of(side.name)}shared'].to_numpy() for t in tables.values()]
  )
  ours, theirs = (
      np.concatenate([
          measures.is_semantic(x.coherences[layer], x.thresholds[layer], rule)
          for layer in tables
      ])
      for x in (side, output)
  )
  varies = ours.std() > 0 and theirs.std() > 0
  return {
      'shared_tokens': float(shared.mean()),
      'both': float((ours & theirs).mean()),
      'phi': float(np.corrcoef(ours, theirs)[0, 1]) if varies else None,
  }


def examples(
    tables: Mapping[int, pa.Table],
    coherences: Mapping[int, measures.Coherence],
    count: int,
) -> list[Any]:
  """The features of lowest mean rank in the measures, one a top token."""
  pooled = measures.Coherence.concatenate(list(coherences.values()))
  ranks = np.zeros(pooled.size)
  for measure in pooled.measures:
    values = measure.lowered(pooled[measure.name])
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
          **{m: tables[layer][m][feature].as_py() for m in MEASURES},
          'tokens': tokens,
      }
      for layer, feature, tokens in chosen
  ]


def weights_of_layers(summary: Mapping[str, Any]) -> dict[int, Any]:
  """Layer -> SHA-256 of its dictionary's files, of the output side."""
  return {row['layer']: row['weights'] for row in summary['layers']}
