"""The coherence measures of a run: one ridge a layer, over that of the null."""

from collections.abc import Mapping, Sequence
import dataclasses
import os
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure as MplFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patches import Rectangle
from matplotlib.patches import StepPatch
import numpy as np
import pyarrow as pa

from ooc_jax import measures
from ooc_jax.report import _style
from ooc_jax.report._reading import OUTPUT
from ooc_jax.report._reading import Figure
from ooc_jax.report._reading import by_readout
from ooc_jax.report._reading import reading
from ooc_jax.report._style import INK
from ooc_jax.report._style import number
from ooc_jax.results import StoredTable
from ooc_jax.results import tables

_BINS = 60
_HEIGHT = 1.5  # Rows that the highest ridge covers.
_LIGHT, _DARK = '#B9D5E8', '#0072B2'
_LABELS = 16  # More would touch each other.
_NULL: dict[str, Any] = {
    'color': INK,
    'linewidth': 0.7,
    'linestyle': (0, (2.5, 1)),
}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class LayerMeasures:
  """One layer.

  Attributes:
    layer: Its number.
    features: Measure -> its value for each of the F features, [F].
    null: Measure -> its value for each random direction, [M]; empty where the
      run had no null.
    thresholds: Measure -> what separates coherent from not; NaN where the
      measure does not decide.
  """

  layer: int
  features: Mapping[str, np.ndarray]
  null: Mapping[str, np.ndarray]
  thresholds: Mapping[str, float]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class MeasureDistributions:
  """One run: its name, how it decided, its layers, rising, its measures."""

  label: str
  about: str = ''
  layers: tuple[LayerMeasures, ...]
  kinds: tuple[measures.Measure, ...] = measures.MEASURES


def measure_distributions(
    folder: str | os.PathLike[str],
    label: str | None = None,
    *,
    readout: str = OUTPUT,
) -> MeasureDistributions:
  """Reads the measures of a run of experiment 1; the rest as `depth_curve`.

  Rows of layer -1 of `null.parquet` stand for every layer. Thresholds are those
  of the row of the layer in the summary, or of the run.
  """
  with reading(folder, readout, label) as run:
    names = [measure.name for measure in run.measures]
    name = run.table_name('null')
    null = run.folder.read_table(name) if run.folder.has_table(name) else None
    columns = [run.column(measure) for measure in names]

    def of_layer(row: Mapping[str, Any]) -> LayerMeasures:
      layer = int(row['layer'])
      given = row.get('thresholds') or run.summary['thresholds']
      table = run.folder.stored_layer(layer)
      return LayerMeasures(
          layer=layer,
          features=dict(zip(names, _arrays(table, columns), strict=True)),
          null=dict(zip(names, _null_of(null, layer, names), strict=True)),
          thresholds={name: number(given.get(name)) for name in names},
      )

    layers = tuple(map(of_layer, run.rows))
    if not layers:
      raise ValueError('no layer')
    return MeasureDistributions(
        label=run.label, about=run.about, layers=layers, kinds=run.measures
    )


def _arrays(
    table: pa.Table | StoredTable, columns: Sequence[str]
) -> list[np.ndarray]:
  return [table[name].to_numpy().astype(np.float64) for name in columns]


def _null_of(
    table: pa.Table | None, layer: int, names: Sequence[str]
) -> list[np.ndarray]:
  if table is None:
    return [np.empty(0) for _ in names]
  keep = np.isin(table['layer'].to_numpy(), (layer, tables.ALL_LAYERS))
  return [values[keep] for values in _arrays(table, names)]


def distribution_figure(distributions: MeasureDistributions) -> MplFigure:
  """Draws the distribution of each measure in each layer.

  A ridge is a histogram of all values. Its height is the square root of the
  share in a bin, on one scale in a panel, so that the tail past the threshold,
  1% of the random directions or so, can be seen (a rootogram, after Tukey).
  The figure is as high as the number of layers asks for, with a row of panels
  for each end of the vocabulary.
  """
  layers = distributions.layers
  ends = len({measure.end for measure in distributions.kinds})
  height = min(max(1.5 + 0.2 * (len(layers) + _HEIGHT) * ends, 2.6 * ends), 9.0)
  with _style.new_figure(_style.WIDTH, height) as figure:
    rows = figure.subplots(
        ends, len(distributions.kinds) // ends, sharey=True, squeeze=False
    )
    for axes, measure in zip(rows.flat, distributions.kinds, strict=True):
      _draw(axes, layers, measure)
    step = -(-len(layers) // _LABELS)
    for first in rows[:, 0]:
      first.set_yticks(
          range(0, len(layers), step), [str(x.layer) for x in layers[::step]]
      )
      first.set_ylabel(
          'Layer; height: root of the share', fontsize=7.5, color=INK
      )
      first.set_ylim(-0.3, len(layers) - 1 + _HEIGHT + 0.1)
    keys: dict[str, Any] = {
        'features': Patch(facecolor=_LIGHT, edgecolor=_DARK, linewidth=0.6),
        'features past the threshold': Patch(facecolor=_DARK),
        'threshold': Line2D([], [], color=INK, linewidth=0.9),
    }
    if any(x.size for layer in layers for x in layer.null.values()):
      keys['random directions'] = Line2D([], [], **_NULL)
    _style.legend(figure, keys.values(), list(keys), size=7.5, handlelength=2.0)
    _style.head(
        figure,
        'The measures by layer: ',
        distributions.label,
        about=distributions.about,
    )
  return figure


def _edges(
    values: Sequence[np.ndarray], thresholds: Sequence[float]
) -> np.ndarray:
  """Edges of the bins of a panel; every value and threshold is within."""
  inside = np.concatenate([*values, thresholds])
  inside = inside[np.isfinite(inside)]
  low, high = (inside.min(), inside.max()) if inside.size else (0.0, 1.0)
  margin = 0.02 * (high - low) or 0.5  # One value has no width.
  return np.linspace(low - margin, high + margin, _BINS + 1)


def _heights(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
  """Square root of the share of `values` in each bin; 0 where there is none."""
  values = values[np.isfinite(values)]
  counts, _ = np.histogram(values, edges)
  return np.sqrt(counts / max(values.size, 1))


def _draw(
    axes: Axes, layers: Sequence[LayerMeasures], measure: measures.Measure
) -> None:
  name, low = measure.name, measure.low_is_coherent
  features = [x.features[name] for x in layers]
  null = [x.null[name] for x in layers]
  thresholds = [x.thresholds[name] for x in layers]
  edges = _edges([*features, *null], thresholds)
  ridges = [
      (_heights(f, edges), _heights(n, edges))
      for f, n in zip(features, null, strict=True)
  ]
  scale = _HEIGHT / (max(float(np.max(pair)) for pair in ridges) or 1.0)
  for y, ((mine, chance), threshold) in enumerate(
      zip(ridges, thresholds, strict=True)
  ):
    place: dict[str, Any] = {
        'edges': edges,
        'baseline': y,
        'zorder': len(layers) - y,
    }
    mine, chance = y + scale * mine, y + scale * chance
    _stairs(axes, mine, fill=True, color=_LIGHT, gid='features', **place)
    if np.isfinite(threshold):
      _draw_tail(axes, mine, threshold, low, place)
    _stairs(axes, mine, color=_DARK, linewidth=0.6, **place)
    if len(null[y]):
      above = place | {'zorder': place['zorder'] + 0.5}
      _stairs(axes, chance, gid='null', **_NULL, **above)
  axes.set_xlim(edges[0], edges[-1])
  axes.set_xlabel(
      f'← {measure.finds}' if low else f'{measure.finds} →',
      fontsize=7.5,
      color=INK,
      loc='left' if low else 'right',
  )
  axes.set_title(measure.title, fontsize=8.5, color=INK)
  _style.dress(axes)
  axes.tick_params(axis='y', length=0)
  axes.spines['left'].set_visible(False)


def _stairs(
    axes: Axes,
    values: np.ndarray,
    *,
    color: str,
    fill: bool = False,
    **look: Any,
) -> StepPatch:
  """`axes.stairs`, which looks for limits in every step; here they are set."""
  if fill:
    own: dict[str, Any] = {'linewidth': 0, 'facecolor': color, **look}
  else:
    own = {'edgecolor': color, **look}
  patch = StepPatch(values, fill=fill, **own)
  axes.add_artist(patch)
  return patch


def _draw_tail(
    axes: Axes,
    ridge: np.ndarray,
    threshold: float,
    low: bool,
    place: dict[str, Any],
) -> None:
  """What is past the threshold, dark; and the threshold."""
  edges, y = place['edges'], place['baseline']
  tail = _stairs(axes, ridge, fill=True, color=_DARK, gid='tail', **place)
  x0, x1 = (edges[0], threshold) if low else (threshold, edges[-1])
  tail.set_clip_path(
      Rectangle((x0, y), x1 - x0, 2 * _HEIGHT, transform=axes.transData)
  )
  axes.vlines(
      threshold,
      y,
      y + 1,
      color=INK,
      linewidth=0.9,
      zorder=place['zorder'] + 0.6,
      gid='threshold',
  )


MEASURES = Figure(
    experiment='output_prediction',
    files=by_readout('measures'),
    read=lambda folder, readout: measure_distributions(folder, readout=readout),
    draw=distribution_figure,
)
