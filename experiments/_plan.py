"""`--dry_run`: what a run would download, compute, hold and write."""

from collections.abc import Sequence
import math
import re

from _attention_study import AttentionStudy
from _attention_study import attention_layers
from _attention_study import dictionary_layers
from _study import Study
from _study import parse_layers

import ooc_jax
from ooc_jax import checkpoints

# The weights of an SAE, one of them in each folder.
_FILES = (
    'params.npz',
    'params.safetensors',
    'checkpoints/final.safetensors',
    'sae_weights.safetensors',
)
# Measured: the lens above its inputs (V 256,000), and the interpreter with its
# libraries.
_BLOCKS = 0.3e9
_PROGRAM = 0.45e9
# Measured on SmolLM2 at k=20: 24 MB for 46,080 features.
_BYTES_PER_TOKEN = 26


def plan(study: Study, parts: Sequence[str], weights: str | None) -> list[str]:
  """Lines that say what `output_prediction` would do; computes nothing.

  Args:
    study: The settings.
    parts: Of the model that would be read.
    weights: A local copy of the model, or None.

  Raises:
    InputError: As the run itself does.
  """
  model = checkpoints.plan_model(
      study.model if weights is None else weights,
      parts=parts,
      revision=study.revision,
  )
  c = model.config
  layers = parse_layers(study.layers, c.num_layers)
  files, features = _dictionaries(study, layers, c)
  download = sum(f.size for f in (*model.files, *files) if not f.cached)
  read = sum(f.size for f in (*model.files, *files))
  F, V, D = features, c.vocab_size, c.embed_dim
  flops = 2.0 * F * V * D * len(layers) + 4.0 * V * D * D
  table, directions = 4.0 * V * D, 8.0 * F * D
  device = model.parameter_bytes + table + directions + _BLOCKS
  lines = [
      (
          f'model       {study.model}: L {c.num_layers}, D {D}, V {V}, parts'
          f' {", ".join(parts)}'
      ),
      f'dictionary  {study.dictionary}: F {F} at {len(layers)} layers',
      f'download    {_gb(download)}',
      (
          f'read        {_gb(read)} on disk in {len(model.files) + len(files)}'
          ' files'
      ),
      f'compute     {flops / 1e12:.1f} TFLOP',
      (
          f'device      {_gb(device)} (parameters {_gb(model.parameter_bytes)},'
          f' token space {_gb(table)}, one dictionary {_gb(directions)})'
      ),
      (
          f'host        {_gb(device + _PROGRAM)} on a CPU,'
          f' {_gb(_PROGRAM + directions)} beside an accelerator'
      ),
      f'write       about {_gb(F * len(layers) * study.k * _BYTES_PER_TOKEN)}',
  ]
  return lines


def attention_plan(
    study: AttentionStudy, parts: Sequence[str], weights: str | None
) -> list[str]:
  """Lines that say what `attention_participation` would do; computes nothing.

  Args:
    study: The settings.
    parts: Of the model that would be read.
    weights: A local copy of the model, or None.

  Raises:
    InputError: As the run itself does.
  """
  model = checkpoints.plan_model(
      study.model if weights is None else weights,
      parts=parts,
      revision=study.revision,
  )
  c = model.config
  layers = attention_layers(study, c.num_layers)
  files, F = _dictionaries(study, dictionary_layers(layers), c)
  download = sum(f.size for f in (*model.files, *files) if not f.cached)
  read = sum(f.size for f in (*model.files, *files))
  heads, H, D = c.num_heads * len(layers), c.head_dim, c.embed_dim
  # Scores of features and nulls, the dictionary on itself, and W_U W_O.
  flops = 2.0 * heads * F * F * H * (2 + len(study.null_kinds))
  flops += 2.0 * heads * c.vocab_size * D * H * bool(study.write_tokens)
  blocks = 0.7e9 if F > 4096 else _BLOCKS
  device = model.parameter_bytes + 8.0 * F * D + blocks
  numbers = 2 * (6 + 2 * study.partners) + 5 + 4 * len(study.null_kinds)
  return [
      (
          f'model       {study.model}: L {c.num_layers}, N {c.num_heads},'
          f' H {H}, D {D}, parts {", ".join(parts)}'
      ),
      f'dictionary  {study.dictionary}: F {F} at {len(layers)} layers',
      f'download    {_gb(download)}',
      (
          f'read        {_gb(read)} on disk in {len(model.files) + len(files)}'
          ' files'
      ),
      f'compute     {flops / 1e12:.1f} TFLOP',
      f'device      {_gb(device)} (parameters {_gb(model.parameter_bytes)})',
      f'write       about {_gb(4.0 * numbers * F * heads)}',
  ]


def dictionary_size(study: Study, config: ooc_jax.ModelConfig) -> int:
  """Features of the largest dictionary of a study.

  Raises:
    InputError: The dictionary is not known before it is read.
  """
  layers = parse_layers(study.layers, config.num_layers)
  return _dictionaries(study, layers, config)[1]


def _dictionaries(study, layers, config):
  """Files on the hub, and features a layer."""
  source = study.dictionary
  built_in = {
      'mlp': config.mlp_dim,
      'tokens': config.vocab_size,
      'random': ooc_jax.dictionaries.RANDOM_SIZE,
  }
  if source in built_in:
    return [], built_in[source]
  name, _, template = source.partition('/')
  known = {r.name: r for r in ooc_jax.dictionaries.list_dictionaries()}
  if name not in known:
    raise ooc_jax.InputError(
        f'dictionary={source!r} is no release that is listed, so its size is'
        ' not known before it is read; leave --dry_run out.'
    )
  release, files, features = known[name], [], 0
  for layer in layers:
    entry_name = template.replace('{layer}', str(layer))
    if entry_name not in release.entries:
      raise ooc_jax.InputError(
          f'{name} has no {entry_name!r}; convert_weights.py --list={name}'
          ' lists what it has.'
      )
    folder = release.entries[entry_name].folder
    if release.repo is not None:  # Else it comes with the package.
      files.append(_first_file(release.repo, folder, study.revision))
    features = max(features, _width(f'{name}/{entry_name}', config.embed_dim))
  return files, features


def _first_file(repo, folder, revision):
  for name in _FILES:
    try:
      return checkpoints.plan_file(repo, f'{folder}/{name}', revision)
    except checkpoints.MissingFile:
      continue
  raise ooc_jax.InputError(f'{repo} has no weights in {folder}.')


def _width(name: str, embed_dim: int) -> int:
  """Features, from 'width_16k' (a power of two) or '8x' (times D)."""
  if match := re.search(r'width_(\d+)([km])', name):
    about = int(match[1]) * (1_000 if match[2] == 'k' else 1_000_000)
    return 2 ** round(math.log2(about))
  match = re.search(r'_(\d+)x', name)
  # The tiny models' are 8 times as wide as the stream.
  times = int(match[1]) if match else 8 * name.startswith('tiny-')
  return times * embed_dim


def _gb(size: float) -> str:
  return f'{size / 1e9:.2f} GB'
