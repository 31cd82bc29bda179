"""Where a model is, by its short name, its hub id or its path.

Converted copies of hub models are in `models/OWNER--NAME/COMMIT` of
`_folders.cache_root`, for later runs to find.
"""

import importlib.util
import os
import pathlib
import re

from absl import logging

from ooc_jax._errors import InputError
from ooc_jax._folders import cache_root
from ooc_jax._text import nearest
from ooc_jax.checkpoints._manifest import MANIFEST
from ooc_jax.checkpoints._manifest import read_manifest
from ooc_jax.model import families

_HUB_ID = re.compile(r'[A-Za-z0-9][\w.-]*/[\w.-]+')
_PICKLES = ('.bin', '.pt', '.pth', '.ckpt', '.pkl', '.pickle')

# Short names; any hub id, folder or file works without an entry here.
MODELS = {
    name: entry
    for family in families.FAMILIES
    for name, entry in family.models.items()
}


def model_entry(name: str) -> families.ModelEntry:
  """The entry of a short name.

  Raises:
    InputError: The name is unknown; the nearest one is suggested.
  """
  if name not in MODELS:
    raise InputError(
        f'Unknown model {name!r}: it is neither a file, a folder, a hub id'
        f' (owner/name) nor a known name{nearest(name, MODELS)}'
    )
  return MODELS[name]


def locate(
    source: str | os.PathLike[str], revision: str | None
) -> pathlib.Path | str:
  """A path that exists, or a hub repository.

  Args:
    source: A name of the registry, a hub repository ('owner/name') or a path;
      a path that exists comes first.
    revision: Of a hub repository.

  Returns:
    A path, or the 'owner/name' of a repository.

  Raises:
    InputError: There is no such path, and it is the name of nothing known.
  """
  name = os.fspath(source)
  try:
    path = pathlib.Path(name).expanduser()
    found = bool(name) and path.exists()
  except (OSError, RuntimeError, ValueError) as error:  # '~nobody' and such.
    raise InputError(
        f'{name!r:.200} cannot be opened ({error!s:.200}); check the path.'
    ) from None
  if found:
    _without_revision(path, name, revision)
    if name in MODELS:
      repo = MODELS[name].repo
      instead = f'; for the model of that name give {repo}' if repo else ''
      logging.warning(
          '%s is read from here: a file or folder of that name comes before the'
          ' registry%s.',
          path.absolute(),
          instead,
      )
    if path.is_file() and path.suffix in _PICKLES:
      raise InputError(
          f'{path} is opened by a pickle reader only, which could run code;'
          ' convert it to safetensors.'
      )
    return path
  suffix = path.suffix.lower()
  if suffix in ('.gguf', '.safetensors', *_PICKLES) or name.startswith(
      ('/', '.', '~')
  ):
    raise InputError(f'{name} does not exist; check the path.')
  if _HUB_ID.fullmatch(name):
    return name
  entry = model_entry(name)
  if entry.package is not None and (revision is None or entry.repo is None):
    module, file = entry.package
    spec = importlib.util.find_spec(module)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
      packaged = pathlib.Path(folder) / file
      if packaged.exists():
        return _without_revision(packaged, name, revision)
  if entry.repo is None:
    raise InputError(
        f'{name} comes with ooc_jax, and its files are missing from this'
        ' installation; install the package again.'
    )
  return entry.repo


def cache_folder(repo: str) -> pathlib.Path | None:
  """The folder of the copies of `repo`, one a commit; None without a cache."""
  root = cache_root()
  return root and root.absolute() / 'models' / repo.replace('/', '--')


def cached_copy(repo: str, commit: str | None) -> pathlib.Path | None:
  """The newest converted copy of a repository, or None.

  Args:
    repo: 'owner/name'.
    commit: None is any.
  """
  found = {}
  folder = cache_folder(repo)
  for path in folder.glob(f'[!.]*/{MANIFEST}') if folder else ():
    try:
      origin = read_manifest(path.parent).origin
    except InputError:
      continue  # Of another version: the hub has it still.
    if origin is None or origin.repo != repo:
      continue
    if commit is None or origin.commit == commit:
      found[path.stat().st_mtime] = path.parent
  return found[max(found)] if found else None


def _without_revision(
    path: pathlib.Path, name: str, revision: str | None
) -> pathlib.Path:
  if revision is not None:
    raise InputError(
        f'{name} is on this machine and has no revision {revision!r}; leave'
        ' the revision out, or rename the file or folder to read the hub.'
    )
  return path
