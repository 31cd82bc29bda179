"""The figure of the measures: one ridge a layer, over that of the null."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patches import Rectangle
import numpy as np

from ooc_jax.report import _style
from ooc_jax.report._distributions import MeasureDistributions
from ooc_jax.report._reading import MEASURES

_TITLES = {
    'levenshtein': 'Edit distance',
    'cosine': 'Cosine',
    'entropy': 'Entropy (nats)',
}
# On which side of its threshold a feature is coherent.
_LOW = {'levenshtein': True, 'cosine': False, 'entropy': True}
_BINS = 60
_HEIGHT = 1.5  # Rows that the highest ridge covers.
_LIGHT, _DARK = '#B9D5E8', '#0072B2'
_LABELS = 16  # More would touch each other.


def distribution_figure(distributions: MeasureDistributions) -> Figure:
  """Draws the distribution of each measure in each layer.

  A ridge is a histogram of all values. Its height is the square root of the
  share in a bin, on one scale in a panel, so that the tail past the threshold,
  1% of the random directions or so, can be seen (a rootogram, after Tukey).

  Args:
    distributions: Of one run.

  Returns:
    A figure of 7.2 inches by what the number of layers asks for.
  """
  layers = distributions.layers
  height = min(max(1.5 + 0.2 * (len(layers) + _HEIGHT), 2.6), 9.0)
  with _style.new_figure(7.2, height) as figure:
    panels = figure.subplots(1, len(MEASURES), sharey=True)
    for axes, measure in zip(panels, MEASURES, strict=True):
      _draw(axes, distributions, measure)
    step = -(-len(layers) // _LABELS)
    panels[0].set_yticks(
        range(0, len(layers), step), [str(x.layer) for x in layers[::step]]
    )
    panels[0].set_ylabel('Layer', fontsize=9, color=_style.INK)
    panels[0].set_ylim(-0.3, len(layers) - 1 + _HEIGHT + 0.1)
    _legend(figure, any(len(x.null['cosine']) for x in layers))
    title = 'The measures by layer: '
    room = 365 - _style.text_width(title, 9.5)  # Points; the rest is the note.
    figure.suptitle(
        title + _style.fitted(distributions.label, room, 9.5),
        fontsize=9.5,
        color=_style.INK,
        x=0.01,
        ha='left',
    )
    figure.text(
        0.99,
        1 - 0.06 / height,
        'height: root of the share in a bin',
        fontsize=7,
        color=_style.INK,
        ha='right',
        va='top',
        in_layout=False,
    )
  return figure


def bin_edges(
    values: Sequence[np.ndarray], thresholds: Sequence[float]
) -> np.ndarray:
  """Edges of the bins of a panel, in the units of the measure.

  Args:
    values: What is drawn in it.
    thresholds: Each within the edges, where it is finite.

  Returns:
    Rising edges, one more than bins.
  """
  pooled = np.concatenate(values)
  pooled = pooled[np.isfinite(pooled)]
  inside = [x for x in thresholds if np.isfinite(x)]
  if pooled.size:
    inside += np.quantile(pooled, [0.0, 1.0]).tolist()
  low, high = min(inside, default=0.0), max(inside, default=1.0)
  margin = 0.02 * (high - low) or 0.5  # One value has no width.
  return np.linspace(low - margin, high + margin, _BINS + 1)


def heights(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
  """Square root of the share of `values` in each bin; 0 where there is none."""
  values = values[np.isfinite(values)]
  counts, _ = np.histogram(values, edges)
  return np.sqrt(counts / max(values.size, 1))


def _draw(
    axes: Axes, distributions: MeasureDistributions, measure: str
) -> None:
  layers = distributions.layers
  features = [x.features[measure] for x in layers]
  null = [x.null[measure] for x in layers]
  thresholds = [x.thresholds[measure] for x in layers]
  edges = bin_edges([*features, *null], thresholds)
  ridges = [
      (heights(f, edges), heights(n, edges))
      for f, n in zip(features, null, strict=True)
  ]
  scale = _HEIGHT / (max(float(np.max(pair)) for pair in ridges) or 1.0)
  for y, ((mine, chance), threshold) in enumerate(
      zip(ridges, thresholds, strict=True)
  ):
    layer = len(layers) - y  # Lower ridges lie in front.
    mine, chance = y + scale * mine, y + scale * chance
    axes.stairs(
        mine, edges, baseline=y, fill=True, color=_LIGHT, zorder=layer
    ).set_gid('features')
    if np.isfinite(threshold):
      _draw_tail(axes, mine, edges, y, threshold, _LOW[measure], layer)
    axes.stairs(
        mine, edges, baseline=y, color=_DARK, linewidth=0.6, zorder=layer
    )
    if len(null[y]):
      axes.stairs(
          chance,
          edges,
          baseline=y,
          color=_style.INK,
          linewidth=0.7,
          linestyle=(0, (2.5, 1)),
          zorder=layer + 0.5,
      ).set_gid('null')
  low = _LOW[measure]
  axes.set_xlim(edges[0], edges[-1])
  axes.set_xlabel(
      f'{"← coherent" if low else "coherent →"}',
      fontsize=7.5,
      color=_style.INK,
      loc='left' if low else 'right',
  )
  axes.set_title(_TITLES[measure], fontsize=8.5, color=_style.INK)
  _style.dress(axes)
  axes.tick_params(axis='y', length=0)
  axes.spines['left'].set_visible(False)


def _draw_tail(
    axes: Axes,
    ridge: np.ndarray,
    edges: np.ndarray,
    y: int,
    threshold: float,
    low: bool,
    zorder: int,
) -> None:
  """What is past the threshold, dark; and the threshold."""
  tail = axes.stairs(
      ridge, edges, baseline=y, fill=True, color=_DARK, zorder=zorder
  )
  x0, x1 = (edges[0], threshold) if low else (threshold, edges[-1])
  tail.set_clip_path(
      Rectangle((x0, y), x1 - x0, 2 * _HEIGHT, transform=axes.transData)
  )
  tail.set_gid('tail')
  axes.vlines(
      threshold, y, y + 1, color=_style.INK, linewidth=0.9, zorder=zorder + 0.6
  ).set_gid('threshold')


def _legend(figure: Figure, has_null: bool) -> None:
  keys = {
      'features': Patch(facecolor=_LIGHT, edgecolor=_DARK, linewidth=0.6),
      'features past the threshold': Patch(facecolor=_DARK),
      'threshold': Line2D([], [], color=_style.INK, linewidth=0.9),
  }
  if has_null:
    keys['random directions'] = Line2D(
        [], [], color=_style.INK, linewidth=0.7, linestyle=(0, (2.5, 1))
    )
  figure.legend(
      keys.values(),
      keys.keys(),
      loc='outside lower center',
      ncols=len(keys),
      frameon=False,
      fontsize=7.5,
      labelcolor=_style.INK,
      handlelength=2.0,
  )
