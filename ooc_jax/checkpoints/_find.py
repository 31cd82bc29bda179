"""The files of a model: found on this machine, or fetched from the hub.

Of a hub repository only the files that a load needs are fetched, all of one
commit.
"""

from collections.abc import Callable, Collection
import dataclasses
import os
import pathlib
from typing import TypeVar

from ooc_jax._errors import InputError
from ooc_jax.checkpoints._hub import fetch_file
from ooc_jax.checkpoints._hub_errors import MissingFile
from ooc_jax.checkpoints._hub_plan import PlannedFile
from ooc_jax.checkpoints._hub_plan import plan_file
from ooc_jax.checkpoints._locate import cached_copy
from ooc_jax.checkpoints._locate import locate
from ooc_jax.checkpoints._manifest import MANIFEST
from ooc_jax.checkpoints._open import ADAPTER_CONFIG
from ooc_jax.checkpoints._open import adapter_sentence
from ooc_jax.checkpoints._open import canonical_names
from ooc_jax.checkpoints._open import tensors_of
from ooc_jax.checkpoints._safetensors import INDEX
from ooc_jax.checkpoints._safetensors import SINGLE
from ooc_jax.checkpoints._safetensors import shard_names
from ooc_jax.checkpoints._source import read_json
from ooc_jax.checkpoints.gguf import is_gguf
from ooc_jax.model import ModelConfig
from ooc_jax.model import config_from_hf

_T = TypeVar('_T')


@dataclasses.dataclass(frozen=True)
class FoundModel:
  """A model whose files are on this machine.

  Attributes:
    path: A folder or file.
    is_ours: Whether it is a folder that `save_model` or a conversion wrote.
    repo: Hub repository that it was fetched from, or None.
    commit: Of the repository.
  """

  path: pathlib.Path
  is_ours: bool
  repo: str | None = None
  commit: str | None = None


def find_model(
    source: str | os.PathLike[str],
    parts: Collection[str],
    revision: str | None,
    *,
    converted: bool = True,
) -> FoundModel:
  """The files of a model, downloaded where they must be.

  Args:
    source: See `load_model`.
    parts: What will be read; nothing else is downloaded.
    revision: See `load_model`.
    converted: Whether a converted copy will do.

  Raises:
    InputError: There is no such model, or it cannot be downloaded.
  """
  place = locate(source, revision)
  if not isinstance(place, str):
    # A .gguf folder is refused as such, so the suffix is asked first.
    ours = not is_gguf(place) and (place / MANIFEST).is_file()
    return FoundModel(place, ours)
  if converted and (copy := cached_copy(place, revision)):
    return FoundModel(copy, True)
  folder = fetch_config(place, revision)
  commit = folder.name
  # Only now is it known which commit a branch or a tag means.
  if converted and (copy := cached_copy(place, commit)):
    return FoundModel(copy, True)
  config = config_from_hf(read_json(folder / 'config.json'), place)
  fetch_weights(place, folder, config, tensors_of(config, parts))
  return FoundModel(folder, False, place, commit)


def fetch_config(repo: str, revision: str | None) -> pathlib.Path:
  """Downloads config and tokenizer of `repo` into the hub's cache.

  Args:
    repo: 'owner/name'.
    revision: Branch, tag or commit; None is the default branch.

  Returns:
    The folder of the snapshot, which is named by its commit.

  Raises:
    InputError: The repository, a file or the hub cannot be reached.
  """
  try:
    config = fetch_file(repo, 'config.json', revision)
  except MissingFile as error:
    try:
      adapter = fetch_file(repo, ADAPTER_CONFIG, revision)
    except MissingFile:
      adapter = None
    if adapter is not None:
      raise InputError(adapter_sentence(repo, adapter)) from None
    raise InputError(
        f'{error}; take a repository with a Hugging Face checkpoint, or'
        ' download its .gguf file and give the path.'
    ) from None
  try:
    # Of the same commit, wherever the branch is by now.
    fetch_file(repo, 'tokenizer.json', config.parent.name)
  except MissingFile:
    pass  # A model without tokenizer can still be contracted.
  return config.parent


def fetch_weights(
    repo: str,
    folder: pathlib.Path,
    config: ModelConfig,
    wanted: Collection[str],
) -> None:
  """Downloads the files that hold the tensors `wanted`, and no others.

  Args:
    repo: 'owner/name'.
    folder: From `fetch_config`; its commit is the one that is read.
    config: Of the model.
    wanted: Names in its tables of the tensors that will be read.

  Raises:
    InputError: A file cannot be had.
  """
  # Already there, by our hand or another program's: works offline.
  if not (folder / SINGLE).is_file():
    _each_weight_file(fetch_file, repo, folder, config, wanted)


def plan_weights(
    repo: str,
    folder: pathlib.Path,
    config: ModelConfig,
    wanted: Collection[str],
) -> tuple[PlannedFile, ...]:
  """What `fetch_weights` would download; it downloads the index at most."""
  return _each_weight_file(plan_file, repo, folder, config, wanted)


def _each_weight_file(
    get: Callable[[str, str, str], _T],
    repo: str,
    folder: pathlib.Path,
    config: ModelConfig,
    wanted: Collection[str],
) -> tuple[_T, ...]:
  """`get` of the shards that hold `wanted`, or of a small model's one file."""
  canonical = canonical_names(config)
  names = [SINGLE]
  if not (folder / SINGLE).is_file():
    try:
      index = read_json(fetch_file(repo, INDEX, folder.name))
      names = sorted({
          shard
          for tensor, shard in shard_names(index, f'{repo}/{INDEX}').items()
          if canonical(tensor) in wanted
      })
    except MissingFile:
      pass
  try:
    return tuple(get(repo, name, folder.name) for name in names)
  except MissingFile as error:
    if names == [SINGLE]:
      raise InputError(
          f'{repo} has no safetensors weights ({error}); take a repository or a'
          ' revision that has model.safetensors.'
      ) from None
    raise InputError(
        f'{error}, which its index names: this revision is incomplete; take'
        ' another one.'
    ) from None
