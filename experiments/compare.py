r"""Compares the results folders of several runs of one experiment.

Example:
  python experiments/compare.py results/output_prediction-smollm2-mlp \
      results/output_prediction-gemma3_270m-mlp --out=results/smollm2-gemma3

Leaves a folder with the figure of all runs, and the table of them as CSV and
Markdown; prints the table, and every reason not to compare like with like.
"""

from collections.abc import Sequence
import dataclasses
import os
import pathlib
from typing import Any

import _app
from absl import flags
from matplotlib.figure import Figure

import ooc_jax
from ooc_jax import report
from ooc_jax import results

_NAMES = flags.DEFINE_list(
    'names', None, 'Of the runs, in their order, with commas between.'
)
_SIDE = flags.DEFINE_string(
    'side',
    'output',
    "Of the features: 'output', 'input' or 'embedding'; of attention:"
    f' {", ".join(ooc_jax.measures.CONTEXTS)}; of semantic_attention, the'
    " labels: 'output' or 'input'.",
)
_OUT = pathlib.Path('results') / 'compare'
# What the share of an experiment is of.
_COUNTED = {
    'output_prediction': 'semantic',
    'attention_participation': 'participating',
}
_POPULATIONS = 'semantic_attention'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
  """What a comparison found.

  Attributes:
    folder: Where it is.
    rows: The table to read, its first row the names of the columns.
    cautions: Why the runs may not be alike, a sentence each.
  """

  folder: pathlib.Path
  rows: list[list[str]]
  cautions: list[str]


def run(
    folders: Sequence[str | os.PathLike[str]],
    out: pathlib.Path,
    labels: Sequence[str] | None = None,
    side: str = 'output',
) -> Comparison:
  """Compares. Touches no flag, so a test or a notebook may call it.

  Args:
    folders: Results folders of finished runs of one experiment, two or more.
    out: Results folder, new or of the same comparison.
    labels: Names of the runs; by default what tells them apart.
    side: Of the features: 'output', or another that all runs read.

  Returns:
    The table and the reasons for caution.

  Raises:
    InputError: For anything that a user can cause.
  """
  if len(folders) < 2:
    raise ooc_jax.InputError(
        f'{len(folders)} results folders cannot be compared: give two or more.'
    )
  resolved = [pathlib.Path(folder).resolve() for folder in folders]
  for i, folder in enumerate(resolved):
    if folder in resolved[:i]:
      raise ooc_jax.InputError(
          f'{results.printable(str(folders[i]))} is given twice: give each'
          ' folder once.'
      )
  if labels is not None and not (
      len(labels) == len(set(labels)) == len(folders)
  ):
    raise ooc_jax.InputError(
        f'--names has {len(labels)} names, {len(set(labels))} of them'
        f' different, for {len(folders)} folders: give each its own.'
    )
  first, *others = [report.experiment_of(folder) for folder in folders]
  for folder, other in zip(folders[1:], others, strict=True):
    if other != first:
      raise ooc_jax.InputError(
          f'{results.printable(str(folder))} is of experiment'
          f' {results.printable(other)} and'
          f' {results.printable(str(folders[0]))} of'
          f' {results.printable(first)}: compare runs of one experiment.'
      )
  if first in _COUNTED:
    return _compared(first, folders, out, labels, side)
  if first == _POPULATIONS:
    return _compare_populations(folders, out, labels, side)
  raise ooc_jax.InputError(
      f'{results.printable(str(folders[0]))} is of experiment'
      f' {results.printable(first)}, which cannot be compared: give folders of'
      f' {", ".join(_COUNTED)} or {_POPULATIONS}.'
  )


def _compared(
    experiment: str,
    folders: Sequence[str | os.PathLike[str]],
    out: pathlib.Path,
    labels: Sequence[str] | None,
    side: str,
) -> Comparison:
  runs = [report.run_summary(folder, side=side) for folder in folders]
  names = report.distinct_labels(runs) if labels is None else list(labels)
  curves = [
      report.depth_curve(folder, name, side=side)
      for folder, name in zip(folders, names, strict=True)
  ]
  counted = _COUNTED[experiment]
  figure = 'semantic' if experiment == 'output_prediction' else 'participation'
  return _write(
      out,
      _settings(experiment, folders, names, side),
      figure=(
          f'{figure}_by_depth',
          report.depth_figure(
              curves, subject=f'{counted.capitalize()} features'
          ),
      ),
      numbers=report.comparison_numbers(runs, names),
      rows=report.comparison_rows(runs, names, counted=counted),
      cautions=report.cautions(runs, names),
  )


def _compare_populations(
    folders: Sequence[str | os.PathLike[str]],
    out: pathlib.Path,
    labels: Sequence[str] | None,
    labelling: str,
) -> Comparison:
  if labelling not in ('output', 'input'):
    raise ooc_jax.InputError(
        f'--side={results.printable(labelling)} is no labelling of'
        f" {_POPULATIONS}: give 'output' or 'input'."
    )
  names = (
      [pathlib.Path(folder).absolute().name for folder in folders]
      if labels is None
      else list(labels)
  )
  if len(set(names)) < len(names):
    raise ooc_jax.InputError(
        f'The folders are called {results.printable(", ".join(names))}, which'
        ' does not tell the runs apart: give --names.'
    )
  runs = [report.populations(folder, labelling) for folder in folders]
  numbers: list[list[str]] = []
  for folder, name in zip(folders, names, strict=True):
    head, *rest = report.population_rows(folder, labelling)
    numbers += [['run', *head]] * (not numbers)
    numbers += [[name, *row] for row in rest]
  return _write(
      out,
      _settings(_POPULATIONS, folders, names, labelling),
      figure=(
          'delta_by_depth',
          report.effects_figure(runs, names, labelling=labelling),
      ),
      numbers=numbers,
      rows=report.statement_rows(folders, names, labelling),
      cautions=report.statement_cautions(folders, names),
  )


def _write(
    out: pathlib.Path,
    settings: dict[str, Any],
    *,
    figure: tuple[str, Figure],
    numbers: list[list[str]],
    rows: list[list[str]],
    cautions: list[str],
) -> Comparison:
  with results.ResultsFolder.open(out, settings, provenance={}) as folder:
    folder.write_figure(*figure)
    table = report.csv_table(numbers)
    results.atomic_write(out / 'comparison.csv', table.encode())
    text = report.markdown_table(rows)
    text += ''.join(f'\n- {report.markdown_text(x)}' for x in cautions)
    results.atomic_write(out / 'comparison.md', text.rstrip().encode() + b'\n')
    folder.write_summary({
        'experiment': 'compare',
        'compared': settings['compared'],
        'runs': [run['label'] for run in settings['runs']],
        'cautions': cautions,
    })
  return Comparison(folder=out, rows=rows, cautions=cautions)


def _settings(
    experiment: str,
    folders: Sequence[str | os.PathLike[str]],
    names: Sequence[str],
    side: str,
) -> dict[str, Any]:
  return {
      'experiment': 'compare',
      'compared': experiment,
      'side': side,
      'runs': [
          {'label': name, 'sha256': _digests(folder)}
          for folder, name in zip(folders, names, strict=True)
      ],
  }


def _digests(folder: str | os.PathLike[str]) -> list[str]:
  """Of all that a comparison reads of a run."""
  names = ('config.json', 'summary.json')
  return [results.sha256_file(pathlib.Path(folder) / name) for name in names]


def main(words: list[str]) -> None:
  out = pathlib.Path(_app.OUT.value or _OUT).expanduser()
  comparison = run(words, out, _NAMES.value, _SIDE.value)
  print('\n'.join(report.aligned_table(comparison.rows)))
  if comparison.cautions:
    print('\nNot alike:')
    for sentence in comparison.cautions:
      print(f'- {results.printable(sentence)}')
  print(f'\n{comparison.folder}: comparison.csv, comparison.md, figures/')


if __name__ == '__main__':
  _app.start_with_words(main, interrupted='the same command does it again.')
