"""`--dry_run`: what a run would download, compute, hold and write."""

from collections.abc import Mapping, Sequence
import os

from ooc_jax import checkpoints
from ooc_jax.dictionaries import plan_dictionary
from ooc_jax.experiments._runtime import DEFAULT_MODEL
from ooc_jax.experiments._settings import SharedSettings
from ooc_jax.model import ModelConfig


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
) -> tuple[Sequence[checkpoints.PlannedFile], int, str]:
  """Files of the dictionaries of a run, and the features of the largest.

  Those as a number, and as a text for `plan_lines`.

  Raises:
    InputError: One is not there, or not known before it is read.
  """
  plans = [
      plan_dictionary(
          config.dictionary, layer, model, options=config.dictionary_options
      )
      for layer in layers
  ]
  files = [file for plan in plans for file in plan.files]
  largest = max(plans, key=lambda plan: plan.size)
  about = '' if largest.exact else 'about '
  shown = f'F {about}{largest.size} at {len(layers)} layers'
  return files, largest.size, shown


def plan_lines(
    config: SharedSettings,
    parts: Sequence[str],
    files: Sequence[checkpoints.PlannedFile],
    dictionary: str,
    sizes: Mapping[str, int],
    work: Mapping[str, str],
) -> list[str]:
  """What `--dry_run` prints.

  Args:
    config: The settings.
    parts: Of the model.
    files: Of model and dictionaries.
    dictionary: Its size, and where it is.
    sizes: Of the model, by their letters.
    work: What the experiment does with it all, by its first word.
  """
  shown = ', '.join(f'{letter} {size}' for letter, size in sizes.items())
  lines = {
      'model': (
          f'{config.model or DEFAULT_MODEL}: {shown}, parts {", ".join(parts)}'
      ),
      'dictionary': f'{config.dictionary}: {dictionary}',
      'download': gigabytes(sum(f.size for f in files if not f.cached)),
      'read': (
          f'{gigabytes(sum(f.size for f in files))} on disk in'
          f' {len(files)} files'
      ),
      **work,
  }
  return [f'{word:11s} {text}' for word, text in lines.items()]


def gigabytes(size: int | float) -> str:
  """'1.34 GB'."""
  return f'{size / 1e9:.2f} GB'
