"""Which results folders there are, and which runs belong together."""

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
import functools
import json
import os
import pathlib
import re
from typing import Any

from ooc_jax._errors import InputError
from ooc_jax._text import printable
from ooc_jax.results import SCHEMA_VERSION

_FORMAT = 'ooc_jax results'
_LAYER_FILE = re.compile(r'layer=(\d{2,})\.parquet')
_SLUG = re.compile(r'[^A-Za-z0-9._-]+')
# Runs of one dictionary agree in these.
_IDENTITY = ('model', 'dictionary', 'revision', 'control')
_PLACE = re.compile(r'[/_-]?(layer_?)?\{layer\}$')
OUTPUT, ATTENTION = 'output_prediction', 'attention_participation'
SEMANTIC, VALIDATION = 'semantic_attention', 'validation'


@dataclasses.dataclass(frozen=True)
class Run:
  """A results folder, whatever state it is in.

  Attributes:
    path: The folder.
    config: Its `config.json`.
    summary: Its `summary.json`; empty while the run has not finished.
    problems: Sentences about what is missing or damaged.
  """

  path: pathlib.Path
  config: Mapping[str, Any]
  summary: Mapping[str, Any]
  problems: tuple[str, ...] = ()

  @property
  def settings(self) -> Mapping[str, Any]:
    settings = self.config.get('settings')
    return settings if isinstance(settings, dict) else {}

  @property
  def experiment(self) -> str:
    return str(self.settings.get('experiment', 'unknown'))

  def layer_files(self) -> dict[int, pathlib.Path]:
    """Layer -> its file, layers rising; as they were when first asked for."""
    return dict(self._layer_files)

  @functools.cached_property
  def _layer_files(self) -> dict[int, pathlib.Path]:
    folder = self.path / 'features'
    try:
      names = os.listdir(folder)
    except OSError:
      return {}
    found = {
        int(match[1]): folder / name
        for name in names
        if (match := _LAYER_FILE.fullmatch(name))
    }
    return dict(sorted(found.items()))

  def file(self, name: str) -> pathlib.Path | None:
    """`NAME.parquet`, if it is there."""
    path = self.path / f'{name}.parquet'
    return path if path.is_file() else None


@dataclasses.dataclass(frozen=True)
class Study:
  """The runs of one dictionary of one model.

  Attributes:
    slug: Its name in addresses.
    runs: Experiment -> its run; the first one given of each.
  """

  slug: str
  runs: Mapping[str, Run]

  @property
  def first(self) -> Run:
    return next(iter(self.runs.values()))

  @property
  def output(self) -> Run | None:
    return self.runs.get(OUTPUT)

  @property
  def attention(self) -> Run | None:
    return self.runs.get(ATTENTION)

  @property
  def validation(self) -> Run | None:
    return self.runs.get(VALIDATION)

  @property
  def model(self) -> str:
    return str(self.first.settings.get('model', 'unknown model'))

  @property
  def dictionary(self) -> str:
    name = str(self.first.settings.get('dictionary', 'unknown dictionary'))
    return _PLACE.sub('', name) or name

  @property
  def problems(self) -> list[str]:
    return [text for run in self.runs.values() for text in run.problems]

  @property
  def readouts(self) -> list[str]:
    """Of experiment 1: 'output' and what its summary has beside it."""
    if self.output is None:
      return []
    return ['output', *(self.output.summary.get('sides') or ())]


class Library:
  """The folders that a server shows; they are read anew for every page."""

  def __init__(self, folders: Sequence[str | os.PathLike[str]]):
    """Takes results folders, and folders that hold some.

    Args:
      folders: At least one.

    Raises:
      InputError: One is not there, or holds no results.
    """
    if not folders:
      raise InputError(
          'Say which results to show: explore FOLDER [FOLDER ...].'
      )
    self._folders = tuple(pathlib.Path(os.path.expanduser(x)) for x in folders)
    for folder in self._folders:
      if not folder.is_dir():
        raise InputError(
            f'{printable(str(folder))} is not a folder: give a results folder,'
            ' or one that holds some.'
        )
      if not _results_in(folder):
        raise InputError(
            f'{printable(str(folder))} holds no results: give a folder that an'
            ' experiment wrote.'
        )

  def runs(self) -> list[Run]:
    """Every results folder, in the order given."""
    paths = [x for folder in self._folders for x in _results_in(folder)]
    return [_read_run(path) for path in dict.fromkeys(paths)]

  def studies(self) -> dict[str, Study]:
    """Slug -> study.

    Every run of experiment 1 makes one; other runs join the first of the same
    dictionary that has none of their kind.
    """
    groups: list[dict[str, Run]] = []
    order = sorted(self.runs(), key=lambda run: run.experiment != OUTPUT)
    for run in order:
      home = next(
          (
              group
              for group in groups
              if run.experiment not in group
              and _agree(run, next(iter(group.values())))
          ),
          None,
      )
      if home is None:
        groups.append({run.experiment: run})
      else:
        home[run.experiment] = run
    studies: dict[str, Study] = {}
    for group in groups:
      name = next(iter(group.values())).path.absolute().name
      slug = base = _SLUG.sub('-', name).strip('-.') or 'results'
      number = 2
      while slug in studies:
        slug, number = f'{base}-{number}', number + 1
      studies[slug] = Study(slug, group)
    return studies


def _results_in(folder: pathlib.Path) -> list[pathlib.Path]:
  """The folder itself, and the results folders in it."""
  own = [folder] if _is_results(folder) else []
  try:
    children = sorted(x for x in folder.iterdir() if x.is_dir())
  except OSError:
    children = []
  return own + [x for x in children if _is_results(x)]


def _is_results(folder: pathlib.Path) -> bool:
  # A damaged config is shown as one; that of a model is none of ours.
  path = folder / 'config.json'
  if not path.is_file():
    return False
  config = _json(path)
  return config is None or config.get('format') == _FORMAT


def _agree(one: Run, other: Run) -> bool:
  """Whether two runs are of one dictionary of one model."""
  pairs = [(one.settings.get(x), other.settings.get(x)) for x in _IDENTITY]
  if None in (*pairs[0], *pairs[1]):
    return False
  # A setting that a kind of run does not have keeps nothing apart.
  return all(
      x == y
      for name, (x, y) in zip(_IDENTITY, pairs, strict=True)
      if name in one.settings and name in other.settings
  )


def _read_run(path: pathlib.Path) -> Run:
  name = printable(path.name)
  config = _json(path / 'config.json')
  if config is None:
    problem = f'{name}: config.json is damaged or empty, so nothing is shown.'
    return Run(path, {}, {}, (problem,))
  if config.get('schema') != SCHEMA_VERSION:
    return Run(
        path,
        config,
        {},
        (
            (
                f'{name} was written by another version of ooc_jax (schema'
                f' {printable(str(config.get("schema")))[:20]}; this one reads'
                f' {SCHEMA_VERSION}). Columns that both know are shown; run it'
                ' again for the rest.'
            ),
        ),
    )
  if not (path / 'summary.json').exists():
    return Run(
        path,
        config,
        {},
        (
            (
                f'{name} has not finished: the layers that are done are shown.'
                ' The command that began it continues it.'
            ),
        ),
    )
  summary = _json(path / 'summary.json')
  if summary is None:
    problem = f'{name}: summary.json is damaged or empty; run it again.'
    return Run(path, config, {}, (problem,))
  return Run(path, config, summary)


def _json(path: pathlib.Path) -> dict[str, Any] | None:
  """An object of a JSON file; None where there is none to be read."""
  try:
    about = path.stat()
    return _parsed(str(path), about.st_mtime_ns, about.st_size)
  except (OSError, ValueError, RecursionError):
    return None


@functools.lru_cache(64)
def _parsed(path: str, changed: int, size: int) -> dict[str, Any] | None:
  del changed, size  # Another value is another file.
  value = json.loads(pathlib.Path(path).read_bytes())
  return value if isinstance(value, dict) else None


def titles(studies: Iterable[Study]) -> dict[str, str]:
  """Slug -> a title that tells it from the others."""
  studies = list(studies)
  names = [f'{x.model} · {x.dictionary}' for x in studies]
  return {
      x.slug: name if names.count(name) == 1 else f'{name} ({x.slug})'
      for x, name in zip(studies, names, strict=True)
  }
