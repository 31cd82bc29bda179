"""The contact sheet: a card for each feature, on pages."""

from collections.abc import Sequence
import functools
import math
from typing import Any
import unicodedata

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ooc_jax.report import _style
from ooc_jax.report._reading import MEASURES
from ooc_jax.report._sheet import ContactSheet
from ooc_jax.report._sheet import SheetFeature
from ooc_jax.results import figure_text

# Points.
_WIDTH, _MARGIN = 504.0, 22.0
_HEAD, _CARD, _LINE = 44.0, 47.0, 10.2
_TAG = 34.0  # Room for 'bottom'.
_SIZE = 7.0
_SPACE = '   '  # Between tokens.
_PER_PAGE = 14
_LONGEST = 40  # Characters of a token.
_TITLES = {
    'coherent': 'the most coherent',
    'random': 'drawn at random',
    'incoherent': 'the least coherent',
}
_GREY = '#6A6A6A'
_TURNED = ('R', 'AL', 'AN')  # Of `unicodedata.bidirectional`.


def contact_sheet_figures(sheet: ContactSheet) -> dict[str, Figure]:
  """Draws a card for each feature: where, how coherent, and its tokens.

  A filled circle stands before each measure that calls the feature coherent.
  Tokens are in quotes, highest logit (lowest, for the bottom) first; what no
  longer fits becomes an ellipsis.

  Args:
    sheet: Of one run.

  Returns:
    Name -> page: 'coherent', 'random', 'incoherent', with '-2' and so on where
    a section needs more pages. Each is 7 inches wide.
  """
  pages = {}
  for section, features in sheet.sections.items():
    for i in range(0, len(features), _PER_PAGE):
      name = section if i == 0 else f'{section}-{i // _PER_PAGE + 1}'
      pages[name] = _page(sheet, section, features[i : i + _PER_PAGE])
  return pages


def quoted_token(token: str) -> str:
  """A token in double quotes, safe for a figure, cut where it is long."""
  shown, cut = token[: _LONGEST + 1], ''
  while len(figure_text(shown)) > _LONGEST:
    shown, cut = shown[:-1], '…'  # Never inside an escape.
  if len(shown) < len(token):
    cut = '…'
  return '"' + figure_text(shown).replace('"', '\\"') + cut + '"'


def _page(
    sheet: ContactSheet, section: str, features: Sequence[SheetFeature]
) -> Figure:
  height = _HEAD + _CARD * len(features) + 4
  with _style.new_figure(_WIDTH / 72, height / 72, free=True) as figure:
    put = functools.partial(_put, figure)
    title = _TITLES.get(section) or _style.short(section, 24)
    title = f': {title} of {sheet.features:,} features'
    room = 315 - _style.text_width(title, 9.5)  # Points; the rest is the key.
    title = _style.fitted(sheet.label, room, 9.5) + title
    put(_MARGIN, 20, title, fontsize=9.5)
    put(
        _WIDTH - _MARGIN,
        20,
        '● coherent by this measure   ○ not',
        ha='right',
        color=_GREY,
    )
    for i, feature in enumerate(features):
      _card(figure, _HEAD + i * _CARD, feature)
  return figure


def _card(figure: Figure, y: float | int, feature: SheetFeature) -> None:
  """One feature; `y` is the base line of its first line, from the top."""
  put = functools.partial(_put, figure)
  _rule(figure, y - 11)
  put(_MARGIN, y, f'layer {feature.layer} · feature {feature.feature}')
  for x, measure in zip((112, 204, 276), MEASURES, strict=True):
    mark = '●' if measure in feature.passes else '○'
    unit = ' nats' if measure == 'entropy' else ''
    value = f'{feature.measures[measure]:.2f}{unit}'
    name = _style.NAMES[measure]
    put(_MARGIN + x, y, f'{mark} {name} {value}', color=_GREY)
  verdict = 'semantic' if feature.semantic else 'not semantic'
  if math.isfinite(feature.q_value):
    verdict += f', {_style.p_text(feature.q_value, "q")}'
  put(_WIDTH - _MARGIN, y, verdict, ha='right')
  y += _LINE
  put(_MARGIN, y, 'top', color=_GREY)
  _tokens(figure, y, feature.top_tokens, lines=2)
  y += 2 * _LINE
  put(_MARGIN, y, 'bottom', color=_GREY)
  _tokens(figure, y, feature.bottom_tokens, lines=1)


def _tokens(
    figure: Figure, y: float | int, tokens: Sequence[str], *, lines: int
) -> None:
  """As many as fit in `lines`, the last of them an ellipsis if some do not."""
  room = _WIDTH - 2 * _MARGIN - _TAG
  texts = [quoted_token(token) for token in tokens]
  for i, line in enumerate(_wrapped(texts, room, lines)):
    x = _MARGIN + _TAG
    for text in _runs(line):
      _put(figure, x, y + i * _LINE, text, gid='tokens')
      x += _width(text) + _width(_SPACE)


def _wrapped(texts: Sequence[str], room: float, lines: int) -> list[list[str]]:
  """Texts by line; where some do not fit, the last is an ellipsis."""
  gap = _width(_SPACE)
  more = gap + _width('…')
  wrapped: list[list[str]] = [[]]
  x = 0.0
  for i, text in enumerate(texts):
    width = _width(text)
    last = len(wrapped) == lines
    # The last line keeps room to say that there are more.
    if x and x + width + more * (last and i + 1 < len(texts)) > room:
      if last:
        wrapped[-1].append('…')
        break
      wrapped.append([])
      x = 0.0
    wrapped[-1].append(text)
    x += width + gap
  return wrapped


def _runs(line: Sequence[str]) -> list[str]:
  """A line in pieces to draw one by one.

  Next to each other in one text, two tokens that are written from right to left
  would change places.
  """
  runs: list[str] = []
  joins = False
  for text in line:
    turned = any(unicodedata.bidirectional(c) in _TURNED for c in text)
    if joins and not turned:
      runs[-1] += _SPACE + text
    else:
      runs.append(text)
    joins = not turned
  return runs


def _put(
    figure: Figure, x: float | int, y: float | int, text: str, **look: Any
) -> None:
  """Text at `x` points from the left and `y` from the top."""
  height = 72 * figure.get_figheight()
  look = dict[str, Any](fontsize=_SIZE, color=_style.INK) | look
  figure.text(x / _WIDTH, 1 - y / height, text, va='baseline', **look)


def _rule(figure: Figure, y: float | int) -> None:
  height = 72 * figure.get_figheight()
  figure.add_artist(
      Line2D(
          [_MARGIN / _WIDTH, 1 - _MARGIN / _WIDTH],
          [1 - y / height] * 2,
          color=_style.GRID,
          linewidth=0.7,
      )
  )


def _width(text: str) -> float:
  return _style.text_width(text, _SIZE)
