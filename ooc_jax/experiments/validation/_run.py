"""The validation into a folder, which the same call resumes."""

from collections.abc import Mapping
import contextlib
import dataclasses
import os
import pathlib
from typing import Any

from jax.sharding import Mesh

from ooc_jax import results
from ooc_jax import validation
from ooc_jax.dictionaries import Dictionary
from ooc_jax.experiments import _runtime
from ooc_jax.experiments._devices import make_mesh
from ooc_jax.experiments._settings import chosen_layers
from ooc_jax.experiments._settings import parse_layers
from ooc_jax.experiments._stages import progress
from ooc_jax.experiments._stages import stage
from ooc_jax.experiments._summary import Summary
from ooc_jax.experiments.validation import _compute
from ooc_jax.experiments.validation._config import Validation
from ooc_jax.experiments.validation._summarise import summarise
from ooc_jax.model import Model
from ooc_jax.model import ModelConfig
from ooc_jax.results import tables

EXPERIMENT = 'validation'


def run(
    config: Validation,
    *,
    model: str | os.PathLike[str] | Model | None = None,
    dictionaries: Mapping[int, Dictionary] | None = None,
    out: str | os.PathLike[str],
    mesh: str | Mesh | None = 'auto',
    figures: bool = True,
) -> _runtime.Run:
  """The whole validation.

  Args:
    config: The settings; all are written into the folder.
    model: A name, a path or a loaded model, instead of what the settings name.
    dictionaries: By layer, instead of those that the settings name.
    out: Results folder, new or of the same run. Layers that are there are not
      made again.
    mesh: As of the other experiments.
    figures: Whether to draw them.

  Returns:
    The folder and the summary.

  Raises:
    InputError: For anything that a user can cause.
  """
  devices = make_mesh(mesh)
  config = _runtime.named(config, model, dictionaries)
  loaded = _runtime.open_model(model, config, config.parts, devices)
  num_layers = loaded.config.num_layers
  settings = {'experiment': EXPERIMENT, **dataclasses.asdict(config)}
  if dictionaries is None:
    layers = parse_layers(config.layers, num_layers)
  else:
    layers = chosen_layers(config.layers, dictionaries, num_layers)
  weights = _runtime.weight_hashes(loaded, dictionaries)
  with _runtime.open_folder(out, settings, weights, loaded.notes) as folder:
    missing = [x for x in layers if not folder.has_layer(x)]
    if missing:
      with stage('reading the corpus'):
        validator = _compute.Validator(loaded, config)
      source = dictionaries
      if source is None:
        source = _runtime.StoredDictionaries(
            config, layers, validator.model, devices
        )
      with contextlib.closing(progress(missing)) as steps:
        for layer, found in validator.layers(
            missing, source, lambda _, steps=steps: steps
        ):
          for name, table in (
              (tables.validation_null_name(layer), found.null),
              (tables.validation_map_name(layer), found.effects),
              (tables.validation_windows_name(layer), found.windows),
              (tables.validation_heads_name(layer), found.heads),
          ):
            if table is not None:
              folder.write_table(name, table)
          # A layer counts as done once this is there, so it is the last.
          folder.write_layer(layer, found.features)
      del validator, source
    model_config = loaded.config
    del loaded

    heads = {x: tables.validation_heads_name(x) for x in layers}

    def finish(mine: results.ResultsFolder) -> dict[str, Any]:
      found = _compute.ValidationTables(
          num_layers,
          {
              x: _compute.LayerTables(
                  mine.read_layer(x),
                  mine.read_table(tables.validation_null_name(x)),
                  mine.read_table(tables.validation_map_name(x)),
                  heads=mine.read_table(heads[x])
                  if mine.has_table(heads[x])
                  else None,
              )
              for x in layers
          },
      )
      with stage('finding scores and intervals'):
        summary = summarise(found, config)
      cost = _cost(summary.summary, model_config, config)
      summary = Summary(summary.tables, {**summary.summary, 'cost': cost})
      return _runtime.finish(mine, summary, figures)

    return _runtime.Run(pathlib.Path(out), folder.ask(finish))


def _cost(
    summary: Mapping[str, Any], model_config: ModelConfig, config: Validation
) -> dict[str, float | int]:
  """What either side took: FLOPs by formula, and seconds as it was run.

  Seconds are those of whoever made a layer, and count compiling; FLOPs are of
  one pass over the text, and of both lenses.
  """
  rows = summary['layers']
  own = validation.cost(
      model_config,
      [row['features'] for row in rows],
      # The first of each window is not counted there.
      tokens=rows[0]['health']['tokens'] * config.length // (config.length - 1),
      window=config.length,
      encoded=rows[0]['rare'] is not None,
  )
  return {
      'tokens': own.tokens,
      'text_flops': own.activations,
      'text_seconds': sum(row['health']['text_seconds'] for row in rows),
      'lens_flops': own.output_lens + own.input_lens,
      'lens_seconds': sum(row['health']['lens_seconds'] for row in rows),
  }
