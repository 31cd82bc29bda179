"""What a lens says of tokens and what steering does to them, and examples."""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
import math
import os
from typing import Any

from matplotlib import colors
from matplotlib.figure import Figure as MplFigure
import numpy as np

from ooc_jax.report import _style
from ooc_jax.report._contact_sheet import quoted_token
from ooc_jax.report._reading import Figure
from ooc_jax.report._reading import reading
from ooc_jax.results import tables

_PANELS, _COLUMNS = 12, 4
# Points.
_WIDTH, _MARGIN, _TAG = 504.0, 22.0, 58.0
_HEAD, _CARD, _LINE = 42.0, 68.0, 10.2
_GREY = '#6A6A6A'
_FOUND = '#0072B2'  # A token that is in both lists.


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class LensEffects:
  """Of a run of the validation.

  Attributes:
    label: The name of the run.
    layers: Those that are shown.
    counts: [L, lens, rise] tokens of all steered features in each cell of
      `tables.LENS_EDGES` and `tables.RISE_EDGES`.
    correlations: [L, 2] mean of Spearman's correlation over the features of
      the sample, and over random directions.
  """

  label: str
  layers: tuple[int, ...]
  counts: np.ndarray
  correlations: np.ndarray


def lens_effects(
    folder: str | os.PathLike[str], label: str | None = None
) -> LensEffects:
  """Reads a run of the validation: at most 12 layers, spread over depth."""
  with reading(folder, label=label) as run:
    rows = run.rows
    if len(rows) > _PANELS:
      places = np.linspace(0, len(rows) - 1, _PANELS).round().astype(int)
      rows = [rows[i] for i in places]
    shape = (tables.LENS_EDGES.size - 1, tables.RISE_EDGES.size - 1)
    counts = np.zeros((len(rows), *shape))
    for grid, row in zip(counts, rows, strict=True):
      table = run.folder.read_table(tables.validation_map_name(row['layer']))
      lens, rise, tokens = (
          np.asarray(table[name]) for name in ('lens', 'rise', 'tokens')
      )
      grid[lens, rise] = tokens
    return LensEffects(
        label=_style.joined(run.label, run.about),
        layers=tuple(row['layer'] for row in rows),
        counts=counts,
        correlations=np.asarray([
            [
                _style.number(row[name])
                for name in ('lens_correlation', 'null_lens_correlation')
            ]
            for row in rows
        ]),
    )


def lens_effects_figure(found: LensEffects) -> MplFigure:
  """Draws how many tokens have a lens logit and a rise, a panel a layer.

  Across, the logit of a token in the lens of a feature, in standard deviations
  from the feature's mean; up, how far its rank rises where the feature is
  added, as a share of the vocabulary. Colour is the logarithm of the count.
  """
  rows = math.ceil(len(found.layers) / _COLUMNS)
  columns = min(len(found.layers), _COLUMNS)
  used = np.flatnonzero(found.counts.sum(axis=(0, 1)))
  low, high = (used[0], used[-1] + 1) if used.size else (0, 1)
  edges = tables.RISE_EDGES[low : high + 1]
  with _style.new_figure(_style.WIDTH, 0.9 + 1.75 * rows) as figure:
    axes = figure.subplots(
        rows, columns, sharex=True, sharey=True, squeeze=False
    )
    norm = colors.LogNorm(1, max(found.counts.max(), 2))
    mesh = None
    for i, place in enumerate(axes.flat):
      if i >= len(found.layers):
        place.set_visible(False)
        continue
      cells = found.counts[i, :, low:high].T
      mesh = place.pcolormesh(
          tables.LENS_EDGES,
          edges,
          np.where(cells > 0, cells, np.nan),
          norm=norm,
          cmap='viridis',
          rasterized=True,
      )
      own, random = found.correlations[i]
      place.set_title(
          f'layer {found.layers[i]}: ρ {own:.2f} (random {random:.2f})',
          fontsize=7,
          color=_style.INK,
      )
      _style.dress(place, ticks=7)
    for place in axes[:, 0]:
      place.set_ylabel('Rise of rank', fontsize=8, color=_style.INK)
    # Under the last panel of each column, whether or not its row is full.
    for column in range(columns):
      last = axes[(len(found.layers) - 1 - column) // columns, column]
      last.set_xlabel('Lens, in sd', fontsize=8, color=_style.INK)
      last.tick_params(labelbottom=True)
    if mesh is not None:
      bar = figure.colorbar(mesh, ax=axes, aspect=40, pad=0.02)
      bar.set_label('tokens', fontsize=8, color=_style.INK)
      bar.ax.tick_params(labelsize=7)
    _style.head(figure, 'What the lens says and what rises: ', found.label)
  return figure


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Examples:
  """Steered features of a run of the validation.

  Attributes:
    label: The name of the run.
    rows: The `examples` of its summary.
  """

  label: str
  rows: Sequence[Mapping[str, Any]]


def examples(
    folder: str | os.PathLike[str], label: str | None = None
) -> Examples:
  """Reads a run of the validation; the rest as `depth_curve`."""
  with reading(folder, label=label) as run:
    return Examples(
        label=_style.joined(run.label, run.about),
        rows=tuple(run.summary['examples']),
    )


def examples_figure(found: Examples) -> MplFigure:
  """Draws a card for each feature: what its lens names, what rises, and texts.

  Tokens that are in both lists are blue. The text goes on without the feature,
  and with it at both strengths.
  """
  height = _HEAD + _CARD * len(found.rows) + 4
  with _style.new_figure(_WIDTH / 72, height / 72, free=True) as figure:
    put = functools.partial(_style.put, figure)
    room = _WIDTH - 2 * _MARGIN
    title = 'The best predicted feature of a layer: '
    room -= _style.text_width(title, _style.TITLE)
    title += _style.fitted(found.label, room, _style.TITLE)
    put(_MARGIN, 20, title, fontsize=_style.TITLE)
    for i, row in enumerate(found.rows):
      _card(figure, _HEAD + i * _CARD, row)
  return figure


def _card(figure: MplFigure, y: float | int, row: Mapping[str, Any]) -> None:
  put = functools.partial(_style.put, figure)
  _style.rule(figure, y - 11, _MARGIN)
  put(_MARGIN, y, f'layer {row["layer"]} · feature {row["feature"]}')
  put(
      _WIDTH - _MARGIN,
      y,
      f'{row["score"]:.0%} of the tokens that rise are in the lens',
      ha='right',
      color=_GREY,
  )
  both = set(row['lens']) & set(row['raised'])
  for name, tokens in (('lens', row['lens']), ('rise', row['raised'])):
    y += _LINE
    put(_MARGIN, y, name, color=_GREY)
    _tokens(figure, y, tokens, both)
  for name, key in (
      ('plain', 'plain'),
      ('0.25 nats', 'steered_low'),
      ('0.5 nats', 'steered_high'),
  ):
    y += _LINE
    put(_MARGIN, y, name, color=_GREY)
    text = row['prompt'] + row[key] if key == 'plain' else '… ' + row[key]
    text = ' '.join(text.split())
    room = _WIDTH - 2 * _MARGIN - _TAG
    put(_MARGIN + _TAG, y, _style.fitted(text, room, _style.SMALL), gid='text')


def _tokens(
    figure: MplFigure, y: float | int, tokens: Sequence[str], both: set[str]
) -> None:
  """As many as fit in a line."""
  x = _MARGIN + _TAG
  for token in tokens:
    text = quoted_token(token)
    width = _style.text_width(text, _style.SMALL)
    if x + width > _WIDTH - _MARGIN:
      return
    color = _FOUND if token in both else _style.INK
    _style.put(figure, x, y, text, color=color, gid='tokens')
    x += width + _style.text_width('   ', _style.SMALL)


EFFECTS = Figure(
    experiment='validation',
    files=lambda summary: (
        {'lens_against_effect': None} if summary.get('layers') else {}
    ),
    read=lambda folder, _: lens_effects(folder),
    draw=lens_effects_figure,
)
EXAMPLES = Figure(
    experiment='validation',
    files=lambda summary: {'examples': None} if summary.get('examples') else {},
    read=lambda folder, _: examples(folder),
    draw=examples_figure,
)
