"""The features of a run as labels: from each side, against its null."""

from collections.abc import Mapping, Sequence
import dataclasses

from _study import Study
from _study import parse_thresholds
import numpy as np
import pyarrow as pa

from ooc_jax import measures

ALL_LAYERS = -1  # The layer of a null that is the same at every layer.
MEASURES = tuple(m.name for m in measures.MEASURES)


def prefix_of(side: str) -> str:
  """Of the columns of a side; the output side has plain names."""
  return '' if side == 'output' else f'{side}_'


def coherence_of(table: pa.Table, prefix: str = '') -> measures.Coherence:
  """The three measures of a layer's features, or of random directions."""
  return measures.Coherence(
      **{name: table[prefix + name].to_numpy() for name in MEASURES}
  )


def null_table(
    side: str, layer: int, coherence: measures.Coherence
) -> pa.Table:
  """One row a random direction."""
  size = coherence.size
  return pa.table({
      'side': [side] * size,
      'layer': np.full(size, layer, np.int32),
      **coherence,
  })


@dataclasses.dataclass(frozen=True)
class Side:
  """All layers of a run from one side, with what they are compared with.

  Attributes:
    name: One of `_sides.SIDES`.
    coherences: Layer -> the measures of its features.
    nulls: Layer -> those of its random directions.
    thresholds: Layer -> its cut-offs.
  """

  name: str
  coherences: Mapping[int, measures.Coherence]
  nulls: Mapping[int, measures.Coherence]
  thresholds: Mapping[int, measures.Thresholds]


def of_side(null: pa.Table, side: str) -> pa.Table:
  """The rows of `null_table` that are of a side."""
  return _where(null, 'side', side)


def _where(table: pa.Table, column: str, value: str | int) -> pa.Table:
  return table.filter(pa.array(np.asarray(table[column]) == value))


def read_side(
    name: str,
    tables: Mapping[int, pa.Table],
    null: pa.Table,
    study: Study,
) -> Side:
  """Takes a side out of the tables, and settles its thresholds.

  Args:
    name: Of the side.
    tables: Layer -> its features.
    null: Of `null_table`, any sides and layers.
    study: The settings.
  """
  coherences = {
      layer: coherence_of(table, prefix_of(name))
      for layer, table in tables.items()
  }
  ours = of_side(null, name)
  groups = {
      layer: coherence_of(_where(ours, 'layer', layer))
      for layer in ours['layer'].unique().to_pylist()
  }
  null_of = {x: x if x in groups else ALL_LAYERS for x in coherences}
  nulls = {x: groups[own] for x, own in null_of.items()}
  kind, value = parse_thresholds(study.thresholds)
  if kind == 'null':
    found = {
        layer: measures.null_thresholds(x, study.alpha, study.rule)
        for layer, x in groups.items()
    }
    thresholds = {x: found[own] for x, own in null_of.items()}
  else:
    if kind == 'quantile':
      value = measures.quantile_thresholds(list(coherences.values()), value)
    thresholds = dict.fromkeys(coherences, value)
  return Side(name, coherences, nulls, thresholds)


def label_columns(side: Side, rule: str) -> dict[str, np.ndarray]:
  """One entry a feature of all layers: passes, labels, p and q values."""
  columns: dict[str, list[np.ndarray]] = {}
  for layer, coherence in side.coherences.items():
    cuts = side.thresholds[layer]
    passes = measures.passes_by_measure(coherence, cuts)
    rows = {
        'semantic': measures.is_semantic(coherence, cuts, rule),
        **{f'{name}_passes': x for name, x in passes.items()},
        'p_value': measures.rule_p_values(coherence, side.nulls[layer], rule),
    }
    for name, values in rows.items():
      columns.setdefault(name, []).append(values)
  joined = {name: np.concatenate(x) for name, x in columns.items()}
  joined['q_value'] = measures.q_values(joined['p_value'])
  return {prefix_of(side.name) + name: x for name, x in joined.items()}


def labels_table(sides: Sequence[Side], rule: str) -> pa.Table:
  """One row a feature of every layer, from every side."""
  sizes = {x: c.size for x, c in sides[0].coherences.items()}
  columns = {
      'layer': np.repeat(
          np.asarray(list(sizes), np.int32), list(sizes.values())
      ),
      'feature': np.concatenate(
          [np.arange(n, dtype=np.int32) for n in sizes.values()]
      ),
  }
  for side in sides:
    columns |= label_columns(side, rule)
  return pa.table(columns)
