"""Where converted copies of hub models are, for later runs to find.

`$OOC_JAX_CACHE/models/OWNER--NAME/COMMIT`; the default is ~/.cache/ooc_jax.
"""

import os
import pathlib

from ooc_jax._errors import InputError
from ooc_jax.checkpoints._manifest import MANIFEST
from ooc_jax.checkpoints._manifest import read_manifest


def cache_folder(repo: str) -> pathlib.Path:
  """The folder of the copies of `repo`, one a commit."""
  root = os.environ.get('OOC_JAX_CACHE') or '~/.cache/ooc_jax'
  name = repo.replace('/', '--')
  return pathlib.Path(root).expanduser().absolute() / 'models' / name


def cached_copy(repo: str, commit: str | None) -> pathlib.Path | None:
  """The newest converted copy of a repository, or None.

  Args:
    repo: 'owner/name'.
    commit: None is any.
  """
  found = {}
  for path in cache_folder(repo).glob(f'[!.]*/{MANIFEST}'):
    try:
      origin = read_manifest(path.parent).origin
    except InputError:
      continue  # Of another version: the hub has it still.
    if origin is None or origin.repo != repo:
      continue
    if commit is None or origin.commit == commit:
      found[path.stat().st_mtime] = path.parent
  return found[max(found)] if found else None
