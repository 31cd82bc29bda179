"""A folder that appears whole, or not at all."""

from collections.abc import Iterator
import contextlib
import os
import pathlib
import shutil
import tempfile

from ooc_jax._errors import InputError

try:
  import fcntl
except ImportError:  # Not on Windows: there, nothing left over is removed.
  fcntl = None


def checked_target(folder: str | os.PathLike[str]) -> pathlib.Path:
  """The absolute path of a folder that does not exist yet.

  Raises:
    InputError: It exists.
  """
  target = pathlib.Path(folder).expanduser().absolute()
  if os.path.lexists(target):
    raise InputError(f'{target} exists already; give a new folder.')
  return target


@contextlib.contextmanager
def new_folder(target: pathlib.Path, size: int = 0) -> Iterator[pathlib.Path]:
  """Gives a temporary folder beside `target`, renamed to it at the end.

  What a killed run left there is removed first.

  Args:
    target: Must not exist.
    size: Bytes that will be written.

  Raises:
    InputError: It cannot be written, or the disk is too small.
  """
  start = f'.{target.name}.partial-'
  try:
    target.parent.mkdir(parents=True, exist_ok=True)
    for old in target.parent.glob(f'{_escaped(start)}*'):
      _remove_if_left(old)
    free = shutil.disk_usage(target.parent).free
    if free < size:
      raise InputError(
          f'{target} needs {size / 1e9:.2f} GB, and {free / 1e9:.2f} GB are'
          ' free there; free some, or give a folder on another disk.'
      )
    temporary = pathlib.Path(tempfile.mkdtemp(prefix=start, dir=target.parent))
    lock = _lock(temporary)
    try:
      yield temporary
      # mkdtemp is private to its user; a checkpoint is as open as any folder.
      temporary.chmod(0o755)
      if os.path.lexists(target):
        raise InputError(
            f'{target} was written by another run meanwhile; it is left as it'
            ' is.'
        )
      temporary.rename(target)
    except BaseException:
      shutil.rmtree(temporary, ignore_errors=True)
      raise
    finally:
      if lock is not None:
        os.close(lock)
  except OSError as error:
    raise InputError(
        f'{target} cannot be written: {error.strerror or error}.'
    ) from None


def _escaped(name: str) -> str:
  """`name` without a meaning for glob."""
  return ''.join(f'[{c}]' if c in '*?[' else c for c in name)


def _lock(folder: pathlib.Path) -> int | None:
  """Holds `folder` until the process ends, however it ends."""
  if fcntl is None:
    return None
  handle = os.open(folder, os.O_RDONLY)
  try:
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except OSError:
    os.close(handle)  # Held by another, or a disk without locks.
    return None
  return handle


def _remove_if_left(folder: pathlib.Path) -> None:
  if (handle := _lock(folder)) is not None:
    shutil.rmtree(folder, ignore_errors=True)
    os.close(handle)
