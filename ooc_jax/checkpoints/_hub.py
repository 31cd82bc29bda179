"""Fetches the files of a hub repository that a load needs, and no others."""

from collections.abc import Callable, Collection
import pathlib

import huggingface_hub
from huggingface_hub import errors

from ooc_jax._errors import InputError
from ooc_jax.checkpoints._safetensors import shard_names
from ooc_jax.checkpoints._source import read_json

_INDEX = 'model.safetensors.index.json'
_SINGLE = 'model.safetensors'


def fetch_config(repo: str, revision: str | None) -> pathlib.Path:
  """Downloads config and tokenizer of `repo` into the hub's cache.

  HF_TOKEN, HF_HOME, HF_ENDPOINT and HF_HUB_OFFLINE are respected.

  Args:
    repo: 'owner/name'.
    revision: Branch, tag or commit; None is the default branch.

  Returns:
    The folder of the snapshot, which is named by its commit.

  Raises:
    InputError: The repository, a file or the hub cannot be reached.
  """
  config = fetch_file(repo, 'config.json', revision)
  try:
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
  commit = folder.name
  # Already there, by our hand or another program's: works offline.
  if (folder / _SINGLE).is_file():
    return
  try:
    index = fetch_file(repo, _INDEX, commit)
  except MissingFile:
    try:
      fetch_file(repo, _SINGLE, commit)
    except MissingFile as error:
      raise InputError(
          f'{repo} has no safetensors weights ({error}); take a repository or'
          ' a revision that has model.safetensors.'
      ) from None
    return
  weight_map = shard_names(read_json(index), f'{repo}/{_INDEX}')
  for name in sorted({
      shard
      for tensor, shard in weight_map.items()
      if canonical_name(tensor) in wanted
  }):
    fetch_file(repo, name, commit)


class MissingFile(InputError):
  """The repository exists and has no such file."""


def fetch_file(repo: str, name: str, revision: str | None) -> pathlib.Path:
  """One file of a repository, from the hub's cache or the hub.

  Args:
    repo: 'owner/name'.
    name: Path of the file in the repository.
    revision: Branch, tag or commit; None is the default branch.

  Raises:
    MissingFile: The repository has no such file.
    InputError: The repository or the hub cannot be reached.
  """
  at = f'{repo} at {revision}' if revision else repo
  try:
    return pathlib.Path(
        huggingface_hub.hf_hub_download(repo, name, revision=revision)
    )
  except errors.GatedRepoError:
    raise InputError(
        f'{repo} is gated: accept its terms on its page'
        f' (https://huggingface.co/{repo}) and set HF_TOKEN to a token of that'
        ' account.'
    ) from None
  except errors.RepositoryNotFoundError:
    raise InputError(
        f'There is no file or folder {repo!r} here, and the hub has no such'
        ' model, or it is private; check the name, and set HF_TOKEN if it'
        ' needs one.'
    ) from None
  except errors.RevisionNotFoundError:
    raise InputError(
        f'{repo} has no revision {revision!r}; check it on its page'
        f' (https://huggingface.co/{repo}).'
    ) from None
  except errors.RemoteEntryNotFoundError:
    raise MissingFile(f'{at} has no file {name}') from None
  except errors.LocalEntryNotFoundError:
    if _known_missing(repo, name, revision):
      raise MissingFile(f'{at} has no file {name}') from None
    raise InputError(
        f'{name} of {at} is not in the local cache and the hub cannot be'
        ' reached; connect, unset HF_HUB_OFFLINE, or give a local copy'
        ' (--weights=FILE_OR_FOLDER).'
    ) from None
  except Exception as error:  # The network's libraries raise many types.
    raise InputError(
        f'{name} of {at} cannot be downloaded:'
        f' {" ".join(str(error).split())[:300].rstrip(".")}; try again, or give'
        ' a local copy (--weights=FILE_OR_FOLDER).'
    ) from None


def _known_missing(repo: str, name: str, revision: str | None) -> bool:
  """Whether an earlier run was told that there is no such file."""
  found = huggingface_hub.try_to_load_from_cache(repo, name, revision=revision)
  return found is not None and not isinstance(found, str)
