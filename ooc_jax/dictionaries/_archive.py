"""What the file formats share: named arrays, whose sizes must agree."""

from collections.abc import Mapping
import pathlib
from typing import Any, Protocol, runtime_checkable

import numpy as np
import safetensors

from ooc_jax._errors import InputError

_DTYPES = ('F32', 'F16', 'BF16', 'F64')
# Elements tested for NaN at a time: no mask as large as a decoder.
_BLOCK = 2**20


def printable(text: str, most: int = 200) -> str:
  """`text` on one line and of bounded length: names in a file are not ours."""
  if len(text) > most:
    text = text[:most] + '...'
  return ''.join(c if c.isprintable() else repr(c)[1:-1] for c in text)


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
    """One array as it is stored."""
    ...


class SafetensorsArchive:
  """The tensors of a .safetensors file, memory-mapped."""

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
          f'{path} is no whole safetensors file ({printable(str(error))});'
          ' download it again.'
      ) from None

  @property
  def shapes(self) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor, by name."""
    return self._shapes

  def read(self, name: str) -> np.ndarray:
    """One tensor, in memory of its own."""
    if self._dtypes[name] not in _DTYPES:
      raise InputError(
          f'{self.where}: tensor {name!r} is {printable(self._dtypes[name])},'
          f' and only {", ".join(_DTYPES)} are read; store it as F32.'
      )
    try:
      return self._handle.get_tensor(name)
    except (safetensors.SafetensorError, OSError, ValueError) as error:
      raise InputError(
          f'{self.where}: tensor {name!r}: {printable(str(error))}.'
      ) from None


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
  """One array in memory of its own, with its axes in C order.

  Args:
    archive: The file.
    name: Of the array.
    transposed: Whether to swap its axes.
    wide: Float32 whatever is stored; otherwise float16 and bfloat16 are kept.

  Raises:
    InputError: It cannot be read, or holds NaN or infinity.
  """
  x = archive.read(name)
  if transposed:
    x = x.T
  keep = x.dtype.itemsize <= 4 and not wide
  with np.errstate(over='ignore'):  # Told below.
    x = np.array(x, x.dtype if keep else np.float32, order='C')
  flat = x.reshape(-1)
  if not all(
      np.isfinite(flat[i : i + _BLOCK]).all()
      for i in range(0, flat.size, _BLOCK)
  ):
    raise InputError(
        f'{archive.where}: tensor {name!r} holds NaN or infinity; download it'
        ' again.'
    )
  return x
