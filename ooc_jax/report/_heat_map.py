"""The sweep as a picture and as a table."""

from collections.abc import Iterator
import math

import matplotlib
from matplotlib import cm
from matplotlib import colors
from matplotlib.axes import Axes
from matplotlib.figure import Figure
import numpy as np

from ooc_jax.report import _style
from ooc_jax.report._sweep import Decision
from ooc_jax.report._sweep import Sweep
from ooc_jax.report._sweep import decision_text

_ROW, _LOW_ROW = 0.155, 0.115  # Inches.
_TALL = 9.0  # From where rows are low.
_WIDTH, _LEFT = 7.2, 1.15
_CELL = 0.5  # At most.
_TOTAL = 0.3  # At least: the last two columns have names.
_GAP = 0.5  # Of a cell, between the layers and the last two columns.
_RULES = {
    'any': 'Any of the three measures',
    'majority': 'Two of the three measures',
    'all': 'All three measures',
}
_TICKS = (0, 0.01, 0.05, 0.1, 0.25, 0.5, 1)


def sweep_figure(sweep: Sweep, *, subject: str = 'Semantic features') -> Figure:
  """Draws the share of such features: a row a decision, a column a layer.

  Two more columns give the share of all layers together and that of random
  directions. Shades follow the root of the share, so that 1% differs from
  none; numbers are in per cent, where they fit. A triangle marks the decision
  of the run.

  Args:
    sweep: Of one run.
    subject: What the share is of.

  Returns:
    A figure of at most 7.2 inches, as high as the decisions ask for.
  """
  groups = list(_groups(sweep))
  lines = len(sweep.decisions) + len(groups)
  row = min(max(_TALL / lines, _LOW_ROW), _ROW)
  columns = len(sweep.layers)
  cell = min((_WIDTH - _LEFT) / (columns + _GAP + 2), _CELL)
  if cell < _TOTAL:
    cell = (_WIDTH - _LEFT - 2 * _TOTAL) / (columns + _GAP)
  total = max(_TOTAL / cell, 1.0)
  end = columns + _GAP + 2 * total  # In cells, as all of the x axis is.
  width = max(_LEFT + cell * end, 3.6)
  with _style.new_figure(width, 1.35 + row * lines) as figure:
    axes = figure.add_subplot()
    norm = colors.PowerNorm(0.5, vmin=0, vmax=1)
    ticks, names = [], []
    y = 0.0
    for title, rows in groups:
      axes.text(
          0,
          y + 0.55,
          title,
          fontsize=48 * row,
          color=_style.INK,
          va='center',
      )
      edges = y + 1 + np.arange(len(rows) + 1)
      last = np.stack([sweep.whole[rows], sweep.null[rows]], axis=1)
      for x, step, values, kind in (
          (0.0, 1.0, sweep.share[rows], 'layers'),
          (columns + _GAP, total, last, 'totals'),
      ):
        axes.pcolormesh(
            x + step * np.arange(values.shape[1] + 1),
            edges,
            np.ma.masked_invalid(values),
            norm=norm,
            cmap='Blues',
            edgecolors='white',
            linewidth=0.4,
            gid=kind,
        )
        _annotate(axes, (x, y + 1), step, values, cell)
      ticks += (edges[:-1] + 0.5).tolist()
      names += [_row_name(sweep, i) for i in rows]
      y += 1 + len(rows)
    axes.set_yticks(ticks, names)
    _columns(axes, sweep.layers, end, total)
    axes.set_xlim(0, end)
    axes.set_ylim(y, 0)
    axes.tick_params(labelsize=7, colors=_style.INK, length=0, pad=2)
    axes.tick_params(axis='y', labelsize=45 * row)
    axes.tick_params(
        axis='x', top=True, labeltop=True, bottom=False, labelbottom=False
    )
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(
        cm.ScalarMappable(norm, 'Blues'),
        ax=axes,
        orientation='horizontal',
        aspect=50,
        pad=0.01,
        fraction=0.03,
        ticks=_TICKS,
    )
    bar.ax.set_xticklabels([f'{100 * x:g}' for x in _TICKS])
    bar.ax.tick_params(labelsize=7, colors=_style.INK, length=2)
    bar.outline.set_visible(False)
    bar.set_label(f'{subject} (%)', fontsize=8, color=_style.INK)
    title = 'Rules and thresholds: '
    room = 72 * width - 12 - _style.text_width(title, 9.5)
    figure.suptitle(
        title + _style.fitted(sweep.label, room, 9.5),
        fontsize=9.5,
        color=_style.INK,
        x=0.01,
        ha='left',
    )
  return figure


def sweep_rows(sweep: Sweep) -> list[list[str]]:
  """The sweep as a table of text, its first row the names of the columns.

  Args:
    sweep: Of one run.

  Returns:
    Rows for `markdown_table` or `csv_table`; shares from 0 to 1, '' where there
    is none.
  """
  head = ['rule', 'measure', 'kind', 'level', *map(str, sweep.layers)]
  rows = [[*head, 'all', 'null']]
  for i, d in enumerate(sweep.decisions):
    values = [*sweep.share[i], sweep.whole[i], sweep.null[i]]
    rows.append([
        d.rule,
        d.measure,
        d.kind,
        '' if d.level is None else f'{d.level:g}',
        *('' if math.isnan(x) else f'{x:.4f}' for x in values),
    ])
  return rows


def _groups(sweep: Sweep) -> Iterator[tuple[str, list[int]]]:
  """What the neighbouring rows of a group have in common, and their indices."""
  by_title: dict[str, list[int]] = {}
  for i, decision in enumerate(sweep.decisions):
    by_title.setdefault(_title(decision), []).append(i)
  yield from by_title.items()


def _title(decision: Decision) -> str:
  if decision.measure:
    name = _style.NAMES.get(decision.measure, decision.measure)
    return _style.short(f'{name.capitalize()} alone', 40)
  return _RULES.get(decision.rule) or _style.short(decision.rule, 40)


def _row_name(sweep: Sweep, index: int) -> str:
  name = _style.short(decision_text(sweep.decisions[index]), 24)
  return f'▸ {name}' if index == sweep.used else name


def _columns(
    axes: Axes, layers: tuple[int, ...], end: float, total: float
) -> None:
  """Names over the columns; not every layer's where there are many."""
  step = -(-len(layers) // 32)
  shown = range(0, len(layers), step)
  axes.set_xticks(
      [*(i + 0.5 for i in shown), end - 1.5 * total, end - 0.5 * total],
      [*(str(layers[i]) for i in shown), 'all', 'null'],
  )
  axes.set_xlabel('Layer', fontsize=8, color=_style.INK)
  axes.xaxis.set_label_position('top')


def _annotate(
    axes: Axes,
    corner: tuple[float, float],
    step: float,
    values: np.ndarray,
    cell: float,
) -> None:
  """Per cents in cells `step` wide, if all have room for them."""
  size = 5.5
  digits = 1 if cell > 0.33 else 0
  # Three digits or '12.3', of 0.64 em each.
  if cell < 3 * 0.64 * size / 72:
    return
  shades = matplotlib.colormaps['Blues']
  x, y = corner
  for (i, j), value in np.ndenumerate(values):
    if math.isnan(value):
      continue
    red, green, blue, _ = shades(math.sqrt(min(max(value, 0.0), 1.0)))
    light = 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.5
    axes.text(
        x + step * (j + 0.5),
        y + i + 0.53,
        f'{100 * value:.{digits}f}',
        fontsize=size,
        ha='center',
        va='center',
        color=_style.INK if light else 'white',
        in_layout=False,
    )
