"""Semantic or participating features over the depth of a model."""

from collections.abc import Sequence
import math
import pathlib
from typing import Any

from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure as MplFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
import numpy as np

from ooc_jax import measures
from ooc_jax._text import figure_text
from ooc_jax._text import p_text
from ooc_jax.report import _style
from ooc_jax.report._check import Check
from ooc_jax.report._check import check_of
from ooc_jax.report._check import draw_check
from ooc_jax.report._depth_curve import DepthCurve
from ooc_jax.report._depth_curve import depth_curve
from ooc_jax.report._reading import Figure
from ooc_jax.report._reading import by_readout
from ooc_jax.report._reading import reading
from ooc_jax.report._style import INK

PARTICIPATING = 'Participating features'
# Grey and dash of each single measure, in their order.
_GREYS: tuple[tuple[str, Any], ...] = (
    ('#8A8A8A', (0, (1, 1.2))),
    ('#6A6A6A', (0, (4, 1.5))),
    ('#A8A8A8', '-'),
    ('#7A7A7A', (0, (4, 1.2, 1, 1.2))),
)
_NULL_WIDTH = 0.8
_HATCH = '#9A9A9A'
_BAND: dict[str, Any] = {
    'facecolor': 'none',
    'edgecolor': _HATCH,
    'hatch': '//////',
    'lw': 0,
}
_WIDTH = 5.5  # Inches.
_LEGEND = 7.5  # Points.


def depth_figure(
    curves: Sequence[DepthCurve],
    *,
    title: str | None = None,
    subject: str = 'Semantic features',
    check: Check | None = None,
) -> MplFigure:
  """Draws the share of semantic features, or of others, against depth.

  Curves of one model are drawn against the number of the layer, those of
  several against relative depth, layer / (layers of the model - 1). One curve
  has a thin line for each measure alone, of the end of the vocabulary that is
  read first. Bands are 95% intervals. The thin line at the bottom, without
  markers, is the share of random directions; 95% of the dictionaries of as many
  random directions would lie in its hatched band. Where features and random
  directions coincide in every curve, the excess over chance is drawn instead.
  An open marker at the top is where a course turns, if the tests say so.

  Args:
    curves: One for each run; up to 6 have a colour and a marker of their own.
    title: Replaces the first line of the title.
    subject: What the share is of, the adjective first.
    check: What a validation says of the predictions, which is drawn below; only
      where the curves are of one model.

  Returns:
    A figure of 5.5 by 3.4 inches (higher for many runs), bound to no window
    and to no global state of Matplotlib.

  Raises:
    ValueError: No curve.
  """
  if not curves:
    raise ValueError('A depth figure needs at least one curve.')
  alone = len(curves) == 1
  relative = len({curve.num_layers for curve in curves}) > 1
  over_chance = all(curve.is_chance for curve in curves)
  if over_chance:
    curves = [curve.over_chance() for curve in curves]
  one = subject.split()[0].lower()
  keys = _keys(curves)
  names = [_name(curve, one if alone else None) for curve in curves]
  names += keys
  thin = curves[0].measures if alone else {}
  known = [x for x in measures.ALL_MEASURES if x.name in thin]
  where = ' at the top' if len({x.end for x in known}) > 1 else ''
  known = [measure for measure in known if measure.end == known[0].end]
  names += [f'{measure.label}{where} alone' for measure in known]
  columns = _legend_columns(names)
  rows = math.ceil(len(names) / columns)
  # Many names must not press the curves flat.
  height = 3.4 + 0.16 * max(rows - 3, 0)
  below = None
  with _style.new_figure(_WIDTH, height + (check is not None) * 1.6) as figure:
    if check is None:
      axes = figure.add_subplot()
    else:
      axes, below = figure.subplots(2, sharex=True, height_ratios=(1.7, 1))
    lines: list[Any] = [
        _draw(axes, curve, i, alone, relative) for i, curve in enumerate(curves)
    ]
    lines += keys.values()
    for i, measure in enumerate(known):
      i %= len(_GREYS)
      values = thin[measure.name]
      lines += _line(axes, curves[0].layers, values, *_GREYS[i], 0.9)
    _finish(axes, curves, subject, relative, over_chance)
    if check is not None and below is not None:
      draw_check(below, check)
      axes.set_xlabel('')
    _style.legend(
        figure,
        lines,
        names,
        size=_LEGEND,
        columns=columns,
        handlelength=2.4,
        handletextpad=0.6,
        columnspacing=1.2,
    )
    axes.set_title(
        _title(curves, subject, relative, title),
        fontsize=_style.TITLE,
        color=INK,
        loc='left',
    )
  return figure


def _draw(
    axes: Axes, curve: DepthCurve, index: int, alone: bool, relative: bool
) -> Line2D:
  color, marker, dash = _style.look(index)
  scale = max(curve.num_layers - 1, 1) if relative else 1
  x = np.asarray(curve.layers, float) / scale
  look = {'color': color, 'alpha': 0.18, 'linewidth': 0}
  _band(axes, x, curve.low, curve.high, look, color)
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
    tint = INK if alone else color
    _band(axes, x, curve.null_low, curve.null_high, _BAND, tint)
    (null,) = _line(axes, x, curve.null, tint, dash, _NULL_WIDTH)
    null.set_gid('null')
  if (turn := _turning_point(curve)) is not None:
    axes.plot(
        [turn / scale],
        [0.985],  # Of the height of the axes, over all data.
        transform=axes.get_xaxis_transform(),
        gid='turning point',
        clip_on=False,
        **_turn_look(color, 'v' if alone else marker),
    )
  return line


def _band(
    axes: Axes,
    x: np.ndarray,
    low: Sequence[float],
    high: Sequence[float],
    look: dict[str, Any],
    color: str,
) -> None:
  ends = 100 * np.asarray(low), 100 * np.asarray(high)
  axes.fill_between(x, *ends, **look)
  if len(x) == 1:  # A band of one point has no area.
    axes.vlines(x, *ends, color=color, linewidth=_NULL_WIDTH)


def _line(
    axes: Axes,
    x: Sequence[int] | np.ndarray,
    share: Sequence[float],
    color: str,
    dash: Any,
    width: float | int,
) -> list[Line2D]:
  return axes.plot(
      x,
      100 * np.asarray(share),
      color=color,
      linestyle=dash,
      linewidth=width,
      marker='_' if len(x) == 1 else '',  # A line of one point has no length.
  )


def _finish(
    axes: Axes,
    curves: Sequence[DepthCurve],
    subject: str,
    relative: bool,
    over_chance: bool,
) -> None:
  """Limits, names, ticks and grid."""
  columns = [
      c for curve in curves for c in (curve.share, curve.high, curve.null_high)
  ]
  if len(curves) == 1:
    columns += curves[0].measures.values()
  if not relative:
    _style.layer_axis(axes, curves[0].num_layers, 8)
    name = 'Layer'
  else:
    axes.set_xlim(-0.03, 1.03)
    name = 'Relative depth (layer / last layer)'
  top = max((v for c in columns for v in c if math.isfinite(v)), default=0.0)
  # With no semantic feature at all the axis would have no height.
  if over_chance:
    ends = [x for c in curves for x in (*c.low, *c.null_low)]
    least = min(filter(math.isfinite, ends), default=0.0)
    axes.set_ylim(108 * min(least, 0), 108 * top if top > 0 else 1)
  else:
    axes.set_ylim(0, 108 * top if top > 0 else 1)
  axes.yaxis.set_major_locator(ticker.MaxNLocator(nbins=7, steps=[1, 2, 5, 10]))
  y = f'{subject} over chance' if over_chance else subject
  _style.dress(axes, x=name, y=f'{y} (%)', size=9, grid=0.7)


def _keys(curves: Sequence[DepthCurve]) -> dict[str, Any]:
  """What is explained beside the lines: name -> how it looks."""
  # Of the colour of the line, where there is one line.
  color = _style.look(0)[0] if len(curves) == 1 else '#808080'
  keys: dict[str, Any] = {
      '95% interval': Patch(facecolor=color, alpha=0.25, linewidth=0)
  }
  if any(curve.null for curve in curves):
    # Both at once: the band may be thinner than a hair.
    keys['random directions'] = (
        Patch(**_BAND),
        Line2D([], [], color=INK, linewidth=_NULL_WIDTH),
    )
  if any(_turning_point(curve) is not None for curve in curves):
    alone = len(curves) == 1
    name = 'turning point' if alone else 'turning point, at the top'
    keys[name] = Line2D([], [], **_turn_look(INK, 'v' if alone else 'o'))
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
  return _style.dot(color, marker, filled=False) | {
      'markersize': 5,
      'markeredgewidth': 1.0,
  }


def _turning_point(curve: DepthCurve) -> float | None:
  return None if curve.shape is None else curve.shape.turning_point


def _title(
    curves: Sequence[DepthCurve],
    subject: str,
    relative: bool,
    given: str | None,
) -> str:
  text = f'{subject} by {"relative depth" if relative else "layer"}'
  room = 72 * _WIDTH - 46  # Left of the axes.
  # Of several dictionaries, how all of them were decided.
  words = [curve.about.split(', ') for curve in curves]
  shared = ', '.join(x for x in words[0] if all(x in own for own in words))
  if given is not None:
    text = figure_text(given)
  elif len(curves) == 1:
    text += ': '
    left = room - _style.text_width(text, _style.TITLE)
    text += _style.fitted(curves[0].label, left, _style.TITLE)
  if shared:
    text += '\n' + _style.fitted(shared, room, _style.TITLE)
  return text


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
    name += f', {p_text(shape.p_value)}'
  return name


def _of_readout(folder: pathlib.Path, readout: str) -> MplFigure:
  """The curve of a readout, and its check."""
  curve = depth_curve(folder, readout=readout)
  with reading(folder) as run:
    return depth_figure([curve], check=check_of(run.summary, readout))


def _of_role(folder: pathlib.Path, role: str) -> MplFigure:
  """The curves of both contexts of a role, and their check."""
  curves = [
      depth_curve(folder, _style.CONTEXT_NAMES[context], readout=context)
      for context in measures.CONTEXTS
      if context.startswith(role)
  ]
  with reading(folder) as run:
    return depth_figure(
        curves,
        title=f'{PARTICIPATING} by layer: {run.label}',
        subject=PARTICIPATING,
        check=check_of(run.summary, 'attention'),
    )


SEMANTIC = Figure(
    experiment='output_prediction',
    files=by_readout('semantic_by_depth'),
    read=_of_readout,
    draw=lambda figure: figure,
)
PARTICIPATION = Figure(
    experiment='attention_participation',
    files=lambda summary: {
        f'participation_by_depth_{role}': role for role in measures.ROLES
    },
    read=_of_role,
    draw=lambda figure: figure,
)
