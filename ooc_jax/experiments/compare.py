"""Several runs of one experiment side by side, from their results folders.

`compute` reads the folders; `text` is the table, and every reason not to
compare like with like; `run` leaves a folder with the figure of all runs, and
the table as CSV and Markdown.
"""

from collections.abc import Callable, Sequence
import dataclasses
import os
import pathlib

from matplotlib.figure import Figure

from ooc_jax import report
from ooc_jax import results
from ooc_jax._errors import InputError
from ooc_jax._files import atomic_write
from ooc_jax._files import sha256_file
from ooc_jax._text import printable

_Folder = str | os.PathLike[str]
# What the share of an experiment is of.
_COUNTED = {
    'output_prediction': 'semantic',
    'attention_participation': 'participating',
}
_FIGURES = {
    'output_prediction': 'semantic_by_depth',
    'attention_participation': 'participation_by_depth',
}
_POPULATIONS = 'semantic_attention'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
  """What a comparison found.

  Attributes:
    compared: The experiment.
    names: Of the runs.
    rows: The table to read, its first row the names of the columns.
    numbers: The table to compute with.
    cautions: Why the runs may not be alike, a sentence each.
    figure: Name and what draws it.
  """

  compared: str
  names: list[str]
  rows: list[list[str]]
  numbers: list[list[str]]
  cautions: list[str]
  figure: tuple[str, Callable[[], Figure]]


def compute(
    folders: Sequence[_Folder],
    *,
    names: Sequence[str] | None = None,
    side: str = 'output',
) -> Comparison:
  """Compares finished runs; writes nothing.

  Args:
    folders: Results folders of one experiment, two or more.
    names: Of the runs; by default what tells them apart.
    side: Of the features a readout: 'output', or another that all runs have;
      of attention a context; of `semantic_attention` the labels: 'output' or
      'input'.

  Raises:
    InputError: For anything that a user can cause.
  """
  compared = _experiment(folders)
  if names is not None and not (len(names) == len(set(names)) == len(folders)):
    raise InputError(
        f'--names has {len(names)} names, {len(set(names))} of them different,'
        f' for {len(folders)} folders: give each its own.'
    )
  if compared == _POPULATIONS:
    return _compare_populations(folders, names, side)
  return _compare_shares(compared, folders, names, side)


def _experiment(folders: Sequence[_Folder]) -> str:
  """The one that all folders are of."""
  if len(folders) < 2:
    raise InputError(
        f'{len(folders)} results folders cannot be compared: give two or more.'
    )
  resolved = [pathlib.Path(folder).resolve() for folder in folders]
  for i, folder in enumerate(resolved):
    if folder in resolved[:i]:
      raise InputError(
          f'{printable(str(folders[i]))} is given twice: give each folder once.'
      )
  first, *others = [report.experiment_of(folder) for folder in folders]
  for folder, other in zip(folders[1:], others, strict=True):
    if other != first:
      raise InputError(
          f'{printable(str(folder))} is of experiment {printable(other)} and'
          f' {printable(str(folders[0]))} of {printable(first)}: compare runs'
          ' of one experiment.'
      )
  if first not in (*_COUNTED, _POPULATIONS):
    raise InputError(
        f'{printable(str(folders[0]))} is of experiment {printable(first)},'
        ' which cannot be compared: give folders of'
        f' {", ".join(_COUNTED)} or {_POPULATIONS}.'
    )
  return first


def _compare_shares(
    experiment: str,
    folders: Sequence[_Folder],
    labels: Sequence[str] | None,
    side: str,
) -> Comparison:
  runs = [report.run_summary(folder, readout=side) for folder in folders]
  names = report.distinct_labels(runs) if labels is None else list(labels)
  curves = [
      report.depth_curve(folder, name, readout=side)
      for folder, name in zip(folders, names, strict=True)
  ]
  counted = _COUNTED[experiment]
  return Comparison(
      compared=experiment,
      names=names,
      rows=report.comparison_rows(runs, names, counted=counted),
      numbers=report.comparison_numbers(runs, names),
      cautions=report.cautions(runs, names),
      figure=(
          _FIGURES[experiment],
          lambda: report.depth_figure(
              curves, subject=f'{counted.capitalize()} features'
          ),
      ),
  )


def _compare_populations(
    folders: Sequence[_Folder],
    labels: Sequence[str] | None,
    labelling: str,
) -> Comparison:
  if labelling not in ('output', 'input'):
    raise InputError(
        f'--side={printable(labelling)} is no labelling of {_POPULATIONS}:'
        " give 'output' or 'input'."
    )
  names = (
      [pathlib.Path(folder).absolute().name for folder in folders]
      if labels is None
      else list(labels)
  )
  if len(set(names)) < len(names):
    raise InputError(
        f'The folders are called {printable(", ".join(names))}, which does not'
        ' tell the runs apart: give --names.'
    )
  numbers: list[list[str]] = []
  for folder, name in zip(folders, names, strict=True):
    head, *rest = report.population_rows(folder, labelling)
    numbers += [['run', *head]] * (not numbers)
    numbers += [[name, *row] for row in rest]

  runs = [report.populations(folder, labelling) for folder in folders]
  return Comparison(
      compared=_POPULATIONS,
      names=names,
      rows=report.statement_rows(folders, names, labelling),
      numbers=numbers,
      cautions=report.statement_cautions(folders, names),
      figure=(
          'delta_by_depth',
          lambda: report.effects_figure(runs, names, labelling=labelling),
      ),
  )


def text(comparison: Comparison) -> list[str]:
  """What is printed: the table, and why the runs may not be alike."""
  lines = report.aligned_table(comparison.rows)
  if comparison.cautions:
    lines += ['', 'Not alike:']
    lines += [f'- {printable(x)}' for x in comparison.cautions]
  return lines


def run(
    folders: Sequence[_Folder],
    *,
    out: _Folder,
    names: Sequence[str] | None = None,
    side: str = 'output',
    figures: bool = True,
) -> Comparison:
  """Compares, and leaves the figure and the tables in a folder.

  Args:
    folders: As of `compute`.
    out: Results folder, new or of the same comparison.
    names: As of `compute`.
    side: As of `compute`.
    figures: Whether the figure is drawn.

  Raises:
    InputError: For anything that a user can cause.
  """
  found = compute(folders, names=names, side=side)
  settings = {
      'experiment': 'compare',
      'compared': found.compared,
      'side': side,
      'runs': [
          {'label': name, 'sha256': _digests(folder)}
          for folder, name in zip(folders, found.names, strict=True)
      ],
  }
  with results.ResultsFolder.open(out, settings, provenance={}) as folder:
    if figures:
      name, draw = found.figure
      folder.write_figure(name, draw())
    csv = report.csv_table(found.numbers)
    atomic_write(folder.path / 'comparison.csv', csv.encode())
    words = report.markdown_table(found.rows)
    words += ''.join(f'\n- {report.markdown_text(x)}' for x in found.cautions)
    atomic_write(folder.path / 'comparison.md', words.rstrip().encode() + b'\n')
    folder.write_summary({
        'experiment': 'compare',
        'compared': found.compared,
        'runs': found.names,
        'cautions': found.cautions,
    })
  return found


def _digests(folder: _Folder) -> list[str]:
  """Of all that a comparison reads of a run."""
  names = ('config.json', 'summary.json')
  return [sha256_file(pathlib.Path(folder) / name) for name in names]
