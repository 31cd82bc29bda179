"""Routes, headers, and errors as pages."""

from collections.abc import Callable
import logging
import pathlib
import socket
import threading
from typing import Any

import jinja2
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.responses import RedirectResponse
from starlette.responses import Response
from starlette.routing import Mount
from starlette.routing import Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp
from starlette.types import Message
from starlette.types import Receive
from starlette.types import Scope
from starlette.types import Send
import uvicorn

from ooc_jax._errors import InputError
from ooc_jax._text import printable
from ooc_jax.explore import _compare
from ooc_jax.explore import _index
from ooc_jax.explore import _pages
from ooc_jax.explore import _tables
from ooc_jax.explore import _words
from ooc_jax.explore._library import Library
from ooc_jax.explore._library import Study
from ooc_jax.explore._library import titles

HOST = '127.0.0.1'
_HERE = pathlib.Path(__file__).parent
# Another site may have a name of its own for 127.0.0.1 (DNS rebinding).
_HOSTS = (HOST, 'localhost')
_HEADERS = {
    'content-security-policy': (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src"
        " 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    'x-content-type-options': 'nosniff',
    'referrer-policy': 'no-referrer',
    'cross-origin-opener-policy': 'same-origin',
    'cross-origin-resource-policy': 'same-origin',
    'cache-control': 'no-cache',
}
_STUDY_PAGES: dict[
    str, Callable[[Study, _pages.Parameters], _pages.Context]
] = {
    '': _pages.overview,
    'features': _pages.features,
    'search': _pages.search,
    'heads': _pages.heads,
    'feature/{layer:int}/{feature:int}': _pages.feature,
    'like/{layer:int}/{feature:int}': _pages.like,
    'head/{layer:int}/{head:int}': _pages.head,
}


class _Headers:
  """Adds `_HEADERS` to every response."""

  def __init__(self, app: ASGIApp):
    self._app = app

  async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
    async def with_headers(message: Message) -> None:
      if message['type'] == 'http.response.start':
        own = [(k.encode(), v.encode()) for k, v in _HEADERS.items()]
        message['headers'] = [*message.get('headers', ()), *own]
      await send(message)

    await self._app(scope, receive, with_headers)


def token_parts(token: Any) -> tuple[str, str, str]:
  """Leading spaces, the rest made printable, trailing spaces."""
  text = str(token)
  bare = text.strip(' ')
  if not bare:
    return text, '', ''
  before, _, after = text.partition(bare)
  return before, printable(bare), after


def environment() -> jinja2.Environment:
  """Templates, their filters, and everything in them escaped."""
  made = jinja2.Environment(
      loader=jinja2.FileSystemLoader(_HERE / 'templates'),
      autoescape=True,
      # Results of another version lack some of what is shown.
      undefined=jinja2.ChainableUndefined,
      trim_blocks=True,
      lstrip_blocks=True,
  )
  made.filters |= {
      'number': _words.number,
      'percent': _words.percent,
      'printable': lambda x: printable(str(x)),
      'parts': token_parts,
  }
  return made


class _Site:
  """The pages of a library."""

  def __init__(self, library: Library):
    self._library = library
    self._environment = environment()

  def render(
      self, template: str, context: dict[str, Any], status: int = 200
  ) -> Response:
    """A page of a template."""
    studies = context.setdefault('studies', self._library.studies())
    context = {
        'titles': titles(studies.values()),
        'study': None,
        'problems': (),
        'section': '',
        'readout_names': _words.READOUTS,
    } | context
    text = self._environment.get_template(template).render(context)
    return HTMLResponse(text, status)

  def home(self, request: Request) -> Response:
    """The list of studies, or the only one."""
    studies = self._library.studies()
    if len(studies) == 1:
      return RedirectResponse(f'/s/{next(iter(studies))}/')
    return self.render('home.html', {'studies': studies, 'request': request})

  def study(self, name: str) -> Callable[[Request], Response]:
    """The endpoint of a page of a study."""
    section = name.split('/')[0]
    template = f'{section or "overview"}.html'

    def endpoint(request: Request) -> Response:
      studies = self._library.studies()
      study = studies.get(request.path_params['slug'])
      if study is None:
        raise HTTPException(404, 'There are no such results here.')
      given = dict(request.query_params)
      given |= {
          k: str(v) for k, v in request.path_params.items() if k != 'slug'
      }
      context: dict[str, Any] = {
          'studies': studies,
          'study': study,
          'section': section,
      }
      try:
        context |= _STUDY_PAGES[name](study, given)
      except InputError as error:
        return self.render(
            'problem.html', context | {'message': str(error)}, 404
        )
      except _tables.Damaged as error:
        message = (
            f'A file of these results cannot be read. {error}'
            ' The experiment continues with what is missing.'
        )
        return self.render('problem.html', context | {'message': message})
      goto = context.get('goto')
      if goto is not None:
        layer, feature = goto
        return RedirectResponse(f'/s/{study.slug}/feature/{layer}/{feature}')
      return self.render(template, context)

    return endpoint

  def compare(self, request: Request) -> Response:
    """The same layer of two runs."""
    studies = self._library.studies()
    context: dict[str, Any] = {'studies': studies, 'section': 'compare'}
    try:
      context |= _compare.compare(studies, dict(request.query_params))
    except _tables.Damaged as error:
      message = f'A file of these results cannot be read. {error}'
      return self.render('problem.html', context | {'message': message})
    return self.render('compare.html', context)

  def missing(self, request: Request, error: Exception) -> Response:
    """A page for an address that is none."""
    del request
    status = getattr(error, 'status_code', 404)
    message = str(getattr(error, 'detail', 'There is no such page.'))
    return self.render('problem.html', {'message': message}, status)

  def failed(self, request: Request, error: Exception) -> Response:
    """A page for a mistake of ours; the log has the traceback."""
    logging.getLogger(__name__).error(
        'No page for %s', printable(str(request.url)), exc_info=error
    )
    message = (
        'This page could not be made. The terminal of the server says why;'
        ' the results themselves are not changed.'
    )
    return self.render('problem.html', {'message': message}, 500)


def make_app(library: Library) -> ASGIApp:
  """The pages of a library as an ASGI application."""
  site = _Site(library)
  routes = [
      Route('/', site.home),
      Route('/compare', site.compare),
      *(
          Route(f'/s/{{slug}}/{name}', site.study(name))
          for name in _STUDY_PAGES
      ),
      Mount('/static', StaticFiles(directory=_HERE / 'static')),
  ]
  handlers: dict[Any, Callable[[Request, Exception], Response]] = {
      HTTPException: site.missing,
      Exception: site.failed,
  }
  app = Starlette(routes=routes, exception_handlers=handlers)
  return _Headers(TrustedHostMiddleware(app, allowed_hosts=list(_HOSTS)))


def serve(
    library: Library,
    *,
    port: int = 0,
    started: Callable[[str], None] = print,
) -> None:
  """Serves a library on this machine until Ctrl-C.

  Args:
    library: What is shown.
    port: To listen at; 0 takes a free one.
    started: Is told the address.

  Raises:
    InputError: The port is taken.
  """
  with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
      listener.bind((HOST, port))
      # Whoever follows the address before the server runs waits in this queue.
      listener.listen(128)
    except OSError as error:
      raise InputError(
          f'Port {port} cannot be had ({error.strerror}): give another --port,'
          ' or none.'
      ) from error
    config = uvicorn.Config(
        make_app(library),
        log_level='warning',
        access_log=False,
        server_header=False,
    )
    started(f'http://{HOST}:{listener.getsockname()[1]}/')
    threading.Thread(target=_warm, args=(library,), daemon=True).start()
    uvicorn.Server(config).run(sockets=[listener])


def _warm(library: Library) -> None:
  """Reads what the first search would have to wait for."""
  for study in library.studies().values():
    try:
      _index.warm(study)
    except (_tables.Damaged, OSError):
      continue  # The pages say so.
