"""Files of named arrays, and reading such a file without believing it.

A file from elsewhere may hold pickled objects, declare terabytes in a few
bytes, or name its members like paths. Nothing of it is run or unpacked to the
disk, and what it says of itself is compared with its size before memory is
taken.
"""

from collections.abc import Callable, Mapping
import pathlib
from typing import Any, Protocol, runtime_checkable

import numpy as np
import safetensors

from ooc_jax._errors import InputError
from ooc_jax._text import printable
from ooc_jax.dictionaries.formats._npz import NpzArchive
from ooc_jax.dictionaries.formats._torch_archive import TorchArchive

_SAFETENSORS_DTYPES = ('F32', 'F16', 'BF16', 'F64')
# Elements tested for NaN at a time: no mask as large as a decoder.
_BLOCK = 2**20


@runtime_checkable
class Archive(Protocol):
  """A file of named arrays, opened for reading one at a time.

  Attributes:
    where: Its path.
  """

  where: str

  @property
  def shapes(self) -> Mapping[str, tuple[int, ...]]:
    """Shape of every array, by name, known without reading it."""
    ...

  def read(self, name: str) -> np.ndarray:
    """One array as it is stored, in memory of its own."""
    ...


class SafetensorsArchive:
  """The tensors of a .safetensors file."""

  def __init__(self, path: pathlib.Path):
    """Reads the header only.

    Args:
      path: The file.

    Raises:
      InputError: It is no whole safetensors file.
    """
    self.where = str(path)
    try:
      self._handle: Any = safetensors.safe_open(str(path), framework='numpy')
      slices = {n: self._handle.get_slice(n) for n in self._handle.keys()}
      self._dtypes = {n: str(x.get_dtype()) for n, x in slices.items()}
      self._shapes = {n: tuple(x.get_shape()) for n, x in slices.items()}
    except FileNotFoundError:
      raise InputError(f'{path} does not exist; check the path.') from None
    except (safetensors.SafetensorError, OSError, ValueError) as error:
      raise InputError(
          f'{path} is no whole safetensors file ({printable(str(error), 200)});'
          ' download it again.'
      ) from None

  @property
  def shapes(self) -> dict[str, tuple[int, ...]]:
    return self._shapes

  def read(self, name: str) -> np.ndarray:
    return self._read(name, lambda handle: handle.get_tensor(name))

  def read_plane(self, name: str, index: int) -> np.ndarray:
    """x[:, index] of an array of three axes, without reading all of it."""
    return self._read(name, lambda h: h.get_slice(name)[:, index : index + 1])[
        :, 0
    ]

  def _read(self, name: str, get: Callable[[Any], np.ndarray]) -> np.ndarray:
    if self._dtypes[name] not in _SAFETENSORS_DTYPES:
      raise InputError(
          f'{self.where}: tensor {name!r} is {printable(self._dtypes[name])},'
          f' and only {", ".join(_SAFETENSORS_DTYPES)} are read; store it as'
          ' F32.'
      )
    try:
      return get(self._handle)
    except (safetensors.SafetensorError, OSError, ValueError) as error:
      raise InputError(
          f'{self.where}: tensor {name!r}: {printable(str(error), 200)}.'
      ) from None


# How a file of weights is opened, by the end of its name.
ARCHIVES: Mapping[str, Callable[[pathlib.Path], Archive]] = {
    '.npz': NpzArchive,
    '.safetensors': SafetensorsArchive,
    '.pt': TorchArchive,
    '.pth': TorchArchive,
}
_POINTER = b'version https://git-lfs'


def open_archive(path: pathlib.Path) -> Archive:
  """A file of weights, of which only headers are read.

  Args:
    path: Its name ends like one of `ARCHIVES`.

  Raises:
    InputError: It is damaged, or stands for a file that was not fetched.
  """
  try:
    with path.open('rb') as file:
      is_pointer = file.read(len(_POINTER)) == _POINTER
  except OSError:
    is_pointer = False  # The archive says what is wrong.
  if is_pointer:
    raise InputError(
        f'{path} is a Git LFS pointer: three lines of text in place of the'
        ' file; fetch the file itself (git lfs pull), or download it.'
    )
  return ARCHIVES[path.suffix.lower()](path)


def axis_sizes(
    archive: Archive,
    axes: Mapping[str, str],
    optional: Mapping[str, str] | None = None,
) -> dict[str, int]:
  """Size of every axis, or everything that is wrong with the arrays.

  Args:
    archive: The file; every array in it must be named here.
    axes: Name of an array -> its axes, one letter each; equal letters are
      equal sizes.
    optional: The same, for arrays that may be missing.

  Raises:
    InputError: An array is missing, unknown, or of a size that does not fit
      the others.
  """
  shapes, optional = archive.shapes, optional or {}
  problems = [f'{name} is missing' for name in axes if name not in shapes]
  unknown = sorted(set(shapes) - set(axes) - set(optional))
  problems += [f'{printable(n, 60)!r} is of no use here' for n in unknown[:5]]
  sizes: dict[str, int] = {}
  source: dict[str, str] = {}
  for name, letters in {**axes, **optional}.items():
    shape = shapes.get(name)
    if shape is None:
      continue
    if len(shape) != len(letters) or 0 in shape:
      problems.append(f'{name} is {list(shape)}, not [{", ".join(letters)}]')
      continue
    for letter, size in zip(letters, shape, strict=True):
      if sizes.setdefault(letter, size) != size:
        problems.append(
            f'{letter} is {sizes[letter]} in {source[letter]} and {size} in'
            f' {name}'
        )
      source.setdefault(letter, name)
  if problems:
    raise InputError(
        f'{archive.where} does not hold the SAE it should:'
        f' {"; ".join(problems)}; check that it is the right file, and whole.'
    )
  return sizes


def read_array(
    archive: Archive, name: str, *, transposed: bool = False, wide: bool = False
) -> np.ndarray:
  """One array with its axes in C order.

  Args:
    archive: The file.
    name: Of the array.
    transposed: Whether to swap its axes.
    wide: Float32 whatever is stored; otherwise float16 and bfloat16 are kept.

  Raises:
    InputError: It cannot be read.
  """
  x = archive.read(name)
  if transposed:
    x = x.T
  keep = x.dtype.itemsize <= 4 and not wide
  with np.errstate(over='ignore'):  # Refused by `Source.read`.
    x = np.require(x, x.dtype if keep else np.float32, ['C', 'W'])
  return x


def not_finite(x: np.ndarray, letters: str) -> list[int] | None:
  """The latents in which an array is not finite; None where it is.

  Args:
    x: The array.
    letters: Its axes, of which 'F' is that of the latents; without one the
      list is empty.
  """
  flat = x.reshape(-1)
  if all(
      np.isfinite(flat[i : i + _BLOCK]).all()
      for i in range(0, flat.size, _BLOCK)
  ):
    return None
  if 'F' not in letters:
    return []
  bad = ~np.isfinite(np.moveaxis(x, letters.index('F'), 0))
  return np.flatnonzero(bad.reshape(len(bad), -1).any(1)).tolist()
