"""What the figures share: looks, and freedom from the user's settings."""

from collections.abc import Callable, Generator
import contextlib
import functools
import math
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextToPath

from ooc_jax.results import figure_text

INK = '#262626'
GRID = '#E3E3E3'
LABEL = 28  # Characters of the name of a run in a legend.
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
# How people call the measures, and how the table of a run does.
NAMES = {
    'levenshtein': 'edit distance',
    'cosine': 'cosine',
    'entropy': 'entropy',
}


@contextlib.contextmanager
def new_figure(
    width: float, height: float, *, free: bool = False
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


def look(index: int) -> tuple[str, str, Any]:
  """Colour, marker and dash of a run; after 6, other pairs of the last two."""
  rounds, index = divmod(index, len(_LOOKS))
  color, marker, _ = _LOOKS[index]
  return color, marker, _LOOKS[(index + rounds) % len(_LOOKS)][2]


def dress(axes: Axes) -> None:
  """Ticks and spines."""
  axes.tick_params(labelsize=8, color=INK, labelcolor=INK, length=3)
  axes.spines[['top', 'right']].set_visible(False)
  axes.spines[['left', 'bottom']].set_color(INK)
  axes.spines[['left', 'bottom']].set_linewidth(0.8)


def short(label: str, size: int) -> str:
  """Any text in at most `size` characters, safe for a figure."""
  return _cut(label, lambda shown: len(shown) <= size)


def fitted(label: str, room: float, size: float) -> str:
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
def _measurer(size: float) -> tuple[TextToPath, FontProperties]:
  return TextToPath(), FontProperties(family=['DejaVu Sans'], size=size)


def text_width(text: str, size: float) -> float:
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


def p_text(value: float, name: str = 'p') -> str:
  """'p = 0.012', or 'p < 0.001', under which nobody needs the digits."""
  return f'{name} < 0.001' if value < 0.001 else f'{name} = {value:.2g}'
