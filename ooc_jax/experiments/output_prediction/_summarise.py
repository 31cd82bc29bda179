"""What follows from the tables of experiment 1: labels, sweeps, summary."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from ooc_jax import measures
from ooc_jax import results
from ooc_jax.experiments._summary import Summary
from ooc_jax.experiments._summary import share_shape
from ooc_jax.experiments.output_prediction._compute import OutputTables
from ooc_jax.experiments.output_prediction._config import OutputPrediction
from ooc_jax.experiments.output_prediction._labels import MEASURES
from ooc_jax.experiments.output_prediction._labels import Readout
from ooc_jax.experiments.output_prediction._labels import directions_of
from ooc_jax.experiments.output_prediction._labels import labels_table
from ooc_jax.experiments.output_prediction._labels import readouts_of
from ooc_jax.results import tables


def summarise(found: OutputTables, config: OutputPrediction) -> Summary:
  """Labels, sweeps, nulls and `summary.json`, of all layers together."""
  readouts = readouts_of(found, config)
  output, *others = readouts
  directions = pa.concat_tables(found.directions.values())
  made: dict[str, pa.Table] = {}
  for readout in readouts:
    rows = measures.sweep(readout.coherences, readout.nulls)
    name = readout.name
    made[tables.name_of('sweep', name)] = tables.OUTPUT_SWEEP.build_rows(rows)
    made[tables.name_of('null', name)] = directions_of(directions, name)
  made[tables.LABELS_NAME] = labels_table(readouts, config.rule)
  features = found.features
  summary = {
      'experiment': 'output_prediction',
      'num_layers': found.num_layers,
      **_readout_summary(output, features, config),
      'sides': {
          readout.name: {
              **_readout_summary(readout, features, config),
              'agreement': _agreement(readout, output, features, config.rule),
          }
          for readout in others
      },
      'examples': _examples(features, output.coherences, config.examples),
  }
  return Summary(made, results.plain(summary))


def _readout_summary(
    readout: Readout,
    features: Mapping[int, pa.Table],
    config: OutputPrediction,
) -> dict[str, Any]:
  """Shares and medians of every layer and of all, and the shape over depth."""
  rule, prefix = config.rule, tables.prefix_of(readout.name)
  labels = {
      x: measures.is_semantic(c, readout.thresholds[x], rule)
      for x, c in readout.coherences.items()
  }
  passes = {
      x: measures.passes_by_measure(c, readout.thresholds[x])
      for x, c in readout.coherences.items()
  }
  layers: list[dict[str, Any]] = []
  for layer, table in features.items():
    cuts = readout.thresholds[layer]
    row = _row(
        labels[layer],
        measures.is_semantic(readout.nulls[layer], cuts, rule),
        passes[layer],
        readout.coherences[layer],
        config.seed + layer,
    )
    layers.append({
        'layer': layer,
        'weights': tables.weights_of(table),
        **row,
        'undertrained': _undertrained([table], prefix),
        'thresholds': cuts.as_dict(),
    })
  total = _row(
      np.concatenate(list(labels.values())),
      _null_labels(readout, rule),
      {x: np.concatenate([p[x] for p in passes.values()]) for x in MEASURES},
      measures.Coherence.concatenate(list(readout.coherences.values())),
      config.seed,
  )
  first = next(iter(readout.thresholds.values()))
  return {
      'layers': layers,
      'total': {
          **total,
          'undertrained': _undertrained(features.values(), prefix),
      },
      'thresholds': first.as_dict(),
      'shape': share_shape(
          [row['layer'] for row in layers],
          [row['semantic']['share'] for row in layers],
          [row['features'] for row in layers],
      ),
  }


def _null_labels(readout: Readout, rule: str) -> np.ndarray:
  """Labels of all random directions; those of all layers count once."""
  distinct = {
      id(null): (null, readout.thresholds[layer])
      for layer, null in readout.nulls.items()
  }
  return np.concatenate([
      measures.is_semantic(null, cuts, rule) for null, cuts in distinct.values()
  ])


def _undertrained(features: Iterable[pa.Table], prefix: str) -> float:
  """Share of the top tokens that look under-trained."""
  features = list(features)
  counts = np.concatenate(
      [t[f'{prefix}undertrained'].to_numpy() for t in features]
  )
  k = features[0].schema.field(f'{prefix}top_ids').type.list_size
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
      'found': _found(labels, passes),
      'median': {
          name: float(np.median(getattr(coherence, name))) for name in MEASURES
      },
  }


def _found(
    labels: np.ndarray, passes: Mapping[str, np.ndarray]
) -> dict[str, float]:
  """Shares that are coherent, sharp, and semantic by sharpness alone."""
  found = measures.found_by_measures(passes)
  only = labels & ~found['coherent']
  return {
      **{kind: float(x.mean()) for kind, x in found.items()},
      'sharp only': float(only.mean()),
  }


def _agreement(
    readout: Readout,
    output: Readout,
    features: Mapping[int, pa.Table],
    rule: str,
) -> dict[str, Any]:
  """How far a readout says the same of a feature as the output readout.

  Returns:
    `shared_tokens`: mean share of top tokens in common; `both`: share of
    features with both labels; `phi`: correlation of the labels, None where one
    of them is constant.
  """
  column = tables.prefix_of(readout.name) + 'shared'
  shared = np.concatenate([t[column].to_numpy() for t in features.values()])
  ours, theirs = (
      np.concatenate([
          measures.is_semantic(x.coherences[layer], x.thresholds[layer], rule)
          for layer in features
      ])
      for x in (readout, output)
  )
  varies = ours.std() > 0 and theirs.std() > 0
  return {
      'shared_tokens': float(shared.mean()),
      'both': float((ours & theirs).mean()),
      'phi': float(np.corrcoef(ours, theirs)[0, 1]) if varies else None,
  }


def _examples(
    features: Mapping[int, pa.Table],
    coherences: Mapping[int, measures.Coherence],
    count: int,
) -> list[results.Example]:
  """The features of lowest mean rank in the measures, one a top token."""
  pooled = measures.Coherence.concatenate(list(coherences.values()))
  ranks = np.zeros(pooled.size)
  for measure in pooled.measures:
    values = measure.lowered(pooled[measure.name])
    # Ranks of equal values by position: stable, so the same in every run.
    order = np.argsort(values, kind='stable')
    ranks[order] += np.arange(values.size)
  rows = [(x, i) for x, table in features.items() for i in range(len(table))]
  chosen, shown = [], set()
  for i in np.argsort(ranks, kind='stable'):
    if len(chosen) == count:
      break
    layer, feature = rows[i]
    table = features[layer]
    tokens = table['top_tokens'][feature].as_py()
    # Many features predict the same word: it is shown once.
    word = tokens[0].strip().casefold()
    if word in shown:
      continue
    shown.add(word)
    chosen.append({
        'layer': layer,
        'feature': feature,
        **{name: table[name][feature].as_py() for name in MEASURES},
        'tokens': tokens,
    })
  return chosen
