"""The heads of a run of experiment 2: a cell for each layer and head."""

import dataclasses
import math
import os

from matplotlib import cm
from matplotlib import colors
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure as MplFigure
import numpy as np

from ooc_jax.report import _style
from ooc_jax.report._reading import Figure
from ooc_jax.report._reading import reading
from ooc_jax.report._style import CONTEXT_NAMES
from ooc_jax.report._style import INK
from ooc_jax.results import tables

_NUMBERS = {
    'selectivity': 'selectivity',
    'diagonal_mass': 'weight on itself',
    'copy_score': 'OV copy score',
    'preferred_offset': 'preferred offset (tokens)',
}
_OFFSETS = (0, 1, 3, 10, 30, 100, 300, 1000, 3000)
_MAP = 'viridis'


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class HeadMap:
  """A number of every head, for some names.

  Attributes:
    label: The name of the run.
    layers: L layer numbers, rising.
    shares: Context -> share of features in each head, [L, N]; NaN is a gap.
    numbers: Another name -> a number of each head, [L, N].
  """

  label: str
  layers: tuple[int, ...]
  shares: dict[str, np.ndarray]
  numbers: dict[str, np.ndarray]

  def __post_init__(self):
    grids = {**self.shares, **self.numbers}
    shapes = {grid.shape for grid in grids.values()}
    if len(shapes) != 1 or next(iter(shapes))[0] != len(self.layers):
      raise ValueError(
          f'Bad head map: {len(self.layers)} layers and grids {shapes}.'
      )


def head_map(
    folder: str | os.PathLike[str], label: str | None = None
) -> HeadMap:
  """Reads the heads of a run of experiment 2; the rest as `depth_curve`."""
  with reading(folder, label=label) as run:
    table = run.folder.read_table(tables.HEADS_NAME)
    layer, head = (tables.HEADS.array(table, x) for x in ('layer', 'head'))
    layers = np.unique(layer)

    def grid(name: str) -> np.ndarray:
      found = np.full((layers.size, head.max() + 1), math.nan)
      places = np.searchsorted(layers, layer), head
      found[places] = tables.HEADS.array(table, name)
      return found

    return HeadMap(
        label=run.label,
        layers=tuple(layers.tolist()),
        shares={x: grid(tables.share_name(x)) for x in CONTEXT_NAMES},
        numbers={x: grid(x) for x in _NUMBERS},
    )


def heads_figure(heads: HeadMap) -> MplFigure:
  """Draws every head: a row a layer, a column a head.

  Four panels give the share of features that participate in the head, in per
  cent on one scale; four more its selectivity (largest weight times F, on a
  logarithmic scale), the weight of a query on its own key, the OV copy score
  and the preferred offset (logarithmic from 1). Empty cells are heads without
  that number.
  """
  rows, columns = next(iter(heads.shares.values())).shape
  height = min(max(0.1 * rows, 1.1), 3.6)
  with _style.new_figure(_style.WIDTH, 2 * height + 1.6) as figure:
    axes = figure.subplots(2, 4)
    last = max(
        (float(np.nanmax(x)) for x in heads.shares.values() if x.size),
        default=0.0,
    )
    shared = colors.Normalize(0, 100 * last if last > 0 else 1.0)
    panels = [
        (CONTEXT_NAMES[name], 100 * grid, shared)
        for name, grid in heads.shares.items()
    ]
    panels += [
        (_NUMBERS[name], grid, _norm(name, grid))
        for name, grid in heads.numbers.items()
    ]
    for place, (title, grid, norm) in zip(axes.flat, panels, strict=True):
      place.pcolormesh(
          np.arange(columns + 1) - 0.5,
          np.arange(rows + 1) - 0.5,
          np.ma.masked_invalid(grid),
          norm=norm,
          cmap=_MAP,
          linewidth=0,
      )
      place.set_title(title, fontsize=7, color=INK)
      place.set_ylim(rows - 0.5, -0.5)
      _ticks(place, heads.layers, columns)
      if norm is not shared:
        _bar(figure, norm, place)
    bar = _bar(figure, shared, list(axes[0]))
    bar.set_label('Participating (%)', fontsize=7, color=INK)
    for place in axes[:, 0]:
      place.set_ylabel('Layer', fontsize=8, color=INK)
    for place in axes[1]:
      place.set_xlabel('Head', fontsize=8, color=INK)
    _style.head(figure, 'Heads: ', heads.label)
  return figure


def _norm(name: str, grid: np.ndarray) -> colors.Normalize:
  """Selectivity differs by powers; a scale needs two different ends."""
  known = grid[np.isfinite(grid)]
  if name == 'selectivity' and known.size and known.min() > 0:
    low, high = float(known.min()), float(known.max())
    return colors.LogNorm(low, high if high > low else 2 * low)
  high = float(known.max()) if known.size else 1.0
  if name == 'preferred_offset' and high >= 1:
    return colors.SymLogNorm(1.0, vmin=0, vmax=high)
  return colors.Normalize(0, high if high > 0 else 1.0)


def _ticks(axes: Axes, layers: tuple[int, ...], columns: int) -> None:
  shown = range(0, len(layers), math.ceil(len(layers) / 10))
  axes.set_yticks(list(shown), [str(layers[i]) for i in shown])
  axes.xaxis.set_major_locator(
      ticker.MaxNLocator(nbins=5, integer=True, min_n_ticks=1)
  )
  axes.set_xlim(-0.5, columns - 0.5)
  _style.dress(axes, ticks=6.5, length=2)


def _bar(figure: MplFigure, norm: colors.Normalize, where):
  bar = figure.colorbar(
      cm.ScalarMappable(norm, _MAP), ax=where, fraction=0.05, pad=0.02
  )
  ticks: list[float] = []
  if isinstance(norm, colors.LogNorm):
    # A few plain numbers: powers of ten may all lie outside.
    ticks = np.asarray(norm.inverse(np.linspace(0, 1, 4)), float).tolist()
  elif isinstance(norm, colors.SymLogNorm):
    ticks = [x for x in _OFFSETS if x <= (norm.vmax or 0)]
  if ticks:
    bar.set_ticks(ticks, labels=[f'{x:.3g}' for x in ticks])
    bar.minorticks_off()
  bar.ax.tick_params(labelsize=6, colors=INK, length=2)
  bar.outline.set_visible(False)
  return bar


HEADS = Figure(
    experiment='attention_participation',
    files=lambda summary: {'heads': None},
    read=lambda folder, _: head_map(folder),
    draw=heads_figure,
)
