"""Which runs are exported, and which of their features."""

from collections.abc import Mapping, Sequence
import pathlib
import re
from typing import Any

import numpy as np

from ooc_jax import explore
from ooc_jax import results
from ooc_jax._errors import InputError
from ooc_jax._text import printable

Keys = Sequence[tuple[int, int]]  # Layer of the dictionary, and number.
_FEATURE = re.compile(r'\s*(\d{1,6})/(\d{1,9})\s*')
# What says that top tokens go together, turned so that low does.
_MEASURES = {'levenshtein': 1.0, 'cosine': -1.0}


def study_of(folders: Sequence[str]) -> explore.Study:
  """The runs of one dictionary.

  Args:
    folders: Results folders, or one that holds them.

  Raises:
    InputError: There are several dictionaries, or a run cannot be read.
  """
  studies = explore.Library(folders).studies()
  if len(studies) > 1:
    names = ', '.join(
        printable(str(run.path))
        for study in studies.values()
        for run in list(study.runs.values())[:1]
    )
    raise InputError(
        f'There are runs of {len(studies)} dictionaries: {names}; name the'
        ' folders of one.'
    )
  (study,) = studies.values()
  for run in study.runs.values():
    _check(run)
  return study


def _check(run: explore.Run) -> None:
  name = printable(str(run.path))
  if not run.config:
    raise InputError(f'{run.problems[0].removesuffix(".")}; run it again.')
  schema = run.config.get('schema')
  if schema != results.SCHEMA_VERSION:
    raise InputError(
        f'{name} has results of schema {printable(str(schema), 20)}, and this'
        f' ooc_jax reads {results.SCHEMA_VERSION}: run it again, or export it'
        ' with the version that wrote it.'
    )
  files = run.layer_files()
  lost = sorted(set(files) - set(explore.whole(files)))
  if lost:
    raise InputError(
        f'{name}: the file of layer {lost[0]} is empty or damaged; delete it'
        ' and run again.'
    )
  if run.summary:
    return
  if not is_unfinished(run):
    raise InputError(f'{name}: summary.json is damaged; run it again.')
  if not files:
    raise InputError(
        f'{name} has no finished layer yet: the command that began it'
        ' continues it.'
    )


def is_unfinished(run: explore.Run) -> bool:
  """Whether a run has not come to its end."""
  return not (run.path / 'summary.json').exists()


def output_run(study: explore.Study, what: str) -> explore.Run:
  """The run of experiment 1.

  Raises:
    InputError: There is none; `what` is what needs it.
  """
  if study.output is None:
    raise InputError(
        f'{what} needs a run of output_prediction, and there is none of this'
        ' dictionary among the folders: give its folder too.'
    )
  return study.output


def features_of(
    study: explore.Study, features: Sequence[str] | None, best: int | None
) -> Keys | None:
  """The features that settings ask for; None for all.

  Raises:
    InputError: One is not there, or is no 'LAYER/NUMBER'.
  """
  if features is not None and best is not None:
    raise InputError('--features and --best exclude each other; leave one out.')
  if best is not None:
    output_run(study, '--best')
    return [
        (layer, feature)
        for layer in sizes(study)
        for feature in _best(study, layer, best)
    ]
  if features is None:
    return None
  known = sizes(study)
  found = {}
  for text in features:
    match = _FEATURE.fullmatch(text)
    if match is None:
      raise InputError(
          f'--features: {printable(text, 40)!r} is no feature; write'
          " 'LAYER/NUMBER', with commas between them."
      )
    layer, feature = int(match[1]), int(match[2])
    if layer not in known:
      raise InputError(
          f'There is no layer {layer} in these results; they have'
          f' {", ".join(map(str, known))}.'
      )
    if feature >= known[layer]:
      raise InputError(
          f'There is no feature {feature} in layer {layer}, which has'
          f' {known[layer]:,}.'
      )
    found[layer, feature] = None
  if not found:
    raise InputError('--features names none; leave it out, or name some.')
  return list(found)


def sizes(study: explore.Study) -> dict[int, int]:
  """Layer of the dictionary -> its features, as far as runs know them."""
  if study.output is not None:
    return explore.counts(study.output.layer_files())
  if study.attention is not None:
    rows = explore.counts(study.attention.layer_files())
    origins = explore.attention_layers(study)
    return {origins[x]: rows[x] for x in sorted(origins)}
  if study.validation is not None:
    return explore.counts(study.validation.layer_files())
  return {}


def _best(study: explore.Study, layer: int, count: int) -> list[int]:
  rank = np.zeros(sizes(study)[layer])
  for measure, sign in _MEASURES.items():
    values = explore.layer_column(study, layer, measure)
    if values.size:
      order = np.argsort(sign * values, kind='stable')
      rank[order] += np.arange(len(rank))
  labels = _labels(study, layer)
  coherent = labels.get('coherent', np.zeros(len(rank), bool))
  p = labels.get('p_value', np.zeros(len(rank)))
  return np.lexsort((rank, p, ~coherent))[:count].tolist()


def _labels(study: explore.Study, layer: int) -> Mapping[str, Any]:
  """The labels of the features of a layer, in order, as far as known."""
  path = None if study.output is None else study.output.file('labels')
  if path is None:
    return {}
  table = results.StoredTable(path)
  own = np.asarray(table['layer']) == layer
  order = np.argsort(np.asarray(table['feature'])[own])
  return {
      name: np.asarray(table[name])[own][order]
      for name in ('coherent', 'p_value')
      if name in table.column_names
  }


def rows_of(
    path: pathlib.Path, features: Sequence[int], columns: Sequence[str]
) -> list[dict[str, Any]]:
  """Some columns of some features of a layer, those that the file has.

  Raises:
    InputError: The file is damaged.
  """
  table = results.StoredTable(path)
  names = [x for x in columns if x in table.column_names]
  at = {x: i for i, x in enumerate(table['feature'].to_pylist())}
  lists = {x: table[x] for x in names}
  return [
      {name: values[at[x]].as_py() for name, values in lists.items()}
      for x in features
  ]
