"""Reads GGUF files; the `gguf` package (extra `gguf`) dequantises."""

from collections.abc import Mapping
import math
import pathlib
import re
from typing import Any

import numpy as np

from ooc_jax._errors import InputError
from ooc_jax.checkpoints._source import TensorInfo
from ooc_jax.checkpoints._source import check_no_pointer
from ooc_jax.checkpoints.gguf._header import MAGIC
from ooc_jax.checkpoints.gguf._header import StoredTensor
from ooc_jax.checkpoints.gguf._header import read_header

# Dequantised at a time: few enough for the cache, and the package holds copies.
_ELEMENTS = 2**18
_PART = re.compile(r'(.+)-(\d{5})-of-(\d{5})\.gguf')


def is_gguf(path: pathlib.Path) -> bool:
  """Whether `path` is named or starts like a GGUF file."""
  if path.suffix.lower() == '.gguf':
    return True
  if not path.is_file():
    return False
  with path.open('rb') as f:
    return f.read(len(MAGIC)) == MAGIC


def _opened(
    path: pathlib.Path,
) -> tuple[np.memmap, dict[str, Any], dict[str, StoredTensor]]:
  """Bytes, metadata and tensor table of one file.

  Raises:
    InputError: It is missing, cut or no GGUF file.
  """
  check_no_pointer(path)
  try:
    data = np.memmap(path, np.uint8, mode='r')
    return data, *read_header(data.data)
  except FileNotFoundError:
    raise InputError(f'{path} does not exist; check the path.') from None
  except OSError as error:
    raise InputError(
        f'{path} cannot be read: {error.strerror or error}.'
    ) from None
  except ValueError as error:  # Also no bytes at all, and no UTF-8.
    raise InputError(
        f'{path} is no whole GGUF file: {error}; download it again.'
    ) from None


class GGUFSource:
  """A GGUF file, memory-mapped; tensors are dequantised as they are read.

  Of a model that is split over several files, all of them.

  Attributes:
    metadata: Its keys, as plain Python values.
  """

  def __init__(self, path: pathlib.Path):
    """Reads the metadata and the tensor table.

    Raises:
      InputError: The package is missing, or the file is missing, cut or no
        GGUF file.
    """
    try:
      import gguf  # An extra: not everyone reads GGUF.
    except ImportError:
      raise InputError(
          f"Reading {path} needs the gguf package: pip install 'ooc_jax[gguf]'."
      ) from None
    self._gguf = gguf
    self._path = path
    data, self.metadata, tensors = _opened(path)
    self._files: tuple[pathlib.Path, ...] = (path,)
    self._tensors = {name: (data, row) for name, row in tensors.items()}
    if self.metadata.get('split.count', 1) != 1:
      self._open_parts()

  def _open_parts(self) -> None:
    """The other parts of a model that is split over several files.

    Raises:
      InputError: A part is missing, or is of another model.
    """
    match = _PART.fullmatch(self._path.name)
    count = self.metadata['split.count']
    if match is None or int(match[3]) != count:
      raise InputError(
          f'{self._path} says that it is one of {count!r:.20} parts, and its'
          ' name is not NAME-00001-of-0000N.gguf with that number; give it its'
          ' name back.'
      )
    paths = [
        self._path.with_name(f'{match[1]}-{i:05}-of-{match[3]}.gguf')
        for i in range(1, count + 1)
    ]
    if missing := [path.name for path in paths if not path.is_file()]:
      raise InputError(
          f'{self._path} is one of {count} parts, and beside it'
          f' {", ".join(missing[:3])} is missing; download all parts into one'
          ' folder.'
      )
    self._files, self._tensors = tuple(paths), {}
    for i, path in enumerate(paths):
      data, metadata, tensors = _opened(path)
      if (metadata.get('split.no'), metadata.get('split.count')) != (i, count):
        raise InputError(
            f'{path} does not say that it is part {i + 1} of {count}; download'
            ' it again.'
        )
      if twice := sorted(set(tensors) & set(self._tensors)):
        raise InputError(
            f'{path}: tensor {twice[0]!r} is in another part too; download the'
            ' parts again.'
        )
      # The first part has what is said of the whole model.
      self.metadata = metadata if not i else self.metadata
      self._tensors |= {name: (data, row) for name, row in tensors.items()}

  @property
  def where(self) -> str:
    return str(self._path)

  @property
  def files(self) -> tuple[pathlib.Path, ...]:
    return self._files

  def tensors(self) -> Mapping[str, TensorInfo]:
    return {
        name: TensorInfo(row.shape, self._kind_name(row.kind))
        for name, (_, row) in self._tensors.items()
    }

  def read(
      self, name: str, index: tuple[slice, ...] | None = None
  ) -> np.ndarray:
    """One tensor or a part of it, float32, in memory of its own."""
    data, row = self._tensors[name]
    try:
      kind = self._gguf.GGMLQuantizationType(row.kind)
      block, block_bytes = self._gguf.GGML_QUANT_SIZES[kind]
      size, width = math.prod(row.shape), row.shape[-1]
      first, shape = 0, row.shape
      if width % block:
        raise ValueError(f'its rows of {width} are no multiple of {block}')
      stored = data[row.start : row.start + size // block * block_bytes]
      if len(stored) * block < size * block_bytes:
        raise ValueError('the file is too short for it')
      if index is not None and len(shape) > 1:
        # Quantised blocks lie within rows; columns are taken afterwards.
        start, stop, _ = index[0].indices(shape[0])
        first, shape = start * (size // shape[0]), (stop - start, *shape[1:])
        size = math.prod(shape)
        bounds = (n // block * block_bytes for n in (first, first + size))
        stored = stored[slice(*bounds)]
      out = np.empty(size, np.float32)
      step = _ELEMENTS // block
      # A damaged scale overflows; what is not finite is refused later.
      with np.errstate(all='ignore'):
        for i in range(0, size // block, step):
          part = stored[i * block_bytes : (i + step) * block_bytes]
          # As one row: the package handles 16 rows at a time, however short.
          out[i * block : (i + step) * block] = self._gguf.quants.dequantize(
              np.asarray(part).reshape(1, -1), kind
          ).ravel()
    # What the package raises for sizes and kinds that it cannot unpack.
    except (ValueError, LookupError, NotImplementedError) as e:
      raise InputError(
          f'{self._path}: tensor {name!r} of type {self._kind_name(row.kind)}'
          f' and shape {list(row.shape)} cannot be read ({e}); take another'
          ' quantisation or download it again.'
      ) from None
    out = out.reshape(shape)
    if index is None:
      return out
    rest = index if len(shape) == 1 else (slice(None), *index[1:])
    return out[rest]

  def _kind_name(self, kind: int) -> str:
    try:
      return self._gguf.GGMLQuantizationType(kind).name
    except ValueError:
      return str(kind)
