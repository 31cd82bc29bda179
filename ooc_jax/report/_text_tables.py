"""Lines and tables of text: for a terminal, for Markdown and as CSV."""

from collections.abc import Mapping, Sequence
import csv
import io
from typing import Any

from ooc_jax import measures
from ooc_jax._text import display_width
from ooc_jax._text import printable
from ooc_jax._text import quoted

_MARKDOWN = str.maketrans({c: f'\\{c}' for c in '\\`*[]<>|'})


def aligned_table(rows: Sequence[Sequence[str]]) -> list[str]:
  """Lines for a terminal, every column as wide as its widest cell.

  Args:
    rows: Cells, the first row the names of the columns; all as long.

  Returns:
    A line for each row, the first column to the left and the others to the
    right, without any character that a terminal would obey.
  """
  cells = [[printable(cell) for cell in row] for row in rows]
  columns = zip(*cells, strict=True)
  widths = [max(map(display_width, column)) for column in columns]
  lines = []
  for row in cells:
    line = ''
    for i, (cell, width) in enumerate(zip(row, widths, strict=True)):
      space = ' ' * (width - display_width(cell))
      line += cell + space if i == 0 else '  ' + space + cell
    lines.append(line.rstrip())
  return lines


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
  """A table of GitHub's Markdown, its cells text and no Markdown."""
  cells = [[markdown_text(cell) for cell in row] for row in rows]
  rule = [['---'] + ['---:'] * (len(rows[0]) - 1)]
  return ''.join(
      '| ' + ' | '.join(row) + ' |\n' for row in cells[:1] + rule + cells[1:]
  )


def markdown_text(text: str) -> str:
  """Any text as one line of Markdown that shows it."""
  return printable(text).translate(_MARKDOWN)


def csv_table(rows: Sequence[Sequence[str]]) -> str:
  """Comma-separated values, as RFC 4180 has them but for the line ends."""
  file = io.StringIO()
  writer = csv.writer(file, lineterminator='\n')
  writer.writerows([printable(cell) for cell in row] for row in rows)
  return file.getvalue()


def header(ends: str = 'top') -> str:
  """The two lines above the lines of `layer_line`, 80 cells wide.

  Args:
    ends: Of the run; of two ends the table has the measures of the top.
  """
  own = measures.measures_at('top' if ends == 'both' else ends)
  alone = 'alone, at top, %' if ends == 'both' else 'pass alone, %'
  short = [f'{measure.short_label:>6}' for measure in own]
  wide = 6 * len(short)
  return (
      f'{"":36}{alone:>{wide}}{"median":>{wide}}{"under-":>8}\n'
      f'{"layer":>5}{"features":>9}{"semantic":>9}{"95% interval":>13}'
      f'{"".join(2 * short)}{"trained":>8}'
  )


def layer_line(row: Mapping[str, Any]) -> str:
  """One line of the table of layers.

  Args:
    row: A `LayerSummary`: shares from 0 to 1 (shown in per cent), medians as
      they are. Without `layer` it is the total of the run.

  Returns:
    The line, under the columns of `header`; '-' stands for no number.
  """
  layer = row.get('layer')
  share, low, high = (
      _percent(row['semantic'][name]) for name in ('share', 'low', 'high')
  )
  ends = ('top', 'bottom')
  names = next(
      names
      for names in ([m.name for m in measures.measures_at(x)] for x in ends)
      if set(names) & set(row['measures'])
  )
  cells = [_percent(row['measures'].get(name)) for name in names]
  cells += [_number(row['median'].get(name), 2) for name in names]
  return (
      f'{"all" if layer is None else int(layer):>5}{int(row["features"]):>9}'
      f'{share if share == "-" else share + "%":>9}'
      f'{"-" if "-" in (low, high) else f"{low}-{high}":>13}'
      f'{"".join(f"{cell:>6}" for cell in cells)}'
      f'{_percent(row["undertrained"]):>8}'
  )


def example_lines(
    examples: Sequence[Mapping[str, Any]], *, width: int = 100
) -> list[str]:
  """One line for each example: where, how coherent, and its tokens.

  Args:
    examples: Each an `Example`, in the order to show them.
    width: Terminal cells of a line; the tokens that do not fit become an
      ellipsis. Numbers are never cut.

  Returns:
    Aligned lines without any character that a terminal would obey.
  """
  places = [(str(int(e['layer'])), str(int(e['feature']))) for e in examples]
  wide = [max(map(len, column)) for column in zip(*places, strict=True)]
  lines = []
  for (layer, feature), example in zip(places, examples, strict=True):
    line = f'layer {layer:>{wide[0]}} feature {feature:>{wide[1]}} '
    for measure in measures.ALL_MEASURES:
      if measure.name not in example:
        continue
      least, _ = measure.limits
      room = 4 if least == 0 else 5  # For a sign.
      value = _number(example.get(measure.name), measure.digits)
      line += f' {measure.short_label} {value:>{room}}'
    line += '  '
    lines.append(line + _tokens(example['tokens'], width - len(line)))
  return lines


def _tokens(tokens: Sequence[str], width: int) -> str:
  """As many quoted tokens as fit in `width` cells."""
  shown = ''
  for i, token in enumerate(tokens):
    ellipsis = ' …' if i + 1 < len(tokens) else ''
    text = f' {quoted(token)}'
    if display_width(shown + text + ellipsis) > width:
      if i:
        return shown + ' …'
      # The first is cut rather than left out: a line without a token is none.
      return f' {quoted(token, max(width - 1 - len(ellipsis), 3))}{ellipsis}'
    shown += text
  return shown


def _percent(share: float | None) -> str:
  return '-' if share is None else _number(100 * share, 1)


def _number(value: float | None, digits: int) -> str:
  if value is None or value != value:
    return '-'
  return f'{value:.{digits}f}'
