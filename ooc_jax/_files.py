"""Files that appear whole or not at all, JSON, and file hashes."""

from collections.abc import Generator, Mapping, Sequence
import contextlib
import errno
import hashlib
import json
import math
import os
import pathlib
import secrets
import stat
from typing import Any, BinaryIO

import numpy as np

from ooc_jax._errors import InputError
from ooc_jax._text import printable

# Only files with this prefix are ever deleted; nothing else makes such names.
TEMPORARY_PREFIX = '.ooc_jax-tmp-'

_SPACE = 'free some space or choose another folder'
_RIGHTS = 'make the folder writable or choose another one'
_REMEDIES = {
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EFBIG: _SPACE,
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EROFS: _RIGHTS,
    errno.ENOENT: 'create the folder first',
    errno.EISDIR: 'move the folder of that name away',
    errno.EEXIST: 'move the file of that name away',
    errno.ENOTDIR: 'move the file of that name away',
}
# Some network file systems cannot sync a folder; the rename itself is done.
_NO_FOLDER_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.ENOSYS})


def refusal(verb: str, path: str | os.PathLike[str], error: OSError) -> str:
  """One sentence for a failed system call: what, where, what to do."""
  remedy = _REMEDIES.get(error.errno or 0, 'check the path and the disk')
  reason = error.strerror or str(error) or type(error).__name__
  return f'Cannot {verb} {printable(str(path))}: {printable(reason)}; {remedy}.'


@contextlib.contextmanager
def atomic_file(
    path: str | os.PathLike[str],
) -> Generator[BinaryIO, None, None]:
  """Opens a file that takes its name only when the block ends well.

  A reader, or a process killed at any moment, sees the old file, or none, or
  the whole new one. The data is on the disk before the name is.

  Args:
    path: The file to write or to replace. Its folder must exist.

  Yields:
    A binary file, open for writing, in the same folder under another name.

  Raises:
    InputError: Disk full, no permission, or any other `OSError` of the block.
      Nothing is left behind and a file already at `path` is untouched.
  """
  path = pathlib.Path(path)
  temporary = path.with_name(TEMPORARY_PREFIX + secrets.token_hex(8))
  # Not tempfile: its mode 0600 would hide results from the user's group.
  flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
  try:
    with os.fdopen(os.open(temporary, flags, 0o666), 'wb') as file:
      yield file
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_folder(path.parent)
  except OSError as error:
    raise InputError(refusal('write', path, error)) from error
  finally:
    with contextlib.suppress(OSError):  # Mostly: already renamed.
      os.unlink(temporary)


def atomic_write(path: str | os.PathLike[str], data: bytes) -> None:
  """Writes `data` to `path`, whole or not at all.

  Args:
    path: The file to write or to replace. Its folder must exist.
    data: The content.

  Raises:
    InputError: See `atomic_file`.
  """
  with atomic_file(path) as file:
    file.write(data)


def sync_folder(folder: str | os.PathLike[str]) -> None:
  """Puts the names in `folder` on the disk, where its file system can."""
  descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
  try:
    os.fsync(descriptor)
  except OSError as error:
    if error.errno not in _NO_FOLDER_SYNC:
      raise
  finally:
    os.close(descriptor)


def make_folder(path: pathlib.Path, *, parents: bool = False) -> None:
  """Makes a folder in one that exists, its name on the disk; or finds it.

  Args:
    path: The folder.
    parents: Whether those that it is in are made too.

  Raises:
    InputError: It cannot be made.
  """
  try:
    if not path.is_dir():
      path.mkdir(parents=parents)
      sync_folder(path.parent)
  except OSError as error:
    raise InputError(refusal('create', path, error)) from error


def temporaries(folder: str | os.PathLike[str]) -> list[str]:
  """Paths of what killed writers left in `folder`; [] where it is missing."""
  try:
    with os.scandir(folder) as entries:
      return sorted(
          entry.path
          for entry in entries
          if entry.name.startswith(TEMPORARY_PREFIX)
          and entry.is_file(follow_symlinks=False)
      )
  except FileNotFoundError:
    return []


def plain(value: Any) -> Any:
  """Turns NumPy values and tuples into what JSON has.

  NaN and the infinities, which JSON lacks, become None: "no number".

  Args:
    value: Mappings with string keys, sequences, NumPy arrays and scalars,
      numbers, strings, None, nested in any way.

  Returns:
    The same in dict, list, str, int, float, bool and None.

  Raises:
    TypeError: Something else is in `value`, or a key is no string.
  """
  if isinstance(value, (np.ndarray, np.generic)):
    value = value.tolist()
  if value is None or isinstance(value, (str, bool, int)):
    return value
  if isinstance(value, float):
    return value if math.isfinite(value) else None
  if isinstance(value, Mapping):
    if strange := [key for key in value if not isinstance(key, str)]:
      raise TypeError(f'JSON keys are strings, got {strange}.')
    return {key: plain(item) for key, item in value.items()}
  if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
    return [plain(item) for item in value]
  raise TypeError(f'{value!r} of {type(value)} is no JSON value.')


def write_json(path: str | os.PathLike[str], value: Any) -> None:
  """Writes JSON that is the same bytes for the same value, whole or not at all.

  Sorted keys, two spaces, a newline at the end, ASCII only (so that `cat` of a
  file with token text cannot drive a terminal). NaN and the infinities are
  written as null.

  Args:
    path: The file to write or to replace.
    value: See `plain`.

  Raises:
    InputError: See `atomic_file`.
    TypeError: See `plain`.
  """
  text = json.dumps(plain(value), indent=2, sort_keys=True, allow_nan=False)
  atomic_write(path, text.encode('ascii') + b'\n')


def read_json(
    path: str | os.PathLike[str], *, remedy: str = 'delete it and run again'
) -> Any:
  """Reads a JSON file.

  Args:
    path: The file.
    remedy: What to do about one that is damaged.

  Returns:
    Its value.

  Raises:
    InputError: It is missing, unreadable or not JSON.
  """
  try:
    content = pathlib.Path(path).read_bytes()
    if not content.strip():
      raise InputError(f'{printable(str(path))} is empty: {remedy}.')
    return json.loads(content)
  except InputError:
    raise
  except OSError as error:
    raise InputError(refusal('read', path, error)) from error
  except (ValueError, RecursionError) as error:
    raise InputError(
        f'{printable(str(path))} is not JSON ({printable(str(error))}):'
        f' {remedy}.'
    ) from error


def sha256_file(path: str | os.PathLike[str]) -> str:
  """SHA-256 of a file, streamed: a 16 GB file needs no memory.

  Args:
    path: A regular file, or a link to one.

  Returns:
    64 lower-case hexadecimal digits.

  Raises:
    InputError: It is missing, unreadable or not a file.
  """
  try:
    with open(path, 'rb', opener=_open_regular) as file:
      return hashlib.file_digest(file, 'sha256').hexdigest()
  except OSError as error:
    raise InputError(refusal('read', path, error)) from error


def _open_regular(path: str, flags: int) -> int:
  # O_NONBLOCK: opening a named pipe would wait for ever for its writer.
  descriptor = os.open(path, flags | os.O_NONBLOCK)
  if not stat.S_ISREG(os.fstat(descriptor).st_mode):
    os.close(descriptor)
    raise OSError(errno.EINVAL, 'not a regular file')
  return descriptor
