"""Fetches the files of a hub repository that a load needs, and no others."""

from collections.abc import Callable, Collection
import dataclasses
import pathlib

import huggingface_hub

from ooc_jax._errors import InputError
from ooc_jax.checkpoints._hub_errors import MissingFile
from ooc_jax.checkpoints._hub_errors import refusal
from ooc_jax.checkpoints._hub_file import fetch_file
from ooc_jax.checkpoints._safetensors import shard_names
from ooc_jax.checkpoints._source import read_json

_INDEX = 'model.safetensors.index.json'
_SINGLE = 'model.safetensors'


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
    wanted: Collection[str],
    canonical_name: Callable[[str], str],
) -> None:
  """Downloads the files that hold the tensors `wanted`, and no others.

  Args:
    repo: 'owner/name'.
    folder: From `fetch_config`; its commit is the one that is read.
    wanted: Names of the tensors that will be read.
    canonical_name: Maps a name in the index to the form used in `wanted`.

  Raises:
    InputError: A file cannot be had.
  """
  # Already there, by our hand or another program's: works offline.
  if (folder / _SINGLE).is_file():
    return
  for name in _weight_names(repo, folder, wanted, canonical_name):
    try:
      fetch_file(repo, name, folder.name)
    except MissingFile as error:
      raise InputError(_no_weights(repo, name, error)) from None


@dataclasses.dataclass(frozen=True)
class PlannedFile:
  """A file that a load will read.

  Attributes:
    name: Path in the repository.
    size: Bytes.
    cached: Whether it is on this machine already.
  """

  name: str
  size: int
  cached: bool


def plan_weights(
    repo: str,
    folder: pathlib.Path,
    wanted: Collection[str],
    canonical_name: Callable[[str], str],
) -> tuple[PlannedFile, ...]:
  """What `fetch_weights` would download; it downloads the index at most.

  Args:
    repo: 'owner/name'.
    folder: From `fetch_config`.
    wanted: Names of the tensors that will be read.
    canonical_name: Maps a name in the index to the form used in `wanted`.

  Raises:
    InputError: A file cannot be had.
  """
  names = [_SINGLE]
  if not (folder / _SINGLE).is_file():
    names = _weight_names(repo, folder, wanted, canonical_name)
  plan = []
  for name in names:
    try:
      plan.append(plan_file(repo, name, folder.name))
    except MissingFile as error:
      raise InputError(_no_weights(repo, name, error)) from None
  return tuple(plan)


def plan_file(repo: str, name: str, revision: str | None) -> PlannedFile:
  """Size of a file, and whether it is here; nothing is downloaded.

  Args:
    repo: 'owner/name'.
    name: Path of the file in the repository.
    revision: Branch, tag or commit; None is the default branch.

  Raises:
    MissingFile: The repository has no such file.
    InputError: The hub cannot be reached.
  """
  here = huggingface_hub.try_to_load_from_cache(repo, name, revision=revision)
  if isinstance(here, str):
    return PlannedFile(name, pathlib.Path(here).stat().st_size, True)
  url = huggingface_hub.hf_hub_url(repo, name, revision=revision)
  try:
    size = huggingface_hub.get_hf_file_metadata(url).size
  except Exception as error:  # The network's libraries raise many types.
    raise refusal(error, repo, name, revision) from None
  return PlannedFile(name, size or 0, False)


def _weight_names(
    repo: str,
    folder: pathlib.Path,
    wanted: Collection[str],
    canonical_name: Callable[[str], str],
) -> list[str]:
  """The shards that hold `wanted`, or the one file of a small model."""
  try:
    index = fetch_file(repo, _INDEX, folder.name)
  except MissingFile:
    return [_SINGLE]
  weight_map = shard_names(read_json(index), f'{repo}/{_INDEX}')
  return sorted({
      shard
      for tensor, shard in weight_map.items()
      if canonical_name(tensor) in wanted
  })


def _no_weights(repo: str, name: str, error: MissingFile) -> str:
  if name == _SINGLE:
    return (
        f'{repo} has no safetensors weights ({error}); take a repository or a'
        ' revision that has model.safetensors.'
    )
  return (
      f'{error}, which its index names: this revision is incomplete; take'
      ' another one.'
  )
