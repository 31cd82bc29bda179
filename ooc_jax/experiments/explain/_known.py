"""What results folders say of a feature."""

from collections.abc import Iterator, Mapping
import dataclasses
import pathlib
from typing import Any

import numpy as np

from ooc_jax import results
from ooc_jax._errors import InputError
from ooc_jax._settings import settings_of
from ooc_jax._text import printable
from ooc_jax.experiments._settings import DictionarySettings
from ooc_jax.experiments.output_prediction import OutputPrediction
from ooc_jax.results import tables

_DEFAULT = 'results'
# What makes two runs ones of the same features.
_SAME = ('model', 'dictionary', 'control', *settings_of(DictionarySettings))


@dataclasses.dataclass(frozen=True)
class Known:
  """Rows of a feature in the runs that were found; {} where there is none.

  Attributes:
    folders: Experiment -> the name of its folder.
    labels: Of experiment 1.
    thresholds: Side -> measure -> the threshold of its layer.
    participation: In how many heads it takes part; {} without experiment 2.
    num_heads: Of the layer that reads it.
    validation: What the model's own forward pass did.
    tokens: Positions of the text of the validation.
    windows: Where it was largest.
  """

  folders: Mapping[str, str]
  labels: Mapping[str, Any]
  thresholds: Mapping[str, Mapping[str, float]]
  participation: Mapping[str, Any]
  num_heads: int
  validation: Mapping[str, Any]
  tokens: int
  windows: tuple[Mapping[str, Any], ...]


def known(
    config: OutputPrediction,
    layer: int,
    feature: int,
    where: str | None = None,
) -> Known:
  """Looks a feature up.

  Args:
    config: Names model and dictionary.
    layer: Of the dictionary.
    feature: Its row.
    where: A results folder of them, or one that holds some; None is
      `results/`, where what cannot be read is passed over.

  Raises:
    InputError: `where` holds no results of this dictionary, or damaged ones.
  """
  runs = _runs(config, where)
  folders = {name: run.path.name for name, run in runs.items()}
  found: dict[str, Any] = {
      'labels': {}, 'thresholds': {}, 'participation': {}, 'num_heads': 0,
      'validation': {}, 'tokens': 0, 'windows': (),
  }  # fmt: skip
  readers = {
      'output_prediction': _of_output,
      'attention_participation': _of_attention,
      'validation': _of_validation,
  }
  for name, read in readers.items():
    if name in runs:
      try:
        found |= read(runs[name], layer, feature)
      except (InputError, KeyError):
        if where is not None:
          raise
        folders.pop(name)  # Nobody asked for it.
  return Known(folders, **found)


def _runs(
    config: OutputPrediction, where: str | None
) -> dict[str, results.ResultsFolder]:
  """Experiment -> the run of this dictionary, the first by name."""
  own = dataclasses.asdict(config)
  found: dict[str, results.ResultsFolder] = {}
  for path in _candidates(pathlib.Path(where or _DEFAULT).expanduser()):
    try:
      run = results.ResultsFolder.view(path)
    except InputError:
      if where is not None and path == pathlib.Path(where).expanduser():
        raise
      continue
    settings = run.config.get('settings') or {}
    if all(
        settings.get(name) == own[name] for name in _SAME if name in settings
    ):
      found.setdefault(str(settings.get('experiment')), run)
  if where is not None and not found:
    raise InputError(
        f'{printable(where)} has no results of {config.dictionary} of'
        f' {config.model}; give another --results, or none.'
    )
  return found


def _candidates(folder: pathlib.Path) -> Iterator[pathlib.Path]:
  if (folder / 'config.json').is_file():
    yield folder
  try:
    children = sorted(x for x in folder.iterdir() if x.is_dir())
  except OSError:  # It is not there.
    return
  yield from (x for x in children if (x / 'config.json').is_file())


def _row(table: tables.Columns, **keys: int) -> dict[str, Any]:
  """The first row with these numbers; {} where there is none."""
  own = np.ones(len(table[next(iter(keys))]), bool)
  for name, value in keys.items():
    own &= np.asarray(table[name]) == value
  at = np.flatnonzero(own)
  if not len(at):
    return {}
  return {name: table[name][int(at[0])].as_py() for name in table.column_names}


def _of_output(
    run: results.ResultsFolder, layer: int, feature: int
) -> dict[str, Any]:
  summary = run.read_summary()
  labels = _row(
      run.stored_table(tables.LABELS_NAME), layer=layer, feature=feature
  )
  sides = {'output': summary, **(summary.get('sides') or {})}
  thresholds = {
      name: row.get('thresholds') or {}
      for name, side in sides.items()
      for row in side.get('layers') or ()
      if row.get('layer') == layer
  }
  return {'labels': labels, 'thresholds': thresholds}


def _of_attention(
    run: results.ResultsFolder, layer: int, feature: int
) -> dict[str, Any]:
  for attention in run.layers():
    if tables.dictionary_layer(run.stored_layer(attention)) == layer:
      row = _row(
          run.stored_table('participation'), layer=attention, feature=feature
      )
      heads = np.asarray(run.stored_table(tables.HEADS_NAME)['layer'])
      return {
          'participation': row,
          'num_heads': int((heads == attention).sum()),
      }
  return {}


def _of_validation(
    run: results.ResultsFolder, layer: int, feature: int
) -> dict[str, Any]:
  if not run.has_layer(layer):
    return {}
  summary = run.read_summary()
  tokens = next(
      (
          (row.get('health') or {}).get('tokens') or 0
          for row in summary.get('layers') or ()
          if row.get('layer') == layer
      ),
      0,
  )
  row = _row(run.stored_layer(layer), feature=feature)
  name, windows = tables.validation_windows_name(layer), ()
  if run.has_table(name):
    table = run.stored_table(name)
    windows = tuple(
        dict(zip(table.column_names, values, strict=True))
        for values in zip(
            *(table[x].to_pylist() for x in table.column_names), strict=True
        )
        if values[table.column_names.index('feature')] == feature
    )
  return {'validation': row, 'tokens': tokens, 'windows': windows}
