"""The features of a run as labels: in each readout, against its null."""

from collections.abc import Mapping, Sequence
import dataclasses

import numpy as np
import pyarrow as pa

from ooc_jax import measures
from ooc_jax.experiments.output_prediction._compute import OutputTables
from ooc_jax.experiments.output_prediction._config import OutputPrediction
from ooc_jax.experiments.output_prediction._config import parse_thresholds
from ooc_jax.results import tables

MEASURES = tuple(measure.name for measure in measures.MEASURES)


@dataclasses.dataclass(frozen=True)
class Readout:
  """All layers of a run in one readout, with what they are compared with.

  Attributes:
    name: One of `tables.READOUTS`.
    coherences: Layer -> the measures of its features.
    nulls: Layer -> those of its random directions.
    thresholds: Layer -> its cut-offs.
  """

  name: str
  coherences: Mapping[int, measures.Coherence]
  nulls: Mapping[int, measures.Coherence]
  thresholds: Mapping[int, measures.Thresholds]


def readouts_of(found: OutputTables, config: OutputPrediction) -> list[Readout]:
  """Those that every layer has, `output` first, with their thresholds."""
  every = pa.concat_tables(found.directions.values())
  return [
      _readout(name, found, every, config)
      for name in tables.READOUTS
      if all(
          tables.prefix_of(name) + 'top_ids' in table.column_names
          for table in found.features.values()
      )
  ]


def _readout(
    name: str,
    found: OutputTables,
    directions: pa.Table,
    config: OutputPrediction,
) -> Readout:
  prefix = tables.prefix_of(name)
  coherences = {
      layer: _coherence_of(table, prefix)
      for layer, table in found.features.items()
  }
  own = directions_of(directions, name)
  groups = {
      layer: _coherence_of(_where(own, 'layer', layer))
      for layer in own['layer'].unique().to_pylist()
  }
  null_of = {x: x if x in groups else tables.ALL_LAYERS for x in coherences}
  kind, value = parse_thresholds(config.thresholds)
  if kind == 'null':
    cuts = {
        layer: measures.null_thresholds(x, config.alpha, config.rule)
        for layer, x in groups.items()
    }
    thresholds = {x: cuts[group] for x, group in null_of.items()}
  else:
    if kind == 'quantile':
      value = measures.quantile_thresholds(list(coherences.values()), value)
    thresholds = dict.fromkeys(coherences, value)
  nulls = {x: groups[group] for x, group in null_of.items()}
  return Readout(name, coherences, nulls, thresholds)


def directions_of(directions: pa.Table, readout: str) -> pa.Table:
  """The random directions of one readout."""
  return _where(directions, 'side', readout)


def _where(table: pa.Table, column: str, value: str | int) -> pa.Table:
  return table.filter(pa.array(np.asarray(table[column]) == value))


def _coherence_of(table: pa.Table, prefix: str = '') -> measures.Coherence:
  """The measures of a layer's features, or of random directions."""
  return measures.Coherence(
      **{name: table[prefix + name].to_numpy() for name in MEASURES}
  )


def labels_table(readouts: Sequence[Readout], rule: str) -> pa.Table:
  """One row a feature of every layer, in every readout."""
  sizes = {x: c.size for x, c in readouts[0].coherences.items()}
  columns = {
      'layer': np.repeat(list(sizes), list(sizes.values())),
      'feature': np.concatenate([np.arange(n) for n in sizes.values()]),
  }
  for readout in readouts:
    columns |= _label_columns(readout, rule)
  return tables.labels([x.name for x in readouts]).build(columns)


def _label_columns(readout: Readout, rule: str) -> dict[str, np.ndarray]:
  """One entry a feature of all layers: labels, passes, p and q values."""
  columns: dict[str, list[np.ndarray]] = {}
  for layer, coherence in readout.coherences.items():
    cuts, null = readout.thresholds[layer], readout.nulls[layer]
    passes = measures.passes_by_measure(coherence, cuts)
    rows = {
        'semantic': measures.is_semantic(coherence, cuts, rule),
        **{f'{name}_passes': x for name, x in passes.items()},
        **measures.found_by_measures(passes),
        'p_value': measures.rule_p_values(coherence, null, rule),
    }
    for name, values in rows.items():
      columns.setdefault(name, []).append(values)
  joined = {name: np.concatenate(x) for name, x in columns.items()}
  joined['q_value'] = measures.q_values(joined['p_value'])
  prefix = tables.prefix_of(readout.name)
  return {prefix + name: x for name, x in joined.items()}
