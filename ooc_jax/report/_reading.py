"""Opening a results folder to draw it."""

from collections.abc import Generator, Mapping
import contextlib
import os
from typing import Any

from ooc_jax._errors import InputError
from ooc_jax.results import ResultsFolder
from ooc_jax.results import printable

OUTPUT = 'output'  # The side whose columns and tables have plain names.
MEASURES = ('levenshtein', 'cosine', 'entropy')


@contextlib.contextmanager
def reading(
    folder: str | os.PathLike[str],
) -> Generator[ResultsFolder, None, None]:
  """A results folder to read inside the block.

  Args:
    folder: The folder.

  Yields:
    Its view.

  Raises:
    InputError: Not a results folder; or what the block reads in it is missing,
      damaged or of another kind than it took it for.
  """
  if not os.path.lexists(os.path.join(folder, 'config.json')):
    raise InputError(
        f'{printable(str(folder))} is not a results folder: give one that an'
        ' experiment wrote.'
    )
  results = ResultsFolder.view(folder)
  try:
    yield results
  except InputError:
    raise
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    raise InputError(
        f'The results in {printable(str(folder))} lack what the figure needs'
        f' ({printable(repr(error))}): run again.'
    ) from error


def name_of(
    results: ResultsFolder, label: str | None, side: str = OUTPUT
) -> str:
  """`label`, else the model of the config, else the folder's name; and side."""
  if label is not None:
    return label
  model = results.config['settings'].get('model')
  name = model if isinstance(model, str) else results.path.absolute().name
  return name if side == OUTPUT else f'{name}, {side} side'


def side_of(results: ResultsFolder, side: str) -> dict[str, Any]:
  """What the summary says of one side of the features.

  Args:
    results: Of a finished run.
    side: 'output', or another that the run read.

  Returns:
    A `Summary` with the numbers of that side in place of those of the output.

  Raises:
    InputError: The run is not finished, or did not read that side.
  """
  summary = results.read_summary()
  if side == OUTPUT:
    return summary
  sides = summary.get('sides') or {}
  if side not in sides:
    raise InputError(
        f'{printable(str(results.path))} was not read from the side'
        f" '{printable(side)}': give one of"
        f' {printable(", ".join((OUTPUT, *sides)))}.'
    )
  return summary | sides[side]


def share_of(row: Mapping[str, Any]) -> Mapping[str, Any]:
  """What a row of a summary counts, with its interval.

  Semantic features in experiment 1, participating ones in experiment 2.
  """
  return row['semantic'] if 'semantic' in row else row['participating']


def column(side: str, name: str) -> str:
  """The column of a table of features or labels that is of a side."""
  return name if side == OUTPUT else f'{side}_{name}'


def table_of(side: str, name: str) -> str:
  """The table of a side."""
  return name if side == OUTPUT else f'{name}_{side}'


def has_table(results: ResultsFolder, name: str) -> bool:
  """Whether the run wrote `NAME.parquet`, damaged or not."""
  return os.path.lexists(results.path / f'{name}.parquet')
