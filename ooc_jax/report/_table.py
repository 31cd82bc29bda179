"""Lines of text about a run, for a terminal or a log."""

from collections.abc import Mapping, Sequence
from typing import Any

from ooc_jax.report._reading import MEASURES
from ooc_jax.results import display_width
from ooc_jax.results import quoted

_SHORT = ('lev', 'cos', 'ent')


def header(*, seconds: bool = False) -> str:
  """The two lines above the lines of `layer_line`.

  Args:
    seconds: Whether the lines have a column of time.

  Returns:
    Two lines, 80 cells wide, or 88 with seconds.
  """
  groups = f'{"":36}{"pass alone, %":>18}{"median":>18}{"under-":>8}'
  names = f'{"layer":>5}{"features":>9}{"semantic":>9}{"95% interval":>13}'
  names += ''.join(f'{name:>6}' for name in 2 * _SHORT) + f'{"trained":>8}'
  return f'{groups}\n{names}' + (f'{"seconds":>8}' if seconds else '')


def layer_line(row: Mapping[str, Any], *, seconds: float | None = None) -> str:
  """One line of the table of layers.

  Args:
    row: A `LayerSummary`: shares from 0 to 1 (shown in per cent), medians as
      they are (entropy in nats). Without `layer` it is the total of the run.
    seconds: Time it took. It is no result: another run takes another time.

  Returns:
    The line, under the columns of `header`; '-' stands for no number.
  """
  semantic = row['semantic']
  layer = row.get('layer')
  share, low, high = (_percent(semantic[n]) for n in ('share', 'low', 'high'))
  line = f'{"all" if layer is None else int(layer):>5}{int(row["features"]):>9}'
  line += f'{share if share == "-" else share + "%":>9}'
  line += f'{"-" if "-" in (low, high) else f"{low}-{high}":>13}'
  line += ''.join(f'{_percent(row["measures"].get(m)):>6}' for m in MEASURES)
  line += ''.join(f'{_number(row["median"].get(m), 2):>6}' for m in MEASURES)
  line += f'{_percent(row["undertrained"]):>8}'
  return line if seconds is None else f'{line}{seconds:>8.1f}'


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
    lev, cos, ent = (example.get(measure) for measure in MEASURES)
    line = (
        f'layer {layer:>{wide[0]}} feature {feature:>{wide[1]}}'
        f'  lev {_number(lev, 2):>4} cos {_number(cos, 2):>5}'
        f' ent {_number(ent, 1):>4}  '
    )
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
