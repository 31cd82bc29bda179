"""What every run shares: its model, dictionaries and folder."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
import contextlib
import dataclasses
import hashlib
import os
import pathlib
import platform
from typing import Any, TypeVar

import jax
from jax.sharding import Mesh
import numpy as np
import pyarrow as pa

from ooc_jax import _cache
from ooc_jax import checkpoints
from ooc_jax import circuits
from ooc_jax import results
from ooc_jax._errors import InputError
from ooc_jax._files import sha256_file
from ooc_jax.dictionaries import Dictionary
from ooc_jax.dictionaries import load_dictionary
from ooc_jax.experiments._processes import on_first_process
from ooc_jax.experiments._settings import SharedSettings
from ooc_jax.experiments._stages import stage
from ooc_jax.experiments._summary import Summary
from ooc_jax.model import Model

DEFAULT_MODEL = 'tiny-gemma2'
_PACKAGES = ('jax', 'jaxlib', 'flax', 'numpy', 'ooc_jax')
_C = TypeVar('_C', bound=SharedSettings)


@dataclasses.dataclass(frozen=True)
class Run:
  """Where a run left its folder, and its `summary.json`."""

  folder: pathlib.Path
  summary: Mapping[str, Any]


def open_model(
    model: str | os.PathLike[str] | Model | None,
    config: SharedSettings,
    parts: Sequence[str],
    mesh: Mesh | None,
) -> Model:
  """The model of a run: one whose tokens can be read.

  Args:
    model: What `load_model` takes, instead of what the settings name; or a
      loaded model.
    config: Of the experiment.
    parts: To read of the model.
    mesh: To spread it over.

  Raises:
    InputError: It cannot be read, or has no tokenizer.
  """
  source = model or config.model or DEFAULT_MODEL
  if not isinstance(source, Model):
    with stage('reading the model'):
      model = checkpoints.load_model(
          source, parts=tuple(parts), mesh=mesh, revision=config.revision
      )
  assert isinstance(model, Model)
  if model.tokenizer is None:
    name = 'The model' if source is model else source
    raise InputError(
        f'{name} has no tokenizer.json, and top tokens cannot be read'
        ' without it; put it beside the weights.'
    )
  return model


def named(
    config: _C,
    model: str | os.PathLike[str] | Model | None,
    dictionaries: Mapping[int, Dictionary] | None,
) -> _C:
  """The settings with the names of what was given in place of their own.

  They are written into the results, and figures call the run by them.
  """
  name = config.model
  if name is None and isinstance(model, Model):
    name = _name_of(model.files)
  elif name is None:
    name = str(model or DEFAULT_MODEL)
  if dictionaries is None:
    return dataclasses.replace(config, model=name)
  names = [dictionary.name for dictionary in dictionaries.values()]
  common = os.path.commonprefix(names).rstrip('/_-.') or names[0]
  return dataclasses.replace(config, model=name, dictionary=common)


def _name_of(files: Sequence[str]) -> str:
  """Of a loaded model: its repository, its folder, or that it was given."""
  if not files:
    return 'given'
  origin = checkpoints.hub_origin(files[0])
  return pathlib.Path(files[0]).parent.name if origin is None else origin.repo


def stored_dictionary(
    config: SharedSettings,
    source: str,
    layer: int,
    model: Model,
    mesh: Mesh | None,
) -> Dictionary:
  """A dictionary as the settings read it.

  Args:
    config: The settings.
    source: The dictionary that they name, or another of the same run, for which
      choices between readings of the first are not meant.
    layer: By which `load_dictionary` loads it.
    model: With the parts that it needs.
    mesh: To spread the features over.
  """
  options = config.dictionary_options if source == config.dictionary else {}
  return load_dictionary(
      source,
      model=model,
      layer=layer,
      mesh=mesh,
      nan_rows=config.nan_rows,
      **options,
  )


class StoredDictionaries(Mapping[int, Dictionary]):
  """The dictionaries that settings name, by layer; each is read when asked."""

  def __init__(
      self,
      config: SharedSettings,
      layers: Sequence[int],
      model: Model,
      mesh: Mesh | None,
  ):
    """Reads nothing yet.

    Args:
      config: Names them.
      layers: By which `load_dictionary` loads them.
      model: With the parts that they need.
      mesh: To spread the features over.
    """
    self._config, self._layers = config, tuple(layers)
    self._model, self._mesh = model, mesh

  def __getitem__(self, layer: int) -> Dictionary:
    if layer not in self._layers:
      raise KeyError(layer)
    return stored_dictionary(
        self._config, self._config.dictionary, layer, self._model, self._mesh
    )

  def __iter__(self) -> Iterator[int]:
    return iter(self._layers)

  def __len__(self) -> int:
    return len(self._layers)


def weight_hashes(
    model: Model, dictionaries: Mapping[int, Dictionary] | None
) -> Callable[[], Mapping[str, str]]:
  """What tells another model or dictionary apart, for `open_folder`.

  Files are told by their hashes, which only the first process has to find;
  arrays without files by theirs, for which all processes call this.

  Args:
    model: Of the run.
    dictionaries: Those that were given, whose files are recorded with their
      layer; None where the settings name them.
  """
  arrays = {} if model.files else {'arrays': array_hash(model.params)}
  for layer, dictionary in (dictionaries or {}).items():
    if not dictionary.files:
      arrays[f'dictionary/layer_{layer}'] = array_hash(dictionary)
  return lambda: {**file_hashes(model.files), **arrays}


def array_hash(tree: Any) -> str:
  """SHA-256 of all arrays of a pytree with their paths, types and shapes."""
  digest = hashlib.sha256()
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    array = np.ascontiguousarray(circuits.to_host(leaf))
    about = f'{jax.tree_util.keystr(path)} {array.dtype} {array.shape}'
    digest.update(about.encode())
    digest.update(array.view(np.uint8).reshape(-1).data)
  return digest.hexdigest()


def file_hashes(files: Sequence[str]) -> Mapping[str, str]:
  """SHA-256 of every file, by its name in its repository or folder."""
  if not files:
    return {}
  root = pathlib.Path(
      os.path.commonpath([str(pathlib.Path(f).parent) for f in files])
  )
  hashes = {}
  for file in map(pathlib.Path, files):
    origin = checkpoints.hub_origin(file)
    if origin is None:
      name = file.relative_to(root).as_posix()
    else:
      name = f'{origin.repo}@{origin.commit}/{origin.name}'
    hashes[name] = sha256_file(file)
  return hashes


def provenance() -> dict[str, str]:
  """Versions that the numbers depend on."""
  return {'python': platform.python_version(), **_cache.versions(_PACKAGES)}


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

    def answer() -> Any:
      assert self._folder is not None  # Only the first process is asked.
      return question(self._folder)

    return on_first_process(answer)

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
    path: str | os.PathLike[str],
    settings: Mapping[str, Any],
    weights: Callable[[], Mapping[str, str]] = dict,
    notes: Sequence[str] = (),
) -> Iterator[SharedFolder]:
  """The folder of a run; see `ResultsFolder.open`.

  Args:
    path: In the first process; the others open none.
    settings: Of the run.
    weights: Name -> SHA-256; called in the first process only.
    notes: Of the model, `Model.notes`; kept with the versions.

  Raises:
    InputError: The first process cannot open it.
  """
  with contextlib.ExitStack() as stack:
    opened: list[results.ResultsFolder] = []
    known = provenance() | ({'model': ' '.join(notes)} if notes else {})

    def open_it() -> None:
      folder = results.ResultsFolder.open(
          path, settings, provenance=known, weights=weights()
      )
      opened.append(stack.enter_context(folder))

    on_first_process(open_it)
    yield SharedFolder(opened[0] if opened else None)


def finish(
    folder: results.ResultsFolder,
    summary: Summary,
    figures: bool | Collection[str],
) -> dict[str, Any]:
  """Writes what follows from the tables, and draws it; in the first process.

  Args:
    folder: Of the run.
    summary: What is written.
    figures: Whether they are drawn, as PNG; or their formats.
  """
  written = summary.write(folder)
  if figures:
    from ooc_jax import report  # Matplotlib is slow to import.

    with stage('drawing the figures'):
      formats = ('png',) if figures is True else figures
      report.draw(folder.path, formats=formats)
  return written
