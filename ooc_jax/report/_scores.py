"""Predictions from weights beside a forward pass and text, over depth."""

from collections.abc import Mapping, Sequence
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
from ooc_jax.report._reading import interval
from ooc_jax.report._reading import reading
from ooc_jax.results import tables

_TITLES = {
    'output_decoder': 'tokens that rise,\nlens of the decoder',
    'output_encoder': 'tokens that rise,\nlens of the encoder',
    'output_peaks': 'tokens that rise,\npeak tokens',
    'input_decoder': 'peak tokens,\nlens of the decoder',
    'input_encoder': 'peak tokens,\nlens of the encoder',
    'steering': 'steering score,\nlens of the decoder',
}
_OWN, _MARKER, _ = _style.look(0)
_OTHER, _OTHER_MARKER, _DASH = _style.look(1)
_THIRD, _, _DOTS = _style.look(2)
_NULL = '#8C8C8C'


class ScoreCurve(NamedTuple):
  """A score over depth.

  Attributes:
    mean: [L, 3] with the ends of its interval; NaN where there is none.
    permuted: [L] of the lists of other features.
    random: [L] of random directions.
    over: [L] whether it is over both, by q <= 0.05.
  """

  mean: np.ndarray
  permuted: np.ndarray
  random: np.ndarray
  over: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ValidationCurves:
  """Of a run of the validation.

  Attributes:
    label: The name of the run.
    layers: L layers, rising.
    num_layers: Of the model.
    scores: Score -> its curve.
    weights: [L, 3] share of features semantic by weights, with its interval.
    activations: [L, 3] by activations.
    cells: [L, 4] shares semantic by both, by weights alone, by activations
      alone, and by neither.
    phi: [L] correlation of the labels; NaN where one is constant.
  """

  label: str
  layers: tuple[int, ...]
  num_layers: int
  scores: Mapping[str, ScoreCurve]
  weights: np.ndarray
  activations: np.ndarray
  cells: np.ndarray
  phi: np.ndarray


def validation_curves(
    folder: str | os.PathLike[str], label: str | None = None
) -> ValidationCurves:
  """Reads a run of the validation; the rest as `depth_curve`."""
  with reading(folder, label=label) as run:
    rows, beats = run.rows, run.summary['beats']
    names = ('both', 'weights', 'activations', 'neither')
    counts = np.asarray([[x['agreement'][n] for n in names] for x in rows])
    return ValidationCurves(
        label=_style.joined(run.label, run.about),
        layers=tuple(row['layer'] for row in rows),
        num_layers=run.summary['num_layers'],
        scores={x: _curve(rows, x, beats[x]) for x in tables.SCORES},
        weights=_shares(rows, 'weights'),
        activations=_shares(rows, 'activations'),
        cells=counts / counts.sum(axis=1, keepdims=True),
        phi=np.asarray([_style.number(x['agreement']['phi']) for x in rows]),
    )


def _curve(
    rows: Sequence[Mapping[str, Any]],
    name: str,
    beats: Mapping[str, Any],
) -> ScoreCurve:
  own = [row['scores'][name] or {} for row in rows]
  return ScoreCurve(
      mean=np.asarray([interval(x, 'mean', 'low', 'high') for x in own]),
      permuted=_means(own, 'permuted'),
      random=_means(own, 'random'),
      over=np.asarray([
          row['layer'] in beats['permuted'] and row['layer'] in beats['random']
          for row in rows
      ]),
  )


def _means(rows: Sequence[Mapping[str, Any]], null: str) -> np.ndarray:
  return np.asarray(
      [_style.number((x.get(null) or {}).get('mean')) for x in rows]
  )


def _shares(rows: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
  return np.asarray(
      [interval(row[name], 'share', 'low', 'high') for row in rows]
  )


def scores_figure(found: ValidationCurves) -> MplFigure:
  """Draws each score over depth, with both nulls.

  A dot is the mean over the features of a layer with its 95% interval, filled
  where it is over both nulls; the grey line are the lists of other features,
  the dashed one random directions, which went through the same steps.
  """
  with _style.new_figure(_style.WIDTH, 4.6) as figure:
    axes = figure.subplots(2, 3, sharex=True)
    for place, (name, title) in zip(axes.flat, _TITLES.items(), strict=True):
      _score_panel(place, found, found.scores[name])
      _style.dress(place, ticks=7, grid=0.6)
      place.set_title(title, fontsize=8, color=_style.INK)
      _style.layer_axis(place, found.num_layers, 6)
    for place in axes[1]:
      place.set_xlabel('Layer', fontsize=8, color=_style.INK)
    for row, about in zip(axes, ('output', 'input, and steering'), strict=True):
      row[0].set_ylabel(f'Score ({about})', fontsize=8, color=_style.INK)
    _style.legend(
        figure,
        [
            Line2D([], [], **_style.dot(_OWN)),
            Line2D([], [], **_style.dot(_OWN, filled=False)),
            Line2D([], [], color=_NULL),
            Line2D([], [], color=_OTHER, linestyle=_DASH),
        ],
        [
            'features, over both nulls',
            'not over both',
            'lists of other features',
            'random directions',
        ],
    )
    _style.head(figure, 'Predictions beside the forward pass: ', found.label)
  return figure


def _score_panel(
    axes: Axes, found: ValidationCurves, curve: ScoreCurve
) -> None:
  x = np.asarray(found.layers, float)
  axes.plot(x, curve.permuted, color=_NULL)
  axes.plot(x, curve.random, color=_OTHER, linestyle=_DASH, linewidth=1.2)
  mean, low, high = curve.mean.T
  axes.errorbar(
      x,
      mean,
      [np.maximum(mean - low, 0), np.maximum(high - mean, 0)],
      color=_OWN,
      linewidth=1.2,
      capsize=0,
  )
  for filled in (False, True):
    own = curve.over == filled
    axes.plot(x[own], mean[own], **_style.dot(_OWN, filled=filled), zorder=3)
  known = [y[~np.isnan(y)] for y in (high, curve.permuted, curve.random)]
  top = max((float(y.max()) for y in known if y.size), default=0.0)
  # An axis of almost nothing would make noise look like a course.
  axes.set_ylim(0, max(1.08 * top, 0.05))
  if all(np.isnan(mean)):
    axes.text(
        0.5,
        0.5,
        'not defined here',
        transform=axes.transAxes,
        ha='center',
        fontsize=7,
        color=_style.INK,
    )


def weights_figure(found: ValidationCurves) -> MplFigure:
  """Draws semantic features by weights and by activations over depth.

  Left the share of each with its 95% interval, in the middle who is semantic by
  what, right the correlation of the two labels.
  """
  x = np.asarray(found.layers, float)
  with _style.new_figure(_style.WIDTH, 2.9) as figure:
    axes = figure.subplots(1, 3, width_ratios=(1.2, 1.2, 1))
    for y, color, marker in (
        (found.weights, _OWN, _MARKER),
        (found.activations, _OTHER, _OTHER_MARKER),
    ):
      share, low, high = y.T
      axes[0].fill_between(x, low, high, color=color, alpha=0.2, linewidth=0)
      axes[0].plot(x, share, color=color, marker=marker, markersize=3)
    colors = (_THIRD, _OWN, _OTHER, '#DDDDDD')
    width = 0.8 * (float(np.diff(x).min()) if x.size > 1 else 1.0)
    base = np.zeros(x.size)
    for share, color in zip(found.cells.T, colors, strict=True):
      axes[1].bar(x, share, width, base, color=color, linewidth=0)
      base = base + share
    axes[2].plot(
        x, found.phi, color=_style.INK, marker='D', markersize=3, linewidth=1
    )
    axes[2].axhline(0, color=_NULL, linewidth=0.8)
    known = np.abs(found.phi[~np.isnan(found.phi)])
    limit = max(1.2 * float(known.max(initial=0.0)), 0.1)
    axes[2].set_ylim(-limit, limit)
    names = ('Semantic features', 'Features', 'Correlation of labels (phi)')
    for place, name in zip(axes, names, strict=True):
      _style.dress(place, x='Layer', y=name, ticks=7, grid=0.6)
      _style.layer_axis(place, found.num_layers, 5)
    for place in axes[:2]:
      place.set_ylim(0, 1.02)
      place.yaxis.set_major_formatter(lambda value, _: f'{100 * value:.0f}%')
    _style.legend(
        figure,
        [
            Line2D([], [], color=_OWN, marker=_MARKER, markersize=3),
            Line2D([], [], color=_OTHER, marker=_OTHER_MARKER, markersize=3),
            *(Patch(color=color) for color in colors),
        ],
        [
            'by weights',
            'by activations',
            'both',
            'weights alone',
            'activations alone',
            'neither',
        ],
    )
    _style.head(figure, 'Weights against activations: ', found.label)
  return figure


SCORES = Figure(
    experiment='validation',
    files=lambda summary: {'scores': None} if summary.get('layers') else {},
    read=lambda folder, _: validation_curves(folder),
    draw=scores_figure,
)
WEIGHTS = Figure(
    experiment='validation',
    files=lambda summary: (
        {'weights_against_activations': None} if summary.get('layers') else {}
    ),
    read=lambda folder, _: validation_curves(folder),
    draw=weights_figure,
)
