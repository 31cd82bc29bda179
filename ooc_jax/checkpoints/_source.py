"""What every checkpoint format offers to the converter."""

from collections.abc import Mapping
import dataclasses
import json
import pathlib
import re
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ooc_jax._errors import InputError


@dataclasses.dataclass(frozen=True)
class TensorInfo:
  """Shape and element type of a stored tensor, known without reading it.

  Both are None where the tensor is in a shard that was not opened.
  """

  shape: tuple[int, ...] | None
  dtype: str | None


@runtime_checkable
class TensorSource(Protocol):
  """A checkpoint opened for reading, one tensor at a time."""

  @property
  def where(self) -> str:
    """The file or folder, for errors."""
    ...

  @property
  def files(self) -> tuple[pathlib.Path, ...]:
    """Every file that is read, for provenance."""
    ...

  def tensors(self) -> Mapping[str, TensorInfo]:
    """All tensors, by name."""
    ...

  def read(
      self, name: str, index: tuple[slice, ...] | None = None
  ) -> np.ndarray:
    """One tensor, with its stored dtype or float32 if it was quantised.

    Args:
      name: Of the tensor.
      index: The part that is wanted, a slice without step for each axis; no
        other rows are read. None is all of it.
    """
    ...


_POINTER = b'version https://git-lfs'


def check_no_pointer(path: pathlib.Path) -> None:
  """Refuses a Git LFS pointer, which stands for a file that was not fetched.

  Raises:
    InputError: It is one.
  """
  try:
    with path.open('rb') as file:
      start = file.read(len(_POINTER))
  except OSError:
    return  # Its reader says more.
  if start == _POINTER:
    raise InputError(
        f'{path} is a Git LFS pointer: three lines of text in place of the'
        ' file; fetch the file itself (git lfs pull), or download it.'
    )


# Deep nesting makes the parser raise RecursionError; huge files are no config.
_MAX_JSON_BYTES = 64 * 2**20


def read_json(path: pathlib.Path) -> dict[str, Any]:
  """Reads a JSON object.

  Raises:
    InputError: The file is missing, unreadable, too large or no JSON object.
  """
  check_no_pointer(path)
  try:
    size = path.stat().st_size
    text = path.read_text(encoding='utf-8') if size <= _MAX_JSON_BYTES else None
  except FileNotFoundError:
    raise InputError(
        f'{path} does not exist; check the path, or download it again.'
    ) from None
  except (OSError, UnicodeDecodeError) as error:
    reason = getattr(error, 'strerror', None) or 'it is not UTF-8 text'
    raise InputError(
        f'{path} cannot be read ({reason}); check the path, or download it'
        ' again.'
    ) from None
  if text is None:
    raise InputError(
        f'{path} has {size} bytes, too many for a JSON settings file; check'
        ' that it is the right file.'
    )
  try:
    value = json.loads(text)
  except (ValueError, RecursionError) as error:  # A number of 5000 digits.
    looks = ' (it looks like HTML)' if re.match(r'\s*<', text) else ''
    raise InputError(
        f'{path} is not JSON{looks}: {error}; download it again.'
    ) from None
  if not isinstance(value, dict):
    raise InputError(f'{path} holds no JSON object; download it again.')
  return value
