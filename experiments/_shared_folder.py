"""The results folder of a run, which all of its processes may ask."""

from collections.abc import Callable, Iterator, Mapping
import contextlib
import pathlib
from typing import Any

import _processes
import pyarrow as pa

from ooc_jax import results


class SharedFolder:
  """A results folder that the first process reads and writes.

  All processes call the same methods in the same order; the others are told
  what the first one found, errors too.
  """

  def __init__(self, folder: results.ResultsFolder | None):
    """For `open_folder`; a folder in the first process, None in the others."""
    self._folder = folder

  def ask(self, question: Callable[[results.ResultsFolder], Any]) -> Any:
    """The answer, JSON values, that the folder gives in the first process."""
    return _processes.told(lambda: question(self._mine))

  @property
  def _mine(self) -> results.ResultsFolder:
    assert self._folder is not None  # Only the first process is asked.
    return self._folder

  def has_layer(self, layer: int) -> bool:
    return self.ask(lambda folder: folder.has_layer(layer))

  def has_table(self, name: str) -> bool:
    return self.ask(lambda folder: folder.has_table(name))

  def write_layer(self, layer: int, table: pa.Table) -> None:
    self.ask(lambda folder: folder.write_layer(layer, table))

  def write_table(self, name: str, table: pa.Table) -> None:
    self.ask(lambda folder: folder.write_table(name, table))


@contextlib.contextmanager
def open_folder(
    path: pathlib.Path,
    settings: Mapping[str, Any],
    *,
    provenance: Mapping[str, Any],
    weights: Callable[[], Mapping[str, str]] = dict,
) -> Iterator[SharedFolder]:
  """The folder of a run; see `ResultsFolder.open`.

  Args:
    path: In the first process; the others open none.
    settings: Of the run.
    provenance: Versions and the like.
    weights: Name -> SHA-256; called in the first process only.

  Raises:
    InputError: The first process cannot open it.
  """
  with contextlib.ExitStack() as stack:
    opened: list[results.ResultsFolder] = []

    def open_it() -> None:
      folder = results.ResultsFolder.open(
          path, settings, provenance=provenance, weights=weights()
      )
      opened.append(stack.enter_context(folder))

    _processes.told(open_it)
    yield SharedFolder(opened[0] if opened else None)
