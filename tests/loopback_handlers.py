"""How the loopback hub answers: one handler for the hub, one for its store."""

from collections.abc import Mapping
import contextlib
import dataclasses
import hashlib
import http.server
import json
import pathlib
import re
import socket
import struct
from typing import Any
import urllib.parse

# Kept in git-lfs on the hub, whatever their size.
LARGE = ('.safetensors', '.npz', '.gguf', '.bin', 'tokenizer.json')
PAGE = b'<!DOCTYPE html>\n<html><body>Please log in.</body></html>\n'
_RESOLVE = re.compile(r'/((?:datasets/)?[^/]+/[^/]+)/resolve/([^/]+)/(.+)')
_PINNED = re.compile(
    r'/api/resolve-cache/models/((?:datasets/)?[^/]+/[^/]+)/([^/]+)/(.+)'
)
_API = re.compile(r'/api/models/([^/]+/[^/]+?)(?:/revision/([^/]+))?')
_TREE = re.compile(r'/api/models/([^/]+/[^/]+)/tree/([^/]+)(?:/(.+))?')
_LARGE_OBJECT = re.compile(r'/large/([^/]+/[^/]+)/([0-9a-f]{64})')
_BLOCK = 2**16


@dataclasses.dataclass
class Asked:
  """One request and what was answered, up to now.

  Attributes:
    method: 'GET' or 'HEAD'.
    path: As it was asked, unquoted.
    file: 'owner/name/file' where it was a file of a repository.
    commit: That the revision led to.
    range: The header, or None.
    token: What came as a bearer token, or None.
    large: Whether the other origin was asked.
    status: Of the answer; 0 where there was none.
    sent: Bytes of the body that were written.
  """

  method: str
  path: str
  range: str | None
  token: str | None
  large: bool
  file: str | None = None
  commit: str | None = None
  status: int = 0
  sent: int = 0


@dataclasses.dataclass
class RepositoryFile:
  """Content, in memory or on disk, and its hash."""

  content: bytes | pathlib.Path
  name: str
  sha256: str | None = None

  @property
  def large(self) -> bool:
    return self.name.endswith(LARGE)

  @property
  def size(self) -> int:
    if isinstance(self.content, bytes):
      return len(self.content)
    return self.content.stat().st_size

  @property
  def etag(self) -> str:
    if not self.large:
      data = self.read(0, self.size)
      return hashlib.sha1(b'blob %d\0' % len(data) + data).hexdigest()
    if self.sha256 is None:
      digest = hashlib.sha256()
      for start in range(0, self.size, _BLOCK):
        digest.update(self.read(start, _BLOCK))
      self.sha256 = digest.hexdigest()
    return self.sha256

  def read(self, start: int, count: int) -> bytes:
    if isinstance(self.content, bytes):
      return self.content[start : start + count]
    with self.content.open('rb') as file:
      file.seek(start)
      return file.read(count)


class _Handler(http.server.BaseHTTPRequestHandler):
  """What hub and store have in common: sending a file, with its faults."""

  protocol_version = 'HTTP/1.1'

  @property
  def hub(self) -> Any:  # A LoopbackHub.
    return self.server.hub

  def log_message(self, *args) -> None:
    del args  # The tests look at `asked`.

  def handle(self) -> None:
    with contextlib.suppress(ConnectionError):  # The client went away.
      super().handle()

  def do_GET(self) -> None:
    self.close_connection = True
    authorization = self.headers.get('Authorization')
    self.asked = Asked(
        self.command,
        urllib.parse.unquote(self.path),
        self.headers.get('Range'),
        authorization and authorization.removeprefix('Bearer '),
        isinstance(self, StoreHandler),
    )
    # Before the answer: the client may be ahead of this thread after it.
    self.hub.record(self.asked)
    with contextlib.suppress(ConnectionError, _Dropped):
      self.serve(urllib.parse.urlsplit(self.path).path)
      self.wfile.flush()

  do_HEAD = do_GET

  def serve(self, path: str) -> None:
    """What each kind of server answers."""
    raise NotImplementedError

  def head(self, status: int, headers: Mapping[str, str], length: int) -> None:
    self.asked.status = status
    self.send_response(status)
    for name, value in headers.items():
      self.send_header(name, value)
    self.send_header('Content-Length', str(length))
    self.send_header('Connection', 'close')
    self.end_headers()

  def answer(
      self, status: int, headers: Mapping[str, str], body: bytes = b''
  ) -> None:
    self.head(status, headers, len(body))
    self.write(body)

  def write(self, data: bytes) -> None:
    if self.command == 'GET' and data:
      self.asked.sent += len(data)
      self.wfile.write(data)

  def send_file(self, file: RepositoryFile, headers: dict[str, str]) -> None:
    """The content, from where the client asks for it."""
    hub, name = self.hub, self.asked.file
    start, status = 0, 200
    end = file.size
    span = self.headers.get('Range', '')
    if asked := re.fullmatch(r'bytes=(\d+)-(\d*)', span):
      start, status = int(asked[1]), 206
      if start >= file.size:
        return self.answer(416, {'Content-Range': f'bytes */{file.size}'})
      end = min(end, int(asked[2] or end) + 1)
      headers['Content-Range'] = f'bytes {start}-{end - 1}/{file.size}'
    headers['Accept-Ranges'] = 'bytes'
    if self.command == 'HEAD':
      return self.head(status, headers, end - start)
    if fault := hub.fault(name, 'status'):
      settings = fault.settings
      return self.answer(settings['code'], settings.get('headers', {}), PAGE)
    if hub.fault(name, 'page'):
      return self.answer(200, headers | {'Content-Type': 'text/html'}, PAGE)
    fault = hub.fault(
        name, 'cut', 'reset', 'stall', 'trickle', 'short', 'long', 'corrupt'
    )
    kind = fault.kind if fault else None
    by = fault.settings.get('by', 7) if fault else 0
    left = end - start - (by if kind == 'short' else 0)
    self.head(status, headers, left + (by if kind == 'long' else 0))
    if kind in ('cut', 'reset', 'stall'):
      self.copy(file, start, min(left, fault.settings.get('after', left // 2)))
      self.wfile.flush()
      if kind == 'stall':
        self.hub.stopping.wait(fault.settings.get('seconds', 60))
      if kind == 'reset':
        now = struct.pack('ii', 1, 0)  # Close with RST, drop what is queued.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, now)
        self.connection.close()
      raise _Dropped
    if kind == 'trickle':
      step = fault.settings.get('step', 100)
      for at in range(start, start + left, step):
        self.copy(file, at, min(step, start + left - at))
        self.wfile.flush()
        self.hub.stopping.wait(fault.settings.get('seconds', 0.02))
    elif kind == 'corrupt':
      self.write(bytes(b ^ 1 for b in file.read(start, left)))
    else:
      self.copy(file, start, left)

  def copy(self, file: RepositoryFile, start: int, count: int) -> None:
    for at in range(start, start + count, _BLOCK):
      self.write(file.read(at, min(_BLOCK, start + count - at)))


class _Dropped(Exception):
  """The connection is given up in the middle of an answer."""


class HubHandler(_Handler):

  def serve(self, path: str) -> None:
    if match := _RESOLVE.fullmatch(path):
      return self.resolve(*_unquoted(match))
    if match := _PINNED.fullmatch(path):
      return self.resolve(*_unquoted(match), pinned=True)
    if match := _TREE.fullmatch(path):
      return self.tree(*_unquoted(match))
    if match := _API.fullmatch(path):
      return self.model(
          *(g and urllib.parse.unquote(g) for g in match.groups())
      )
    return self.answer(404, {'Content-Type': 'application/json'}, b'{}')

  def resolve(
      self, repo: str, revision: str, name: str, pinned: bool = False
  ) -> None:
    hub = self.hub
    where = self.asked.file = f'{repo}/{name}'
    hub.before(self.command, where)
    if new := hub.renamed(repo):
      return self.answer(307, {'Location': self.path.replace(repo, new, 1)})
    found, files = hub.find(repo, revision, self.asked.token)
    if isinstance(found, int):
      return self.answer(found, files)
    self.asked.commit = found
    headers = {'X-Repo-Commit': found}
    file = files.get(name)
    if file is None or hub.fault(where, 'gone'):
      return self.answer(404, headers | {'X-Error-Code': 'EntryNotFound'})
    if hub.fault(where, 'portal'):
      return self.answer(200, {'Content-Type': 'text/html'}, PAGE)
    if hub.fault(where, 'page_as_file'):
      return self.answer(200, headers | {'ETag': '"c0ffee"'}, PAGE)
    if hub.fault(where, 'loop'):
      return self.answer(302, headers | {'Location': self.path})
    if self.command == 'HEAD' and (fault := hub.fault(where, 'status_of_head')):
      settings = fault.settings
      return self.answer(settings['code'], settings.get('headers', {}))
    if fault := hub.fault(where, 'elsewhere'):
      return self.redirect(file, headers, fault.settings['url'])
    if file.large:
      return self.redirect(
          file,
          headers,
          f'{hub.store_url}/large/{repo}/{file.etag}?signed=for-you',
      )
    if not pinned and not hub.fault(where, 'unpinned'):
      place = urllib.parse.quote(f'models/{repo}/{found}/{name}')
      pinned_url = f'/api/resolve-cache/{place}?etag=%22{file.etag}%22'
      return self.answer(307, {'Location': pinned_url})
    headers['ETag'] = f'"{file.etag}"'
    if fault := hub.fault(where, 'headers'):
      headers |= fault.settings['headers']
    return self.send_file(file, headers)

  def redirect(
      self, file: RepositoryFile, headers: Mapping[str, str], url: str
  ) -> None:
    self.answer(
        302,
        {
            **headers,
            'X-Linked-Etag': f'"{file.etag}"',
            'X-Linked-Size': str(file.size),
            'Location': url,
        },
    )

  def model(self, repo: str, revision: str | None) -> None:
    found, files = self.hub.find(repo, revision or 'main', self.asked.token)
    if isinstance(found, int):
      return self.answer(found, files)
    siblings = [{'rfilename': name} for name in sorted(files)]
    return self.json({'id': repo, 'sha': found, 'siblings': siblings})

  def tree(self, repo: str, revision: str, folder: str | None) -> None:
    found, files = self.hub.find(repo, revision, self.asked.token)
    if isinstance(found, int):
      return self.answer(found, files)
    return self.json([
        {'type': 'file', 'path': name, 'size': f.size, 'oid': f.etag[:40]}
        for name, f in sorted(files.items())
        if folder is None or name.startswith(f'{folder}/')
    ])

  def json(self, value: Any) -> None:
    body = json.dumps(value).encode()
    self.answer(200, {'Content-Type': 'application/json'}, body)


class StoreHandler(_Handler):

  def serve(self, path: str) -> None:
    match = _LARGE_OBJECT.fullmatch(path)
    found = match and self.hub.large_object(*match.groups())
    if not found:
      return self.answer(403, {'Content-Type': 'application/xml'})
    self.asked.file, file = found
    self.hub.before(self.command, self.asked.file)
    return self.send_file(file, {'ETag': f'"{file.etag}"'})


def _unquoted(match: re.Match[str]) -> list[str | None]:
  return [g and urllib.parse.unquote(g) for g in match.groups()]
