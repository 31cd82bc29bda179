"""Text from outside made safe to show, and names that were nearly meant.

A vocabulary, a file's list of tensors and a path are data: they hold terminal
escapes, text that turns the reading direction, characters without width and
halves of characters.
"""

from collections.abc import Iterable
import difflib
import functools
import pathlib
import unicodedata

_SHORT = {'\\': '\\\\', '\n': '\\n', '\r': '\\r', '\t': '\\t'}
# Unicode calls these printable, and yet nothing is seen of them: Hangul and
# Khmer fillers, the empty Braille cell, joiners and variation selectors.
_INVISIBLE = frozenset(
    map(
        chr,
        (0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0)
        + (0x180B, 0x180C, 0x180D, 0x180F)
        + tuple(range(0xFE00, 0xFE10))
        + tuple(range(0xE0100, 0xE01F0)),
    )
)
_HIDDEN = _INVISIBLE | _SHORT.keys()
# Scripts need up to three marks on a letter; more only pile up over the lines.
_MAX_MARKS = 3


def _escaped(char: str) -> str:
  code = ord(char)
  if code < 0x100:
    return f'\\x{code:02x}'
  return f'\\u{code:04x}' if code < 0x10000 else f'\\U{code:08x}'


def _units(text: str) -> list[str]:
  """What to show for each character of `text`."""
  units = []
  marks = _MAX_MARKS  # None may come first: it would sit on what is before.
  for char in text:
    is_mark = unicodedata.category(char).startswith('M')
    marks = marks + 1 if is_mark else 0
    is_plain = char.isprintable() and char not in _HIDDEN
    if is_plain and marks <= _MAX_MARKS:
      units.append(char)
    else:
      units.append(_SHORT.get(char) or _escaped(char))
      marks = _MAX_MARKS  # Nor may one sit on the last digit of an escape.
  return units


def printable(text: str, most: int | None = None) -> str:
  r"""Makes any text safe for a terminal, a log line and a table.

  Letters, marks on letters, digits, symbols and the space stay. Control, bidi,
  surrogate, unassigned, private-use, invisible and other non-printing
  characters become \n, \r, \t, \xNN, \uNNNN or \UNNNNNNNN, a backslash becomes
  two, so that different texts stay different. Spaces at the ends stay as they
  are: see `quoted`.

  Args:
    text: Any string, lone surrogates included.
    most: Characters of `text` to show; '...' stands for the rest. Names in a
      file that is not ours may be of any length.

  Returns:
    One line that can be encoded as UTF-8.
  """
  if most is not None and len(text) > most:
    return printable(text[:most]) + '...'
  if text.isascii() and text.isprintable() and '\\' not in text:
    return text
  return ''.join(_units(text))


def quoted(text: str, width: int | None = None) -> str:
  r"""`printable` text in double quotes, with its own double quotes as \".

  Args:
    text: Any string.
    width: Largest number of terminal cells of the result, at least 3; what is
      cut off, never inside an escape, shows as an ellipsis.

  Returns:
    The quoted text.
  """
  units = ['\\"' if unit == '"' else unit for unit in _units(text)]
  if width is not None and display_width(''.join(units)) > width - 2:
    while units and display_width(''.join(units)) > width - 3:
      units.pop()
    units.append('…')
  return '"' + ''.join(units) + '"'


def display_width(text: str) -> int:
  """Terminal cells that `printable` text takes."""
  return sum(
      0
      if unicodedata.category(char) in ('Mn', 'Me')
      else 1 + (unicodedata.east_asian_width(char) in 'WF')
      for char in text
  )


_MOST_NAMES = 16


def nearest(name: str, known: Iterable[str], *, cutoff: float = 0.5) -> str:
  """How a sentence about an unknown name ends: with what may have been meant.

  Args:
    name: What was given.
    known: The names there are, in the order to list them.
    cutoff: How alike two names must be for one to be suggested, 0 to 1.

  Returns:
    "; did you mean 'x'?" where one is alike, else '; known are x, y.', or
    the first names and how many more there are.
  """
  known = list(known)
  close = difflib.get_close_matches(name, known, n=1, cutoff=cutoff)
  if close:
    return f'; did you mean {close[0]!r}?'
  more = len(known) - _MOST_NAMES
  rest = f' and {more} more' if more > 0 else ''
  return f'; known are {", ".join(known[:_MOST_NAMES])}{rest}.'


def figure_text(text: str) -> str:
  r"""Makes any text safe for a Matplotlib label.

  As `printable`, and a dollar sign is escaped, so that no part of it is read as
  mathematics; what DejaVu Sans, the font of the figures, cannot draw is escaped
  too. For text objects with `parse_math` left on and without TeX.

  Args:
    text: Any string.

  Returns:
    One line of text.
  """
  glyphs = _font_characters()
  shown = ''.join(
      char if ord(char) in glyphs else _escaped(char)
      for char in printable(text)
  )
  return shown.replace('$', r'\$')


@functools.cache
def _font_characters() -> frozenset[int]:
  # Here, because reading results should not cost the import of Matplotlib.
  import matplotlib
  from matplotlib import ft2font

  folder = pathlib.Path(matplotlib.get_data_path(), 'fonts', 'ttf')
  return frozenset(
      ft2font.FT2Font(str(folder / 'DejaVuSans.ttf')).get_charmap()
  )


def p_text(value: float, name: str = 'p') -> str:
  """'p = 0.012', or 'p ≤ 0.001', under which nobody needs the digits."""
  return f'{name} ≤ 0.001' if value <= 0.001 else f'{name} = {value:.2g}'
