"""Draws the shares under every rule and threshold that was tried."""

from collections.abc import Iterable, Iterator

import matplotlib
from matplotlib import cm
from matplotlib import colors
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure as MplFigure
from matplotlib.font_manager import FontProperties
from matplotlib.path import Path
from matplotlib.textpath import TextPath
import numpy as np

from ooc_jax import measures
from ooc_jax.report import _style
from ooc_jax.report._depth import PARTICIPATING
from ooc_jax.report._reading import Figure
from ooc_jax.report._reading import by_readout
from ooc_jax.report._style import INK
from ooc_jax.report._sweep_reading import Decision
from ooc_jax.report._sweep_reading import Sweep
from ooc_jax.report._sweep_reading import participation_sweep
from ooc_jax.report._sweep_reading import sweep

_ROW, _LOW_ROW = 0.155, 0.115  # Inches.
_TALL, _LEFT = 7.6, 1.15  # From the former on rows are low.
_CELL = 0.5  # At most.
_TOTAL = 0.3  # At least: the last two columns have names.
_NUMBER = 5.5  # Points.
_GAP = 0.5  # Of a cell, between the layers and the last two columns.
_SHADES = 'Blues'
_Cell = tuple[float, float, str, bool]  # Place, text, whether it is light.
_TICKS = (0, 0.01, 0.05, 0.1, 0.25, 0.5, 1)


def sweep_figure(
    sweep: Sweep, *, subject: str = 'Semantic features'
) -> MplFigure:
  """Draws the share of such features: a row a decision, a column a layer.

  Two more columns give the share of all layers together and that of random
  directions. Shades follow the root of the share, so that 1% differs from
  none; numbers are in per cent, where they fit. A triangle marks the decision
  of the run. The figure is at most 7.2 inches wide, and as high as the
  decisions ask for.
  """
  groups: dict[str, list[int]] = {}
  for i, decision in enumerate(sweep.decisions):
    groups.setdefault(_title(decision, sweep.both_ends), []).append(i)
  lines = len(sweep.decisions) + len(groups)
  row = min(max(_TALL / lines, _LOW_ROW), _ROW)
  columns = len(sweep.layers)
  cell = min((_style.WIDTH - _LEFT) / (columns + _GAP + 2), _CELL)
  if cell < _TOTAL:
    cell = (_style.WIDTH - _LEFT - 2 * _TOTAL) / (columns + _GAP)
  total = max(_TOTAL / cell, 1.0)
  end = columns + _GAP + 2 * total  # In cells, as all of the x axis is.
  width = max(_LEFT + cell * end, 3.6)
  with _style.new_figure(width, 1.35 + row * lines) as figure:
    axes = figure.add_subplot()
    norm = colors.PowerNorm(0.5, vmin=0, vmax=1)
    ticks, names, cells = [], [], []
    digits = 1 if cell > 0.33 else 0
    y = 0.0
    for title, rows in groups.items():
      axes.text(0, y + 0.55, title, fontsize=48 * row, color=INK, va='center')
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
            cmap=_SHADES,
            edgecolors='white',
            linewidth=0.4,
            gid=kind,
        )
        cells += _cells((x, y + 1), step, values, digits)
      ticks += (edges[:-1] + 0.5).tolist()
      names += [
          ('▸ ' if i == sweep.used else '') + _row_name(sweep.decisions[i])
          for i in rows
      ]
      y += 1 + len(rows)
    axes.set_yticks(ticks, names)
    # Where all have room for three digits or '12.3', of 0.64 em each.
    if cell >= 3 * 0.64 * _NUMBER / 72:
      _annotate(axes, cells, _NUMBER)
    # Not every layer's name where there are many.
    shown = range(0, columns, -(-columns // 32))
    axes.set_xticks(
        [*(i + 0.5 for i in shown), end - 1.5 * total, end - 0.5 * total],
        [*(str(sweep.layers[i]) for i in shown), 'all', 'null'],
    )
    axes.set_xlabel('Layer', fontsize=8, color=INK)
    axes.xaxis.set_label_position('top')
    axes.set_xlim(0, end)
    axes.set_ylim(y, 0)
    axes.tick_params(labelsize=7, colors=INK, length=0, pad=2)
    axes.tick_params(axis='y', labelsize=45 * row)
    axes.tick_params(
        axis='x', top=True, labeltop=True, bottom=False, labelbottom=False
    )
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(
        cm.ScalarMappable(norm, _SHADES),
        ax=axes,
        orientation='horizontal',
        aspect=50,
        pad=0.01,
        fraction=0.03,
        ticks=_TICKS,
    )
    bar.ax.set_xticklabels([f'{100 * x:g}' for x in _TICKS])
    bar.ax.tick_params(labelsize=7, colors=INK, length=2)
    bar.outline.set_visible(False)
    bar.set_label(f'{subject} (%)', fontsize=8, color=INK)
    _style.head(
        figure,
        'Rules and thresholds: ',
        sweep.label,
        about=sweep.about,
    )
  return figure


def _title(decision: Decision, both_ends: bool) -> str:
  """What the rows of a group have in common."""
  labels = {measure.name: measure.label for measure in measures.ALL_MEASURES}
  if decision.k is not None:
    return 'The marked decision by other top tokens'
  if decision.measure:
    name = labels.get(decision.measure, decision.measure)
    where = ' at the top' if both_ends else ''
    return _style.short(f'{name.capitalize()}{where} alone', 40)
  words = ('no', 'one', 'two', 'three', 'four', 'five', 'six', 'seven')
  size = len(measures.MEASURES)
  every, most = words[size], words[size // 2 + 1]
  where = ' at either end' if both_ends else ''
  titles = {
      'any': f'Any of the {every} measures{where}',
      'majority': f'{most.capitalize()} of the {every} measures{where}',
      'all': f'All {every} measures{where}',
  }
  return titles.get(decision.rule) or _style.short(decision.rule, 40)


def _row_name(decision: Decision) -> str:
  """'null 0.01': the kind of threshold and its level."""
  if decision.k is not None:
    return f'{decision.k} tokens'
  level = '' if decision.level is None else f' {decision.level:g}'
  return _style.short(decision.kind + level, 24)


def _annotate(axes: Axes, cells: Iterable[_Cell], size: float) -> None:
  """Draws each character at all its places at once: texts take a second."""
  places: dict[tuple[str, float, bool], list[tuple[float, float]]] = {}
  for x, y, text, light in cells:
    left = -_style.text_width(text, size) / 2
    for character in text:
      places.setdefault((character, left, light), []).append((x, y))
      left += _style.text_width(character, size)
  font = FontProperties(family=['DejaVu Sans'], size=size)
  for (character, left, light), offsets in places.items():
    glyph = TextPath((left, -0.365 * size), character, prop=font)
    axes.add_collection(
        PathCollection(
            [Path(glyph.vertices / 72, glyph.codes)],
            offsets=offsets,
            offset_transform=axes.transData,
            transform=axes.figure.dpi_scale_trans,
            facecolor=INK if light else 'white',
            linewidth=0,
            gid=f'character {character}',
        ),
        autolim=False,
    ).set_in_layout(False)


def _cells(
    corner: tuple[float, float], step: float, values: np.ndarray, digits: int
) -> Iterator[_Cell]:
  """Per cents, dark on light shades, of cells `step` wide from a corner."""
  shades = matplotlib.colormaps[_SHADES](np.sqrt(np.clip(values, 0, 1)))
  light = shades[..., :3] @ [0.2126, 0.7152, 0.0722] > 0.5
  x, y = corner
  for i, j in zip(*np.nonzero(~np.isnan(values)), strict=True):
    text = f'{100 * values[i, j]:.{digits}f}'
    yield x + step * (j + 0.5), y + i + 0.53, text, bool(light[i, j])


OUTPUT_SWEEP = Figure(
    experiment='output_prediction',
    files=by_readout('sweep'),
    read=lambda folder, readout: sweep(folder, readout=readout),
    draw=sweep_figure,
)
ATTENTION_SWEEP = Figure(
    experiment='attention_participation',
    files=lambda summary: {f'sweep_{x}': x for x in measures.CONTEXTS},
    read=participation_sweep,
    draw=lambda read: sweep_figure(read, subject=PARTICIPATING),
)
