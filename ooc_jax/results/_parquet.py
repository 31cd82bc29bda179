"""Parquet files: written atomically, damage found on reading."""

from collections.abc import Generator
import contextlib
import pathlib
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from ooc_jax._errors import InputError
from ooc_jax._files import atomic_file
from ooc_jax._files import refusal
from ooc_jax._text import printable


def write_parquet(path: pathlib.Path, table: pa.Table) -> None:
  """Writes, or replaces, `path`, whole or not at all; see `atomic_file`."""
  with atomic_file(path) as file:
    # With checksums a reader finds a damaged page instead of wrong numbers.
    pq.write_table(table, file, compression='zstd', write_page_checksum=True)


def read_parquet(path: pathlib.Path) -> pa.Table:
  """Reads a table and verifies its checksums.

  Raises:
    InputError: It is missing, unreadable, damaged or no parquet file.
  """
  with _reading(path) as file:
    return pq.ParquetFile(file, page_checksum_verification=True).read()


class StoredTable:
  """A table in a file, of which each column is read when it is asked for.

  Attributes:
    schema: Of the file, with its metadata.
    column_names: In their order.
  """

  def __init__(self, path: pathlib.Path):
    """Reads the schema; `InputError` as `read_parquet`."""
    self._path = path
    with _reading(path) as file:
      self.schema = pq.read_schema(file)
    self.column_names = self.schema.names

  def __getitem__(self, name: str) -> pa.ChunkedArray:
    """A column; `InputError` if it is damaged, `KeyError` if not there."""
    if name not in self.column_names:
      raise KeyError(name)
    with _reading(self._path) as file:
      source = pq.ParquetFile(file, page_checksum_verification=True)
      return source.read([name])[name]


def check_parquet(path: pathlib.Path) -> None:
  """Checks the frame of a file, which one cut short does not have.

  Raises:
    InputError: It is missing, unreadable, cut or no parquet file.
  """
  with _reading(path) as file:
    pq.read_metadata(file)


@contextlib.contextmanager
def _reading(path: pathlib.Path) -> Generator[BinaryIO, None, None]:
  try:
    with open(path, 'rb') as file:
      yield file
  except FileNotFoundError as error:
    raise InputError(
        f'{printable(str(path))} is not there: finish the run first.'
    ) from error
  except (pa.ArrowException, OSError) as error:
    if isinstance(error, OSError) and error.errno is not None:
      raise InputError(refusal('read', path, error)) from error
    reason = printable(str(error).splitlines()[0])
    raise InputError(
        f'{printable(str(path))} is damaged or no parquet file ({reason}):'
        ' delete it and run again.'
    ) from error
