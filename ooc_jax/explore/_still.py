"""Pages of some features as files that need no server.

They are the pages of the server: the same templates, and what they refer to by
an address of the server is made relative, or no link where the site does not
have it.
"""

from collections.abc import Iterator, Sequence
import pathlib
import posixpath
import re
from typing import Any

from ooc_jax.explore import _features
from ooc_jax.explore import _pages
from ooc_jax.explore import _words
from ooc_jax.explore._library import Study
from ooc_jax.explore._library import titles
from ooc_jax.explore._server import environment

_STATIC = pathlib.Path(__file__).parent / 'static'
# 'self' is nothing that all browsers know of a file.
_POLICY = (
    "default-src 'none'; script-src 'self' file:; style-src 'self' file:;"
    " img-src 'self' file:; form-action 'none'; base-uri 'none'"
)
# Text has no quotes: templates escape them.
_REFERENCE = re.compile(r' (href|src)="([^"#][^"]*)"')


def still_site(
    study: Study, keys: Sequence[tuple[int, int]]
) -> Iterator[tuple[str, bytes]]:
  """The files of a site that opens from a folder.

  Args:
    study: With a run of experiment 1.
    keys: Layer and number of the features that get a page, in their order.

  Yields:
    The name of a file in the site, with '/', and what it holds: `index.html`,
    `features.html`, `feature/LAYER/NUMBER.html`, `static/`.

  Raises:
    Damaged: A table cannot be read.
    InputError: A feature is not there.
  """
  for path in sorted(_STATIC.iterdir()):
    yield f'static/{path.name}', path.read_bytes()
  start = f'/s/{study.slug}/'
  names = {'/': 'index.html', start: 'index.html'}
  names[f'{start}features'] = 'features.html'
  for layer, feature in keys:
    place = f'feature/{layer}/{feature}'
    names[start + place] = f'{place}.html'
  templates = environment()
  shared = {
      'still': True,
      'policy': _POLICY,
      'study': study,
      'studies': {study.slug: study},
      'titles': titles([study]),
      'problems': list(study.problems),
      'readout_names': _words.READOUTS,
  }

  def page(name: str, template: str, context: dict[str, Any]) -> bytes:
    text = templates.get_template(template).render(shared | context)
    return _relative(text, name, names).encode()

  yield (
      'index.html',
      page('index.html', 'overview.html', {**_pages.overview(study, {})}),
  )
  table = {'section': 'features', 'page': _features.chosen(study, keys)}
  yield 'features.html', page('features.html', 'exported.html', table)
  for i, (layer, feature) in enumerate(keys):
    given = {'layer': str(layer), 'feature': str(feature)}
    context = _pages.feature(study, given) | {
        'section': 'feature',
        'previous': keys[i - 1] if i else None,
        'following': keys[i + 1] if i + 1 < len(keys) else None,
    }
    name = f'feature/{layer}/{feature}.html'
    yield name, page(name, 'feature.html', context)


def _relative(text: str, name: str, names: dict[str, str]) -> str:
  """A page with references between files in place of those to a server."""
  folder = posixpath.dirname(name)

  def replaced(match: re.Match[str]) -> str:
    attribute, address = match.groups()
    if address.startswith('https://'):
      return match[0]
    if address.startswith('/static/'):
      target = address[1:]
    elif address in names:
      target = names[address]
    else:
      return ''
    return f' {attribute}="{posixpath.relpath(target, folder or ".")}"'

  return _REFERENCE.sub(replaced, text)
