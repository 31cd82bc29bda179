"""A page from results folders, and the scores of what it saved."""

from collections.abc import Mapping, Sequence
import dataclasses
import os
import pathlib
from typing import Any

import numpy as np

from ooc_jax import circuits
from ooc_jax import measures
from ooc_jax import report
from ooc_jax._errors import InputError
from ooc_jax._files import atomic_write
from ooc_jax._files import make_folder
from ooc_jax._files import write_json
from ooc_jax._settings import settings_of
from ooc_jax._text import printable
from ooc_jax.dictionaries import from_arrays
from ooc_jax.experiments import _runtime
from ooc_jax.experiments import output_prediction
from ooc_jax.experiments.intrusion import _page
from ooc_jax.experiments.intrusion import _score
from ooc_jax.experiments.intrusion._items import Item
from ooc_jax.experiments.intrusion._items import TokenList
from ooc_jax.experiments.intrusion._items import by_frequency
from ooc_jax.experiments.intrusion._items import draw_items
from ooc_jax.experiments.intrusion._items import to_json
from ooc_jax.experiments.output_prediction import OutputPrediction
from ooc_jax.model import Model
from ooc_jax.results import ResultsFolder
from ooc_jax.results import tables

KINDS = ('weights', 'activations', 'random')
_EXPERIMENTS = ('output_prediction', 'validation')
_Folder = str | os.PathLike[str]
_Lists = Mapping[int | None, Sequence[TokenList]]


def make(
    folder: _Folder,
    *,
    out: _Folder,
    model: str | os.PathLike[str] | Model | None = None,
    items: int = 24,
    seed: int = 0,
) -> list[Item]:
  """Writes intrusion.html and key.json.

  Args:
    folder: Of a finished run of the validation, or of experiment 1, which has
      no lists by activations.
    out: Where to write.
    model: A name, a path or a loaded model, instead of what the run names: its
      unembedding reads the random directions.
    items: Of each kind of list.
    seed: Of all choices.

  Returns:
    The items, as they are on the page.

  Raises:
    InputError: The folder is of another experiment or not finished, the model
      cannot be read, or there are too few tokens to ask about.
  """
  experiment = report.experiment_of(folder)
  if experiment not in _EXPERIMENTS:
    raise InputError(
        f'{printable(str(folder))} is of experiment {printable(experiment)};'
        f' give a folder of {" or ".join(_EXPERIMENTS)}.'
    )
  opened = ResultsFolder.view(folder)
  lists: dict[str, _Lists]
  if experiment == 'validation':
    lists = _by_validation(opened)
  else:
    lists = {'weights': _by_weights(opened)}
  lists['random'] = _random(opened, model, max(8 * items, 64), seed)
  drawn = draw_items(lists, items, seed)
  if not drawn:
    raise InputError(
        f'{printable(str(folder))} has no feature with four different top'
        ' tokens; give a run with more tokens (--k).'
    )
  path = pathlib.Path(out)
  make_folder(path, parents=True)
  key = {'page': _page.page_name(drawn), 'items': to_json(drawn)}
  # First the key: a page without one cannot be scored.
  write_json(path / 'key.json', key)
  atomic_write(path / 'intrusion.html', _page.page(drawn).encode())
  return drawn


def _by_weights(folder: ResultsFolder) -> _Lists:
  labels = folder.read_table(tables.LABELS_NAME)
  layer, feature, semantic = (
      labels[x].to_numpy(zero_copy_only=False)
      for x in ('layer', 'feature', 'semantic')
  )
  found: dict[int | None, Sequence[TokenList]] = {}
  for number in folder.layers():
    own = layer == number
    label = dict(
        zip(feature[own].tolist(), semantic[own].tolist(), strict=True)
    )
    found[number] = _token_lists(folder.read_layer(number), label)
  return found


def _by_validation(folder: ResultsFolder) -> dict[str, _Lists]:
  """Top tokens of the lens, and the tokens at which a feature peaks."""
  weights: dict[int | None, Sequence[TokenList]] = {}
  activations: dict[int | None, Sequence[TokenList]] = {}
  for layer in folder.layers():
    table = folder.read_layer(layer)
    columns = ('feature', 'semantic_weights', 'lens_tokens', 'peak_tokens')
    rows = list(
        zip(*(table[name].to_pylist() for name in columns), strict=True)
    )
    weights[layer] = [
        TokenList(feature, label, tuple(lens))
        for feature, label, lens, _ in rows
    ]
    activations[layer] = [
        # Where it fires in few windows, the last have no token.
        TokenList(feature, label, by_frequency(x for x in peaks if x))
        for feature, label, _, peaks in rows
    ]
  return {'weights': weights, 'activations': activations}


def _token_lists(table: Any, label: Mapping[int, bool]) -> list[TokenList]:
  return [
      TokenList(i, label.get(i), tuple(tokens))
      for i, tokens in zip(
          table['feature'].to_pylist(),
          table['top_tokens'].to_pylist(),
          strict=True,
      )
  ]


def _random(
    folder: ResultsFolder,
    model: str | os.PathLike[str] | Model | None,
    size: int,
    seed: int,
) -> _Lists:
  """Random directions, read as the run read its features."""
  names = settings_of(OutputPrediction)
  settings = {
      name: value
      for name, value in folder.config['settings'].items()
      if name in names
  }
  config = dataclasses.replace(
      OutputPrediction(**settings),
      dictionary='random',
      layers='all',
      readouts='output',
      # That of the run may never have been tested on this device.
      kernel='xla',
      # Only tokens are wanted, no labels.
      thresholds='null',
      null_size=100,
      layer_null_size=100,
  )
  loaded = _runtime.open_model(model, config, config.parts, None)
  rows = circuits.to_host(
      measures.isotropic_directions(
          size, loaded.config.embed_dim, seed=seed + 1
      )
  )
  rows = np.asarray(rows, np.float32)
  directions = from_arrays(rows, layer=0, name='random')
  found = output_prediction.compute(loaded, {0: directions}, config)
  return {None: _token_lists(found.features[0], {})}


def score_files(
    files: Sequence[_Folder], out: _Folder
) -> tuple[list[_score.ScoreRow], _score.Answers]:
  """Scores saved answers, and leaves scores.csv beside the page.

  Args:
    files: One a rater.
    out: Folder of the page.

  Raises:
    InputError: As of `read_answers`, or there is no page.
  """
  key = _score.read_key(out)
  answers = _score.read_answers(files, key)
  rows = _score.score(key['items'], answers)
  csv = report.csv_table(_score.score_rows(rows))
  atomic_write(pathlib.Path(out) / 'scores.csv', csv.encode())
  return rows, answers


def text(items: Sequence[Item]) -> list[str]:
  """What is printed of a page."""
  kinds = ', '.join(
      f'{sum(x.kind == kind for x in items)} of {kind}'
      for kind in KINDS
      if any(x.kind == kind for x in items)
  )
  layers = sorted({x.layer for x in items if x.layer is not None})
  semantic = sum(bool(x.semantic) for x in items)
  return [
      (
          f'{len(items)} items: {kinds}; layers {", ".join(map(str, layers))};'
          f' {semantic} of semantic features.'
      ),
      'Give raters intrusion.html alone: key.json has the answers.',
  ]
