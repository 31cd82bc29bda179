"""Reads .npz files of numbers, and nothing else that such a file may hold.

`numpy.load` would do, but for what a file from elsewhere can be: pickled
objects, a few bytes that declare terabytes, members named like paths. Here no
header is evaluated, no member is unpacked to the disk, and what a file says is
held against its size before memory is taken. Members that are not compressed,
which is how Gemma Scope is stored, are memory-mapped.
"""

import dataclasses
import math
import pathlib
import re
import struct
import zipfile
import zlib

import numpy as np

from ooc_jax._errors import InputError
from ooc_jax.dictionaries._archive import printable

_MAGIC = b'\x93NUMPY'
_HEADER = re.compile(
    rb"\{'descr': '([^']{1,20})', 'fortran_order': (True|False),"
    rb" 'shape': \(((?:[0-9]{1,12},? ?){0,4})\), \}[ \n]*"
)
_MOST_HEADER = 4096
_DTYPES = {b'<f2': np.float16, b'<f4': np.float32, b'<f8': np.float64}
_MOST_MEMBERS = 32
# Float weights hardly shrink; what unpacks to 64 times its size is a bomb.
_BOMB_BYTES, _BOMB_RATIO = 2**24, 64
# What zipfile, zlib and struct raise for damaged or unknown archives: the user
# is told in one sentence.
_ERRORS = (
    EOFError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclasses.dataclass(frozen=True)
class _Member:
  """An array of the file, of which only the header was read."""

  info: zipfile.ZipInfo
  dtype: type[np.floating]
  shape: tuple[int, ...]
  fortran: bool
  start: int  # Bytes of the member before its data.


class NpzArchive:
  """The arrays of an .npz file, read one at a time."""

  def __init__(self, path: pathlib.Path):
    """Reads headers only.

    Args:
      path: The file.

    Raises:
      InputError: It is no whole .npz file, or holds anything but arrays of
        floats.
    """
    self.where = str(path)
    self._path = path
    try:
      with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
        if len(infos) > _MOST_MEMBERS:
          raise InputError(
              f'{path} holds {len(infos)} members, more than any SAE has; check'
              ' that it is the right file.'
          )
        members = [self._member(archive, info) for info in infos]
    except FileNotFoundError:
      raise InputError(f'{path} does not exist; check the path.') from None
    except InputError:
      raise
    except _ERRORS as error:
      raise InputError(self._damaged(str(error))) from None
    self._members = {
        member.info.filename.removesuffix('.npy'): member for member in members
    }
    if len(self._members) < len(members):
      raise InputError(self._damaged('it holds an array twice'))

  @property
  def shapes(self) -> dict[str, tuple[int, ...]]:
    """Shape of every array, by name."""
    return {name: member.shape for name, member in self._members.items()}

  def read(self, name: str) -> np.ndarray:
    """One array, mapped from the file or in memory of its own."""
    member = self._members[name]
    try:
      flat = self._flat(member)
    except _ERRORS as error:
      raise InputError(self._damaged(f'array {name!r}: {error}')) from None
    if member.fortran:
      return flat.reshape(member.shape[::-1]).T
    return flat.reshape(member.shape)

  def _member(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Member:
    name = info.filename
    if not re.fullmatch(r'[A-Za-z_][A-Za-z0-9_]{0,60}\.npy', name):
      raise InputError(
          f'{self._path}: member {printable(name)!r} is no array of an .npz'
          ' file; do not use it.'
      )
    with archive.open(info) as file:
      head = file.read(8)
      form = {b'\x01\x00': '<H', b'\x02\x00': '<I'}.get(head[6:])
      if head[:6] != _MAGIC or form is None:
        raise InputError(self._damaged(f'{name} does not begin like .npy'))
      size = struct.calcsize(form)
      (length,) = struct.unpack(form, file.read(size))
      text = file.read(min(length, _MOST_HEADER))
    match = _HEADER.fullmatch(text) if length == len(text) else None
    if b'O' in text.partition(b"'fortran_order'")[0]:
      raise InputError(
          f'{self._path}: array {name!r} holds pickled Python objects, which'
          ' could run code; store it as float32.'
      )
    if match is None or match[1] not in _DTYPES:
      raise InputError(
          f'{self._path}: array {name!r} is not plain float16, float32 or'
          f' float64 ({printable(repr(text[:60]))}); store it as float32.'
      )
    shape = tuple(int(n) for n in re.findall(rb'[0-9]+', match[3]))
    dtype = _DTYPES[match[1]]
    start = 8 + size + length
    self._check_size(info, start + math.prod(shape) * np.dtype(dtype).itemsize)
    return _Member(info, dtype, shape, match[2] == b'True', start)

  def _check_size(self, info: zipfile.ZipInfo, expected: int) -> None:
    """Holds what the member says of itself against the file."""
    stored, limit = info.compress_size, self._path.stat().st_size
    bomb = expected > _BOMB_BYTES and expected > _BOMB_RATIO * stored
    plain = info.compress_type == zipfile.ZIP_STORED
    if (
        expected != info.file_size
        or stored > limit
        or (plain and stored != expected)
        or (bomb and not plain)
    ):
      raise InputError(
          f'{self._path}: array {info.filename!r} declares {expected} bytes in'
          f' {stored} bytes of a file of {limit}; do not use it.'
      )

  def _flat(self, member: _Member) -> np.ndarray:
    count = math.prod(member.shape)
    info = member.info
    if info.compress_type != zipfile.ZIP_STORED or not count:
      with (
          zipfile.ZipFile(self._path) as archive,
          archive.open(info) as file,
      ):
        file.read(member.start)
        data = file.read(count * np.dtype(member.dtype).itemsize)
      return np.frombuffer(data, member.dtype, count)
    # `open` held the name in the local header against the directory; the
    # lengths in it are its own.
    with self._path.open('rb') as file:
      file.seek(info.header_offset)
      name, extra = struct.unpack('<26x2H', file.read(30))
    offset = info.header_offset + 30 + name + extra + member.start
    return np.memmap(
        self._path, member.dtype, mode='r', offset=offset, shape=(count,)
    )

  def _damaged(self, reason: str) -> str:
    return (
        f'{self._path} is no whole .npz file ({printable(reason)}); download it'
        ' again.'
    )
