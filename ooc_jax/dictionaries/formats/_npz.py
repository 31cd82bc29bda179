"""An `.npz` file of floats, opened without believing it."""

import math
import pathlib
import re
import struct
import zipfile
import zlib

import numpy as np

from ooc_jax._errors import InputError
from ooc_jax._text import printable

# An .npy header as NumPy writes it for plain floats, and nothing else: what
# `np.load` evaluates later is known to be this.
_NPY_HEADER = re.compile(
    rb"\{'descr': '<(f[248])', 'fortran_order': (?:True|False),"
    rb" 'shape': \(((?:[0-9]{1,12},? ?){0,4})\), \}[ \n]*"
)
_MAX_HEADER = 4096
_MAX_MEMBERS = 32
# Float weights hardly shrink; what unpacks to 64 times its size is a bomb.
_BOMB_BYTES, _BOMB_RATIO = 2**24, 64
# What zipfile, zlib, struct and NumPy raise for damaged archives: the user is
# told in one sentence.
_ZIP_ERRORS = (
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


class NpzArchive:
  """The arrays of floats of an .npz file."""

  def __init__(self, path: pathlib.Path):
    """Reads headers only.

    Args:
      path: The file.

    Raises:
      InputError: It is no whole .npz file, or holds anything but arrays of
        floats.
    """
    self.where, self._path = str(path), path
    try:
      with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
        if len(infos) > _MAX_MEMBERS:
          raise InputError(
              f'{path} holds {len(infos)} members, more than any SAE has; check'
              ' that it is the right file.'
          )
        self._shapes = {
            info.filename.removesuffix('.npy'): self._shape(archive, info)
            for info in infos
        }
    except FileNotFoundError:
      raise InputError(f'{path} does not exist; check the path.') from None
    except InputError:
      raise
    except _ZIP_ERRORS as error:
      raise InputError(self._damaged(str(error))) from None
    if len(self._shapes) < len(infos):
      raise InputError(self._damaged('it holds an array twice'))

  @property
  def shapes(self) -> dict[str, tuple[int, ...]]:
    return self._shapes

  def read(self, name: str) -> np.ndarray:
    try:
      with np.load(self._path, allow_pickle=False) as arrays:
        return arrays[name]
    except _ZIP_ERRORS as error:
      raise InputError(self._damaged(f'array {name!r}: {error}')) from None

  def _shape(
      self, archive: zipfile.ZipFile, info: zipfile.ZipInfo
  ) -> tuple[int, ...]:
    """The shape in a member's header, which fits the member's size."""
    name = info.filename
    if not re.fullmatch(r'[A-Za-z_][A-Za-z0-9_]{0,60}\.npy', name):
      raise InputError(
          f'{self._path}: member {printable(name, 200)!r} is no array of an'
          ' .npz file; do not use it.'
      )
    with archive.open(info) as file:
      head = file.read(8)
      form = {b'\x01\x00': '<H', b'\x02\x00': '<I'}.get(head[6:])
      if head[:6] != b'\x93NUMPY' or form is None:
        raise InputError(self._damaged(f'{name} does not begin like .npy'))
      (length,) = struct.unpack(form, file.read(struct.calcsize(form)))
      text = file.read(min(length, _MAX_HEADER))
      start = file.tell()
    match = _NPY_HEADER.fullmatch(text) if length == len(text) else None
    if b'O' in text.partition(b"'fortran_order'")[0]:
      raise InputError(
          f'{self._path}: array {name!r} holds pickled Python objects, which'
          ' could run code; store it as float32.'
      )
    if match is None:
      raise InputError(
          f'{self._path}: array {name!r} is not plain float16, float32 or'
          f' float64 ({printable(repr(text[:60]))}); store it as float32.'
      )
    shape = tuple(int(n) for n in re.findall(rb'[0-9]+', match[2]))
    self._check_size(info, start + math.prod(shape) * int(match[1][1:]))
    return shape

  def _check_size(self, info: zipfile.ZipInfo, expected: int) -> None:
    stored, limit = info.compress_size, self._path.stat().st_size
    plain = info.compress_type == zipfile.ZIP_STORED
    bomb = expected > _BOMB_BYTES and expected > _BOMB_RATIO * stored
    if (
        expected != info.file_size
        or stored > limit
        or (stored != expected if plain else bomb)
    ):
      raise InputError(
          f'{self._path}: array {info.filename!r} declares {expected} bytes in'
          f' {stored} bytes of a file of {limit}; do not use it.'
      )

  def _damaged(self, reason: str) -> str:
    return (
        f'{self._path} is no whole .npz file ({printable(reason, 200)});'
        ' download it again.'
    )
