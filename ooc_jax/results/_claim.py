"""Taking a folder for a run: one process, one run, nobody else's files."""

from collections.abc import Mapping
import contextlib
import os
import pathlib
from typing import Any

from absl import logging

from ooc_jax._errors import InputError
from ooc_jax._files import sync_folder
from ooc_jax._files import temporaries
from ooc_jax._files import write_json
from ooc_jax._folders import lock_folder
from ooc_jax._text import printable
from ooc_jax.results import _config

FEATURES = 'features'
FIGURES = 'figures'


def lock_results(path: pathlib.Path) -> int:
  """Locks a folder until the file descriptor that it gives is closed.

  Raises:
    InputError: Another process holds the lock.
    OSError: The folder cannot be opened.
  """
  try:
    lock = lock_folder(path)
  except BlockingIOError as error:
    raise InputError(
        f'Another process is writing to {printable(str(path))}: wait for it, or'
        ' give another --out.'
    ) from error
  if lock is None:  # A run is worth more than the guard.
    logging.warning(
        '%s is on a file system without locks: do not run twice at once.',
        printable(str(path)),
    )
    lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
  return lock


def claim_folder(
    path: pathlib.Path, config: Mapping[str, Any]
) -> Mapping[str, Any]:
  """Makes an empty folder ours, or checks that it has been of the same run.

  Also removes what a killed run left half written.

  Args:
    path: The folder, locked.
    config: The `new_config` of this run.

  Returns:
    The config that is recorded in the folder.

  Raises:
    InputError: It has another run, or files that are not ours.
    OSError: It cannot be listed, or a leftover cannot be removed.
  """
  left = temporaries(path)
  recorded = None
  if os.path.lexists(path / _config.CONFIG):
    recorded = _config.read_config(path)
    _config.check_same_run(path, config, recorded)
  elif set(os.listdir(path)) - set(map(os.path.basename, left)):
    raise InputError(
        f'{printable(str(path))} is not empty and not a results folder: give'
        ' another --out.'
    )
  for folder in (path / FEATURES, path / FIGURES):
    left += temporaries(folder)
  for temporary in left:
    os.unlink(temporary)
  if recorded is not None:
    return recorded
  write_json(path / _config.CONFIG, config)
  with contextlib.suppress(OSError):  # The parent may not be ours to read.
    sync_folder(path.parent)
  return config
