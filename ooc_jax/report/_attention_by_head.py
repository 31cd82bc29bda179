"""How well features predict attention: every head, layer by layer."""

from collections.abc import Mapping
import dataclasses
import os
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure as MplFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
import numpy as np

from ooc_jax.report import _style
from ooc_jax.report._reading import Figure
from ooc_jax.report._reading import reading
from ooc_jax.results import tables

# Columns of the figure, and their predictors without and with rotation.
_NAMES = {
    'strongest': 'strongest features',
    'sum': 'sum of the features',
    'biased_sum': 'sum and decoder bias',
    'tokens': 'tokens',
}
_TURNED = '_turned'
_DISTANCE = 'distance'
_ROWS = {'': 'Without rotation', _TURNED: 'At the true distance'}
_SPREAD = 0.3  # Of the heads of a layer, about its number.
_OWN, _, _ = _style.look(0)
_OTHER, _, _DASH = _style.look(1)
_NULL = '#B8B8B8'


class PredictorCurve(NamedTuple):
  """A predictor over depth: means over the heads, and every head.

  Attributes:
    mean: [L, 3] and the ends of its interval.
    null: [L, 3] mean over permutations, and the quantiles about it.
    heads: [L, N].
    over: [L, N] whether the interval of a head is above its null.
  """

  mean: np.ndarray
  null: np.ndarray
  heads: np.ndarray
  over: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class AttentionByHead:
  """Of a run of the validation.

  Attributes:
    label: The name of the run.
    layers: L layers of attention, rising.
    num_layers: Of the model.
    predictors: Name -> its curve.
  """

  label: str
  layers: tuple[int, ...]
  num_layers: int
  predictors: Mapping[str, PredictorCurve]


def attention_by_head(
    folder: str | os.PathLike[str], label: str | None = None
) -> AttentionByHead:
  """Reads a run of the validation; the rest as `depth_curve`."""
  with reading(folder, label=label) as run:
    found = sorted(run.summary['attention'], key=lambda row: row['layer'])
    rows = [
        run.folder.read_table(
            tables.validation_heads_name(row['dictionary_layer'])
        )
        for row in found
    ]
    predictors = {
        name: _curve(rows, name)
        for name in (*_NAMES, *(f'{x}{_TURNED}' for x in _NAMES), _DISTANCE)
    }
    return AttentionByHead(
        label=_style.joined(run.label, run.about),
        layers=tuple(row['layer'] for row in found),
        num_layers=run.summary['num_layers'],
        predictors=predictors,
    )


def _curve(rows: list[Any], predictor: str) -> PredictorCurve:
  columns = ('spearman', 'low', 'high', 'null', 'null_low', 'null_high')
  grids = []
  for table in rows:
    own = np.asarray(table['predictor']) == predictor
    order = np.argsort(np.asarray(table['head'])[own], kind='stable')
    # The mean of the heads is the row of head -1, so it comes first.
    values = [tables.VALIDATION_HEADS.array(table, x)[own] for x in columns]
    grids.append(np.stack(values, axis=1)[order])
  grid = np.stack(grids)
  return PredictorCurve(
      mean=grid[:, 0, :3],
      null=grid[:, 0, 3:],
      heads=grid[:, 1:, 0],
      over=grid[:, 1:, 1] > grid[:, 1:, 5],
  )


def attention_by_head_figure(found: AttentionByHead) -> MplFigure:
  """Draws Spearman's correlation with the true scores over depth.

  A column for each kind of direction, a row without and one with rotation. A
  dot is a head, filled where the interval of the head is above 97.5% of its
  null; the line is the mean of the heads with its interval, the grey line and
  band the same heads with the features permuted, the dashed one the distance
  alone.
  """
  with _style.new_figure(_style.WIDTH, 4.6) as figure:
    axes = figure.subplots(2, len(_NAMES), sharex=True, sharey=True)
    for row, (end, about) in enumerate(_ROWS.items()):
      for place, (name, title) in zip(axes[row], _NAMES.items(), strict=True):
        _panel(place, found, found.predictors[name + end])
        _style.dress(place, ticks=7, grid=0.6)
        if not row:
          place.set_title(title, fontsize=8, color=_style.INK)
      axes[row, 0].set_ylabel(
          f'{about}\nSpearman correlation', fontsize=8, color=_style.INK
      )
    for place in axes[1]:
      place.set_xlabel('Layer', fontsize=8, color=_style.INK)
      _style.layer_axis(place, found.num_layers, 5)
    _style.legend(
        figure,
        [
            Line2D([], [], color=_OWN),
            Line2D([], [], **_style.dot(_OWN)),
            Line2D([], [], **_style.dot(_OWN, filled=False)),
            (Patch(color=_NULL, alpha=0.5), Line2D([], [], color=_NULL)),
            Line2D([], [], color=_OTHER, linestyle=_DASH),
        ],
        [
            'mean of the heads',
            'head over its null',
            'head not over it',
            'features permuted',
            'distance alone',
        ],
    )
    _style.head(
        figure, 'Attention predicted from features, head by head: ', found.label
    )
  return figure


def _panel(axes: Axes, found: AttentionByHead, curve: PredictorCurve) -> None:
  x = np.asarray(found.layers, float)
  null, low, high = curve.null.T
  axes.fill_between(x, low, high, color=_NULL, alpha=0.5, linewidth=0)
  axes.plot(x, null, color=_NULL)
  distance = found.predictors[_DISTANCE].mean[:, 0]
  axes.plot(x, distance, color=_OTHER, linestyle=_DASH, linewidth=1)
  N = curve.heads.shape[1]
  shift = np.linspace(-_SPREAD, _SPREAD, N) if N > 1 else np.zeros(1)
  places = np.broadcast_to(x[:, None] + shift[None], curve.heads.shape)
  for filled in (False, True):
    own = curve.over == filled
    axes.plot(places[own], curve.heads[own], **_style.dot(_OWN, filled=filled))
  mean, low, high = curve.mean.T
  axes.errorbar(
      x, mean, [mean - low, high - mean], color=_OWN, linewidth=1.2, capsize=0
  )
  axes.axhline(0, color=_style.INK, linewidth=0.5, zorder=0)


ATTENTION_BY_HEAD = Figure(
    experiment='validation',
    files=lambda summary: (
        {'attention_by_head': None} if summary.get('attention') else {}
    ),
    read=lambda folder, _: attention_by_head(folder),
    draw=attention_by_head_figure,
)
