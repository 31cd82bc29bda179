"""What is known of a file of a hub repository before it is downloaded."""

from collections.abc import Mapping
import dataclasses
import pathlib

import huggingface_hub

from ooc_jax._errors import InputError
from ooc_jax.checkpoints._hub_errors import refusal


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


def plan_shapes(
    repo: str, name: str, revision: str | None
) -> Mapping[str, tuple[int, ...]]:
  """Shape of each tensor of a safetensors file, of which its header is read.

  Args:
    repo: 'owner/name'.
    name: Path of the file in the repository.
    revision: Branch, tag or commit; None is the default branch.

  Raises:
    MissingFile: The repository has no such file.
    InputError: The hub cannot be reached, or the file is of another kind.
  """
  try:
    header = huggingface_hub.HfApi().parse_safetensors_file_metadata(
        repo, name, revision=revision
    )
  except huggingface_hub.errors.SafetensorsParsingError as error:
    raise InputError(
        f'{name} of {repo} is no safetensors file ({error!s:.200}); take'
        ' another one.'
    ) from None
  except Exception as error:  # The network's libraries raise many types.
    raise refusal(error, repo, name, revision) from None
  return {name: tuple(x.shape) for name, x in header.tensors.items()}
