"""Several runs of experiment 1 or 2, and what is not alike in them."""

from collections.abc import Mapping, Sequence
import json
import math
from typing import Any

from ooc_jax.report._curve import DepthShape
from ooc_jax.report._runs import RunSummary
from ooc_jax.report._style import number

# What the rows of the table say, and what does not change a share.
_SHOWN = frozenset({'experiment', 'model', 'dictionary', 'layers', 'examples'})
_ABSENT = object()


def comparison_rows(
    runs: Sequence[RunSummary],
    labels: Sequence[str],
    *,
    counted: str = 'semantic',
) -> list[list[str]]:
  """The table to read: shares in per cent, intervals in one cell.

  Args:
    runs: One a row.
    labels: Their names.
    counted: What the shares are of.

  Returns:
    Cells, the first row the names of the columns; '-' where there is none.
  """
  rows = [[
      'run',
      'model',
      'dictionary',
      'features',
      'layers',
      f'{counted} %',
      '95% interval',
      'null %',
      'excess %',
      'its interval',
      'shape',
      'p',
      'turns at',
  ]]
  for run, label in zip(runs, labels, strict=True):
    p, turn = _shape_numbers(run.shape)
    rows.append([
        label,
        run.model,
        run.dictionary,
        _range(run.features),
        f'{_ranges(run.layers)} of {run.num_layers}',
        _percent(run.share[0]),
        _interval(run.share),
        _percent(run.null),
        _percent(run.excess[0]),
        _interval(run.excess),
        '-' if run.shape is None else run.shape.name,
        '-' if math.isnan(p) else f'{p:.2g}',
        '-' if math.isnan(turn) else f'{turn:.1f}',
    ])
  return rows


def comparison_numbers(
    runs: Sequence[RunSummary], labels: Sequence[str]
) -> list[list[str]]:
  """The table to compute with: shares from 0 to 1, a cell for each number.

  Args:
    runs: One a row.
    labels: Their names.

  Returns:
    Cells, the first row the names of the columns; '' where there is none.
  """
  rows = [[
      'run',
      'model',
      'dictionary',
      'features_total',
      'layers',
      'num_layers',
      'share',
      'share_low',
      'share_high',
      'null_share',
      'excess',
      'excess_low',
      'excess_high',
      'shape',
      'shape_p_value',
      'turning_point',
  ]]
  for run, label in zip(runs, labels, strict=True):
    p, turn = _shape_numbers(run.shape)
    numbers = (*run.share, run.null, *run.excess)
    rows.append([
        label,
        run.model,
        run.dictionary,
        str(sum(run.features)),
        _ranges(run.layers),
        str(run.num_layers),
        *('' if math.isnan(x) else repr(x) for x in numbers),
        '' if run.shape is None else run.shape.name,
        *('' if math.isnan(x) else repr(x) for x in (p, turn)),
    ])
  return rows


def cautions(runs: Sequence[RunSummary], labels: Sequence[str]) -> list[str]:
  """Why the shares may not be alike: a sentence for each reason.

  Args:
    runs: Those compared.
    labels: Their names.

  Returns:
    Sentences: every setting that differs, with its values; weights that differ
    under one name; thresholds that each run took from itself; layers left out;
    runs without a null.
  """
  named = list(zip(runs, labels, strict=True))
  sentences = setting_cautions([run.settings for run in runs], labels)
  models: dict[str, dict[str, list[str]]] = {}
  for run, label in named:
    weights = json.dumps(dict(run.weights), sort_keys=True)
    models.setdefault(run.model, {}).setdefault(weights, []).append(label)
  for model, groups in models.items():
    if len(groups) > 1:
      which = ' and '.join(', '.join(group) for group in groups.values())
      sentences.append(f'{model} was read from other weight files in {which}.')
  for text, those in (
      (
          (
              'Quantile thresholds are of each run itself, and fix its share:'
              ' compare the courses over depth and not the levels of'
          ),
          [label for run, label in named if run.thresholds == 'quantile'],
      ),
      (
          'Not all layers of the model were run in',
          [x for run, x in named if len(run.layers) < run.num_layers],
      ),
      (
          'Without a null, so without an excess over chance:',
          [label for run, label in named if math.isnan(run.null)],
      ),
  ):
    if those:
      sentences.append(f'{text} {", ".join(those)}.')
  return sentences


def setting_cautions(
    settings: Sequence[Mapping[str, Any]], labels: Sequence[str]
) -> list[str]:
  """A sentence for each setting that differs, with its values.

  Args:
    settings: Of each run; those of a part are named 'part.setting'.
    labels: Names of the runs.
  """
  sentences = []
  for key in sorted({key for run in settings for key in run}):
    if key.rpartition('.')[2] in _SHOWN:
      continue
    values = [_value(run.get(key, _ABSENT)) for run in settings]
    if len(set(values)) > 1:
      given = ', '.join(
          f'{value} in {label}'
          for value, label in zip(values, labels, strict=True)
      )
      sentences.append(f'Setting {key} differs: {given}.')
  return sentences


def _value(value: Any) -> str:
  return 'absent' if value is _ABSENT else json.dumps(value, sort_keys=True)


def _shape_numbers(shape: DepthShape | None) -> tuple[float, float]:
  """P-value and turning point."""
  if shape is None:
    return math.nan, math.nan
  return number(shape.p_value), number(shape.turning_point)


def _percent(share: float) -> str:
  return '-' if math.isnan(share) else f'{100 * share:.1f}'


def _interval(values: tuple[float, float, float]) -> str:
  low, high = map(_percent, values[1:])
  return '-' if '-' in (low, high) else f'{low} to {high}'


def _range(values: Sequence[int]) -> str:
  low, high = min(values, default=0), max(values, default=0)
  return f'{low:,}' if low == high else f'{low:,}-{high:,}'


def _ranges(layers: Sequence[int]) -> str:
  """'0-3,7' for 0, 1, 2, 3, 7."""
  parts: list[list[int]] = []
  for layer in layers:
    if parts and layer == parts[-1][-1] + 1:
      parts[-1].append(layer)
    else:
      parts.append([layer])
  return ','.join(f'{p[0]}-{p[-1]}' if len(p) > 1 else str(p[0]) for p in parts)
