"""What follows from the tables of experiment 1: labels, sweeps, summary."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from ooc_jax import measures
from ooc_jax import results
from ooc_jax.experiments._summary import Summary
from ooc_jax.experiments._summary import share_shape
from ooc_jax.experiments.output_prediction._compute import OutputTables
from ooc_jax.experiments.output_prediction._config import OutputPrediction
from ooc_jax.experiments.output_prediction._config import parse_thresholds
from ooc_jax.experiments.output_prediction._labels import Decision
from ooc_jax.experiments.output_prediction._labels import Readout
from ooc_jax.experiments.output_prediction._labels import labels_table
from ooc_jax.experiments.output_prediction._labels import null_directions
from ooc_jax.experiments.output_prediction._labels import readouts_of
from ooc_jax.results import tables


def summarise(found: OutputTables, config: OutputPrediction) -> Summary:
  """Labels, sweeps, nulls and `summary.json`, of all layers together."""
  readouts = readouts_of(found, config)
  output, *others = readouts
  made: dict[str, pa.Table] = {}
  for readout in readouts:
    name = readout.name
    made[tables.name_of('sweep', name)] = tables.OUTPUT_SWEEP.build_rows(
        _sweep(readout, config)
    )
    made[tables.name_of('null', name)] = null_directions(found, name, config)
  made[tables.LABELS_NAME] = labels_table(readouts, config.rule)
  features = found.features
  summary = {
      'experiment': 'output_prediction',
      'num_layers': found.num_layers,
      **_readout_summary(output, features, config),
      'sides': {
          readout.name: {
              **_readout_summary(readout, features, config),
              'agreement': _agreement(readout, output, features),
          }
          for readout in others
      },
      'examples': _examples(features, output.coherences, config.examples),
  }
  return Summary(made, results.plain(summary))


def _sweep(readout: Readout, config: OutputPrediction) -> list[dict[str, Any]]:
  """All rules and levels at the run's k, and its own level at the others."""
  decision = readout.decision
  rows = [
      {**row, 'k': config.k}
      for row in measures.sweep(decision.coherences, decision.nulls)
  ]
  kind, value = parse_thresholds(config.thresholds)
  for k, other in readout.by_size.items():
    rows += [
        {**row, 'k': k}
        for row in measures.sweep(
            other.coherences,
            other.nulls,
            alphas=(config.alpha,) if kind == 'null' else (),
            quantiles=(value,) if kind == 'quantile' else (),
        )
    ]
  return rows


def _readout_summary(
    readout: Readout,
    features: Mapping[int, pa.Table],
    config: OutputPrediction,
) -> dict[str, Any]:
  """Shares and medians of every layer and of all, and the shape over depth."""
  prefix = tables.prefix_of(readout.name)
  layers: list[dict[str, Any]] = [
      {
          'layer': layer,
          'weights': tables.weights_of(table),
          **_row(readout, [layer], config),
          'undertrained': _undertrained([table], prefix),
          'thresholds': readout.thresholds[layer].as_dict(),
      }
      for layer, table in features.items()
  ]
  first = next(iter(readout.thresholds.values()))
  return {
      'layers': layers,
      'total': {
          **_row(readout, list(features), config),
          'undertrained': _undertrained(features.values(), prefix),
      },
      'thresholds': first.as_dict(),
      'shape': share_shape(
          [row['layer'] for row in layers],
          [row['semantic']['share'] for row in layers],
          [row['features'] for row in layers],
      ),
  }


def _null_labels(
    nulls: Mapping[int, measures.Coherence], decision: Decision, rule: str
) -> np.ndarray:
  """Labels of random directions; those of several layers count once."""
  distinct = {
      id(null): (null, decision.thresholds[layer])
      for layer, null in nulls.items()
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
    readout: Readout, layers: Sequence[int], config: OutputPrediction
) -> dict[str, Any]:
  """What is said of a layer, or of several together."""
  decision, rule = readout.decision, config.rule
  labels = _joined(decision.labels, layers)
  passes = _passes(decision, layers)
  pooled = measures.Coherence.concatenate(
      [decision.coherences[x] for x in layers]
  )
  error = _threshold_error(decision, layers)
  null_labels = _null_labels(
      {x: decision.nulls[x] for x in layers}, decision, rule
  )
  excess = measures.excess_interval(labels, null_labels, error=error)
  return {
      'features': int(labels.size),
      'semantic': measures.share_interval(labels, error=error or 0.0)._asdict(),
      'threshold_error': error,
      'null_share': float(null_labels.mean()),
      'null_directions': int(null_labels.size),
      'excess': excess.share,
      'excess_low': excess.low,
      'excess_high': excess.high,
      'nulls': _both_nulls(readout, layers, config),
      'measures': {name: float(x.mean()) for name, x in passes.items()},
      'found': _found(labels, passes),
      'ends': {
          end: float(
              measures.vote(
                  passes, [m for m in pooled.measures if m.end == end], rule
              ).mean()
          )
          for end in dict.fromkeys(m.end for m in pooled.measures)
      },
      'stability': _stability(readout, layers),
      'median': {name: float(np.median(x)) for name, x in pooled.items()},
  }


def _joined(
    by_layer: Mapping[int, np.ndarray], layers: Sequence[int]
) -> np.ndarray:
  return np.concatenate([by_layer[x] for x in layers])


def _passes(decision: Decision, layers: Sequence[int]) -> dict[str, np.ndarray]:
  """Measure -> which features of the layers pass it."""
  found = [
      measures.passes_by_measure(decision.coherences[x], decision.thresholds[x])
      for x in layers
  ]
  return {name: np.concatenate([x[name] for x in found]) for name in found[0]}


def _threshold_error(decision: Decision, layers: Sequence[int]) -> float | None:
  """Of the share of these layers; layers of one null err together."""
  if decision.resampled is None:
    return None
  own = [decision.resampled[x] for x in layers]
  sizes = np.array([x.rates.size for x in own])
  shares = sizes @ np.stack([x.shares for x in own]) / sizes.sum()
  return float(shares.std())


def _both_nulls(
    readout: Readout, layers: Sequence[int], config: OutputPrediction
) -> dict[str, dict[str, Any]]:
  """What each null says: of it by the run's thresholds, and by its own."""
  found = {}
  for name, decision in zip(
      (config.null, *({'isotropic', 'matched'} - {config.null})),
      (readout.decision, readout.other),
      strict=True,
  ):
    nulls = {x: decision.nulls[x] for x in layers}
    chance = _null_labels(nulls, readout.decision, config.rule)
    smallest = min(null.size for null in nulls.values())
    semantic = None
    if config.alpha * smallest >= 1:
      semantic = float(_joined(decision.null_labels, layers).mean())
    found[name] = {
        'directions': int(chance.size),
        'share': float(chance.mean()),
        'semantic': semantic,
    }
  return found


def _stability(
    readout: Readout, layers: Sequence[int]
) -> dict[str, float | None]:
  """Mean share of nulls, and of numbers of top tokens, with the same label."""
  decision = readout.decision
  labels = _joined(decision.labels, layers)
  null = k = None
  if decision.resampled is not None:
    rates = np.concatenate([decision.resampled[x].rates for x in layers])
    null = float(np.where(labels, rates, 1 - rates).mean())
  if readout.by_size:
    k = float(
        np.mean([
            _joined(x.labels, layers) == labels
            for x in readout.by_size.values()
        ])
    )
  return {'null': null, 'k': k}


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
      _joined(x.decision.labels, list(features)) for x in (readout, output)
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
  """The features of lowest mean rank in the measures of the first end."""
  pooled = measures.Coherence.concatenate(list(coherences.values()))
  end = pooled.measures[0].end
  own = [measure for measure in pooled.measures if measure.end == end]
  ranks = np.zeros(pooled.size)
  for measure in own:
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
    tokens = table[f'{end}_tokens'][feature].as_py()
    # Many features predict the same word: it is shown once.
    word = tokens[0].strip().casefold()
    if word in shown:
      continue
    shown.add(word)
    chosen.append({
        'layer': layer,
        'feature': feature,
        **{m.name: table[m.name][feature].as_py() for m in own},
        'tokens': tokens,
    })
  return chosen
