"""`--dry_run`: what a run would download, compute, hold and write."""

from collections.abc import Mapping, Sequence
import dataclasses
import math
import os
import re

from ooc_jax import checkpoints
from ooc_jax._errors import InputError
from ooc_jax.dictionaries import RANDOM_SIZE
from ooc_jax.dictionaries import list_dictionaries
from ooc_jax.experiments._runtime import DEFAULT_MODEL
from ooc_jax.experiments._settings import SharedSettings
from ooc_jax.model import ModelConfig

# The weights of an SAE, one of them in each folder.
_FILES = (
    'params.npz',
    'params.safetensors',
    'checkpoints/final.safetensors',
    'sae_weights.safetensors',
)


@dataclasses.dataclass(frozen=True)
class DictionaryPlan:
  """What the dictionaries of a run are.

  Attributes:
    files: On the hub; none where they come along or are made of the model.
    features: Of the largest one.
    layers: How many there are.
  """

  files: Sequence[checkpoints.PlannedFile]
  features: int
  layers: int


def plan_model(
    config: SharedSettings,
    parts: Sequence[str],
    model: str | os.PathLike[str] | None,
) -> checkpoints.ModelPlan:
  """The model of a run; `model` is instead of what the settings name."""
  source = model or config.model or DEFAULT_MODEL
  return checkpoints.plan_model(source, parts=parts, revision=config.revision)


def plan_dictionaries(
    config: SharedSettings, layers: Sequence[int], model: ModelConfig
) -> DictionaryPlan:
  """The dictionaries of a run, none of which is read.

  Raises:
    InputError: One is not there, or its size is not known before it is read.
  """
  source = config.dictionary
  built_in = {
      'mlp': model.mlp_dim,
      'tokens': model.vocab_size,
      'random': RANDOM_SIZE,
  }
  if source in built_in:
    return DictionaryPlan((), built_in[source], len(layers))
  name, _, template = source.partition('/')
  release = next((r for r in list_dictionaries() if r.name == name), None)
  if release is None:
    raise InputError(
        f'dictionary={source!r} is no release that is listed, so its size is'
        ' not known before it is read; leave --dry_run out.'
    )
  files, features = [], 0
  for layer in layers:
    entry = template.replace('{layer}', str(layer))
    if entry not in release.entries:
      raise InputError(
          f'{name} has no {entry!r}; convert_weights.py --list={name}'
          ' lists what it has.'
      )
    folder = release.entries[entry].folder
    if release.repo is not None:  # Else it comes with the package.
      files.append(_first_file(release.repo, folder, config.revision))
    features = max(features, _width(f'{name}/{entry}', model.embed_dim))
  return DictionaryPlan(files, features, len(layers))


def _first_file(
    repo: str, folder: str, revision: str | None
) -> checkpoints.PlannedFile:
  for name in _FILES:
    try:
      return checkpoints.plan_file(repo, f'{folder}/{name}', revision)
    except checkpoints.MissingFile:
      continue
  raise InputError(f'{repo} has no weights in {folder}.')


def _width(name: str, embed_dim: int) -> int:
  """Features, from 'width_16k' (a power of two) or '8x' (times D)."""
  if match := re.search(r'width_(\d+)([km])', name):
    about = int(match[1]) * (1_000 if match[2] == 'k' else 1_000_000)
    return 2 ** round(math.log2(about))
  match = re.search(r'_(\d+)x', name)
  # The tiny models' are 8 times as wide as the stream.
  times = int(match[1]) if match else 8 * name.startswith('tiny-')
  return times * embed_dim


def plan_lines(
    config: SharedSettings,
    parts: Sequence[str],
    model: checkpoints.ModelPlan,
    dictionaries: DictionaryPlan,
    sizes: Mapping[str, int],
    work: Mapping[str, str],
) -> list[str]:
  """What `--dry_run` prints.

  Args:
    config: The settings.
    parts: Of the model.
    model: Of `plan_model`.
    dictionaries: Of `plan_dictionaries`.
    sizes: Of the model, by their letters.
    work: What the experiment does with it all, by its first word.
  """
  shown = ', '.join(f'{letter} {size}' for letter, size in sizes.items())
  files = (*model.files, *dictionaries.files)
  F, layers = dictionaries.features, dictionaries.layers
  lines = {
      'model': (
          f'{config.model or DEFAULT_MODEL}: {shown}, parts {", ".join(parts)}'
      ),
      'dictionary': f'{config.dictionary}: F {F} at {layers} layers',
      'download': gigabytes(sum(f.size for f in files if not f.cached)),
      'read': (
          f'{gigabytes(sum(f.size for f in files))} on disk in'
          f' {len(files)} files'
      ),
      **work,
  }
  return [f'{word:11s} {text}' for word, text in lines.items()]


def gigabytes(size: float) -> str:
  """'1.34 GB'."""
  return f'{size / 1e9:.2f} GB'
