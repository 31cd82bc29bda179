"""The heads of a run of experiment 2: a cell for each layer and head."""

from collections.abc import Iterable, Mapping
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

# Of the names of a panel, the first that the run has.
_PANELS: tuple[Mapping[str, str], ...] = (
    {
        'relative_selectivity': 'selectivity ÷ chance',
        'selectivity': 'selectivity',
    },
    {'diagonal_mass': 'weight on itself'},
    {'copy_score': 'OV copy score'},
    {
        'bias_offset': 'preferred distance (mean)',
        'preferred_offset': 'preferred distance (pairs)',
    },
)
_OFFSETS = (0, 1, 3, 10, 30, 100, 300, 1000, 3000)
_MAP, _BOTH_WAYS = 'viridis', 'RdBu_r'


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class HeadMap:
  """A number of every head, for some names.

  Attributes:
    label: The name of the run.
    about: What was read and how it was decided.
    layers: L layer numbers, rising.
    shares: Context -> share of features in each head, [L, N]; NaN is a gap.
    numbers: Another name -> a number of each head, [L, N].
    even: 1/F, a weight where all keys are alike; NaN if not known.
  """

  label: str
  about: str = ''
  layers: tuple[int, ...]
  shares: dict[str, np.ndarray]
  numbers: dict[str, np.ndarray]
  even: float = math.nan

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

    there = [
        next(x for x in names if x in table.column_names) for names in _PANELS
    ]
    return HeadMap(
        label=run.label,
        about=run.about,
        layers=tuple(layers.tolist()),
        shares={x: grid(tables.share_name(x)) for x in CONTEXT_NAMES},
        numbers={x: grid(x) for x in there},
        even=1 / float(np.median(tables.HEADS.array(table, 'features'))),
    )


def heads_figure(heads: HeadMap) -> MplFigure:
  """Draws every head: a row a layer, a column a head.

  Four panels give the share of features that participate in the head, in per
  cent on one scale; four more its selectivity (by that of as many random
  directions, white at 1, where the run has these), the weight of a query on its
  own key with a mark where all keys are alike, the OV copy score, and the
  distance that it prefers: of the mean of the stream where that is known
  (logarithmic from 1). Empty cells are heads without that number.
  """
  rows, columns = next(iter(heads.shares.values())).shape
  height = min(max(0.1 * rows, 1.1), 3.6)
  with _style.new_figure(_style.WIDTH, 2 * height + 1.6) as figure:
    axes = figure.subplots(2, 4, sharex=True, sharey=True)
    last = max(
        (float(np.nanmax(x)) for x in heads.shares.values() if x.size),
        default=0.0,
    )
    shared = colors.Normalize(0, 100 * last if last > 0 else 1.0)
    panels = [
        (CONTEXT_NAMES[name], 100 * grid, shared, _MAP)
        for name, grid in heads.shares.items()
    ]
    for name, grid in heads.numbers.items():
      title = next(x[name] for x in _PANELS if name in x)
      scale = _BOTH_WAYS if name == 'relative_selectivity' else _MAP
      panels.append((title, grid, _norm(name, grid, heads.even), scale))
    for place, (title, grid, norm, scale) in zip(
        axes.flat, panels, strict=True
    ):
      place.pcolormesh(
          np.arange(columns + 1) - 0.5,
          np.arange(rows + 1) - 0.5,
          np.ma.masked_invalid(grid),
          norm=norm,
          cmap=scale,
          linewidth=0,
      )
      place.set_title(title, fontsize=7, color=INK)
      place.set_ylim(rows - 0.5, -0.5)
      _ticks(place, heads.layers, columns)
      if norm is not shared:
        bar = _bar(figure, norm, scale, place)
        if title == 'weight on itself' and math.isfinite(heads.even):
          bar.ax.axhline(heads.even, color='white', linewidth=1.2)
          far = _far(bar.get_ticks(), heads.even, norm)
          names = [f'{x:.2g}' for x in far]
          bar.set_ticks([*far, heads.even], labels=[*names, '1/F'])
    bar = _bar(figure, shared, _MAP, list(axes[0]))
    bar.set_label('Participating (%)', fontsize=7, color=INK)
    for place in axes[:, 0]:
      place.set_ylabel('Layer', fontsize=8, color=INK)
    for place in axes[1]:
      place.set_xlabel('Head', fontsize=8, color=INK)
    _style.head(figure, 'Heads: ', _style.joined(heads.label, heads.about))
  return figure


def _far(
    ticks: Iterable[float], level: float, norm: colors.Normalize
) -> list[float]:
  """Those on the scale that do not touch the mark of `level`."""
  low, high = float(norm.vmin or 0), float(norm.vmax or 0)
  room = 0.12 * (high - low)
  return [x for x in ticks if low <= x <= high and abs(x - level) > room]


def _norm(name: str, grid: np.ndarray, even: float) -> colors.Normalize:
  """Selectivity differs by powers; a scale needs two different ends."""
  known = grid[np.isfinite(grid)]
  if 'selectivity' in name and known.size and known.min() > 0:
    low, high = float(known.min()), float(known.max())
    if name == 'relative_selectivity':
      high = max(high, 1 / low, 1.1)
      return colors.LogNorm(1 / high, high)
    return colors.LogNorm(low, high if high > low else 2 * low)
  high = float(known.max()) if known.size else 1.0
  if name.endswith('_offset') and high >= 1:
    return colors.SymLogNorm(1.0, vmin=0, vmax=high)
  if name == 'diagonal_mass' and math.isfinite(even):
    high = max(high, 1.2 * even)
  return colors.Normalize(0, high if high > 0 else 1.0)


def _ticks(axes: Axes, layers: tuple[int, ...], columns: int) -> None:
  shown = range(0, len(layers), math.ceil(len(layers) / 10))
  axes.set_yticks(list(shown), [str(layers[i]) for i in shown])
  axes.xaxis.set_major_locator(
      ticker.MaxNLocator(nbins=5, integer=True, min_n_ticks=1)
  )
  axes.set_xlim(-0.5, columns - 0.5)
  _style.dress(axes, ticks=6.5, length=2)


def _bar(figure: MplFigure, norm: colors.Normalize, scale: str, where):
  bar = figure.colorbar(
      cm.ScalarMappable(norm, scale), ax=where, fraction=0.05, pad=0.02
  )
  ticks: list[float] = []
  if isinstance(norm, colors.LogNorm):
    ticks = _plain_ticks(float(norm.vmin or 1), float(norm.vmax or 1))
  elif isinstance(norm, colors.SymLogNorm):
    ticks = [x for x in _OFFSETS if x <= (norm.vmax or 0)]
  if ticks:
    bar.set_ticks(
        ticks, labels=[f'{x:.2g}' if x < 1 else f'{x:.4g}' for x in ticks]
    )
    bar.minorticks_off()
  bar.ax.tick_params(labelsize=6, colors=INK, length=2)
  bar.outline.set_visible(False)
  return bar


def _plain_ticks(low: float, high: float) -> list[float]:
  """A few round numbers of a logarithmic scale, 1 among them if it is on it."""
  for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [x * 10.0**power for power in powers for x in steps]
    if low < 1 < high:  # As far below 1 as above.
      above = [x for x in ticks if x > 1]
      ticks = [*(1 / x for x in above[::-1]), 1.0, *above]
    ticks = [x for x in ticks if low <= x <= high]
    if len(ticks) >= 3:
      return ticks
  return [low, high]


HEADS = Figure(
    experiment='attention_participation',
    files=lambda summary: {'heads': None},
    read=lambda folder, _: head_map(folder),
    draw=heads_figure,
)
