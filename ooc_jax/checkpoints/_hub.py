"""Files of a hub repository: found in the cache, or fetched and checked.

A file that is downloaded has the length that was announced and, where its ETag
is a SHA-256 or a git hash as on the hub, that content; otherwise it is not
left in the cache. While one may lie there unchecked, a note beside the locks of
the hub's client says so: a run that is killed leaves it for the next.
"""

import contextlib
import dataclasses
import hashlib
import logging
import os
import pathlib
import re
import time
from typing import Literal

import huggingface_hub
from huggingface_hub import constants

from ooc_jax._errors import InputError
from ooc_jax.checkpoints._hub_errors import may_pass
from ooc_jax.checkpoints._hub_errors import refusal

_LOG = logging.getLogger(__name__)
_WAITS = (1.0, 2.0)  # Seconds before the second and the third try.
# What git allows in the name of a branch or tag, without what a path, a URL
# or a shell could read as something else.
_REVISION = re.compile(r'[\w][\w.+=@-]*(/[\w][\w.+=@-]*)*', re.ASCII)
_FORBIDDEN = re.compile(r'[\\%:\x00-\x1f\x7f]')
_SNAPSHOT = re.compile(
    r'.*/(?:model|dataset)s--(?P<repo>[^/]+)'
    r'/snapshots/(?P<commit>[^/]+)/(?P<name>.+)'
)
_PAGE = re.compile(rb'\s*<(!doctype\s+html|html|head|\?xml)\b', re.I)


@dataclasses.dataclass(frozen=True)
class HubOrigin:
  """Where a file of the hub's cache comes from.

  Attributes:
    repo: 'owner/name'.
    commit: As the hub names it: 40 hexadecimal digits.
    name: Path of the file in the repository.
  """

  repo: str
  commit: str
  name: str


def hub_origin(path: str | os.PathLike[str]) -> HubOrigin | None:
  """Repository, commit and name of a file that `fetch_file` returned.

  None where the path is not of the hub's cache.
  """
  found = _SNAPSHOT.fullmatch(pathlib.Path(path).as_posix())
  if found is None:
    return None
  return HubOrigin(
      found['repo'].replace('--', '/', 1), found['commit'], found['name']
  )


def fetch_file(
    repo: str,
    name: str,
    revision: str | None,
    *,
    kind: Literal['model', 'dataset'] = 'model',
) -> pathlib.Path:
  """One file of a repository, from the hub's cache or the hub.

  HF_TOKEN, HF_HOME, HF_ENDPOINT and HF_HUB_OFFLINE are respected. A download
  that is cut goes on where it was while the process lives; one that is killed
  begins its file again (huggingface_hub issue 4196).

  Files that belong together must be of one commit: ask for the first with the
  revision that the user gave, and for the others with `hub_origin(first)`'s.

  Args:
    repo: 'owner/name'.
    name: Path of the file in the repository.
    revision: Branch, tag or commit; None is the default branch.
    kind: Of the repository.

  Returns:
    Its path, in a folder that is named by the commit.

  Raises:
    MissingFile: The repository has no such file.
    InputError: The repository or the hub cannot be reached, or what it sends
      is wrong.
  """
  _check_names(repo, name, revision)
  for wait in (*_WAITS, None):
    try:
      return _fetch(repo, name, revision, kind)
    except InputError:
      raise
    except Exception as error:  # The network's libraries raise many types.
      again = isinstance(error, _WrongContent) or may_pass(error)
      if wait is None or not again:
        raise refusal(error, repo, name, revision, kind) from None
      _LOG.warning('%s of %s: %s; trying again.', name, repo, error)
    time.sleep(wait)
  raise AssertionError('unreachable')


class _WrongContent(Exception):
  """What was downloaded is not what the hub announced."""


def _check_names(repo: str, name: str, revision: str | None) -> None:
  """Refuses what could name a file outside of the repository's folder."""
  parts = name.split('/')
  if _FORBIDDEN.search(name) or not all(p.strip('. ') for p in parts):
    raise InputError(
        f'{name!r:.200} cannot be a file of {repo}: a name must stay inside'
        ' its repository; check it.'
    )
  if revision is not None and not (
      _REVISION.fullmatch(revision) and '..' not in revision
  ):
    raise InputError(
        f'{revision!r:.200} cannot be a revision of {repo}; give a branch, a'
        ' tag or a commit.'
    )


def _fetch(
    repo: str, name: str, revision: str | None, kind: str
) -> pathlib.Path:
  cached = huggingface_hub.try_to_load_from_cache(
      repo, name, revision=revision, repo_type=kind
  )
  key = hashlib.sha256(f'{name}@{revision}'.encode()).hexdigest()[:16]
  locks = pathlib.Path(
      constants.HF_HUB_CACHE, '.locks', f'{kind}s--{repo.replace("/", "--")}'
  )
  note = locks / f'{key}.unchecked'
  was_killed = note.exists()
  if not was_killed:
    with contextlib.suppress(OSError):  # A cache that is only read.
      locks.mkdir(parents=True, exist_ok=True)
      note.touch()
  keep_note = True  # Where this run is killed or interrupted.
  try:
    path = pathlib.Path(
        huggingface_hub.hf_hub_download(
            repo, name, revision=revision, repo_type=kind
        )
    )
    _check_inside(path)
    if was_killed or str(path) != cached:
      wrong = _what_is_wrong(path)
      if wrong:
        _discard(path)
        raise _WrongContent(wrong)
    keep_note = False
    return path
  except Exception:
    keep_note = was_killed
    raise
  finally:
    if not keep_note:
      with contextlib.suppress(OSError):
        note.unlink()
      with contextlib.suppress(OSError):
        locks.rmdir()  # Only if it is empty.


def _check_inside(path: pathlib.Path) -> None:
  """Refuses a link that leads out of the cache."""
  real = path.resolve()
  cache = pathlib.Path(constants.HF_HUB_CACHE).resolve()
  origin = hub_origin(path)
  blobs = path.parents[origin.name.count('/') + 2 if origin else 2] / 'blobs'
  if not any(real.is_relative_to(d) for d in (cache, blobs.resolve())):
    raise InputError(
        f"{path} is a link to {real}, out of the hub's cache; remove the link"
        ' to download the file again.'
    )


def _what_is_wrong(path: pathlib.Path) -> str | None:
  """Why a download is not what its ETag says, or None."""
  with path.open('rb') as file:
    if _PAGE.match(file.read(100)):
      return 'a web page came instead of the file'
    # The client names a blob by its ETag, and links to it where it can.
    etag = pathlib.Path(os.readlink(path)).name if path.is_symlink() else ''
    # On the hub: of the content of a large file, or git's of a small one.
    # Mirrors have been seen to send the plain SHA-1 of the content.
    prefixes = {64: (b'',), 40: (b'blob %d\0' % path.stat().st_size, b'')}
    if not re.fullmatch('[0-9a-f]+', etag) or len(etag) not in prefixes:
      return None
    algorithm = 'sha256' if len(etag) == 64 else 'sha1'
    for prefix in prefixes[len(etag)]:
      file.seek(0)
      start = hashlib.new(algorithm, prefix, usedforsecurity=False)
      if hashlib.file_digest(file, start.copy).hexdigest() == etag:
        return None
  return 'what came is not what the hub announced (another hash)'


def _discard(path: pathlib.Path) -> None:
  """Removes a file from the cache, and what it is a link to."""
  blob = path.parent / os.readlink(path) if path.is_symlink() else path
  for file in (path.resolve(), blob, path):
    file.unlink(missing_ok=True)
