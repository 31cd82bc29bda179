"""What experiment 1 leaves once all layers are there, from its tables alone."""

from collections.abc import Mapping, Sequence
from typing import Any

import _labels
import _sides
from _study import Study
import _summary
import pyarrow as pa

from ooc_jax import measures
from ooc_jax import report
from ooc_jax import results


def finish(
    folder: results.ResultsFolder,
    study: Study,
    num_layers: int,
    tables: Mapping[int, pa.Table],
    null: pa.Table,
) -> dict[str, Any]:
  """Labels, sweep, summary and figures.

  Args:
    folder: Of the run.
    study: The settings.
    num_layers: Of the model.
    tables: Layer -> its features.
    null: The random directions, of all sides.

  Returns:
    The summary, as it is read back.
  """
  names = [
      side
      for side in _sides.SIDES
      if all(
          f'{_labels.prefix_of(side)}top_ids' in t.column_names
          for t in tables.values()
      )
  ]
  sides = [_labels.read_side(name, tables, null, study) for name in names]
  output, *others = sides
  for side in sides:
    suffix = '' if side.name == 'output' else f'_{side.name}'
    rows = measures.sweep(side.coherences, side.nulls)
    folder.write_table(f'sweep{suffix}', pa.Table.from_pylist(rows))
    ours = _labels.of_side(null, side.name)
    folder.write_table(f'null{suffix}', ours)
  folder.write_table('labels', _labels.labels_table(sides, study.rule))
  folder.write_summary({
      'experiment': 'output_prediction',
      'num_layers': num_layers,
      **_summary.side_summary(output, tables, study),
      'sides': {
          side.name: (
              _summary.side_summary(side, tables, study)
              | {
                  'agreement': _summary.agreement(
                      side, output, tables, study.rule
                  )
              }
          )
          for side in others
      },
      'examples': _summary.examples(tables, output.coherences, study.examples),
  })
  _draw(folder, names)
  return folder.read_summary()


def _draw(folder: results.ResultsFolder, sides: Sequence[str]) -> None:
  """All figures of the run, one after another: each is some MB."""
  path = folder.path
  for side in sides:
    end = '' if side == 'output' else f'_{side}'
    curve = report.depth_curve(path, side=side)
    folder.write_figure(f'semantic_by_depth{end}', report.depth_figure([curve]))
    measured = report.measure_distributions(path, side=side)
    folder.write_figure(f'measures{end}', report.distribution_figure(measured))
    folder.write_figure(
        f'sweep{end}', report.sweep_figure(report.sweep(path, side=side))
    )
  pages = report.contact_sheet_figures(report.contact_sheet(path))
  for name, page in pages.items():
    folder.write_figure(f'features_{name}', page)
