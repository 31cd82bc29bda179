"""A model hub on loopback, with its faults at a switch.

It speaks what `huggingface_hub` needs of the real one: `resolve` with commits,
branches and tags, ETags (git's hash of a small file, SHA-256 of a large one),
the redirect of small files to a path that names the commit and of large ones
to another origin, ranges, gated repositories, tokens, and the error codes.

Use:
  hub = LoopbackHub()              # a context manager
  hub.publish('owner/name', folder)
  with hub.client(cache):          # this process
  subprocess.run(..., env=os.environ | hub.environment(home))  # another one
  hub.fail('owner/name', 'model.safetensors', 'cut', times=1)
  hub.downloaded()                 # names of the files that were sent
"""

from collections.abc import Iterator, Mapping
import contextlib
import dataclasses
import hashlib
import http.server
import os
import pathlib
import threading
from typing import Any
from unittest import mock

import huggingface_hub
from huggingface_hub import constants

from tests.loopback_handlers import Asked
from tests.loopback_handlers import HubHandler
from tests.loopback_handlers import RepositoryFile
from tests.loopback_handlers import StoreHandler

# To read one takes the client longer than to be answered.
_CERTIFICATES = (
    'SSL_CERT_FILE',
    'SSL_CERT_DIR',
    'REQUESTS_CA_BUNDLE',
    'CURL_CA_BUNDLE',
)


@dataclasses.dataclass
class _Repository:
  commits: dict[str, dict[str, RepositoryFile]] = dataclasses.field(
      default_factory=dict
  )
  refs: dict[str, str] = dataclasses.field(default_factory=dict)
  # Tokens that may read it; None is everyone.
  accepted: frozenset[str] | None = None
  private: bool = False


@dataclasses.dataclass
class _Fault:
  kind: str
  times: int | None  # None: until it is mended.
  settings: dict[str, Any]


FAULTS = (
    'cut',  # Closes the connection `after` bytes of the body.
    'reset',  # Likewise, as a broken line does.
    'stall',  # Sends `after` bytes, then nothing.
    'trickle',  # Sends `step` bytes every `seconds`.
    'short',  # Announces and sends `by` bytes less.
    'long',  # Announces `by` bytes more than it sends.
    'corrupt',  # Other content of the same length.
    'status',  # Answers downloads with `code` and `headers`.
    'status_of_head',  # Answers questions about the file so.
    'page',  # A web page as the body, with the headers of the file.
    'portal',  # A web page for every question, as a captive portal does.
    'page_as_file',  # A web page with headers that fit it, and a random ETag.
    'loop',  # Redirects to itself.
    'elsewhere',  # Redirects to `url`.
    'gone',  # 404.
    'unpinned',  # A small file without its redirect to the commit.
    'headers',  # Sends `headers` instead of its own.
)


class LoopbackHub:
  """The hub and, on another port and so another origin, its file store."""

  def __init__(self):
    self.asked: list[Asked] = []
    self.tokens: set[str] = set()
    # Called at each request of a file, before it is answered.
    self.before = lambda method, file: None
    self._repositories: dict[str, _Repository] = {}
    self._renamed: dict[str, str] = {}
    self._faults: dict[str, _Fault] = {}
    self._lock = threading.Lock()
    self.stopping = threading.Event()
    self._servers = []
    for handler in (HubHandler, StoreHandler):
      server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
      server.daemon_threads, server.block_on_close = True, False
      server.hub = self
      thread = threading.Thread(
          target=server.serve_forever, args=(0.01,), daemon=True
      )
      thread.start()
      self._servers.append((server, thread))

  @property
  def url(self) -> str:
    return f'http://127.0.0.1:{self._servers[0][0].server_port}'

  @property
  def store_url(self) -> str:
    return f'http://127.0.0.1:{self._servers[1][0].server_port}'

  def close(self) -> None:
    self.stopping.set()
    for server, thread in self._servers:
      server.shutdown()
      server.server_close()
      thread.join()

  def __enter__(self) -> 'LoopbackHub':
    return self

  def __exit__(self, *args) -> None:
    self.close()

  # What is on the hub.

  def publish(
      self,
      repo: str,
      files: pathlib.Path | Mapping[str, bytes | pathlib.Path],
      *,
      branch: str = 'main',
      sha256: Mapping[str, str] | None = None,
  ) -> str:
    """Makes a commit of `files` and moves `branch` there.

    Args:
      repo: 'owner/name'.
      files: A folder, read when a file is asked for, or name -> content.
      branch: That is moved.
      sha256: Of files that are too large to be hashed here.

    Returns:
      The commit.
    """
    if isinstance(files, pathlib.Path):
      files = {
          f.relative_to(files).as_posix(): f
          for f in sorted(files.rglob('*'))
          if f.is_file()
      }
    tree = {
        name: RepositoryFile(content, name, (sha256 or {}).get(name))
        for name, content in files.items()
    }
    repository = self._repositories.setdefault(repo, _Repository())
    key = f'{repo} {len(repository.commits)} {sorted(tree)}'
    commit = hashlib.sha1(key.encode()).hexdigest()
    repository.commits[commit] = tree
    repository.refs[branch] = commit
    return commit

  def tag(self, repo: str, name: str, commit: str) -> None:
    self._repositories[repo].refs[name] = commit

  def gate(self, repo: str, *accepted: str, private: bool = False) -> None:
    """Lets only tokens in `accepted` read `repo`; the hub knows them."""
    repository = self._repositories[repo]
    repository.accepted = frozenset(accepted)
    repository.private = private
    self.tokens |= set(accepted)

  def rename(self, old: str, new: str) -> None:
    self._repositories[new] = self._repositories.pop(old)
    self._renamed[old] = new

  # What goes wrong.

  def fail(
      self,
      repo: str,
      name: str,
      kind: str,
      *,
      times: int | None = None,
      **settings: Any,
  ) -> None:
    """Switches a fault of `FAULTS` on for one file; '*' is every file."""
    assert kind in FAULTS, kind
    self._faults[f'{repo}/{name}'] = _Fault(kind, times, settings)

  def mend(self) -> None:
    """Switches all faults off."""
    self._faults.clear()

  def fault(self, file: str, *kinds: str) -> _Fault | None:
    """The fault of a file if it is one of `kinds`; counts it."""
    with self._lock:
      repo = '/'.join(file.split('/')[:2])
      fault = self._faults.get(file) or self._faults.get(f'{repo}/*')
      if fault is None or fault.kind not in kinds or fault.times == 0:
        return None
      if fault.times is not None:
        fault.times -= 1
      return fault

  # What was asked.

  def record(self, asked: Asked) -> None:
    with self._lock:
      self.asked.append(asked)

  def downloaded(self, repo: str | None = None) -> list[str]:
    """Names of the files of which content was sent, in that order."""
    names = []
    for a in self.asked:
      if a.method == 'GET' and a.file and a.status in (200, 206):
        owner, name, file = a.file.split('/', 2)
        if repo in (None, f'{owner}/{name}'):
          names.append(file)
    return names

  def forget(self) -> None:
    self.asked.clear()

  # How a client finds it.

  def environment(self, home: pathlib.Path) -> dict[str, str]:
    """For a process of its own; it should have no other HF_ variable."""
    return {
        'HF_ENDPOINT': self.url,
        'HF_HOME': str(home),
        'HF_HUB_DISABLE_PROGRESS_BARS': '1',
        'HF_HUB_DISABLE_TELEMETRY': '1',
        'NO_PROXY': '127.0.0.1',
    }

  @contextlib.contextmanager
  def client(self, cache: pathlib.Path) -> Iterator[None]:
    """Points the `huggingface_hub` of this process here.

    HF_ENDPOINT and HF_HOME are read when it is imported, so the constants are
    what is changed. No token is sent but HF_TOKEN's; proxies and certificates
    of this machine are not for the hub, nor is a registry of agents that the
    client keeps in the user's home and asks the hub for, once a process.
    """
    template = self.url + '/{repo_id}/resolve/{revision}/{filename}'
    values = {
        'ENDPOINT': self.url,
        'HUGGINGFACE_CO_URL_TEMPLATE': template,
        'HF_HUB_CACHE': str(cache),
        'HF_TOKEN_PATH': str(cache / 'no token'),
        'HF_HUB_DISABLE_PROGRESS_BARS': True,
        'HF_HUB_DISABLE_TELEMETRY': True,
        'HF_HUB_OFFLINE': False,
    }
    others = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith('HF_')
        and k not in _CERTIFICATES
        and not k.lower().endswith('_proxy')
    }
    huggingface_hub.close_session()
    with contextlib.ExitStack() as stack:
      for name, value in values.items():
        stack.enter_context(mock.patch.object(constants, name, value))
      stack.enter_context(mock.patch.dict(os.environ, others, clear=True))
      try:
        yield
      finally:
        huggingface_hub.close_session()

  # What the handlers ask.

  def find(
      self, repo: str, revision: str, token: str | None
  ) -> tuple[str, dict[str, RepositoryFile]] | tuple[int, dict[str, str]]:
    """Commit and files, or status and headers of a refusal."""
    if token is not None and token not in self.tokens:
      text = 'Invalid credentials in Authorization header'
      return 401, {'X-Error-Message': text}
    repository = self._repositories.get(repo)
    known = token is not None
    if repository is None or (
        repository.private and token not in (repository.accepted or ())
    ):
      return 404 if known else 401, {'X-Error-Code': 'RepoNotFound'}
    commit = repository.refs.get(revision, revision)
    if commit not in repository.commits:
      return 404, {'X-Error-Code': 'RevisionNotFound'}
    if repository.accepted is not None and token not in repository.accepted:
      return 403 if known else 401, {
          'X-Error-Code': 'GatedRepo',
          'X-Error-Message': f'Access to model {repo} is restricted.',
      }
    return commit, repository.commits[commit]

  def renamed(self, repo: str) -> str | None:
    return self._renamed.get(repo)

  def large_object(
      self, repo: str, sha256: str
  ) -> tuple[str, RepositoryFile] | None:
    """A large file by its hash, and its name with the repository's."""
    for tree in self._repositories[repo].commits.values():
      for name, file in tree.items():
        if file.large and file.etag == sha256:
          return f'{repo}/{name}', file
    return None
