"""Hostile token text, shown."""

import re
import unicodedata

from absl.testing import absltest
from absl.testing import parameterized
from matplotlib import cbook
from matplotlib.backends import backend_agg
from matplotlib.figure import Figure
import numpy as np

from ooc_jax import _text

_ESCAPE = re.compile(
    r'\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8})|([nrt\\"]))'
)


def _unescaped(text):
  """What an escaped text stands for."""

  def char(match):
    if match[4]:
      return {'n': '\n', 'r': '\r', 't': '\t'}.get(match[4], match[4])
    return chr(int(match[1] or match[2] or match[3], 16))

  return _ESCAPE.sub(char, text)


def _unsafe(text):
  """Characters that a terminal may obey, or that nobody would see."""
  return [
      char
      for char in text
      if unicodedata.category(char)[0] == 'C'
      or unicodedata.category(char) in ('Zl', 'Zp')
      or (unicodedata.category(char) == 'Zs' and char != ' ')
  ]


class PrintableTest(parameterized.TestCase):

  @parameterized.parameters(
      (' Paris', ' Paris'),
      ('\x1b[31mred', '\\x1b[31mred'),
      ('a\u202eb', 'a\\u202eb'),
      ('\u2066\u2069\u200f', '\\u2066\\u2069\\u200f'),
      ('a\rb\tc\nd', 'a\\rb\\tc\\nd'),
      ('\x00\x7f\x9b', '\\x00\\x7f\\x9b'),
      ('\\n', '\\\\n'),
      ('\ud83d', '\\ud83d'),
      ('\xa0\xad', '\\xa0\\xad'),
      ('\u2028\u200b\ufeff', '\\u2028\\u200b\\ufeff'),
      ('\ue000\U0010fffe\u0378', '\\ue000\\U0010fffe\\u0378'),
      ('\U000e0041', '\\U000e0041'),  # A tag: ASCII that nobody sees.
      ('\u3164\ufe0f\u2800', '\\u3164\\ufe0f\\u2800'),
      ('Ж漢éß🙂ñ', 'Ж漢éß🙂ñ'),
      ('क\u0940', 'क\u0940'),  # A vowel sign on its letter.
      ('\u0301a', '\\u0301a'),  # It would sit on the quote before it.
      ('\n\u0301', '\\n\\u0301'),  # Or on the n.
      ('\x1b\u0301', '\\x1b\\u0301'),
      ('a' + '\u0301' * 5, 'a' + '\u0301' * 3 + '\\u0301' * 2),
      ('', ''),
  )
  def test_shown_as(self, text, expected):
    self.assertEqual(_text.printable(text), expected)

  def test_every_character_is_safe_and_none_is_lost(self):
    codes = [*range(0x10000), *range(0x10000, 0x110000, 251)]
    codes += range(0xE0000, 0xE0200)
    kept = 0
    for start in range(0, len(codes), 64):
      text = ''.join(map(chr, codes[start : start + 64]))
      shown = _text.printable(text)
      self.assertEqual(_unsafe(shown), [])
      self.assertEqual(_unescaped(shown), text)
      shown.encode('utf-8')
      kept += sum(char in shown for char in text)
    self.assertGreater(kept, 50_000)  # Not by escaping all.

  def test_text_that_looks_escaped_stays_different(self):
    self.assertNotEqual(_text.printable('\x1b'), _text.printable('\\x1b'))

  def test_a_long_text_is_cut_outside_of_an_escape(self):
    self.assertEqual(_text.printable('a\x1b' * 3, 4), 'a\\x1ba\\x1b...')
    self.assertEqual(_text.printable('abcd', 4), 'abcd')


class NearestTest(parameterized.TestCase):

  @parameterized.parameters(
      ('smolm2', "; did you mean 'smollm2'?"),
      ('zzz', '; known are smollm2, gemma2.'),
  )
  def test_a_sentence_ends(self, name, end):
    self.assertEqual(_text.nearest(name, ('smollm2', 'gemma2')), end)

  def test_without_a_cutoff_one_is_always_suggested(self):
    self.assertEqual(
        _text.nearest('zzz', ['a'], cutoff=0.0), "; did you mean 'a'?"
    )


class QuotedTest(parameterized.TestCase):

  @parameterized.parameters(
      (' a', None, '" a"'),
      ('say "x"', None, '"say \\"x\\""'),
      ('\\"', None, '"\\\\\\""'),
      ('Berlin', 8, '"Berlin"'),
      ('Berlin', 7, '"Berl…"'),
      ('Berlin', 3, '"…"'),
      ('\u202eab', 9, '"\\u202e…"'),
      ('\u202eab', 8, '"…"'),  # Never half an escape.
      ('\u202eab', 10, '"\\u202eab"'),
      ('漢字漢字', 8, '"漢字…"'),
  )
  def test_shown_as(self, text, width, expected):
    shown = _text.quoted(text, width)
    self.assertEqual(shown, expected)
    if width is not None:
      self.assertLessEqual(_text.display_width(shown), width)

  def test_width_of_text(self):
    self.assertEqual(_text.display_width('a漢e\u0301ｱＡ'), 1 + 2 + 1 + 1 + 2)


class FigureTextTest(parameterized.TestCase):

  @parameterized.parameters(
      ('$x^2$', r'\$x^2\$'),
      ('漢 é', r'\u6f22 é'),
      ('\x1b\n', r'\x1b\n'),
      (r'\$', r'\\\$'),
  )
  def test_shown_as(self, text, expected):
    self.assertEqual(_text.figure_text(text), expected)

  @parameterized.parameters(
      '$x^2$', r'$\frac{1}{0}$', '$', '$$', 'a_b^c', r'\$1$2', r'\alpha', '$\\'
  )
  def test_is_drawn_letter_by_letter(self, text):
    shown = _text.figure_text(text)
    self.assertFalse(cbook.is_math_text(shown))
    plain = text.replace('\\', '\\\\')
    np.testing.assert_array_equal(_drawn(shown, True), _drawn(plain, False))
    self.assertLess(_drawn(shown, True).min(), 99)  # Something is drawn.

  def test_no_glyph_is_missing(self):
    """Warnings are errors here, and Matplotlib warns of missing glyphs."""
    text = ''.join(map(chr, range(0x20, 0x10000, 97))) + '🙂\U0002070e'
    for start in range(0, len(text), 40):
      _drawn(_text.figure_text(text[start : start + 40]), True)


def _drawn(text, parse_math):
  figure = Figure(figsize=(6, 0.5), dpi=60)
  canvas = backend_agg.FigureCanvasAgg(figure)
  figure.text(0, 0.4, text, parse_math=parse_math)
  canvas.draw()
  return np.asarray(canvas.buffer_rgba())[..., :3].copy()


if __name__ == '__main__':
  absltest.main()
