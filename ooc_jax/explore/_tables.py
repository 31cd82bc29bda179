"""SQL over the Parquet files of a study, by DuckDB, without an import step."""

from collections.abc import Iterable, Mapping, Sequence
import functools
import pathlib
import threading
from typing import Any

import duckdb
import numpy as np

from ooc_jax._text import printable
from ooc_jax.explore._library import Run
from ooc_jax.explore._library import Study

# Of results that have any number of features, what DuckDB may hold.
_MEMORY = '128MB'
_CONTEXTS = ('query_pre', 'query_post', 'key_pre', 'key_post')
_LOCK = threading.Lock()


class Damaged(Exception):
  """A file of a results folder cannot be read; a sentence that says so."""


@functools.cache
def _database() -> duckdb.DuckDBPyConnection:
  database = duckdb.connect()
  database.execute('SET threads = 2')
  database.execute(f"SET memory_limit = '{_MEMORY}'")
  # Nothing is installed or loaded over a network.
  database.execute('SET autoinstall_known_extensions = false')
  database.execute('SET autoload_known_extensions = false')
  database.execute('SET parquet_metadata_cache = true')
  # The system keeps files in memory already, and gives that back.
  database.execute('SET enable_external_file_cache = false')
  return database


def cursor() -> duckdb.DuckDBPyConnection:
  """A connection of its own to the one database of this process."""
  with _LOCK:
    return _database().cursor()


def text(value: str) -> str:
  """A literal of SQL."""
  return "'" + value.replace("'", "''") + "'"


def name(column: str) -> str:
  """A quoted identifier of SQL."""
  return '"' + column.replace('"', '""') + '"'


def source(path: pathlib.Path) -> str:
  """The rows of a file, in SQL."""
  return f'read_parquet({text(_literal(path))})'


def _literal(path: pathlib.Path) -> str:
  # A file's name is no pattern: a character in brackets is that character.
  return ''.join(f'[{c}]' if c in '*?[' else c for c in str(path))


def by_layer(files: Mapping[int, pathlib.Path], columns: Sequence[str]) -> str:
  """A query for columns of the files of several layers, with their layer."""
  shown = ', '.join(map(name, columns))
  return ' UNION ALL '.join(
      f'SELECT {layer} AS layer, {shown} FROM {source(path)}'
      for layer, path in files.items()
  )


def rows(query: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
  """The rows of a query.

  Raises:
    Damaged: A file that it reads cannot be read.
  """
  try:
    found = cursor().execute(query, list(parameters))
    names = [x[0] for x in found.description or ()]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]
  except duckdb.Error as error:
    raise Damaged(_reason(error)) from error


def arrays(query: str) -> dict[str, np.ndarray]:
  """The columns of a query; null is NaN in numbers. Raises as `rows`."""
  try:
    found = cursor().execute(query).fetchnumpy()
  except duckdb.Error as error:
    raise Damaged(_reason(error)) from error
  return {
      key: (
          np.ma.filled(value.astype(np.float64), np.nan)
          if isinstance(value, np.ma.MaskedArray) and value.dtype != object
          else np.asarray(value)
      )
      for key, value in found.items()
  }


def row(
    path: pathlib.Path, feature: int, wanted: Sequence[str] | None = None
) -> dict[str, Any] | None:
  """Those columns of a feature that its file has; None where it has no row.

  Args:
    path: A file with a row a feature.
    feature: Which.
    wanted: Columns; None is all.

  Raises:
    Damaged: The file cannot be read.
  """
  there = columns(path)  # Says so where the file is empty.
  shown = ', '.join(name(x) for x in there if wanted is None or x in wanted)
  found = rows(
      f'SELECT {shown or 1} FROM {source(path)} WHERE feature = {feature}'
  )
  return found[0] if found else None


def _reason(error: duckdb.Error) -> str:
  return printable(str(error).splitlines()[0], 300)


def columns(path: pathlib.Path | None) -> list[str]:
  """The columns of a file; none of one that is not there.

  Raises:
    Damaged: It is cut short, or no Parquet file.
  """
  if path is None:
    return []
  try:
    about = path.stat()
  except OSError as error:
    raise Damaged(f'{printable(path.name)} cannot be read.') from error
  if not about.st_size:
    raise Damaged(f'{printable(path.name)} is empty: delete it and run again.')
  try:
    return list(_columns(path, about.st_mtime_ns, about.st_size))
  except Damaged as error:
    raise Damaged(
        f'{printable(path.name)} is damaged ({error}): delete it and run again.'
    ) from error


@functools.lru_cache(512)
def _columns(path: pathlib.Path, changed: int, size: int) -> tuple[str, ...]:
  del changed, size  # Another value is another file.
  found = rows(f'DESCRIBE SELECT * FROM {source(path)}')
  return tuple(row['column_name'] for row in found)


def known(path: pathlib.Path | None, wanted: Iterable[str]) -> list[str]:
  """Those of `wanted` that a file has."""
  there = set(columns(path))
  return [x for x in wanted if x in there]


def whole(files: Mapping[int, pathlib.Path]) -> dict[int, pathlib.Path]:
  """The files that can be read."""
  found = {}
  for layer, path in files.items():
    try:
      columns(path)
    except Damaged:
      continue
    found[layer] = path
  return found


def count(path: pathlib.Path) -> int:
  """Rows of a file, from its footer."""
  query = f'SELECT num_rows FROM parquet_file_metadata({text(_literal(path))})'
  return int(rows(query)[0]['num_rows'])


def counts(files: Mapping[int, pathlib.Path]) -> dict[int, int]:
  """Layer -> rows of its file."""
  return {
      layer: _count(path, path.stat().st_mtime_ns)
      for layer, path in files.items()
  }


@functools.lru_cache(512)
def _count(path: pathlib.Path, changed: int) -> int:
  del changed  # Another value is another file.
  return count(path)


def attention_layers(study: Study) -> dict[int, int]:
  """Layer of attention -> layer by which experiment 1 knows its features."""
  if study.attention is None:
    return {}
  found = {}
  for layer, path in whole(study.attention.layer_files()).items():
    origin = _origin(path, path.stat().st_mtime_ns)
    if origin is not None:
      found[layer] = origin
  return found


@functools.lru_cache(512)
def _origin(path: pathlib.Path, changed: int) -> int | None:
  del changed  # Another value is another file.
  found = rows(
      'SELECT decode(value) AS value FROM'
      f' parquet_kv_metadata({text(_literal(path))})'
      " WHERE decode(key) = 'ooc_jax.dictionary_layer'"
  )
  value = found[0]['value'] if found else ''
  return int(value) if value.isdecimal() else None


def heads(study: Study, but: Sequence[str] = ()) -> list[dict[str, Any]]:
  """A row a head of every layer that is done, without some columns."""
  run = study.attention
  if run is None:
    return []
  path = run.file('heads')
  files = [] if path is None else [path]
  if path is None:  # A run that has not finished.
    own = [run.file(f'heads_{layer:02d}') for layer in run.layer_files()]
    files = [x for x in own if x is not None]
  return [
      row for x in files for row in _heads(x, x.stat().st_mtime_ns, tuple(but))
  ]


@functools.lru_cache(8)
def _heads(
    path: pathlib.Path, changed: int, but: tuple[str, ...]
) -> list[dict[str, Any]]:
  del changed  # Another value is another file.
  shown = ', '.join(name(x) for x in columns(path) if x not in but)
  return rows(f'SELECT {shown} FROM {source(path)} ORDER BY layer, head')


def validation_files(study: Study) -> dict[int, pathlib.Path]:
  """Layer -> what the model's own forward pass says of its features."""
  return {} if study.validation is None else study.validation.layer_files()


def participation(run: Run | None) -> tuple[pathlib.Path | None, list[str]]:
  """The table of how many heads a feature takes part in, and its columns."""
  path = None if run is None else run.file('participation')
  return path, known(path, [f'{x}_heads' for x in _CONTEXTS])
