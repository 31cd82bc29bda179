"""Experiment 3 in a folder, from folders of the other two or with its own."""

from collections.abc import Collection, Mapping
import dataclasses
import os
import pathlib
from typing import Any

from jax.sharding import Mesh

from ooc_jax import results
from ooc_jax._errors import InputError
from ooc_jax._files import atomic_write
from ooc_jax._files import sha256_file
from ooc_jax._text import printable
from ooc_jax.dictionaries import OPTIONS
from ooc_jax.dictionaries import Dictionary
from ooc_jax.experiments import _runtime
from ooc_jax.experiments import attention_participation
from ooc_jax.experiments import output_prediction
from ooc_jax.experiments._processes import on_first_process
from ooc_jax.experiments._stages import stage
from ooc_jax.experiments.attention_participation import AttentionParticipation
from ooc_jax.experiments.output_prediction import OutputPrediction
from ooc_jax.experiments.semantic_attention._compute import SemanticTables
from ooc_jax.experiments.semantic_attention._compute import at_layers
from ooc_jax.experiments.semantic_attention._compute import dictionary_layers
from ooc_jax.experiments.semantic_attention._compute import tables_of
from ooc_jax.experiments.semantic_attention._config import SemanticAttention
from ooc_jax.experiments.semantic_attention._summarise import summarise
from ooc_jax.model import Model
from ooc_jax.results import tables as schemas

_Folder = str | os.PathLike[str]
# By which figures say what the labels are.
_RULE = ('rule', 'thresholds', 'alpha', 'null')
# Settings that make features the same; the model is told by its weights.
_SAME = ('dictionary', 'nan_rows', *OPTIONS, 'control', 'revision')


def run(
    config: SemanticAttention,
    *,
    out: _Folder,
    labels: OutputPrediction | _Folder | None = None,
    attention: AttentionParticipation | _Folder | None = None,
    model: str | os.PathLike[str] | Model | None = None,
    dictionaries: Mapping[int, Dictionary] | None = None,
    mesh: str | Mesh | None = 'auto',
    figures: bool | Collection[str] = True,
) -> _runtime.Run:
  """The experiment in a folder. Stopped at any moment, the same call resumes.

  Args:
    config: The settings of this experiment.
    out: Results folder, new or of the same run. What is run is left in it. Of
      several processes only the first one writes.
    labels: Settings of experiment 1 (its layers become those that attention
      reads), or the folder of a finished run; None is the default settings.
    attention: Settings of experiment 2, or the folder of a finished run.
    model: As of the other experiments, where something is run.
    dictionaries: As of the other experiments.
    mesh: As of the other experiments.
    figures: Whether to draw them, as PNG; or their formats, 'png' and 'pdf'.

  Returns:
    The folder and the summary.

  Raises:
    InputError: For anything that a user can cause.
  """
  out = pathlib.Path(out)
  if labels is None:
    labels = OutputPrediction()
  if attention is None:
    attention = AttentionParticipation()
  if isinstance(labels, OutputPrediction):
    labels = _runtime.named(labels, model, dictionaries)
  if isinstance(attention, AttentionParticipation):
    attention = _runtime.named(attention, model, dictionaries)
  settings = on_first_process(lambda: _settings(config, labels, attention))
  with _runtime.open_folder(out, settings) as folder:
    given = {
        'model': model,
        'dictionaries': dictionaries,
        'mesh': mesh,
        'figures': figures,
    }
    if isinstance(attention, AttentionParticipation):
      attention = attention_participation.run(
          attention, out=out / 'attention_participation', **given
      ).folder
    if isinstance(labels, OutputPrediction):
      layers = on_first_process(
          lambda: dictionary_layers(
              attention_participation.read_tables(
                  results.ResultsFolder.view(attention)
              )
          )
      )
      labels = output_prediction.run(
          at_layers(labels, layers), out=out / 'output_prediction', **given
      ).folder

    def finish(mine: results.ResultsFolder) -> dict[str, Any]:
      from ooc_jax import report  # Matplotlib is slow to import.

      predicted = _view(labels, 'output_prediction', 'labels')
      attended = _view(attention, 'attention_participation', 'attention')
      tables = _joined(predicted, attended, config)
      with stage('comparing the populations'):
        summary = summarise(tables, config)
      found = _runtime.finish(mine, summary, figures)
      for name in found['contexts']:
        rows = report.population_rows(mine.path, name)
        atomic_write(
            mine.path / f'populations_{name}.csv',
            report.csv_table(rows).encode(),
        )
      return found

    return _runtime.Run(out, folder.ask(finish))


def _settings(
    config: SemanticAttention,
    labels: OutputPrediction | _Folder,
    attention: AttentionParticipation | _Folder,
) -> dict[str, Any]:
  """What makes this run the one it is."""
  names = _named_settings(attention, 'attention_participation', 'attention')
  rules = _named_settings(labels, 'output_prediction', 'labels')
  return {
      'experiment': 'semantic_attention',
      **dataclasses.asdict(config),
      'labels': _identity(labels, 'output_prediction', 'labels'),
      'attention': _identity(attention, 'attention_participation', 'attention'),
      # By which figures call the run.
      **{name: names.get(name) for name in ('model', 'dictionary')},
      **{name: rules.get(name) for name in _RULE},
  }


def _named_settings(
    part: OutputPrediction | AttentionParticipation | _Folder,
    experiment: str,
    flag: str,
) -> Mapping[str, Any]:
  """Those of another experiment, or of its folder."""
  if isinstance(part, OutputPrediction | AttentionParticipation):
    return dataclasses.asdict(part)
  return _view(part, experiment, flag).config['settings']


def _identity(
    part: OutputPrediction | AttentionParticipation | _Folder,
    experiment: str,
    flag: str,
) -> Any:
  """What makes a run of another experiment that run, and no other."""
  if isinstance(part, OutputPrediction | AttentionParticipation):
    return dataclasses.asdict(part)
  path = _view(part, experiment, flag).path
  return [sha256_file(path / x) for x in ('config.json', 'summary.json')]


def _view(path: _Folder, experiment: str, flag: str) -> results.ResultsFolder:
  """The folder of a finished run of an experiment, to read.

  Raises:
    InputError: It is none, or of another experiment.
  """
  from ooc_jax import report  # Matplotlib is slow to import.

  found = report.experiment_of(path)
  if found != experiment:
    raise InputError(
        f'--{flag}={printable(str(path))} is of experiment'
        f' {printable(found)}: give a folder of {experiment}.'
    )
  return results.ResultsFolder.view(path)


def _joined(
    labels: results.ResultsFolder,
    attention: results.ResultsFolder,
    config: SemanticAttention,
) -> SemanticTables:
  """The populations of two folders.

  Raises:
    InputError: They are not of the same features.
  """
  _check_same(labels, attention)
  tables = attention_participation.read_tables(attention)
  hashes = {x['layer']: x['weights'] for x in labels.read_summary()['layers']}
  for features in tables.features.values():
    origin = schemas.dictionary_layer(features)
    if origin in hashes and hashes[origin] != schemas.weights_of(features):
      raise InputError(
          f'The dictionary of layer {origin} was read from other files in'
          f' {printable(str(labels.path))} than in'
          f' {printable(str(attention.path))}: run one of them again.'
      )
  table = labels.read_table(schemas.LABELS_NAME)
  return tables_of(table, tables, config)


def _check_same(
    labels: results.ResultsFolder, attention: results.ResultsFolder
) -> None:
  """Refuses folders of other weights or another dictionary."""
  ours, theirs = labels.config, attention.config
  names = [*_SAME]
  if ours['settings'].get('control') == 'random_weights':
    names.append('seed')
  for name in names:
    one, other = (x['settings'].get(name) for x in (ours, theirs))
    if one != other:
      raise InputError(
          f'{printable(str(labels.path))} has {name}={one!r} and'
          f' {printable(str(attention.path))} {name}={other!r}: give folders'
          ' of the same features.'
      )
  common = set(ours['weights']) & set(theirs['weights'])
  if not common or any(
      ours['weights'][x] != theirs['weights'][x] for x in common
  ):
    raise InputError(
        f'{printable(str(labels.path))} and {printable(str(attention.path))}'
        ' were read from other weights: give folders of one model.'
    )
