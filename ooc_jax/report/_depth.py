"""The figure of semantic features over the depth of a model."""

from collections.abc import Sequence
import math
from typing import Any

import matplotlib
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
import numpy as np

from ooc_jax.report._curve import DepthCurve
from ooc_jax.results import figure_text

# Okabe and Ito's colours. Marker and dash tell runs apart in grey.
_LOOKS = (
    ('#0072B2', 'o', '-'),
    ('#D55E00', 's', (0, (5, 1.5))),
    ('#009E73', '^', (0, (1, 1))),
    ('#000000', 'D', (0, (5, 1.5, 1, 1.5))),
    ('#CC79A7', 'v', (0, (8, 2))),
    ('#E69F00', 'P', (0, (3, 1, 1, 1, 1, 1))),
)
_MEASURES = {
    'levenshtein': ('edit distance', '#8A8A8A', (0, (1, 1.2))),
    'cosine': ('cosine', '#6A6A6A', (0, (4, 1.5))),
    'entropy': ('entropy', '#A8A8A8', '-'),
}
_INK = '#262626'
_GRID = '#E3E3E3'


def depth_figure(
    curves: Sequence[DepthCurve], *, title: str | None = None
) -> Figure:
  """Draws the share of semantic features against depth.

  One curve is drawn against the number of the layer, with a thin line for each
  single measure; several against relative depth, layer / (layers of the model
  - 1), without those. Bands are bootstrap 95% intervals.

  Args:
    curves: One for each run; up to 6 look different.
    title: Replaces the title.

  Returns:
    A figure of 5.5 by 3.4 inches at 200 dots an inch, bound to no window and to
    no global state of Matplotlib.

  Raises:
    ValueError: No curve.
  """
  if not curves:
    raise ValueError('A depth figure needs at least one curve.')
  # A user's matplotlibrc must not change the figure, nor turn on TeX, which
  # would run token text as a program.
  with matplotlib.rc_context():
    matplotlib.rcdefaults()
    matplotlib.rcParams['font.family'] = ['DejaVu Sans']
    figure = Figure(figsize=(5.5, 3.4), dpi=200, layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    alone = len(curves) == 1
    lines = [_draw(axes, c, i, not alone) for i, c in enumerate(curves)]
    names = ['semantic'] if alone else [_short(c.label, 28) for c in curves]
    lines.append(Patch(facecolor='#808080', alpha=0.25, linewidth=0))
    names.append('95% interval')
    if alone:
      for name, values in curves[0].measures.items():
        lines.append(_draw_measure(axes, curves[0].layers, name, values))
        names.append(_MEASURES[name][0])
    _dress(axes, curves)
    _add_legend(figure, lines, names)
    axes.set_title(
        figure_text(title) if title is not None else _title(curves),
        fontsize=9.5,
        color=_INK,
        loc='left',
    )
  return figure


def _draw(axes: Axes, curve: DepthCurve, index: int, relative: bool) -> Any:
  color, marker, dash = _LOOKS[index % len(_LOOKS)]
  x = np.asarray(curve.layers, float)
  if relative:
    x = x / max(curve.num_layers - 1, 1)
  low, high = 100 * np.asarray(curve.low), 100 * np.asarray(curve.high)
  axes.fill_between(x, low, high, color=color, alpha=0.18, linewidth=0)
  if len(x) == 1:  # A band of one point has no area.
    axes.vlines(x, low, high, color=color, linewidth=1.0)
  (line,) = axes.plot(
      x,
      100 * np.asarray(curve.share),
      color=color,
      linestyle=dash,
      linewidth=1.4,
      marker=marker,
      markersize=3.4,
      markeredgewidth=0.5,
      markeredgecolor='white',
      zorder=3,
      clip_on=False,  # A marker at 0 is whole.
  )
  return line


def _draw_measure(
    axes: Axes, x: Sequence[int], name: str, values: Sequence[float]
) -> Any:
  _, color, dash = _MEASURES[name]
  (line,) = axes.plot(
      x,
      100 * np.asarray(values),
      color=color,
      linestyle=dash,
      linewidth=0.9,
      # A line of one point has no length.
      marker='_' if len(x) == 1 else '',
  )
  return line


def _dress(axes: Axes, curves: Sequence[DepthCurve]) -> None:
  """Axes, ticks and grid."""
  axes.set_ylabel('Semantic features (%)', fontsize=9, color=_INK)
  if len(curves) == 1:
    axes.set_xlabel('Layer', fontsize=9, color=_INK)
    last = curves[0].num_layers - 1
    axes.set_xlim(-0.02 * last - 0.3, 1.02 * last + 0.3)
    axes.xaxis.set_major_locator(
        ticker.MaxNLocator(nbins=8, integer=True, steps=[1, 2, 5, 10])
    )
  else:
    axes.set_xlabel(
        'Relative depth (layer / last layer)', fontsize=9, color=_INK
    )
    axes.set_xlim(-0.03, 1.03)
  columns = [c for curve in curves for c in (curve.share, curve.high)]
  if len(curves) == 1:
    columns += curves[0].measures.values()
  top = max((v for c in columns for v in c if math.isfinite(v)), default=0.0)
  # With no semantic feature at all the axis would have no height.
  axes.set_ylim(0, 108 * top if top > 0 else 1)
  axes.yaxis.set_major_locator(ticker.MaxNLocator(nbins=7, steps=[1, 2, 5, 10]))
  axes.grid(axis='y', color=_GRID, linewidth=0.7)
  axes.set_axisbelow(True)
  axes.tick_params(labelsize=8, color=_INK, labelcolor=_INK, length=3)
  axes.spines[['top', 'right']].set_visible(False)
  axes.spines[['left', 'bottom']].set_color(_INK)
  axes.spines[['left', 'bottom']].set_linewidth(0.8)


def _add_legend(
    figure: Figure, lines: Sequence[Any], names: Sequence[str]
) -> None:
  """Under the axes, where it hides no data, in as many columns as fit."""
  size = 7.5
  # Points: letters of DejaVu Sans are 0.6 em wide on average, the rest is the
  # line and the space around it.
  widths = [size * (0.6 * len(name) + 4.4) for name in names]
  room = 72 * figure.get_figwidth()
  columns = len(names) if sum(widths) < room else int(room // max(widths))
  figure.legend(
      lines,
      names,
      loc='outside lower center',
      ncols=max(columns, 1),
      frameon=False,
      fontsize=size,
      labelcolor=_INK,
      handlelength=2.4,
      handletextpad=0.6,
      columnspacing=1.2,
  )


def _title(curves: Sequence[DepthCurve]) -> str:
  if len(curves) == 1:
    return f'Semantic features by layer: {_short(curves[0].label, 36)}'
  return f'Semantic features by relative depth, {len(curves)} runs'


def _short(label: str, size: int) -> str:
  """A label that fits; names of runs differ at the ends, the middle goes."""
  if len(label) > size:
    label = f'{label[: size // 2]}…{label[len(label) - (size - 1) // 2 :]}'
  shown = figure_text(label)
  # Matplotlib leaves labels that begin with an underscore out of legends.
  return ' ' + shown if shown.startswith('_') else shown
