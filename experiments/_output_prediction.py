r"""Experiment 1: which features of a dictionary predict output tokens.

Every feature's decoder direction is read through the final norm and the
unembedding; a feature is semantic where its top tokens go together. From the
weights alone: no text, no activation.

Example:
  python experiments/output_prediction.py --model=smollm2 \
      --weights=SmolLM2-135M-Instruct.Q4_1.gguf --out=results/smollm2

Leaves a folder with one table a layer, labels, a summary and a figure. Stopped
at any moment, the same command continues.
"""

from collections.abc import Mapping
import dataclasses
import pathlib
import time
from typing import Any

import _app
import _command
import _dictionary_parts
import _finish
import _labels
import _output_flags
import _plan
import _processes
import _reader
import _shared_folder
import _sides
from _studied import Results
from _studied import load_studied
from _study import Study
from _study import parse_layers
import _topology
import pyarrow as pa

from ooc_jax import report
from ooc_jax import results

_EXPERIMENT = 'output_prediction'


def run(
    study: Study,
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
  config = model.config
  layers = parse_layers(study.layers, config.num_layers)
  sides = _sides.parse_sides(study.sides, config.tied)
  settings = {'experiment': _EXPERIMENT, **dataclasses.asdict(study)}
  with _shared_folder.open_folder(
      out,
      settings,
      provenance=_command.provenance(),
      weights=lambda: _reader.hashes(model.files),
  ) as folder:
    nulls = {x: _null_name(x) for x in _reader.null_layers(study, layers)}
    missing = [layer for layer in layers if not folder.has_layer(layer)]
    unread = [x for x, name in nulls.items() if not folder.has_table(name)]
    if missing or unread:
      reader = _reader.Reader(model, study, sides, devices)
      for layer in unread:
        folder.write_table(nulls[layer], reader.null(layer))
      for layer in _command.progress(missing, len(missing), 'layer'):
        folder.write_layer(layer, reader.table(layer))
      del reader
    del model  # What follows is made of tables, and needs no weights.

    def finish(mine: results.ResultsFolder) -> dict[str, Any]:
      null = pa.concat_tables([mine.read_table(x) for x in nulls.values()])
      tables = {layer: mine.read_layer(layer) for layer in layers}
      return _finish.finish(mine, study, config.num_layers, tables, null)

    return Results(out, folder.ask(finish))


def _null_name(layer: int) -> str:
  """Of the file of the random directions of a layer."""
  every = layer == _labels.ALL_LAYERS
  return 'directions' if every else f'directions_{layer:02d}'


def parts_of(study: Study) -> tuple[str, ...]:
  """What to load of the model."""
  # Whether it is tied is not known yet; 'embedding' is asked for at no cost.
  sides = _sides.parse_sides(study.sides, tied=False)
  needed = (*_sides.parts(sides), *_dictionary_parts.parts(study.dictionary))
  return tuple(dict.fromkeys(needed))


def _findings(study: Study, summary: Mapping[str, Any]) -> list[str]:
  """What the run found, in sentences."""
  limits, total = summary['thresholds'], summary['total']
  low, high = total['excess_low'], total['excess_high']
  shape = summary['shape']
  p = '' if shape['p_value'] is None else f' (p = {shape["p_value"]:.2g})'
  lines = [
      (
          f'Semantic: {study.rule} of edit distance <'
          f' {limits["levenshtein"]:.3f}, cosine > {limits["cosine"]:.3f},'
          f' entropy < {limits["entropy"]:.3f} nats ({study.thresholds}).'
      ),
      (
          f'Random directions ({study.null}): {total["null_share"]:.1%} are'
          f' called semantic; excess {total["excess"]:.1%} ({low:.1%} to'
          f' {high:.1%}).'
      ),
      f'Over depth: {shape["name"]}{p}.',
  ]
  for name, side in summary['sides'].items():
    row, agreement = side['total'], side['agreement']
    lines.append(
        f'{name.capitalize()} side: {row["semantic"]["share"]:.1%} semantic;'
        f' {agreement["both"]:.1%} on both sides,'
        f' {agreement["shared_tokens"]:.1%} of top tokens shared.'
    )
  return lines


def main() -> None:
  start = time.monotonic()
  study, weights = _command.study_from_flags(_output_flags.FLAGS)
  if _command.DRY_RUN.value:
    print('\n'.join(_plan.plan(study, parts_of(study), weights)))
    return
  if _output_flags.PLAN.value is not None:
    lines = _topology.topology_plan(
        study,
        parts_of(study),
        weights,
        _output_flags.PLAN.value,
        _app.MESH.value,
    )
    print('\n'.join(lines))
    return
  _processes.join()
  out = _command.out_folder(_EXPERIMENT, study.dictionary)
  outcome = run(study, out, weights, _app.MESH.value)
  if not _processes.leads():
    return
  summary = outcome.summary
  print(report.header())
  for row in (*summary['layers'], summary['total']):
    print(report.layer_line(row))
  print()
  print('\n'.join(_findings(study, summary)))
  if summary['examples']:
    print('\nMost coherent features (lowest mean rank in the three measures):')
    for line in report.example_lines(summary['examples']):
      print(line)
  print(
      f'\n{outcome.folder}: features/, labels.parquet, summary.json,'
      f' figures/ ({time.monotonic() - start:.0f} s)'
  )


if __name__ == '__main__':
  _app.start(main)
