"""Every table of the runs as comma-separated values, or a JSON object a row."""

from collections.abc import Iterator, Mapping, Sequence
import csv
import json
import math
import pathlib
import re
from typing import IO, Any

import numpy as np
import pyarrow as pa

from ooc_jax import explore
from ooc_jax import results
from ooc_jax.export._choice import Keys

_ROWS = 1024  # Held as Python values.
_LAYER_OF_HEADS = re.compile(r'heads_\d{2,}')


def write_tables(
    folder: pathlib.Path, study: explore.Study, keys: Keys | None, to: str
) -> None:
  """Writes `EXPERIMENT/TABLE.csv` or `.jsonl` of every table.

  The tables of the layers are one, `features`, with their layer; where features
  are chosen, tables with a row a feature have those alone.

  Args:
    folder: To write into.
    study: The runs.
    keys: The features, or None for all.
    to: 'csv' or 'jsonl'.

  Raises:
    InputError: A table is damaged.
  """
  for run in study.runs.values():
    place = folder / run.experiment
    place.mkdir()
    # As attention counts its layers; its features are those of another layer.
    origins = explore.attention_layers(study) if run is study.attention else {}
    stored = results.ResultsFolder.view(run.path)
    layers = stored.layers()
    names = [x for i in layers for x in stored.stored_layer(i).column_names]
    if layers:
      with _open(place / f'features.{to}') as file:
        write = _Writer(file, to, ('layer', *dict.fromkeys(names)))
        for layer in layers:
          table = stored.read_layer(layer)
          column = pa.array(np.full(len(table), layer, np.int32))
          write(_chosen(table.add_column(0, 'layer', column), keys, origins))
    for path in sorted(run.path.glob('*.parquet')):
      if run.file('heads') and _LAYER_OF_HEADS.fullmatch(path.stem):
        continue  # A part of that table.
      table = _chosen(stored.read_table(path.stem), keys, origins)
      with _open(place / f'{path.stem}.{to}') as file:
        _Writer(file, to, table.column_names)(table)


def _open(path: pathlib.Path) -> IO[str]:
  # ASCII: text that drives a terminal is escaped in JSON, and quoted in CSV.
  return open(path, 'w', encoding='utf-8', newline='')


def _chosen(
    table: pa.Table, keys: Keys | None, origins: Mapping[int, int]
) -> pa.Table:
  names = set(table.column_names)
  if keys is None or not {'layer', 'feature'} <= names:
    return table
  layer = np.asarray(table['layer'])
  for attention, own in sorted(origins.items()):
    layer = np.where(np.asarray(table['layer']) == attention, own, layer)
  feature = np.asarray(table['feature'])
  wanted = {(a << 32) + b for a, b in keys}
  codes = (layer.astype(np.int64) << 32) + feature
  return table.filter(pa.array(np.isin(codes, list(wanted))))


class _Writer:
  """Adds the rows of tables to a file; CSV begins with the columns of all."""

  def __init__(self, file: IO[str], to: str, columns: Sequence[str]):
    self._file, self._columns = file, columns
    self._csv = None
    if to == 'csv':
      self._csv = csv.writer(file, lineterminator='\n')
      self._csv.writerow(columns)

  def __call__(self, table: pa.Table) -> None:
    for row in _rows(table):
      if self._csv is not None:
        self._csv.writerow([_cell(row.get(x)) for x in self._columns])
      else:
        text = json.dumps(results.plain(row), allow_nan=False)
        self._file.write(f'{text}\n')


def _rows(table: pa.Table) -> Iterator[dict[str, Any]]:
  for batch in table.to_batches(max_chunksize=_ROWS):
    yield from batch.to_pylist()


def _cell(value: Any) -> Any:
  """Of CSV: a list is JSON, no value an empty cell, booleans as in JSON."""
  if isinstance(value, bool):
    return 'true' if value else 'false'
  if isinstance(value, (list, dict)):
    return json.dumps(results.plain(value), allow_nan=False)
  if isinstance(value, float) and not math.isfinite(value):
    return '' if math.isnan(value) else str(value)
  return '' if value is None else value
