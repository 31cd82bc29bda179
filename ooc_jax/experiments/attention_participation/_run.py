"""Experiment 2 in a folder: resumed, and read again."""

from collections.abc import Collection, Mapping, Sequence
import contextlib
import dataclasses
import os
import pathlib
from typing import Any

from jax.sharding import Mesh

from ooc_jax import results
from ooc_jax.dictionaries import Dictionary
from ooc_jax.experiments import _runtime
from ooc_jax.experiments._devices import make_mesh
from ooc_jax.experiments._stages import progress
from ooc_jax.experiments._stages import stage
from ooc_jax.experiments._validated import attention_checks
from ooc_jax.experiments._validated import check_validation
from ooc_jax.experiments._validated import with_validation
from ooc_jax.experiments.attention_participation import _compute
from ooc_jax.experiments.attention_participation._config import (
    AttentionParticipation,
)
from ooc_jax.experiments.attention_participation._inputs import layer_inputs
from ooc_jax.experiments.attention_participation._summarise import summarise
from ooc_jax.model import Model
from ooc_jax.results import tables as schemas


def run(
    config: AttentionParticipation,
    *,
    out: str | os.PathLike[str],
    model: str | os.PathLike[str] | Model | None = None,
    dictionaries: Mapping[int, Dictionary] | None = None,
    mesh: str | Mesh | None = 'auto',
    figures: bool | Collection[str] = True,
    validation: str | os.PathLike[str] | None = None,
) -> _runtime.Run:
  """The experiment in a folder. Stopped at any moment, the same call resumes.

  Args:
    config: The settings.
    out: Results folder, new or of the same run. Of several processes only the
      first one writes.
    model: What `load_model` takes, or a loaded model, instead of the one that
      `config` names.
    dictionaries: As of `compute`, instead of the one that `config` names.
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
  devices = make_mesh(mesh)
  config = _runtime.named(config, model, dictionaries)
  loaded = _runtime.open_model(model, config, config.parts, devices)
  inputs = layer_inputs(config, dictionaries, loaded.config.num_layers)
  _compute.check_model(loaded, config)
  _compute.check_distances_fit(config, loaded.config, inputs)
  model_config = loaded.config
  settings = {
      'experiment': 'attention_participation',
      **dataclasses.asdict(config),
  }
  weights = _runtime.weight_hashes(loaded, dictionaries)
  with _runtime.open_folder(out, settings, weights, loaded.notes) as folder:
    folder.ask(check_validation(validation))
    missing = [x for x in inputs if not _is_done(folder, config, x)]
    if missing:
      computation = _compute.Computation(loaded, config, devices)
      with contextlib.closing(progress(missing)) as steps:
        for layer in steps:
          given = inputs[layer](computation.model, devices)
          tables = computation.tables(layer, given)
          if tables.nulls is not None:
            folder.write_table(schemas.nulls_name(layer), tables.nulls)
          folder.write_table(schemas.heads_name(layer), tables.heads)
          # A file of dictionaries is known once its layer is reached, so its
          # hash is kept with the layer and not in config.json.
          hashes = _runtime.file_hashes(given.dictionary.files)
          folder.write_layer(
              layer, schemas.with_weights(tables.features, hashes)
          )
      del computation
    del loaded  # What follows is made of tables, and needs no weights.

    def finish(mine: results.ResultsFolder) -> dict[str, Any]:
      tables = _stored(mine, tuple(inputs), _compute.about(model_config))
      with stage('finding who takes part'):
        summary = with_validation(
            summarise(tables, config), mine, validation, attention_checks
        )
      return _runtime.finish(mine, summary, figures)

    return _runtime.Run(pathlib.Path(out), folder.ask(finish))


def _is_done(
    folder: _runtime.SharedFolder, config: AttentionParticipation, layer: int
) -> bool:
  names = [schemas.heads_name(layer)]
  if config.null_kinds:
    names.append(schemas.nulls_name(layer))
  return folder.has_layer(layer) and all(map(folder.has_table, names))


def read_tables(folder: results.ResultsFolder) -> _compute.AttentionTables:
  """The tables of a finished run.

  Raises:
    InputError: It is not finished.
  """
  summary = folder.read_summary()
  return _stored(
      folder,
      [row['layer'] for row in summary['layers']],
      {name: summary[name] for name in ('num_layers', 'num_heads', 'tied')},
  )


def _stored(
    folder: results.ResultsFolder,
    layers: Sequence[int],
    about_model: Mapping[str, Any],
) -> _compute.AttentionTables:
  """The tables of these layers, each column read when it is needed.

  Of a large model all columns together are gigabytes.
  """
  nulls = {x: schemas.nulls_name(x) for x in layers}
  return _compute.AttentionTables(
      **about_model,
      features={x: folder.stored_layer(x) for x in layers},
      heads={x: folder.read_table(schemas.heads_name(x)) for x in layers},
      nulls={
          x: folder.stored_table(name)
          for x, name in nulls.items()
          if folder.has_table(name)
      },
  )
