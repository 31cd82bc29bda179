"""Folders that appear whole or not at all, locks on them, and the cache."""

from collections.abc import Generator
import contextlib
import errno
import fcntl
import os
import pathlib
import shutil
import tempfile

from ooc_jax._errors import InputError
from ooc_jax._files import refusal

# Some file systems know no locks.
_NO_LOCKS = frozenset(
    {errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, errno.EBADF}
)


def lock_folder(path: str | os.PathLike[str]) -> int | None:
  """Locks a folder against other processes.

  The lock is on the folder itself, so it leaves no file, and the kernel opens
  it when the process dies, by whatever signal.

  Args:
    path: The folder.

  Returns:
    A file descriptor, which unlocks the folder when it is closed; None on a
    file system without locks.

  Raises:
    BlockingIOError: Another process holds the lock.
    OSError: The folder cannot be opened.
  """
  lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
  try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except OSError as error:
    os.close(lock)
    if error.errno in _NO_LOCKS:
      return None
    raise
  return lock


def cache_root() -> pathlib.Path | None:
  """What is kept between runs is here; None where nothing is to be kept.

  `$OOC_JAX_CACHE`, where the empty text turns it off; by default in the user's
  cache folder, if there is one: in a container the user may have no home.
  """
  root = os.environ.get('OOC_JAX_CACHE')
  if root == '':
    return None
  if root is None:
    caches = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
    root = os.path.join(caches, 'ooc_jax')
  try:
    return pathlib.Path(root).expanduser()
  except RuntimeError:
    return None


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
def new_folder(
    target: pathlib.Path, size: int = 0, *, replace: bool = False
) -> Generator[pathlib.Path, None, None]:
  """Gives a temporary folder beside `target`, renamed to it at the end.

  What a killed run left there is removed first.

  Args:
    target: Must not exist, unless it is replaced.
    size: Bytes that will be written.
    replace: Whether a folder that is there makes room; until then it is as it
      was.

  Raises:
    InputError: It cannot be written, or the disk is too small.
  """
  start = f'.{target.name}.partial-'
  try:
    target.parent.mkdir(parents=True, exist_ok=True)
    for old in target.parent.iterdir():
      if old.name.startswith(start):
        _remove_if_left(old)
    free = shutil.disk_usage(target.parent).free
    if free < size:
      raise InputError(
          f'{target} needs {size / 1e9:.2f} GB, and {free / 1e9:.2f} GB are'
          ' free there; free some, or give a folder on another disk.'
      )
    temporary = pathlib.Path(tempfile.mkdtemp(prefix=start, dir=target.parent))
    lock = lock_folder(temporary)
    try:
      yield temporary
      # mkdtemp is private to its user; a checkpoint is as open as any folder.
      temporary.chmod(0o755)
      if os.path.lexists(target):
        if not replace:
          raise InputError(
              f'{target} was written by another run meanwhile; it is left as it'
              ' is.'
          )
        old = tempfile.mkdtemp(prefix=start, dir=target.parent)
        target.rename(pathlib.Path(old) / 'old')
        temporary.rename(target)
        shutil.rmtree(old, ignore_errors=True)
      else:
        temporary.rename(target)
    except BaseException:
      shutil.rmtree(temporary, ignore_errors=True)
      raise
    finally:
      if lock is not None:
        os.close(lock)
  except OSError as error:
    raise InputError(refusal('write', target, error)) from None


def _remove_if_left(folder: pathlib.Path) -> None:
  with contextlib.suppress(OSError):  # Another run holds it, or it is a file.
    if (lock := lock_folder(folder)) is not None:
      shutil.rmtree(folder, ignore_errors=True)
      os.close(lock)
