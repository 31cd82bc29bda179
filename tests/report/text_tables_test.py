"""Lines for a terminal, and tables as Markdown and CSV."""

import re

from absl.testing import absltest
from absl.testing import parameterized

from ooc_jax import _text
from ooc_jax import report


def _row(**changed):
  return {
      'layer': 12,
      'features': 1536,
      'semantic': {'share': 0.1234, 'low': 0.107, 'high': 0.1405},
      'measures': {'levenshtein': 0.061, 'cosine': 0.0817, 'entropy': 0.009},
      'median': {'levenshtein': 0.826, 'cosine': -0.014, 'entropy': 10.35},
      'undertrained': 0.0225,
  } | changed


class LayerTableTest(parameterized.TestCase):

  def test_the_table(self):
    self.assertEqual(
        report.header(),
        '                                         pass alone, %            '
        'median  under-\n'
        'layer features semantic 95% interval   lev   cos   ent   lev   cos'
        '   ent trained',
    )
    self.assertEqual(
        report.layer_line(_row()),
        '   12     1536    12.3%    10.7-14.1   6.1   8.2   0.9  0.83 -0.01'
        ' 10.35     2.2',
    )

  def test_columns_end_where_their_names_end(self):
    names = report.header().splitlines()[1]
    names = names.replace('95% interval', '95%_interval')
    rows = (
        report.layer_line(_row()),
        report.layer_line(_row(features=1048576)),
        report.layer_line(
            _row(
                semantic={'share': 1.0, 'low': 1.0, 'high': 1.0},
                measures={'levenshtein': 1.0, 'cosine': 1.0, 'entropy': 1.0},
                undertrained=1.0,
            )
        ),
    )
    ends = [match.end() for match in re.finditer(r'\S+', names)]
    self.assertLen(ends, 11)
    for row in rows:
      self.assertEqual([m.end() for m in re.finditer(r'\S+', row)], ends)
    self.assertLen(report.layer_line(_row()), 80)

  def test_the_total_and_missing_numbers(self):
    row = _row(
        semantic={'share': None, 'low': None, 'high': float('nan')},
        measures={'cosine': 0.5},
        median={'levenshtein': None},
        undertrained=None,
    )
    del row['layer']
    self.assertEqual(
        report.layer_line(row).split(),
        ['all', '1536', '-', '-', '-', '50.0', '-', '-', '-', '-', '-'],
    )


class ExampleLinesTest(parameterized.TestCase):

  def _example(self, **changed):
    return {
        'layer': 12,
        'feature': 345,
        'levenshtein': 0.314,
        'cosine': 0.221,
        'entropy': 3.14,
        'tokens': [' Paris', ' London', ' Rome'],
    } | changed

  def test_lines_are_aligned(self):
    lines = report.example_lines([
        self._example(),
        self._example(layer=3, feature=16000, cosine=-0.02, entropy=None),
    ])
    self.assertEqual(
        lines,
        [
            (
                'layer 12 feature   345  lev 0.31 cos  0.22 ent  3.1   " Paris"'
                ' " London" " Rome"'
            ),
            (
                'layer  3 feature 16000  lev 0.31 cos -0.02 ent    -   " Paris"'
                ' " London" " Rome"'
            ),
        ],
    )
    self.assertEqual(report.example_lines([]), [])

  @parameterized.parameters(
      (82, '" Paris" " London" " Rome"'),
      (79, '" Paris" " London" …'),
      (72, '" Paris" …'),
      (63, '" Par…" …'),
      (10, '"…" …'),
  )
  def test_cut_to_a_width(self, width, tokens):
    (line,) = report.example_lines([self._example(feature=12345)], width=width)
    self.assertEndsWith(line, '   ' + tokens)
    if width > 60:
      self.assertLessEqual(_text.display_width(line), width)

  def test_wide_characters_count_twice(self):
    example = self._example(tokens=['漢字漢字漢字', '漢字', '漢'])
    for width in range(64, 90):
      (line,) = report.example_lines([example], width=width)
      self.assertLessEqual(_text.display_width(line), width)

  def test_no_terminal_code_gets_through(self):
    tokens = ['\x1b[31m', '\u202e', '\r', '\n', '"', '\\', '\x07', '\ud800']
    (line,) = report.example_lines([self._example(tokens=tokens)], width=200)
    self.assertTrue(line.isprintable())
    self.assertEndsWith(
        line,
        r'"\x1b[31m" "\u202e" "\r" "\n" "\"" "\\" "\x07" "\ud800"',
    )


class TextTablesTest(parameterized.TestCase):

  rows = (('name', 'x'), ('漢\x1b|', '1'), ('a*[b]<c>`\\', '22.5'))

  def test_aligned(self):
    self.assertEqual(
        report.aligned_table(self.rows),
        [
            'name            x',
            r'漢\x1b|         1',
            r'a*[b]<c>`\\  22.5',
        ],
    )

  def test_markdown(self):
    self.assertEqual(
        report.markdown_table(self.rows).splitlines(),
        [
            '| name | x |',
            '| --- | ---: |',
            r'| 漢\\x1b\| | 1 |',
            r'| a\*\[b\]\<c\>\`\\\\ | 22.5 |',
        ],
    )

  def test_csv(self):
    self.assertEqual(
        report.csv_table(self.rows),
        'name,x\n漢\\x1b|,1\na*[b]<c>`\\\\,22.5\n',
    )


if __name__ == '__main__':
  absltest.main()
