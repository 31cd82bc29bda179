"""The folder a run leaves: written by one process, resumed, never mixed."""

from collections.abc import Mapping
import contextlib
import os
import pathlib
import re
import typing
from typing import Any

from absl import logging
import pyarrow as pa

from ooc_jax._errors import InputError
from ooc_jax._files import make_folder
from ooc_jax._files import read_json
from ooc_jax._files import refusal
from ooc_jax._files import sync_folder
from ooc_jax._files import temporaries
from ooc_jax._files import write_json
from ooc_jax._folders import lock_folder
from ooc_jax._text import printable
from ooc_jax.results import _config
from ooc_jax.results._figure import write_figure
from ooc_jax.results._parquet import StoredTable
from ooc_jax.results._parquet import check_parquet
from ooc_jax.results._parquet import read_parquet
from ooc_jax.results._parquet import write_parquet
from ooc_jax.results._summary import SCHEMA_VERSION

if typing.TYPE_CHECKING:
  import matplotlib.figure

_FEATURES, _FIGURES = 'features', 'figures'
_SUMMARY = 'summary.json'
_LAYER = re.compile(r'layer=([0-9]{2,})\.parquet')
_NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9_.=+-]{0,99}')


class ResultsFolder:
  """Results of one run, in a folder that only one process writes to.

  Every file appears whole or not at all, so a process may be killed at any
  moment; opening the folder again with the same settings resumes it, and the
  files at the end are the same bytes as those of an uninterrupted run.

  Attributes:
    path: The folder.
    config: What its `config.json` records.
  """

  def __init__(
      self,
      path: pathlib.Path,
      config: Mapping[str, Any],
      lock: contextlib.ExitStack | None,
  ):
    """For `open` and `view`, which are the ways to get one."""
    self.path = path
    self.config = config
    self._lock = lock

  @classmethod
  def open(
      cls,
      path: str | os.PathLike[str],
      settings: Mapping[str, Any],
      *,
      provenance: Mapping[str, Any],
      weights: Mapping[str, str] | None = None,
  ) -> 'ResultsFolder':
    """Creates a results folder, or resumes the one of the same run.

    The folder is locked until `close` or the end of the process. On network
    file systems the lock may hold on one machine only.

    Args:
      path: The folder. Its parents are created.
      settings: JSON values that define the run.
      provenance: Versions and the like. Recorded on creation; others on resume
        are logged, and the recorded ones kept.
      weights: Name of every weight file read -> its SHA-256.

    Returns:
      The folder, a context manager that closes itself.

    Raises:
      InputError: The folder has another run, schema or weights; is not empty
        and not ours; is in use; has a damaged layer; cannot be written.
      TypeError: A setting is no JSON value.
    """
    path = pathlib.Path(path)
    config = _config.new_config(settings, weights or {}, provenance)
    with contextlib.ExitStack() as stack:
      try:
        path.mkdir(parents=True, exist_ok=True)
        _lock(path, stack)
        folder = cls(path, _claim(path, config), stack)
        for layer in folder.layers():
          folder.has_layer(layer)  # Refuses a damaged one now, not at the end.
      except OSError as error:
        raise InputError(refusal('use', path, error)) from error
      folder._lock = stack.pop_all()
    return folder

  @classmethod
  def view(cls, path: str | os.PathLike[str]) -> 'ResultsFolder':
    """Opens a results folder to read it: no lock, and writing is an error.

    Args:
      path: The folder; a run may be writing to it.

    Raises:
      InputError: It is not a results folder of this schema.
    """
    path = pathlib.Path(path)
    return cls(path, _config.read_config(path), None)

  def close(self) -> None:
    """Gives the lock back. Reading goes on working, writing does not."""
    if self._lock is not None:
      self._lock.close()
      self._lock = None

  def __enter__(self) -> 'ResultsFolder':
    return self

  def __exit__(self, *exc_info: object) -> None:
    self.close()

  def layers(self) -> list[int]:
    """The layers that are done, in order."""
    folder = self.path / _FEATURES
    try:
      names = set(os.listdir(folder))
    except FileNotFoundError:
      return []
    except OSError as error:
      raise InputError(refusal('read', folder, error)) from error
    layers = [int(m[1]) for name in names if (m := _LAYER.fullmatch(name))]
    return sorted(x for x in layers if _layer_file(x) in names)

  def has_layer(self, layer: int) -> bool:
    """Whether a layer is done; `InputError` if its file is cut short."""
    return _is_whole(self.path / _FEATURES / _layer_file(layer))

  def write_layer(self, layer: int, table: pa.Table) -> None:
    """Writes, or replaces, the table of the features of one layer."""
    write_parquet(self._place(_layer_file(layer), _FEATURES), table)

  def read_layer(self, layer: int) -> pa.Table:
    """Reads the table of one layer; `InputError` if missing or damaged."""
    return read_parquet(self.path / _FEATURES / _layer_file(layer))

  def stored_layer(self, layer: int) -> StoredTable:
    """The table of one layer, to read column by column."""
    return StoredTable(self.path / _FEATURES / _layer_file(layer))

  def has_table(self, name: str) -> bool:
    """Whether `NAME.parquet` is there; `InputError` if it is cut short."""
    return _is_whole(self.path / _table_file(name))

  def write_table(self, name: str, table: pa.Table) -> None:
    """Writes, or replaces, `NAME.parquet`."""
    write_parquet(self._place(_table_file(name)), table)

  def read_table(self, name: str) -> pa.Table:
    """Reads `NAME.parquet`; `InputError` if missing or damaged."""
    return read_parquet(self.path / _table_file(name))

  def stored_table(self, name: str) -> StoredTable:
    """`NAME.parquet`, to read column by column."""
    return StoredTable(self.path / _table_file(name))

  def write_summary(self, summary: Mapping[str, Any]) -> None:
    """Writes, or replaces, `summary.json`.

    Args:
      summary: A `Summary`; `schema` is added. NaN becomes null.

    Raises:
      InputError: It cannot be written.
      TypeError: Something in it is no JSON value.
    """
    write_json(self._place(_SUMMARY), {**summary, 'schema': SCHEMA_VERSION})

  def read_summary(self) -> dict[str, Any]:
    """Reads `summary.json`: a `Summary`, as far as nobody edited it by hand.

    Raises:
      InputError: It is missing, damaged, or of another schema.
    """
    path = self.path / _SUMMARY
    if not os.path.lexists(path):
      raise InputError(
          f'{printable(str(path))} is not there: finish the run first.'
      )
    summary = read_json(path)
    if not isinstance(summary, dict) or summary.get('schema') != SCHEMA_VERSION:
      raise InputError(
          f'{printable(str(path))} is no summary of schema {SCHEMA_VERSION}:'
          ' delete it and run again.'
      )
    return summary

  def write_figure(self, name: str, figure: 'matplotlib.figure.Figure') -> None:
    """Writes `figures/NAME.png` and `.pdf`, the same bytes every time."""
    write_figure(self._place(_checked(name), _FIGURES), figure)

  def _place(self, name: str, folder: str = '') -> pathlib.Path:
    """Where to write `name`; makes the folder in the results folder."""
    if self._lock is None:
      raise RuntimeError(f'{self.path} is open for reading only.')
    if folder:
      make_folder(self.path / folder)
    return self.path / folder / name


def _lock(path: pathlib.Path, stack: contextlib.ExitStack) -> None:
  """Locks a folder until the stack is closed."""
  try:
    lock = lock_folder(path)
  except BlockingIOError as error:
    raise InputError(
        f'Another process is writing to {printable(str(path))}: wait for it, or'
        ' give another --out.'
    ) from error
  if lock is not None:
    stack.callback(os.close, lock)
    return
  logging.warning(  # A run is worth more than the guard.
      '%s is on a file system without locks: do not run twice at once.',
      printable(str(path)),
  )


def _claim(path: pathlib.Path, config: Mapping[str, Any]) -> Mapping[str, Any]:
  """Makes an empty folder ours, or checks that it has been of the same run.

  Also removes what a killed run left half written.

  Args:
    path: The folder, locked.
    config: The `new_config` of this run.

  Returns:
    The config that is recorded in the folder.

  Raises:
    InputError: It has another run, or files that are not ours.
    OSError: It cannot be listed, or a leftover cannot be removed.
  """
  left = temporaries(path)
  recorded = None
  if os.path.lexists(path / _config.CONFIG):
    recorded = _config.read_config(path)
    _config.check_same_run(path, config, recorded)
  elif set(os.listdir(path)) - set(map(os.path.basename, left)):
    raise InputError(
        f'{printable(str(path))} is not empty and not a results folder: give'
        ' another --out.'
    )
  for folder in (_FEATURES, _FIGURES):
    left += temporaries(path / folder)
  for temporary in left:
    os.unlink(temporary)
  if recorded is not None:
    return recorded
  write_json(path / _config.CONFIG, config)
  with contextlib.suppress(OSError):  # The parent may not be ours to read.
    sync_folder(path.parent)
  return config


def _is_whole(path: pathlib.Path) -> bool:
  if not os.path.lexists(path):
    return False
  check_parquet(path)
  return True


def _checked(name: str) -> str:
  if not _NAME.fullmatch(name):
    raise InputError(
        f"'{printable(name)}' cannot name a file of results: use up to 100"
        ' letters, digits and _.=+-, the first a letter or a digit.'
    )
  return name


def _table_file(name: str) -> str:
  return _checked(name) + '.parquet'


def _layer_file(layer: int) -> str:
  if layer < 0:
    raise ValueError(f'layer={layer} is negative.')
  return f'layer={layer:02d}.parquet'
