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

from collections.abc import Sequence
import dataclasses
import os
import pathlib
import time
from typing import Any

import _app
import _command
import _plan
from _study import Study
from _study import parse_layers
from _study import parse_thresholds
import _summary
import numpy as np
import pyarrow as pa

import ooc_jax
from ooc_jax import measures
from ooc_jax import report
from ooc_jax import results

_EXPERIMENT = 'output_prediction'
# Below the level at which tokens are masked: what is left is still reported.
_SUSPECT_COSINE = 0.5
# What a dictionary needs of the model beside the unembedding.
_PARTS = {
    'mlp': ('mlp', 'norms'),
    'tokens': ('embedding',),
    'random': (),
    # By the hook of a release: head outputs are written through W_O, and
    # transcoders read through a norm. The other hooks are of the stream.
    'attn_z': ('attention', 'norms'),
    'mlp_in': ('norms',),
}
_COLUMNS = {
    'top_ids': 'token ids of the largest logits',
    'top_tokens': 'their text',
    'top_logits': 'their logits',
    'bottom_ids': 'token ids of the smallest logits',
    'bottom_tokens': 'their text',
    'bottom_logits': 'their logits',
    'mean': 'of the logits over the tokens that count',
    'std': 'of the logits over the tokens that count',
    'skewness': 'of the logits over the tokens that count',
    'kurtosis': 'excess, of the logits over the tokens that count',
    'entropy': 'of the softmax over the tokens that count, nats',
    'top_mass': 'probability of the top tokens',
    'top_entropy': 'of the top tokens renormalised, nats',
    'levenshtein': 'mean pairwise edit distance over the longer length',
    'cosine': 'mean pairwise cosine of the top tokens in the token space',
    'undertrained': 'how many of the top tokens look under-trained',
}


@dataclasses.dataclass(frozen=True)
class Results:
  """Where the run left its folder, and its `summary.json`."""

  folder: pathlib.Path
  summary: dict[str, Any]


def run(study: Study, out: pathlib.Path, weights: str | None = None) -> Results:
  """The experiment. Touches no flag, so a test or a notebook may call it.

  Args:
    study: The settings.
    out: Results folder, new or of the same run.
    weights: A local copy of the model, instead of the one `study` names.

  Returns:
    The folder and the summary.

  Raises:
    InputError: For anything that a user can cause.
  """
  model = ooc_jax.load_model(
      study.model if weights is None else weights,
      parts=parts_of(study.dictionary),
      revision=study.revision,
  )
  tokenizer = model.tokenizer
  if tokenizer is None:
    raise ooc_jax.InputError(
        f'{weights or study.model} has no tokenizer.json, and top tokens cannot'
        ' be read without it; put it beside the weights.'
    )
  layers = parse_layers(study.layers, model.config.num_layers)
  settings = {'experiment': _EXPERIMENT, **dataclasses.asdict(study)}
  with results.ResultsFolder.open(
      out,
      settings,
      provenance=_command.provenance(),
      weights=_hashes(model.files),
  ) as folder:
    missing = [layer for layer in layers if not folder.has_layer(layer)]
    if missing:
      reader = _Reader(model, tokenizer, study)
      for layer in _command.progress(missing, len(missing), 'layer'):
        folder.write_layer(layer, reader.table(layer))
    return Results(out, _finish(folder, study, model.config.num_layers, layers))


def parts_of(dictionary: str) -> tuple[str, ...]:
  """What to load of the model to read this dictionary's predictions."""
  return ('unembedding', *_PARTS.get(_kind(dictionary), ()))


def _kind(dictionary: str) -> str:
  """A built-in name, or the hook of a release."""
  if dictionary in _PARTS:
    return dictionary
  for release in ooc_jax.dictionaries.list_dictionaries():
    if dictionary.split('/')[0] == release.name:
      return next(iter(release.entries.values())).site.hook
  # A file says its hook when it is read, which is after the model.
  return 'attn_z'


class _Reader:
  """What is computed once a model, and the table of a layer."""

  def __init__(
      self,
      model: ooc_jax.Model,
      tokenizer: ooc_jax.model.Tokenizer,
      study: Study,
  ):
    self._model, self._study = model, study
    self._mask = ooc_jax.circuits.readable_mask(
        model, undertrained_cosine=study.undertrained_cosine
    )
    table = ooc_jax.circuits.unembedding_table(model)
    self._space = measures.token_space(table, self._mask, study.token_space)
    self._tokens = np.asarray(tokenizer.token_strings(), object)
    suspects = ooc_jax.circuits.undertrained_tokens(
        table, np.asarray(tokenizer.unheld()), cosine=_SUSPECT_COSINE
    )
    self._suspects = np.asarray(suspects)

  def table(self, layer: int) -> pa.Table:
    """One row a feature of the dictionary at `layer`."""
    study = self._study
    dictionary = ooc_jax.load_dictionary(
        study.dictionary, model=self._model, layer=layer
    )
    lens = ooc_jax.output_lens(
        self._model,
        dictionary,
        k=study.k,
        convention=study.convention,
        centered=study.centered,
        precision=study.precision,
        mask=self._mask,
    )
    coherence = ooc_jax.coherence(self._model, lens, space=self._space)
    top, bottom = np.asarray(lens.top_ids), np.asarray(lens.bottom_ids)
    derived = {
        'top_tokens': self._tokens[top].tolist(),
        'bottom_tokens': self._tokens[bottom].tolist(),
        'levenshtein': np.asarray(coherence.levenshtein),
        'cosine': np.asarray(coherence.cosine),
        'undertrained': self._suspects[top].sum(axis=1, dtype=np.int32),
    }
    columns = {
        name: (
            derived[name]
            if name in derived
            else np.asarray(getattr(lens, name))
        )
        for name in _COLUMNS
    }
    table = results.features_table(columns, descriptions=_COLUMNS)
    # A file of dictionaries is known once its layer is reached, so its hash is
    # kept with the layer and not in config.json.
    return _summary.with_weights(table, _hashes(dictionary.files))


def _hashes(files: Sequence[str]) -> dict[str, str]:
  """SHA-256 of every file, by its name in its repository or folder."""
  if not files:
    return {}
  root = pathlib.Path(
      os.path.commonpath([str(pathlib.Path(f).parent) for f in files])
  )
  hashes = {}
  for file in map(pathlib.Path, files):
    origin = ooc_jax.checkpoints.hub_origin(file)
    if origin is None:
      name = file.relative_to(root).as_posix()
    else:
      name = f'{origin.repo}@{origin.commit}/{origin.name}'
    hashes[name] = results.sha256_file(file)
  return hashes


def _finish(
    folder: results.ResultsFolder,
    study: Study,
    num_layers: int,
    layers: list[int],
) -> dict[str, Any]:
  """Labels, summary and figure, from the layer files alone."""
  tables = {layer: folder.read_layer(layer) for layer in layers}
  coherences = {x: _summary.coherence_of(t) for x, t in tables.items()}
  kind, value = parse_thresholds(study.thresholds)
  thresholds = value
  if kind == 'quantile':
    thresholds = measures.quantile_thresholds(list(coherences.values()), value)
  folder.write_table(
      'labels', _summary.labels_table(coherences, thresholds, study.rule)
  )
  summary = _summary.summarize(
      tables,
      coherences,
      thresholds,
      rule=study.rule,
      seed=study.seed,
      examples=study.examples,
  )
  summary |= {'experiment': _EXPERIMENT, 'num_layers': num_layers}
  folder.write_summary(summary)
  figure = report.depth_figure([report.depth_curve(folder.path)])
  folder.write_figure('semantic_by_depth', figure)
  return folder.read_summary()


def main() -> None:
  start = time.monotonic()
  study, weights = _command.study_from_flags()
  if _command.DRY_RUN.value:
    print('\n'.join(_plan.plan(study, parts_of(study.dictionary), weights)))
    return
  out = _command.out_folder(_EXPERIMENT, study)
  outcome = run(study, out, weights)
  summary = outcome.summary
  print(report.header())
  for row in (*summary['layers'], summary['total']):
    print(report.layer_line(row))
  limits = summary['thresholds']
  print(
      f'\nSemantic: {study.rule} of edit distance <'
      f' {limits["levenshtein"]:.3f}, cosine > {limits["cosine"]:.3f}, entropy'
      f' < {limits["entropy"]:.3f} nats ({study.thresholds}).'
  )
  if summary['examples']:
    print('\nMost coherent features (lowest mean rank in the three measures):')
    for line in report.example_lines(summary['examples']):
      print(line)
  print(
      f'\n{outcome.folder}: features/, labels.parquet, summary.json,'
      f' figures/semantic_by_depth.png ({time.monotonic() - start:.0f} s)'
  )


if __name__ == '__main__':
  _app.start(main)
