"""The figure of semantic features over the depth of a model."""

from collections.abc import Sequence
import math
from typing import Any

from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
import numpy as np

from ooc_jax.report import _style
from ooc_jax.report._curve import DepthCurve
from ooc_jax.results import figure_text

_INK = _style.INK
# Grey and dash of each single measure.
_MEASURES = {
    'levenshtein': ('#8A8A8A', (0, (1, 1.2))),
    'cosine': ('#6A6A6A', (0, (4, 1.5))),
    'entropy': ('#A8A8A8', '-'),
}
_NULL_WIDTH = 0.8
_HATCH = '#9A9A9A'
_WIDTH = 5.5  # Inches.
_LEGEND, _TITLE = 7.5, 9.5  # Points.


def depth_figure(
    curves: Sequence[DepthCurve],
    *,
    title: str | None = None,
    subject: str = 'Semantic features',
) -> Figure:
  """Draws the share of semantic features, or of others, against depth.

  One curve is drawn against the number of the layer, with a thin line for each
  single measure; several against relative depth, layer / (layers of the model
  - 1), without those. Bands are bootstrap 95% intervals. The thin line at the
  bottom, without markers, is the share of random directions; 95% of the
  dictionaries of as many random directions would lie in its hatched band. An
  open marker at the top is where a course turns, if the tests say so.

  Args:
    curves: One for each run; up to 6 have a colour and a marker of their own.
    title: Replaces the title.
    subject: What the share is of, the adjective first.

  Returns:
    A figure of 5.5 by 3.4 inches (higher for many runs), bound to no window
    and to no global state of Matplotlib.

  Raises:
    ValueError: No curve.
  """
  if not curves:
    raise ValueError('A depth figure needs at least one curve.')
  alone = len(curves) == 1
  one = subject.split()[0].lower()
  names = [_name(curve, one if alone else None) for curve in curves]
  keys = _keys(curves)
  names += keys
  if alone:
    names += [_style.NAMES[name] for name in curves[0].measures]
  columns = _legend_columns(names)
  rows = math.ceil(len(names) / columns)
  # Many names must not press the curves flat.
  with _style.new_figure(_WIDTH, 3.4 + 0.16 * max(rows - 3, 0)) as figure:
    axes = figure.add_subplot()
    lines = [_draw(axes, c, i, not alone) for i, c in enumerate(curves)]
    lines += keys.values()
    if alone:
      lines += [
          _draw_measure(axes, curves[0].layers, name, values)
          for name, values in curves[0].measures.items()
      ]
    _dress(axes, curves, subject)
    figure.legend(
        lines,
        names,
        loc='outside lower center',  # Where it hides no data.
        ncols=columns,
        frameon=False,
        fontsize=_LEGEND,
        labelcolor=_INK,
        handlelength=2.4,
        handletextpad=0.6,
        columnspacing=1.2,
    )
    axes.set_title(
        figure_text(title) if title is not None else _title(curves, subject),
        fontsize=_TITLE,
        color=_INK,
        loc='left',
    )
  return figure


def _draw(axes: Axes, curve: DepthCurve, index: int, relative: bool) -> Any:
  color, marker, dash = _style.look(index)
  scale = max(curve.num_layers - 1, 1) if relative else 1
  x = np.asarray(curve.layers, float) / scale
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
  if curve.null:
    _draw_null(axes, x, curve, color if relative else _INK, dash)
  if (turn := _turning_point(curve)) is not None:
    axes.plot(
        [turn / scale],
        [0.985],  # Of the height of the axes, over all data.
        transform=axes.get_xaxis_transform(),
        gid='turning point',
        clip_on=False,
        **_turn_look(color, marker if relative else 'v'),
    )
  return line


def _draw_null(
    axes: Axes, x: np.ndarray, curve: DepthCurve, color: str, dash: Any
) -> None:
  low = 100 * np.asarray(curve.null_low)
  high = 100 * np.asarray(curve.null_high)
  axes.fill_between(
      x, low, high, facecolor='none', edgecolor=_HATCH, hatch='//////', lw=0
  )
  if len(x) == 1:
    axes.vlines(x, low, high, color=color, linewidth=_NULL_WIDTH)
  axes.plot(
      x,
      100 * np.asarray(curve.null),
      color=color,
      linestyle=dash,
      linewidth=_NULL_WIDTH,
      marker='_' if len(x) == 1 else '',
      gid='null',
  )


def _draw_measure(
    axes: Axes, x: Sequence[int], name: str, values: Sequence[float]
) -> Any:
  color, dash = _MEASURES[name]
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


def _dress(axes: Axes, curves: Sequence[DepthCurve], subject: str) -> None:
  """Axes, ticks and grid."""
  axes.set_ylabel(f'{subject} (%)', fontsize=9, color=_INK)
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
  columns = [
      c for curve in curves for c in (curve.share, curve.high, curve.null_high)
  ]
  if len(curves) == 1:
    columns += curves[0].measures.values()
  top = max((v for c in columns for v in c if math.isfinite(v)), default=0.0)
  # With no semantic feature at all the axis would have no height.
  axes.set_ylim(0, 108 * top if top > 0 else 1)
  axes.yaxis.set_major_locator(ticker.MaxNLocator(nbins=7, steps=[1, 2, 5, 10]))
  axes.grid(axis='y', color=_style.GRID, linewidth=0.7)
  axes.set_axisbelow(True)
  _style.dress(axes)


def _keys(curves: Sequence[DepthCurve]) -> dict[str, Any]:
  """What is explained beside the lines: name -> how it looks."""
  keys: dict[str, Any] = {
      '95% interval': Patch(facecolor='#808080', alpha=0.25, linewidth=0)
  }
  if any(curve.null for curve in curves):
    # Both at once: the band may be thinner than a hair.
    keys['random directions'] = (
        Patch(facecolor='none', edgecolor=_HATCH, hatch='//////', lw=0),
        Line2D([], [], color=_INK, linewidth=_NULL_WIDTH),
    )
  if any(_turning_point(curve) is not None for curve in curves):
    alone = len(curves) == 1
    name = 'turning point' if alone else 'turning point, at the top'
    keys[name] = Line2D([], [], **_turn_look(_INK, 'v' if alone else 'o'))
  return keys


def _legend_columns(names: Sequence[str]) -> int:
  """As many as fit beside each other, each as wide as its widest name."""
  # The line, and the space around it and the name.
  widths = [_style.text_width(name, _LEGEND) + 4.4 * _LEGEND for name in names]
  for columns in range(len(names), 1, -1):
    # Matplotlib fills column by column, the first ones with the odd names.
    filled = np.array_split(widths, columns)
    if sum(column.max() for column in filled) < 72 * _WIDTH:
      return columns
  return 1


def _turn_look(color: str, marker: str) -> dict[str, Any]:
  """Open, as the markers on the curve are not."""
  return {
      'linestyle': 'none',
      'marker': marker,
      'markersize': 5,
      'markerfacecolor': 'white',
      'markeredgecolor': color,
  }


def _turning_point(curve: DepthCurve) -> float | None:
  return None if curve.shape is None else curve.shape.turning_point


def _title(curves: Sequence[DepthCurve], subject: str) -> str:
  if len(curves) > 1:
    return f'{subject} by relative depth'
  text = f'{subject} by layer: '
  room = 72 * _WIDTH - 46 - _style.text_width(text, _TITLE)  # 46: left of it.
  return text + _style.fitted(curves[0].label, room, _TITLE)


def _name(curve: DepthCurve, name: str | None) -> str:
  """Of a line, with what the tests say of it."""
  if name is None:
    name = _style.short(curve.label, _style.LABEL)
  shape = curve.shape
  if shape is None:
    return name
  name += f': {_style.short(shape.name, 24)}'
  tested = shape.name not in ('flat', 'undecided')  # No p speaks for these.
  if tested and shape.p_value is not None and math.isfinite(shape.p_value):
    name += f', {_style.p_text(shape.p_value)}'
  return name
