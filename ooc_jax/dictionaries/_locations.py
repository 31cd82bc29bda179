"""Where the files of a dictionary are: a folder here or on the hub."""

import pathlib
from typing import Protocol, runtime_checkable

import huggingface_hub

from ooc_jax._errors import InputError
from ooc_jax._text import printable
from ooc_jax.checkpoints import MissingFile
from ooc_jax.checkpoints import fetch_file

PICKLES = ('.bin', '.pkl', '.pickle', '.ckpt', '.joblib')


@runtime_checkable
class Location(Protocol):
  """A folder of files.

  Attributes:
    path: As the caller or the hub names it; it may say layer and hook.
    remote: Whether its files have to be fetched.
  """

  path: str
  remote: bool

  def get(self, name: str) -> pathlib.Path | None:
    """The file of that name, or None if there is none."""
    ...

  def names(self) -> list[str]:
    """The files in the folder, where that can be told."""
    ...


class LocalLocation:
  """A folder of this machine."""

  remote = False

  def __init__(self, folder: pathlib.Path, chosen: str | None = None):
    """Opens nothing yet.

    Args:
      folder: Absolute.
      chosen: A file in it that the caller named, wherever a link leads it.
    """
    self.path = str(folder)
    self._folder = folder
    self._chosen = chosen

  def get(self, name: str) -> pathlib.Path | None:
    """The file, or None.

    Raises:
      InputError: It is a link to somewhere else. An unpacked archive can hold
        such links; the hub's cache, where links lead to its blobs, is known.
    """
    path = self._folder / name
    try:
      if not path.is_file():
        return None
      if name != self._chosen and not _is_inside(path, self._folder):
        raise InputError(
            f'{path} is a link to {printable(str(path.resolve()))}, outside of'
            ' its folder; give that file itself if it is the right one.'
        )
    except (OSError, RuntimeError, ValueError) as error:
      if isinstance(error, InputError):
        raise
      raise InputError(
          f'{printable(str(path))} cannot be opened'
          f' ({printable(str(error))}); check the path.'
      ) from None
    return path

  def names(self) -> list[str]:
    return sorted(p.name for p in self._folder.iterdir() if p.is_file())


class HubLocation:
  """A folder of a hub repository, fetched file by file."""

  remote = True

  def __init__(self, repo: str, folder: str, revision: str | None):
    """Fetches nothing yet.

    Args:
      repo: 'owner/name'.
      folder: In it; '' is its root.
      revision: Branch, tag or commit; None is the default branch.

    Raises:
      InputError: The folder is no plain path.
    """
    parts = folder.split('/') if folder else []
    if any(part in ('', '.', '..') for part in parts):
      raise InputError(
          f'{printable(folder)!r} is no folder of the hub repository {repo};'
          ' write it without empty parts and dots.'
      )
    self.path = '/'.join([repo, *parts])
    self._repo, self._parts, self._revision = repo, parts, revision
    self._reachable = True
    self._found: dict[str, pathlib.Path | None] = {}

  def get(self, name: str) -> pathlib.Path | None:
    """The file, or None.

    Raises:
      InputError: The hub cannot be reached, or the repository is not there.
        Said once; asked for another file, only the cache is looked into.
    """
    if name not in self._found:  # Formats share the names of their files.
      self._found[name] = self._get(name)
    return self._found[name]

  def _get(self, name: str) -> pathlib.Path | None:
    parts = [*self._parts, *name.split('/')]
    inside = '/'.join(parts)
    if self._reachable:
      try:
        path = fetch_file(self._repo, inside, self._revision)
      except MissingFile:
        return None
      except InputError:
        self._reachable = False
        raise
    else:  # It takes half a minute to find that out.
      cached = huggingface_hub.try_to_load_from_cache(
          self._repo, inside, revision=self._revision
      )
      if not isinstance(cached, str):
        return None
      path = pathlib.Path(cached)
    # The snapshot's folder is named by its commit: later files come from it.
    self._revision = path.parents[len(parts) - 1].name
    return path

  def names(self) -> list[str]:
    return []


def _is_inside(path: pathlib.Path, folder: pathlib.Path) -> bool:
  real, root = path.resolve(), folder.resolve()
  if real.is_relative_to(root):
    return True
  # A blob of the hub's cache, which a folder of links may lead to from
  # anywhere: it has no name of its own, and snapshots beside it.
  blobs = real.parent
  return blobs.name == 'blobs' and (blobs.parent / 'snapshots').is_dir()
