"""Opening a results folder to draw it."""

from collections.abc import Callable, Generator, Mapping
import contextlib
import dataclasses
import functools
import os
import pathlib
import re
from typing import Any

import matplotlib.figure

from ooc_jax import measures
from ooc_jax._errors import InputError
from ooc_jax._text import printable
from ooc_jax.report._style import number
from ooc_jax.results import ResultsFolder
from ooc_jax.results import tables

_LAYER = re.compile(r'[/_-]?(layer_?)?\{layer\}$')
OUTPUT = 'output'  # The readout whose columns and tables have plain names.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figure:
  """A kind of figure; `FIGURES` lists them all.

  Attributes:
    experiment: Whose folder it is of.
    files: Summary -> the name of each of its files, without a suffix, to what
      is read for it: a readout, a context, ...
    read: Folder and that -> what is drawn.
    draw: That -> the figure.
  """

  experiment: str
  files: Callable[[Mapping[str, Any]], Mapping[str, Any]]
  read: Callable[[pathlib.Path, Any], Any]
  draw: Callable[[Any], matplotlib.figure.Figure]


def by_readout(stem: str) -> Callable[[Mapping[str, Any]], Mapping[str, str]]:
  """`Figure.files` of a figure for each readout of a run of experiment 1."""
  return lambda summary: {
      tables.name_of(stem, readout): readout
      for readout in (OUTPUT, *summary.get('sides', ()))
  }


@dataclasses.dataclass(frozen=True)
class Run:
  """A run as one of its readouts shows it.

  Attributes:
    folder: Its results.
    readout: Of experiment 1, or a context of attention of experiment 2.
    given: Its name, if the caller has one.
  """

  folder: ResultsFolder
  readout: str = OUTPUT
  given: str | None = None

  @property
  def settings(self) -> Mapping[str, Any]:
    return self.folder.config['settings']

  @property
  def label(self) -> str:
    """The name given, or the model of the config, or the folder's name."""
    if self.given is not None:
      return self.given
    model = self.settings.get('model')
    name = model if isinstance(model, str) else self.folder.path.absolute().name
    end = '' if self.readout == OUTPUT else f', {self.readout} readout'
    return name + end

  @property
  def about(self) -> str:
    """What was read and how it was decided: 'mlp, any at 1% of isotropic'."""
    settings = self.settings
    words = []
    if 'dictionary' in settings:
      words = [_LAYER.sub('', str(settings['dictionary']))]
    if 'rule' in settings:
      kind = str(settings.get('thresholds', 'null'))
      level = f'{100 * number(settings.get("alpha")):g}%'
      how = f'at {level} of {settings.get("null", "random")} directions'
      words.append(f'{settings["rule"]} {how if kind == "null" else kind}')
    if 'participation' in settings:
      words += _participation(settings)
    if 'over_heads' in settings:
      words.append(f'{settings["over_heads"]} over heads')
    return ', '.join(words)

  @functools.cached_property
  def summary(self) -> Mapping[str, Any]:
    """`summary.json`, the numbers of this readout in place of the output's."""
    summary = self.folder.read_summary()
    if self.readout == OUTPUT:
      return summary
    others = summary.get('sides') or {}
    if self.readout not in others:
      raise InputError(
          f'{printable(str(self.folder.path))} has no readout'
          f" '{printable(self.readout)}': give one of"
          f' {printable(", ".join((OUTPUT, *others)))}.'
      )
    return summary | others[self.readout]

  @property
  def rows(self) -> list[Mapping[str, Any]]:
    """What the summary says of each layer, layers rising."""
    return sorted(self.summary['layers'], key=lambda row: row['layer'])

  @property
  def measures(self) -> tuple[measures.Measure, ...]:
    """Those of the run: of the ends of the vocabulary that it reads."""
    known = self.summary['total']['measures']
    return tuple(m for m in measures.ALL_MEASURES if m.name in known)

  def column(self, name: str) -> str:
    """A column of this readout, in tables of features or labels."""
    return tables.prefix_of(self.readout) + name

  def table_name(self, stem: str) -> str:
    return tables.name_of(stem, self.readout)


def _participation(settings: Mapping[str, Any]) -> list[str]:
  """How a run of experiment 2 decided."""
  kind, _, value = str(settings['participation']).partition(':')
  if kind == 'quantile':
    over = f'over quantile {value or 0.75}'
  else:
    level = f'{100 * number(settings.get("alpha")):g}%'
    over = f'over {level} of {value or "random"} null'
  words = [f'{over} in {settings.get("at_least", 1)}+ heads']
  if settings.get('stream', 'alone') != 'alone':
    words.append('on the mean stream')
  if settings.get('offset'):
    words.append(f'offset {settings["offset"]}')
  return words


@contextlib.contextmanager
def reading(
    folder: str | os.PathLike[str],
    readout: str = OUTPUT,
    label: str | None = None,
) -> Generator[Run, None, None]:
  """A run to read inside the block.

  Args:
    folder: Its results folder.
    readout: See `Run`.
    label: Its name.

  Yields:
    The run.

  Raises:
    InputError: Not a results folder; or what the block reads in it is missing,
      damaged or of another kind than it took it for.
  """
  if not os.path.lexists(os.path.join(folder, 'config.json')):
    raise InputError(
        f'{printable(str(folder))} is not a results folder: give one that an'
        ' experiment wrote.'
    )
  run = Run(ResultsFolder.view(folder), readout, label)
  try:
    yield run
  except InputError:
    raise
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    raise InputError(
        f'The results in {printable(str(folder))} lack what the figure needs'
        f' ({printable(repr(error))}): run again.'
    ) from error


def experiment_of(folder: str | os.PathLike[str]) -> str:
  """Which experiment wrote a results folder, as its summary says.

  Raises:
    InputError: Not a results folder, not finished, or a damaged summary.
  """
  with reading(folder) as run:
    return str(run.summary['experiment'])


def interval(row: Mapping[str, Any], *keys: str) -> tuple[float, float, float]:
  """A number of a row of a summary, and the ends of its interval."""
  share, low, high = (number(row.get(key)) for key in keys)
  return share, low, high


def share_of(row: Mapping[str, Any]) -> tuple[float, float, float]:
  """Share of semantic or participating features, with its interval."""
  counted = row['semantic' if 'semantic' in row else 'participating']
  return interval(counted, 'share', 'low', 'high')
