"""Parses the header of a GGUF file: metadata and tensor table.

The `gguf` package dequantises, but its reader makes two arrays of every
element of every array: 12 s on a vocabulary of 262144, and no end at all on a
length that a damaged file makes up. The layout is that of the GGUF
specification, versions 2 and 3, little-endian.
"""

from collections.abc import Callable
import dataclasses
import struct
from typing import Any

import numpy as np

MAGIC = b'GGUF'
_VERSIONS = (2, 3)
_DEFAULT_ALIGNMENT = 32
# ggml itself has four; a larger count is no count.
_MOST_DIMENSIONS = 4
_STRING, _ARRAY = 8, 9
_NUMBERS = {
    0: np.dtype('<u1'),
    1: np.dtype('<i1'),
    2: np.dtype('<u2'),
    3: np.dtype('<i2'),
    4: np.dtype('<u4'),
    5: np.dtype('<i4'),
    6: np.dtype('<f4'),
    7: np.dtype('?'),
    10: np.dtype('<u8'),
    11: np.dtype('<i8'),
    12: np.dtype('<f8'),
}


class HeaderError(ValueError):
  """The bytes are no whole GGUF header; says what is wrong with them."""


@dataclasses.dataclass(frozen=True)
class StoredTensor:
  """One row of the tensor table.

  Attributes:
    shape: Slowest dimension first, as in NumPy; GGUF lists them reversed.
    kind: The number of its element type.
    start: First byte in the file.
  """

  shape: tuple[int, ...]
  kind: int
  start: int


def read_header(
    data: memoryview,
) -> tuple[dict[str, Any], dict[str, StoredTensor]]:
  """Reads metadata and tensor table; each cost is bounded by the file's size.

  Args:
    data: All bytes of the file.

  Returns:
    Metadata as plain Python values, arrays as lists; tensors by name.

  Raises:
    HeaderError: The file is cut, damaged or of another version.
  """
  cursor = _Cursor(data)
  if cursor.take(len(MAGIC)) != MAGIC:
    raise HeaderError('it does not start with GGUF')
  version = cursor.integer('<I')
  if version not in _VERSIONS:
    raise HeaderError(
        f'it has version {version} (or another byte order), and versions'
        f' {_VERSIONS} are read'
    )
  num_tensors, num_keys = cursor.integer('<Q'), cursor.integer('<Q')
  metadata = cursor.table(num_keys, cursor.value)
  rows = cursor.table(num_tensors, cursor.tensor)
  alignment = metadata.get('general.alignment', _DEFAULT_ALIGNMENT)
  if type(alignment) is not int or alignment < 1:
    raise HeaderError(f'general.alignment is {alignment!r}')
  start = -(-cursor.at // alignment) * alignment
  tensors = {
      name: dataclasses.replace(row, start=start + row.start)
      for name, row in rows.items()
  }
  return metadata, tensors


class _Cursor:
  """Reads forward through bytes, never past their end."""

  def __init__(self, data: memoryview):
    self._data = data
    self.at = 0

  def take(self, count: int) -> memoryview:
    if count > len(self._data) - self.at:
      raise HeaderError(f'it ends after {len(self._data)} bytes, too early')
    self.at += count
    return self._data[self.at - count : self.at]

  def integer(self, form: str) -> int:
    return struct.unpack(form, self.take(struct.calcsize(form)))[0]

  def string(self) -> str:
    return str(self.take(self.integer('<Q')), 'utf-8')

  def table(self, count: int, read: Callable[[], Any]) -> dict[str, Any]:
    """`count` pairs of a name and what `read` reads."""
    result = {}
    for _ in range(count):
      name = self.string()
      if name in result:
        raise HeaderError(f'{name!r} is in it twice')
      result[name] = read()
    return result

  def value(self) -> Any:
    kind = self.integer('<I')
    if kind == _STRING:
      return self.string()
    if kind == _ARRAY:
      kind, count = self.integer('<I'), self.integer('<Q')
      return (
          self.strings(count) if kind == _STRING else self.numbers(kind, count)
      )
    return self.numbers(kind, 1)[0]

  def strings(self, count: int) -> list[str]:
    # Written out: a vocabulary has 262144, its merges as many again.
    data, end, at, result = self._data, len(self._data), self.at, []
    length = struct.Struct('<Q').unpack_from
    for _ in range(count):
      start = at + 8
      at = start + length(data, at)[0] if start <= end else end + 1
      if at > end:
        raise HeaderError(f'it ends after {end} bytes, too early')
      result.append(str(data[start:at], 'utf-8'))
    self.at = at
    return result

  def numbers(self, kind: int, count: int) -> list[Any]:
    if kind not in _NUMBERS:
      raise HeaderError(f'it holds a value of type {kind}, which is none')
    dtype = _NUMBERS[kind]
    return np.frombuffer(self.take(count * dtype.itemsize), dtype).tolist()

  def tensor(self) -> StoredTensor:
    count = self.integer('<I')
    if count > _MOST_DIMENSIONS:
      raise HeaderError(f'a tensor in it has {count} dimensions')
    shape = tuple(self.integer('<Q') for _ in range(count))[::-1]
    return StoredTensor(shape, self.integer('<I'), self.integer('<Q'))
