"""Several runs of one experiment in a table, and what is not alike in them."""

from collections.abc import Mapping, Sequence
import dataclasses
import json
import math
import os
import pathlib
from typing import Any

from ooc_jax.report import _style
from ooc_jax.report._depth_curve import DepthShape
from ooc_jax.report._depth_curve import depth_shape
from ooc_jax.report._populations import STATEMENTS
from ooc_jax.report._reading import OUTPUT
from ooc_jax.report._reading import interval
from ooc_jax.report._reading import reading
from ooc_jax.report._reading import share_of
from ooc_jax.report._style import CONTEXT_NAMES
from ooc_jax.report._style import number

# What the rows of the table say, and what does not change a share.
_SHOWN = frozenset({'experiment', 'model', 'dictionary', 'layers', 'examples'})
_ABSENT = object()


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunSummary:
  """One run, all its layers together.

  Attributes:
    folder: Where it is, as given.
    settings: Of its `config.json`.
    weights: Weight file -> SHA-256.
    layers: Those of the run, rising.
    num_layers: Of the model.
    features: How many in each of `layers`.
    share: Fraction of semantic features with its interval: share, low, high.
    null: Fraction of random directions; NaN where there was no null.
    excess: Share over chance with its interval: excess, low, high.
    thresholds: Their kind.
    shape: What the tests say of the course over depth, if they were made.
  """

  folder: str
  settings: Mapping[str, Any]
  weights: Mapping[str, str]
  layers: tuple[int, ...]
  num_layers: int
  features: tuple[int, ...]
  share: tuple[float, float, float]
  null: float
  excess: tuple[float, float, float]
  thresholds: str
  shape: DepthShape | None

  @property
  def model(self) -> str:
    return str(self.settings.get('model', '-'))

  @property
  def dictionary(self) -> str:
    return str(self.settings.get('dictionary', '-'))


def run_summary(
    folder: str | os.PathLike[str], *, readout: str = OUTPUT
) -> RunSummary:
  """What the table of a comparison says of one run; as `depth_curve`."""
  with reading(folder, readout) as run:
    summary, rows = run.summary, run.rows
    total = summary['total']
    return RunSummary(
        folder=str(folder),
        settings=dict(run.settings),
        weights=dict(run.folder.config['weights']),
        layers=tuple(int(row['layer']) for row in rows),
        num_layers=int(summary['num_layers']),
        features=tuple(int(row['features']) for row in rows),
        share=share_of(total),
        null=number(total.get('null_share')),
        excess=interval(total, 'excess', 'excess_low', 'excess_high'),
        thresholds=str(summary['thresholds'].get('kind', '-')),
        shape=depth_shape(summary),
    )


def distinct_labels(runs: Sequence[RunSummary]) -> list[str]:
  """The shortest names that tell the runs apart, also cut for a legend.

  Args:
    runs: Any number.

  Returns:
    Models; where they repeat, dictionaries too, then controls and names of the
    folders, but nothing that all runs share; at last numbered.
  """
  controls = [str(run.settings.get('control', 'none')) for run in runs]
  labels = [''] * len(runs)
  for words in (
      [run.model for run in runs],
      [run.dictionary for run in runs],
      ['trained' if x == 'none' else x for x in controls],
      [pathlib.Path(run.folder).absolute().name for run in runs],
  ):
    if len(set(words)) > 1:
      labels = [
          f'{x} {word}'.strip() for x, word in zip(labels, words, strict=True)
      ]
    if len({_style.short(x, _style.LABEL) for x in labels}) == len(runs):
      return labels
  return [f'{i} {label}'.strip() for i, label in enumerate(labels, 1)]


def comparison_rows(
    runs: Sequence[RunSummary],
    labels: Sequence[str],
    *,
    counted: str = 'semantic',
) -> list[list[str]]:
  """The table to read: shares in per cent, intervals in one cell.

  Args:
    runs: One a row, below the names of the columns.
    labels: Their names.
    counted: What the shares are of.
  """
  names = ('run', 'model', 'dictionary', 'features', 'layers')
  names += (f'{counted} %', '95% interval', 'null %', 'excess %')
  rows = [[*names, 'its interval', 'shape', 'p', 'turns at']]
  for run, label in zip(runs, labels, strict=True):
    p, turn = _shape_numbers(run.shape)
    low, high = min(run.features, default=0), max(run.features, default=0)
    rows.append([
        label,
        run.model,
        run.dictionary,
        f'{low:,}' if low == high else f'{low:,}-{high:,}',
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
  """The table to compute with: shares from 0 to 1, a cell for each number."""
  names = ('run', 'model', 'dictionary', 'features_total', 'layers')
  names += ('num_layers', 'share', 'share_low', 'share_high', 'null_share')
  names += ('excess', 'excess_low', 'excess_high')
  rows = [[*names, 'shape', 'shape_p_value', 'turning_point']]
  for run, label in zip(runs, labels, strict=True):
    numbers = (*run.share, run.null, *run.excess)
    rows.append([
        label,
        run.model,
        run.dictionary,
        str(sum(run.features)),
        _ranges(run.layers),
        str(run.num_layers),
        *map(_exact, numbers),
        '' if run.shape is None else run.shape.name,
        *map(_exact, _shape_numbers(run.shape)),
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
  sentences = _setting_cautions([run.settings for run in runs], labels)
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


def statement_rows(
    folders: Sequence[str | os.PathLike[str]],
    labels: Sequence[str],
    labelling: str,
) -> list[list[str]]:
  """What the tests say of each run, a row a run.

  Args:
    folders: Of finished runs of experiment 3.
    labels: Their names.
    labelling: 'output' for the first statement, 'input' for the second.

  Returns:
    Cells, the first row the names of the columns: the verdict, under how many
    of the other labels and ways over heads it was the same, and for each
    context the direction that was found with its p-value.

  Raises:
    InputError: Not a results folder, not finished, or without that labelling.
  """
  head = ('run', 'model', 'dictionary', 'layers', 'verdict', 'holds')
  table = [[*head, *CONTEXT_NAMES]]
  for folder, label in zip(folders, labels, strict=True):
    with reading(folder) as run:
      summary = run.summary
      name = STATEMENTS[labelling]
      found = summary['statements'][name]
      read = str(run.settings['model']), str(run.settings['dictionary'])
      layers = f'{len(summary["layers"])} of {summary["num_layers"]}'
      same = [row[name] == found['verdict'] for row in summary['sweep']]
      holds = f'{sum(same)} of {len(same)}'
      tests = [found['tests'][context] for context in CONTEXT_NAMES]
      cells = [
          f'{"-0+"[int(test["sign"]) + 1]} {number(test["p_value"]):.2g}'
          for test in tests
      ]
      table.append([label, *read, layers, found['verdict'], holds, *cells])
  return table


def statement_cautions(
    folders: Sequence[str | os.PathLike[str]], labels: Sequence[str]
) -> list[str]:
  """A sentence for each setting of experiments 1 to 3 that differs."""
  settings = []
  for folder in folders:
    with reading(folder) as run:
      flat = {}
      for name, value in run.settings.items():
        if isinstance(value, Mapping):  # Of one of the other experiments.
          flat |= {f'{name}.{key}': x for key, x in value.items()}
        else:
          flat[name] = value
      settings.append(flat)
  return _setting_cautions(settings, labels)


def _setting_cautions(
    settings: Sequence[Mapping[str, Any]], labels: Sequence[str]
) -> list[str]:
  """A sentence for each setting that differs, with its values."""
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


def _exact(value: float) -> str:
  return '' if math.isnan(value) else repr(value)


def _percent(share: float) -> str:
  return '-' if math.isnan(share) else f'{100 * share:.1f}'


def _interval(values: tuple[float, float, float]) -> str:
  low, high = map(_percent, values[1:])
  return '-' if '-' in (low, high) else f'{low} to {high}'


def _ranges(layers: Sequence[int]) -> str:
  """'0-3,7' for 0, 1, 2, 3, 7."""
  parts: list[list[int]] = []
  for layer in layers:
    if parts and layer == parts[-1][-1] + 1:
      parts[-1].append(layer)
    else:
      parts.append([layer])
  return ','.join(f'{p[0]}-{p[-1]}' if len(p) > 1 else str(p[0]) for p in parts)
