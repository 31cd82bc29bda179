r"""Experiment 2: which features of a dictionary take part in attention.

The directions at the input of every layer are sent through the queries and
keys of its heads, as if each were the whole stream, and all are scored with
all. From the weights alone: no text, no activation.

Example:
  python experiments/attention_participation.py --model=smollm2 \
      --weights=SmolLM2-135M-Instruct.Q4_1.gguf --out=results/smollm2-attention

Leaves a folder with one table a layer, a table of heads, a sweep over
thresholds, a summary and figures. Stopped at any moment, the same command
continues.
"""

import dataclasses
import pathlib
import time
from typing import Any

import _app
import _attention_finish
import _attention_flags
from _attention_reader import AttentionReader
from _attention_study import AttentionStudy
from _attention_study import attention_layers
import _attention_text
import _command
import _dictionary_parts
import _plan
import _processes
import _reader
import _shared_folder
from _studied import Results
from _studied import load_studied

import ooc_jax
from ooc_jax import results

_EXPERIMENT = 'attention_participation'


def run(
    study: AttentionStudy,
    out: pathlib.Path,
    weights: str | None = None,
    mesh: str | None = None,
) -> Results:
  """The experiment. Touches no flag, so a test or a notebook may call it.

  Args:
    study: The settings.
    out: Results folder, new or of the same run. Of several processes only the
      first one writes.
    weights: A local copy of the model, instead of the one `study` names.
    mesh: 'feature:4,vocab:2', the devices to spread over; the results are the
      same without.

  Returns:
    The folder and the summary.

  Raises:
    InputError: For anything that a user can cause.
  """
  model, devices = load_studied(
      weights or study.model, parts_of(study), study.revision, mesh
  )
  layers = attention_layers(study, model.config.num_layers)
  if not layers:
    raise ooc_jax.InputError(
        f'{study.dictionary} has nothing at the input of any layer of'
        f' {study.model}; give another --dictionary.'
    )
  if study.at_least > model.config.num_heads:
    raise ooc_jax.InputError(
        f'at_least={study.at_least}: {study.model} has'
        f' {model.config.num_heads} heads a layer; choose no more.'
    )
  settings = {'experiment': _EXPERIMENT, **dataclasses.asdict(study)}
  with _shared_folder.open_folder(
      out,
      settings,
      provenance=_command.provenance(),
      weights=lambda: _reader.hashes(model.files),
  ) as folder:
    missing = [x for x in layers if not _is_done(folder, study, x)]
    if missing:
      reader = AttentionReader(model, study, devices)
      for layer in _command.progress(missing, len(missing), 'layer'):
        tables = reader.tables(layer)
        if tables.nulls is not None:
          folder.write_table(_attention_finish.nulls_name(layer), tables.nulls)
        folder.write_table(_attention_finish.heads_name(layer), tables.heads)
        folder.write_layer(layer, tables.features)

    def finish(mine: results.ResultsFolder) -> dict[str, Any]:
      return _attention_finish.finish(mine, study, model.config, layers)

    return Results(out, folder.ask(finish))


def _is_done(
    folder: _shared_folder.SharedFolder, study: AttentionStudy, layer: int
) -> bool:
  names = [_attention_finish.heads_name(layer)]
  if study.null_kinds:
    names.append(_attention_finish.nulls_name(layer))
  return folder.has_layer(layer) and all(map(folder.has_table, names))


def parts_of(study: AttentionStudy) -> tuple[str, ...]:
  """What to load of the model."""
  needed = ['attention', 'norms', 'embedding', 'unembedding']
  for name in (study.dictionary, study.first):
    needed += _dictionary_parts.parts(name)
  return tuple(dict.fromkeys(needed))


def main() -> None:
  start = time.monotonic()
  study, weights = _command.study_from_flags(
      _attention_flags.FLAGS, AttentionStudy
  )
  if _command.DRY_RUN.value:
    lines = _plan.attention_plan(study, parts_of(study), weights)
    print('\n'.join(lines))
    return
  _processes.join()
  out = _command.out_folder(_EXPERIMENT, study.dictionary)
  outcome = run(study, out, weights, _app.MESH.value)
  if not _processes.leads():
    return
  print('\n'.join(_attention_text.report_lines(study, outcome.summary)))
  seconds = time.monotonic() - start
  print(
      f'\n{outcome.folder}: features/, heads.parquet, participation.parquet,'
      ' sweep.parquet, shapes.parquet, summary.json, figures/'
      f' ({seconds:.0f} s)'
  )


if __name__ == '__main__':
  _app.start(main)
