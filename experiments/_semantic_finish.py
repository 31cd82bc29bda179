"""What experiment 3 leaves, from the folders of the other two alone."""

from collections.abc import Mapping, Sequence
import os
import pathlib
from typing import Any

import _attention_finish
import _attention_nulls
import _attention_reader
from _attention_study import AttentionStudy
import _attention_summary
import _semantic_populations
import _semantic_statements
import _shapes
from _summary import weights_of_layers
import numpy as np

import ooc_jax
from ooc_jax import measures
from ooc_jax import report
from ooc_jax import results

# Settings that make features the same; the model is told by its weights.
_SAME = ('dictionary', 'control', 'revision')


def read_layers(
    labels: str | os.PathLike[str],
    attention: str | os.PathLike[str],
    over_heads: str,
) -> list[_semantic_populations.Layer]:
  """Joins the features of both folders, layer by layer.

  Args:
    labels: Of a finished run of experiment 1.
    attention: Of a finished run of experiment 2.
    over_heads: How the numbers of the heads become one.

  Raises:
    InputError: A folder is of another experiment or not finished, or the two
      are not of the same features.
  """
  first = view(labels, 'output_prediction', 'labels')
  second = view(attention, 'attention_participation', 'attention')
  _check_same(first, second)
  table = first.read_table('labels')
  layer_of = np.asarray(table['layer'])
  hashes = weights_of_layers(first.read_summary())
  found = []
  for row in second.read_summary()['layers']:
    features = second.read_layer(row['layer'])
    origin = _attention_reader.dictionary_layer(features)
    if origin is None or origin not in hashes:
      continue
    if hashes[origin] != _attention_summary.weights_of(features):
      raise ooc_jax.InputError(
          f'The dictionary of layer {origin} was read from other files in'
          f' {results.printable(str(labels))} than in'
          f' {results.printable(str(attention))}: run one of them again.'
      )
    mine = layer_of == origin
    found.append(
        _semantic_populations.layer_of(
            row['layer'],
            _attention_reader.statistics_of(features),
            {
                name: np.asarray(table[column])[mine]
                for name, column in _semantic_populations.LABELLINGS.items()
                if column in table.column_names
            },
            over_heads,
            _chance(second, row['layer']),
        )
    )
  if not found:
    raise ooc_jax.InputError(
        f'{results.printable(str(labels))} has labels of no layer whose'
        f' features are in {results.printable(str(attention))}: run'
        ' experiment 1 at the layers before.'
    )
  return found


def _chance(
    attention: results.ResultsFolder, layer: int
) -> dict[str, np.ndarray]:
  """Context -> [N, n] of the first null; empty where there was none."""
  settings = attention.config['settings']
  kinds = AttentionStudy(**{
      name: value for name, value in settings.items() if name != 'experiment'
  }).null_kinds
  if not kinds:
    return {}
  table = attention.read_table(_attention_finish.nulls_name(layer))
  return {
      name: _attention_nulls.null_statistic(table, kinds[0], name)
      for name in measures.CONTEXTS
  }


def dictionary_layers(attention: results.ResultsFolder) -> list[int]:
  """The layers of experiment 1 whose features a run of experiment 2 has."""
  origins = [
      _attention_reader.dictionary_layer(attention.read_layer(row['layer']))
      for row in attention.read_summary()['layers']
  ]
  return sorted({x for x in origins if x is not None})


def finish(
    folder: results.ResultsFolder,
    layers: Sequence[_semantic_populations.Layer],
    *,
    tied: bool,
    num_layers: int,
    least: int,
    draws: int,
    seed: int,
) -> dict[str, Any]:
  """Populations, effects, verdicts, summary, tables and figures.

  Args:
    folder: Of the run.
    layers: Of `read_layers`.
    tied: Whether the model is.
    num_layers: Of the model.
    least: Features that each population must have to be compared.
    draws: Of the bootstrap.
    seed: Of the bootstrap.

  Returns:
    The summary, as it is read back.
  """
  names = [
      name
      for name in _semantic_populations.LABELLINGS
      if all(name in one.labels for one in layers)
  ]
  populations, effects = [], []
  for name in names:
    populations += _semantic_populations.population_rows(layers, name)
    effects += _semantic_populations.effect_rows(
        layers, name, least=least, draws=draws, seed=seed
    )
  folder.write_table(
      'populations', _semantic_populations.populations_table(populations)
  )
  folder.write_table('effects', _semantic_populations.effects_table(effects))
  folder.write_summary({
      'experiment': 'semantic_attention',
      'num_layers': num_layers,
      'tied': tied,
      'layers': [one.layer for one in layers],
      'statements': _semantic_statements.statements(effects, tied),
      'contexts': {name: _courses(effects, name) for name in names},
      'effects': effects,
  })
  for name in names:
    rows = report.population_rows(folder.path, name)
    results.atomic_write(
        folder.path / f'populations_{name}.csv',
        report.csv_table(rows).encode(),
    )
    figure = report.populations_figure(report.populations(folder.path, name))
    folder.write_figure(f'populations_{name}', figure)
  return folder.read_summary()


def _courses(
    effects: Sequence[Mapping[str, Any]], labelling: str
) -> dict[str, Any]:
  """The shape over depth of both medians and of delta, for each context."""
  found = {}
  for context in measures.CONTEXTS:
    rows = [
        row
        for row in effects
        if (row['labelling'], row['context']) == (labelling, context)
        and 'delta' in row
    ]
    if not rows:
      continue
    numbers = [row['layer'] for row in rows]
    found[context] = {
        name: _shapes.number_shape(
            numbers,
            np.asarray([row[value] for row in rows]),
            np.asarray([max(row[error], 1e-12) for row in rows]),
        )
        for name, value, error in (
            ('semantic', 'semantic_median', 'semantic_error'),
            ('other', 'other_median', 'other_error'),
            ('delta', 'delta', 'error'),
        )
    }
  return found


def view(
    path: str | os.PathLike[str], experiment: str, flag: str
) -> results.ResultsFolder:
  """The folder of a finished run of an experiment, to read.

  Raises:
    InputError: It is none, or of another experiment.
  """
  found = report.experiment_of(path)
  if found != experiment:
    raise ooc_jax.InputError(
        f'--{flag}={results.printable(str(path))} is of experiment'
        f' {results.printable(found)}: give a folder of {experiment}.'
    )
  return results.ResultsFolder.view(pathlib.Path(path))


def _check_same(
    first: results.ResultsFolder, second: results.ResultsFolder
) -> None:
  """Refuses folders of other weights or another dictionary."""
  ours, theirs = first.config, second.config
  names = [*_SAME]
  if ours['settings'].get('control') == 'random_weights':
    names.append('seed')
  for name in names:
    one, other = (x['settings'].get(name) for x in (ours, theirs))
    if one != other:
      raise ooc_jax.InputError(
          f'{results.printable(str(first.path))} has {name}={one!r} and'
          f' {results.printable(str(second.path))} {name}={other!r}: give'
          ' folders of the same features.'
      )
  common = set(ours['weights']) & set(theirs['weights'])
  if not common or any(
      ours['weights'][x] != theirs['weights'][x] for x in common
  ):
    raise ooc_jax.InputError(
        f'{results.printable(str(first.path))} and'
        f' {results.printable(str(second.path))} were read from other weights:'
        ' give folders of one model.'
    )
