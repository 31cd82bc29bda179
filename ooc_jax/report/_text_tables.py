"""Tables of text: for a terminal, for Markdown and as CSV."""

from collections.abc import Sequence
import csv
import io

from ooc_jax.results import display_width
from ooc_jax.results import printable

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
  """A table of GitHub's Markdown.

  Args:
    rows: See `aligned_table`.

  Returns:
    Lines, each with its end; cells are text and no Markdown.
  """
  cells = [[markdown_text(cell) for cell in row] for row in rows]
  rule = [['---'] + ['---:'] * (len(rows[0]) - 1)]
  return ''.join(
      '| ' + ' | '.join(row) + ' |\n' for row in cells[:1] + rule + cells[1:]
  )


def markdown_text(text: str) -> str:
  """Any text as one line of Markdown that shows it."""
  return printable(text).translate(_MARKDOWN)


def csv_table(rows: Sequence[Sequence[str]]) -> str:
  """Comma-separated values, as RFC 4180 has them but for the line ends.

  Args:
    rows: See `aligned_table`.

  Returns:
    Lines, each with its end, a newline.
  """
  file = io.StringIO()
  writer = csv.writer(file, lineterminator='\n')
  writer.writerows([printable(cell) for cell in row] for row in rows)
  return file.getvalue()
