"""Experiment 1 into a folder, which the same call resumes."""

from collections.abc import Collection, Mapping
import contextlib
import os
import pathlib
from typing import Any

from jax.sharding import Mesh

from ooc_jax import results
from ooc_jax.dictionaries import Dictionary
from ooc_jax.experiments import _runtime
from ooc_jax.experiments._frame import opened
from ooc_jax.experiments._stages import progress
from ooc_jax.experiments._stages import stage
from ooc_jax.experiments._validated import check_validation
from ooc_jax.experiments._validated import output_checks
from ooc_jax.experiments._validated import with_validation
from ooc_jax.experiments.output_prediction import _compute
from ooc_jax.experiments.output_prediction._config import OutputPrediction
from ooc_jax.experiments.output_prediction._summarise import summarise
from ooc_jax.model import Model
from ooc_jax.results import tables

EXPERIMENT = 'output_prediction'


def run(
    config: OutputPrediction,
    *,
    model: str | os.PathLike[str] | Model | None = None,
    dictionaries: Mapping[int, Dictionary] | None = None,
    out: str | os.PathLike[str],
    mesh: str | Mesh | None = 'auto',
    figures: bool | Collection[str] = True,
    validation: str | os.PathLike[str] | None = None,
) -> _runtime.Run:
  """The whole experiment.

  Args:
    config: The settings; all are written into the folder.
    model: A name, a path or a loaded model, instead of what the settings name.
    dictionaries: By layer, instead of those that the settings name.
    out: Results folder, new or of the same run. Of several processes only the
      first one writes.
    mesh: What `make_mesh` takes, the devices to spread over; the results are
      the same without.
    figures: Whether to draw them, as PNG; or their formats, 'png' and 'pdf'.
    validation: Folder of a validation of the same model and dictionary; by
      default one that is in the same folder as `out`.

  Returns:
    The folder and the summary.

  Raises:
    InputError: For anything that a user can cause.
  """
  with opened(
      EXPERIMENT,
      config,
      model=model,
      dictionaries=dictionaries,
      out=out,
      mesh=mesh,
  ) as (frame, loaded):
    config, folder, layers = frame.config, frame.folder, frame.layers
    folder.ask(check_validation(validation))
    nulls = {x: tables.directions_name(x) for x in _compute.null_layers(layers)}
    missing = frame.missing()
    unread = [x for x, name in nulls.items() if not folder.has_table(name)]
    if missing or unread:
      with stage('preparing tokens and their geometry'):
        isotropic = None
        if tables.ALL_LAYERS in unread:
          isotropic = _compute.isotropic_directions(
              config, loaded.config.embed_dim
          )
        reader = _compute.DictionaryReader(loaded, config, frame.devices)
      # Of the model that is read: its neurons are drawn anew with it.
      source = frame.source(reader.model)
      with contextlib.closing(progress(missing)) as steps:
        for layer in steps:
          dictionary = source[layer]
          # A file of dictionaries is known once its layer is reached, so its
          # hash is kept with the layer and not in config.json.
          weights = _runtime.file_hashes(dictionary.files)
          folder.write_layer(
              layer, tables.with_weights(reader.features(dictionary), weights)
          )
      # Last: whoever waits sees the first layer sooner.
      for layer in unread:
        whose = 'all layers' if layer == tables.ALL_LAYERS else f'layer {layer}'
        with stage(f'reading random directions of {whose}'):
          directions = reader.directions(layer, layers, source, isotropic)
        folder.write_table(nulls[layer], directions)
      del reader, source
    del loaded  # What follows is made of tables, and needs no weights.

    def finish(mine: results.ResultsFolder) -> dict[str, Any]:
      found = _compute.OutputTables(
          frame.num_layers,
          {x: mine.read_layer(x) for x in layers},
          {x: mine.read_table(name) for x, name in nulls.items()},
      )
      with stage('finding labels and intervals'):
        summary = with_validation(
            summarise(found, config), mine, validation, output_checks
        )
      return _runtime.finish(mine, summary, figures)

    return _runtime.Run(pathlib.Path(out), folder.ask(finish))
