"""The validation into a folder, which the same call resumes."""

from collections.abc import Callable, Collection, Mapping
import contextlib
import os
import pathlib
from typing import Any

from jax.sharding import Mesh
import pyarrow as pa

from ooc_jax import results
from ooc_jax import validation
from ooc_jax.dictionaries import Dictionary
from ooc_jax.experiments import _runtime
from ooc_jax.experiments._first import before_first
from ooc_jax.experiments._first import first_name
from ooc_jax.experiments._frame import Frame
from ooc_jax.experiments._frame import opened
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
    figures: bool | Collection[str] = True,
) -> _runtime.Run:
  """The whole validation.

  Args:
    config: The settings; all are written into the folder.
    model: A name, a path or a loaded model, instead of what the settings name.
    dictionaries: By layer, instead of those that the settings name.
    out: Results folder, new or of the same run. Layers that are there are not
      made again.
    mesh: As of the other experiments.
    figures: Whether to draw them, as PNG; or their formats, 'png' and 'pdf'.

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
    heads = {x: tables.validation_heads_name(x) for x in (None, *layers)}
    missing = frame.missing()
    first = _first(frame)
    if folder.has_table(heads[None]):
      first = None
    if missing or first:
      with stage('reading the corpus'):
        validator = _compute.Validator(loaded, config)
      source = frame.source(validator.model)
      if first is not None:
        found = validator.heads(first(validator.model))
        if found is not None:
          folder.write_table(heads[None], found)
      with contextlib.closing(progress(missing)) as steps:
        for layer, found in validator.layers(
            missing, source, lambda _, steps=steps: steps
        ):
          for name, table in (
              (tables.validation_null_name(layer), found.null),
              (tables.validation_map_name(layer), found.effects),
              (tables.validation_windows_name(layer), found.windows),
              (heads[layer], found.heads),
          ):
            if table is not None:
              folder.write_table(name, table)
          # A layer counts as done once this is there, so it is the last.
          folder.write_layer(layer, found.features)
      del validator, source
    model_config = loaded.config
    del loaded

    def finish(mine: results.ResultsFolder) -> dict[str, Any]:
      found = _compute.ValidationTables(
          frame.num_layers,
          {
              x: _compute.LayerTables(
                  mine.read_layer(x),
                  mine.read_table(tables.validation_null_name(x)),
                  mine.read_table(tables.validation_map_name(x)),
                  heads=_read(mine, heads[x]),
              )
              for x in layers
          },
          _read(mine, heads[None]),
      )
      with stage('finding scores and intervals'):
        summary = summarise(found, config)
      cost = _cost(summary.summary, model_config, config)
      summary = Summary(summary.tables, {**summary.summary, 'cost': cost})
      return _runtime.finish(mine, summary, figures)

    return _runtime.Run(pathlib.Path(out), folder.ask(finish))


def _read(folder: results.ResultsFolder, name: str) -> pa.Table | None:
  return folder.read_table(name) if folder.has_table(name) else None


def _first(
    frame: Frame[Validation],
) -> Callable[[Model], Dictionary] | None:
  """What loads the dictionary before layer 0, where there is one."""
  config = frame.config
  if not config.attention_windows:
    return None
  if frame.given is not None:
    own = frame.given.get(-1)
    return None if own is None else lambda _: before_first(own)
  name = first_name(config.dictionary, config.first)
  if name is None:
    return None
  return lambda model: before_first(
      _runtime.stored_dictionary(config, name, 0, model, frame.devices)
  )


def _cost(
    summary: Mapping[str, Any], model_config: ModelConfig, config: Validation
) -> dict[str, float | int]:
  """What either side took: FLOPs by formula, and seconds as it was run.

  Seconds are those of whoever made a layer, compiling apart; FLOPs are of one
  pass over the text, and of both lenses.
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
      'compile_seconds': sum(row['health']['compile_seconds'] for row in rows),
  }
