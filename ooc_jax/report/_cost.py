"""What reading features costs, by activations and by weights."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure as MplFigure
import numpy as np

from ooc_jax.report import _style
from ooc_jax.report._style import INK

_PARTS = 5  # Looks that fit in one legend.


class CostRow(NamedTuple):
  """FLOPs of one model.

  Attributes:
    name: Of the model.
    flops: What is done -> FLOPs, over 0; the same names in every row.
  """

  name: str
  flops: Mapping[str, float]


def cost_figure(
    rows: Sequence[CostRow],
    *,
    flops_per_second: float,
    about: str = '',
) -> MplFigure:
  """Draws a line for each model, with a mark for what each part costs.

  The lower axis is FLOPs and the upper one seconds, both logarithmic.

  Args:
    rows: From the top.
    flops_per_second: Of the machine whose seconds are given.
    about: What the costs are of, for the title.
  """
  parts = list(rows[0].flops)
  with _style.new_figure(_style.WIDTH, 0.3 * len(rows) + 1.7) as figure:
    axes = figure.subplots()
    for y, row in enumerate(rows):
      values = list(row.flops.values())
      axes.plot([min(values), max(values)], [y, y], color=_style.GRID, zorder=1)
    marks = []
    for i, part in enumerate(parts):
      color, marker, _ = _style.look(i % _PARTS)
      marks += axes.plot(
          [row.flops[part] for row in rows],
          range(len(rows)),
          **(_style.dot(color, marker) | {'markersize': 5.5}),
      )
    axes.set_xscale('log')
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(
        range(len(rows)), [_style.short(row.name, _style.LABEL) for row in rows]
    )
    axes.grid(axis='x', color=_style.GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    _style.dress(axes, x='FLOPs')
    _seconds(axes, flops_per_second)
    _style.legend(figure, marks, parts)
    _style.head(figure, 'What reading features costs', about)
  return figure


def _seconds(axes: Axes, flops_per_second: float) -> None:
  upper = axes.secondary_xaxis(
      'top',
      functions=(
          lambda x: np.divide(x, flops_per_second),
          lambda x: np.multiply(x, flops_per_second),
      ),
  )
  upper.set_xlabel(
      f'Seconds at {flops_per_second / 1e12:g} TFLOP/s', fontsize=8, color=INK
  )
  upper.xaxis.set_major_locator(ticker.LogLocator(numticks=12))
  upper.xaxis.set_major_formatter(
      ticker.FuncFormatter(lambda x, _: f'{x:,.10g}')
  )
  upper.minorticks_off()
  upper.tick_params(labelsize=8, color=INK, labelcolor=INK, length=3)
  upper.spines['top'].set_color(INK)
