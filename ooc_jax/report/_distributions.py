"""The three measures of every feature, beside those of random directions."""

from collections.abc import Mapping
import dataclasses
import os
from typing import Any

import numpy as np
import pyarrow as pa

from ooc_jax.report._reading import MEASURES
from ooc_jax.report._reading import OUTPUT
from ooc_jax.report._reading import column
from ooc_jax.report._reading import has_table
from ooc_jax.report._reading import name_of
from ooc_jax.report._reading import reading
from ooc_jax.report._reading import side_of
from ooc_jax.report._reading import table_of
from ooc_jax.report._style import number


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class LayerMeasures:
  """One layer.

  Attributes:
    layer: Its number.
    features: Measure -> its value for each of the F features, [F].
    null: Measure -> its value for each random direction, [M]; empty where the
      run had no null.
    thresholds: Measure -> what separates coherent from not; NaN where the
      measure does not decide.
  """

  layer: int
  features: Mapping[str, np.ndarray]
  null: Mapping[str, np.ndarray]
  thresholds: Mapping[str, float]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class MeasureDistributions:
  """One run: its name, and its layers, rising."""

  label: str
  layers: tuple[LayerMeasures, ...]


def measure_distributions(
    folder: str | os.PathLike[str],
    label: str | None = None,
    *,
    side: str = OUTPUT,
) -> MeasureDistributions:
  """Reads the measures of a finished run.

  The null is `null.parquet` (of another side `null_SIDE.parquet`), one row a
  random direction, with `layer` and the measures; rows of layer -1 stand for
  every layer. Thresholds are those of the row of the layer in the summary, or
  of the run.

  Args:
    folder: A results folder.
    label: See `depth_curve`.
    side: Likewise.

  Returns:
    The measures.

  Raises:
    InputError: Not a results folder, not finished, or a damaged file.
  """
  with reading(folder) as results:
    summary = side_of(results, side)
    name = table_of(side, 'null')
    null = results.read_table(name) if has_table(results, name) else None
    rows = sorted(summary['layers'], key=lambda row: row['layer'])
    layers = tuple(
        LayerMeasures(
            layer=int(row['layer']),
            features=_columns(results.read_layer(int(row['layer'])), side),
            null=_null_of(null, int(row['layer'])),
            thresholds=_thresholds(row, summary),
        )
        for row in rows
    )
    if not layers:
      raise ValueError('no layer')
    return MeasureDistributions(
        label=name_of(results, label, side), layers=layers
    )


def _columns(table: pa.Table, side: str = OUTPUT) -> dict[str, np.ndarray]:
  return {
      name: table[column(side, name)].to_numpy().astype(np.float64)
      for name in MEASURES
  }


def _null_of(table: pa.Table | None, layer: int) -> dict[str, np.ndarray]:
  if table is None:
    return {name: np.empty(0) for name in MEASURES}
  where = table['layer'].to_numpy()
  keep = (where == layer) | (where == -1)
  return {name: values[keep] for name, values in _columns(table).items()}


def _thresholds(
    row: Mapping[str, Any], summary: Mapping[str, Any]
) -> dict[str, float]:
  given = row.get('thresholds') or summary['thresholds']
  return {name: number(given.get(name)) for name in MEASURES}
