"""What the figures share: looks, titles, legends, and text that fits."""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
import contextlib
import functools
import math
from typing import Any

import matplotlib
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.textpath import TextToPath

from ooc_jax._text import figure_text

INK = '#262626'
GRID = '#E3E3E3'
TITLE = 9.5  # Points.
SMALL = 7.0  # Of what is put on a page of cards.
LABEL = 28  # Characters of the name of a run in a legend.
WIDTH = 7.2  # Inches, of a page.
ALPHA = 0.05  # Of tests whose markers are filled.
# Context of attention -> how figures call it.
CONTEXT_NAMES = {
    'query_pre': 'query, score',
    'query_post': 'query, weight',
    'key_pre': 'key, score',
    'key_post': 'key, weight',
}
_MOST = 200  # Characters that could ever fit in a line.
# Okabe and Ito's colours. Marker and dash tell runs apart in grey.
_LOOKS = (
    ('#0072B2', 'o', '-'),
    ('#D55E00', 's', (0, (5, 1.5))),
    ('#009E73', '^', (0, (1, 1))),
    ('#000000', 'D', (0, (5, 1.5, 1, 1.5))),
    ('#CC79A7', 'v', (0, (8, 2))),
    ('#E69F00', 'P', (0, (3, 1, 1, 1, 1, 1))),
)


@contextlib.contextmanager
def new_figure(
    width: float | int, height: float | int, *, free: bool = False
) -> Generator[Figure, None, None]:
  """A figure to draw on inside the block, the same whoever draws it.

  A user's matplotlibrc must not change the figure, nor turn on TeX, which would
  run token text as a program.

  Args:
    width: Inches.
    height: Inches.
    free: Whether everything is put by hand, and not laid out.

  Yields:
    A figure at 200 dots an inch, bound to no window.
  """
  with matplotlib.rc_context():
    matplotlib.rcdefaults()
    matplotlib.rcParams['font.family'] = ['DejaVu Sans']
    matplotlib.rcParams['hatch.linewidth'] = 0.5
    figure = Figure(
        figsize=(width, height), dpi=200, layout=None if free else 'constrained'
    )
    FigureCanvasAgg(figure)
    yield figure


def head(
    figure: Figure,
    text: str,
    label: str = '',
    room: float | int = 0,
    *,
    about: str = '',
) -> None:
  """The title, at the left: `text`, and as much of `label` as fits.

  Args:
    figure: Under it.
    text: What the figure shows.
    label: Of the run; any text.
    room: Points for both; by default the width of the figure.
    about: As much as fits of this in a second line.
  """
  room = room or 72 * figure.get_figwidth() - 12
  shown = fitted(label, room - text_width(text, TITLE), TITLE) if label else ''
  if about:
    shown += '\n' + fitted(about, room, TITLE)
  figure.suptitle(text + shown, fontsize=TITLE, color=INK, x=0.01, ha='left')


def put(
    figure: Figure, x: float | int, y: float | int, text: str, **look: Any
) -> None:
  """Text at `x` points from the left and `y` from the top."""
  width, height = 72 * figure.get_size_inches()
  look = dict[str, Any](fontsize=SMALL, color=INK) | look
  figure.text(x / width, 1 - y / height, text, va='baseline', **look)


def rule(figure: Figure, y: float | int, margin: float | int) -> None:
  """A line across the page, `y` points from the top."""
  width, height = 72 * figure.get_size_inches()
  x, look = margin / width, {'color': GRID, 'linewidth': 0.7}
  figure.add_artist(Line2D([x, 1 - x], [1 - y / height] * 2, **look))


def joined(label: str, about: str) -> str:
  """The name of a run, and what was read and how it was decided."""
  return f'{label}; {about}' if about else label


def legend(
    figure: Figure,
    lines: Iterable[Any],
    names: Sequence[str],
    *,
    size: float | int = 7,
    columns: int | None = None,
    **look: Any,
) -> None:
  """A legend below the axes, where it hides no data."""
  figure.legend(
      list(lines),
      list(names),
      loc='outside lower center',
      ncols=columns or len(names),
      frameon=False,
      fontsize=size,
      labelcolor=INK,
      **look,
  )


def dress(
    axes: Axes,
    *,
    x: str | None = None,
    y: str | None = None,
    size: float | int = 8,
    ticks: float | int = 8,
    length: float | int = 3,
    grid: float | int = 0,
) -> None:
  """Names, ticks, spines, and horizontal lines of width `grid`."""
  if x is not None:
    axes.set_xlabel(x, fontsize=size, color=INK)
  if y is not None:
    axes.set_ylabel(y, fontsize=size, color=INK)
  if grid:
    axes.grid(axis='y', color=GRID, linewidth=grid)
    axes.set_axisbelow(True)
  axes.tick_params(labelsize=ticks, color=INK, labelcolor=INK, length=length)
  axes.spines[['top', 'right']].set_visible(False)
  axes.spines[['left', 'bottom']].set_color(INK)
  axes.spines[['left', 'bottom']].set_linewidth(0.8)


def layer_axis(axes: Axes, num_layers: int, ticks: int) -> None:
  """The x axis of all layers of a model, with whole numbers on it."""
  last = num_layers - 1
  axes.set_xlim(-0.02 * last - 0.3, 1.02 * last + 0.3)
  axes.xaxis.set_major_locator(
      ticker.MaxNLocator(nbins=ticks, integer=True, steps=[1, 2, 5, 10])
  )


def look(index: int) -> tuple[str, str, Any]:
  """Colour, marker and dash of a run; after 6, other pairs of the last two."""
  rounds, index = divmod(index, len(_LOOKS))
  color, marker, _ = _LOOKS[index]
  return color, marker, _LOOKS[(index + rounds) % len(_LOOKS)][2]


def dot(
    color: str, marker: str = 'o', *, filled: bool = True
) -> dict[str, Any]:
  """How a point is drawn: filled where a test is sure."""
  return {
      'linestyle': 'none',
      'marker': marker,
      'markersize': 3,
      'markeredgewidth': 0.7,
      'markeredgecolor': color,
      'markerfacecolor': color if filled else 'white',
  }


def dots(what: str = '') -> Mapping[str, Line2D]:
  """The keys of both kinds of `dot`."""
  return {
      f'{what}q ≤ {ALPHA}': Line2D([], [], **dot(INK)),
      f'{what}q > {ALPHA}': Line2D([], [], **dot(INK, filled=False)),
  }


def short(label: str, size: int) -> str:
  """Any text in at most `size` characters, safe for a figure."""
  return _cut(label, lambda shown: len(shown) <= size)


def fitted(label: str, room: float | int, size: float | int) -> str:
  """Any text in at most `room` points at a font size, safe for a figure."""
  return _cut(label, lambda shown: text_width(shown, size) <= room)


def _cut(label: str, fits: Callable[[str], bool]) -> str:
  """Names of runs differ at the ends, so it is the middle that goes."""
  shown = figure_text(label)
  kept = min(len(label), _MOST)
  while kept and not fits(shown):
    kept -= 1
    tail = label[len(label) - kept // 2 :]
    shown = figure_text(f'{label[: kept - kept // 2]}…{tail}')
  # Matplotlib leaves labels that begin with an underscore out of legends.
  return ' ' + shown if shown.startswith('_') else shown


@functools.cache
def _measurer(size: float | int) -> tuple[TextToPath, FontProperties]:
  return TextToPath(), FontProperties(family=['DejaVu Sans'], size=size)


@functools.lru_cache(4096)
def text_width(text: str, size: float | int) -> float:
  """Points that `figure_text` takes at a size, also in points.

  Args:
    text: One line.
    size: Of the font.

  Returns:
    The advance of the whole line, spaces at its ends included.
  """
  to_path, font = _measurer(size)
  text = text.replace('\\$', '$')  # As Matplotlib draws it.
  width, _, _ = to_path.get_text_width_height_descent(text, font, ismath=False)
  return width


def number(value: float | int | None) -> float:
  """A number of a summary, where null stands for none."""
  return math.nan if value is None else float(value)
