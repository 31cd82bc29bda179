"""Arrays that are found once a model or tokenizer, kept between runs.

A file is named after the hash of all that its arrays were made of, so it is
right or it is not there; what is damaged, foreign or cannot be written counts
as not there. Nothing is kept until a program says where: the scripts do, by
`set_cache_dir`.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
import contextlib
import hashlib
import importlib.metadata
import json
import math
import os
import pathlib
import stat
import time
from typing import Any

import numpy as np

from ooc_jax._errors import InputError
from ooc_jax._files import atomic_write
from ooc_jax._files import temporaries
from ooc_jax._folders import cache_root
from ooc_jax._text import printable

# Of all files together; those that were not read for longest go first. A
# model of Gemma-2-2B's size takes 45 MB.
_MOST_BYTES = 2**30
_SUFFIX = '.safetensors'
_CHECKSUM = 'checksum'
# Bytes of a table that are hashed at a time, and by how many threads.
_AT_ONCE, _HASHERS = 2**26, 4
# Names and shapes in front of the arrays of a file.
_HEADER = 2**16
# Seconds after which nobody is still writing a file.
_LEFT = 3600.0


class _Place:
  """Where files are kept; None is nowhere."""

  folder: pathlib.Path | None = None


def set_cache_dir(folder: str | os.PathLike[str] | None = 'auto') -> None:
  """Keeps between programs what takes long to find of a model or tokenizer.

  Of a tokenizer, strings and masks; of a table, what a study goes over it for:
  under-trained tokens, covariance, token space. From now on they are read from
  `folder`/prepared if an earlier program left them there, and left there if
  not. Until this is called nothing is kept: the scripts call it. A file is
  named by the hash of the weights or of the tokenizer that it was made of, and
  made again where it is damaged.
  Compiled programs are not among it: JAX keeps these where its setting
  `jax_compilation_cache_dir` says.

  Args:
    folder: Made when it is needed, and never larger than a gigabyte; 'auto' is
      that of the scripts, $OOC_JAX_CACHE (the empty text: none) or `ooc_jax` in
      the user's cache folder. None, or the empty text, keeps nothing.

  Raises:
    InputError: It is in the home of a user that is not known here.
  """
  root = cache_root() if folder == 'auto' else folder
  _Place.folder = None
  if root is None or not os.fspath(root):
    return
  try:
    _Place.folder = pathlib.Path(root).expanduser().absolute() / 'prepared'
  except RuntimeError as error:
    raise InputError(
        f'{printable(str(root))} cannot be a cache folder ({error}): give a'
        ' path without ~.'
    ) from None


def is_kept() -> bool:
  """Whether anything is, here; not where several processes take turns.

  One that finds a file and one that does not would wait for each other.
  """
  if _Place.folder is None:
    return False
  import jax  # A second, which a command that keeps nothing does without.

  return jax.process_count() == 1


def digest(x: Any) -> str:
  """SHA-256 of type and shape of an array [n, ...] and of the SHA-256 of parts.

  One on a CPU is read where it lies, another some rows at a time.
  """
  devices = [] if isinstance(x, np.ndarray) else list(x.devices())
  if len(devices) < 2 and all(d.platform == 'cpu' for d in devices):
    x = np.asarray(x)
  found = hashlib.sha256(f'{x.dtype} {x.shape}'.encode())
  rows = max(1, _AT_ONCE * len(x) // max(x.nbytes, 1))

  def part(first: int) -> bytes:
    block = np.ascontiguousarray(x[first : first + rows])
    return hashlib.sha256(block.view(np.uint8).reshape(-1).data).digest()

  with futures.ThreadPoolExecutor(_HASHERS) as pool:
    for each in pool.map(part, range(0, len(x), rows)):
      found.update(each)
  return found.hexdigest()


def versions(
    names: Sequence[str] = ('jax', 'jaxlib', 'ooc_jax'),
) -> dict[str, str]:
  """Of packages that compute: a later one may mend what this gets wrong."""
  found = {}
  for name in names:
    try:
      found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      found[name] = 'not installed'  # Such as a clone that is on the path.
  return found


def recall(
    name: str,
    made_of: Mapping[str, Any] | None,
    like: Mapping[str, tuple[tuple[int | None, ...], Any]],
    make: Callable[[], Mapping[str, Any]],
    valid: Callable[[Mapping[str, np.ndarray]], bool] = lambda _: True,
) -> Mapping[str, Any]:
  """Arrays of an earlier run, or those that are made now, and kept.

  Args:
    name: What they are.
    made_of: Everything that they depend on but `versions`, as JSON has it; of
      arrays their `digest`. None keeps nothing.
    like: Shape and type of each; None is a length that is not known.
    make: Makes them.
    valid: Whether arrays of a file, of the right shapes and types, can be what
      `make` gives.
  """
  if made_of is None or not is_kept():
    return make()
  assert _Place.folder is not None
  about = json.dumps([name, made_of, versions()], sort_keys=True)
  key = hashlib.sha256(about.encode()).hexdigest()
  path = _Place.folder / f'{key}{_SUFFIX}'
  found = _read(path, like)
  if found is None or not valid(found):
    found = make()
    _write(path, {x: np.asarray(y) for x, y in found.items()})
  return found


def _read(
    path: pathlib.Path,
    like: Mapping[str, tuple[tuple[int | None, ...], Any]],
) -> dict[str, np.ndarray] | None:
  """The arrays of a file; None unless it is what `_write` wrote."""
  import safetensors.numpy  # As reading a model does; and not without one.

  most = _HEADER
  for shape, dtype in like.values():
    known = [n for n in shape if n is not None]
    # What the folder has room for, where a length is not known.
    most += (
        math.prod(known) * np.dtype(dtype).itemsize
        if len(known) == len(shape)
        else _MOST_BYTES
    )
  try:
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode) or status.st_size > most:
      return None
    arrays = safetensors.numpy.load(path.read_bytes())
    checksum = arrays.pop(_CHECKSUM)
  except (OSError, ValueError, KeyError, safetensors.SafetensorError):
    return None
  if arrays.keys() != like.keys() or not all(
      x.dtype == like[name][1] and _fits(x.shape, like[name][0])
      for name, x in arrays.items()
  ):
    return None
  if not np.array_equal(checksum, _checksum(path, arrays)):
    return None
  with contextlib.suppress(OSError):
    os.utime(path)  # It was of use just now.
  return arrays


def _fits(shape: tuple[int, ...], like: tuple[int | None, ...]) -> bool:
  return len(shape) == len(like) and all(
      n in (None, own) for own, n in zip(shape, like, strict=True)
  )


def _write(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
  """Keeps arrays, and no more files than there is room for."""
  import safetensors.numpy

  arrays = {x: np.ascontiguousarray(y) for x, y in arrays.items()}
  checksum = _checksum(path, arrays)
  whole = safetensors.numpy.save({**arrays, _CHECKSUM: checksum})
  if len(whole) > _MOST_BYTES:
    return
  # Without a place to keep them, they are made every time.
  with contextlib.suppress(OSError, InputError):
    path.parent.mkdir(parents=True, exist_ok=True)
    _make_room(path.parent, len(whole))
    atomic_write(path, whole)


def _make_room(folder: pathlib.Path, size: int) -> None:
  """Deletes what killed writers left, and the oldest files over the limit.

  Others may be writing, and making room, at the same time.
  """
  for name in temporaries(folder):
    with contextlib.suppress(FileNotFoundError):
      if os.lstat(name).st_mtime < time.time() - _LEFT:
        os.unlink(name)
  files = []
  for path in folder.glob(f'*{_SUFFIX}'):
    with contextlib.suppress(FileNotFoundError):
      status = path.lstat()
      if stat.S_ISREG(status.st_mode):
        files.append((status.st_mtime, status.st_size, path))
  held = size + sum(x for _, x, _ in files)
  for _, own, path in sorted(files):
    if held <= _MOST_BYTES:
      break
    path.unlink(missing_ok=True)
    held -= own


def _checksum(
    path: pathlib.Path, arrays: Mapping[str, np.ndarray]
) -> np.ndarray:
  """Of the name of a file too: another's is as wrong as a damaged one."""
  found = hashlib.sha256(path.name.encode())
  for name in sorted(arrays):
    found.update(f'{name} {digest(arrays[name])} '.encode())
  return np.frombuffer(found.digest(), np.uint8)
