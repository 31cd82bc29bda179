"""The two populations of experiment 3: their figure, effects and table."""

from collections.abc import Mapping, Sequence
import dataclasses
import math
import os
from typing import Any

from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure as MplFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
import numpy as np

from ooc_jax._text import p_text
from ooc_jax.report import _style
from ooc_jax.report._reading import Figure
from ooc_jax.report._reading import Run
from ooc_jax.report._reading import reading
from ooc_jax.report._style import CONTEXT_NAMES
from ooc_jax.report._style import INK
from ooc_jax.report._style import number
from ooc_jax.results import tables

_LABELLINGS = {'output': 'decoder-unembedding', 'input': 'encoder-embedding'}
STATEMENTS = {'output': 'inverse', 'input': 'reversed'}
NUMBERS = ('mean', 'median', 'p75')
_EFFECTS = ('delta', 'low', 'high', 'permuted', 'u', 'p_value', 'q_value')
_BAND = 1.96  # 95 of 100 permutations.
# Population -> colour and marker.
_POPULATIONS = {'semantic': ('#0072B2', 'o'), 'other': ('#D55E00', 's')}
_BAND_COLOR = '#DDDDDD'
_CHANCE: dict[str, Any] = {
    'color': '#888888',
    'linestyle': '--',
    'linewidth': 0.9,
}
_DASHES = {'median': '-', 'p75': (0, (1, 1))}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ContextPopulations:
  """Both populations in one context of attention.

  Attributes:
    layers: L layer numbers, rising.
    semantic: Number (`NUMBERS`) of the semantic features -> its course, [L];
      NaN is a gap.
    other: The same of the other features.
    delta: Cliff's delta, [L].
    low: Lower end of its interval, [L].
    high: Its upper end, [L].
    q: Of the Mann-Whitney test, [L].
    permuted: Standard deviation of delta under permuted labels, [L].
    chance: Median of the null, [L]; NaN where there was none.
    change: Of delta from the first layer to the last; NaN for too few layers.
    p_value: Of that, against permuted labels, over all contexts together.
  """

  layers: tuple[int, ...]
  semantic: dict[str, np.ndarray]
  other: dict[str, np.ndarray]
  delta: np.ndarray
  low: np.ndarray
  high: np.ndarray
  q: np.ndarray
  permuted: np.ndarray
  chance: np.ndarray
  change: float
  p_value: float


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Populations:
  """One labelling of a run.

  Attributes:
    label: The name of the run, and the labelling.
    about: What was read and how features became semantic.
    num_layers: Of the model.
    contexts: Name -> the populations.
  """

  label: str
  about: str = ''
  num_layers: int
  contexts: dict[str, ContextPopulations]


def populations(
    folder: str | os.PathLike[str], labelling: str, label: str | None = None
) -> Populations:
  """Reads one labelling of a run of experiment 3: 'output' or 'input'.

  Raises:
    InputError: Not a results folder, not finished, or without that labelling.
  """
  with reading(folder, label=label) as run:
    tests = run.summary['statements'][STATEMENTS[labelling]]['tests']
    return Populations(
        label=f'{run.label}, {_LABELLINGS[labelling]} labels',
        about=run.about,
        num_layers=int(run.summary['num_layers']),
        contexts={
            context: _context(rows, tests[context], labelling)
            for context, rows in _joined(run, labelling).items()
        },
    )


def _joined(
    run: Run, labelling: str
) -> dict[str, dict[int, dict[str, Mapping[str, Any]]]]:
  """Context -> layer -> 'effect' and both populations -> their rows."""
  found = {name: {} for name in CONTEXT_NAMES}
  for name in (tables.EFFECTS_NAME, tables.POPULATIONS_NAME):
    for row in run.folder.read_table(name).to_pylist():
      if row['labelling'] == labelling:
        own = found[row['context']].setdefault(row['layer'], {})
        own[row.get('population', 'effect')] = row
  return found


def _context(
    layers: Mapping[int, Mapping[str, Mapping[str, Any]]],
    test: Mapping[str, Any],
    labelling: str,
) -> ContextPopulations:
  # The second statement is of both labellings, and has either's own change.
  own = '' if labelling == 'output' else f'{labelling}_'
  rows = [layers[layer] for layer in sorted(layers)]

  def course(of: str, name: str) -> np.ndarray:
    return np.asarray([number(row[of][name]) for row in rows])

  def courses(of: str) -> dict[str, np.ndarray]:
    return {name: course(of, name) for name in NUMBERS}

  return ContextPopulations(
      layers=tuple(sorted(layers)),
      semantic=courses('semantic'),
      other=courses('other'),
      delta=course('effect', 'delta'),
      low=course('effect', 'low'),
      high=course('effect', 'high'),
      q=course('effect', 'q_value'),
      permuted=course('effect', 'permuted'),
      chance=course('effect', 'chance_median'),
      change=number(test.get(f'{own}change')),
      p_value=number(test.get(f'{own}p_value')),
  )


def population_rows(
    folder: str | os.PathLike[str], labelling: str
) -> list[list[str]]:
  """The table of one labelling: a row for each context and layer.

  For `csv_table`, the first row the names of the columns; '' is no number.
  """
  columns = [(name, x) for name in _POPULATIONS for x in ('size', *NUMBERS)]
  names = [f'{name}_{x}' for name, x in columns]
  columns += [('effect', x) for x in _EFFECTS]
  rows = [['context', 'layer', *names, *_EFFECTS]]
  with reading(folder) as run:
    for context, layers in _joined(run, labelling).items():
      for layer, own in layers.items():
        cells = [_cell(own[name][x]) for name, x in columns]
        rows.append([context, str(layer), *cells])
  return rows


def _cell(value: float | int | None) -> str:
  return '' if value is None or math.isnan(value) else repr(value)


def populations_figure(shown: Populations) -> MplFigure:
  """Draws both populations against the layer, a column for each context.

  Above, Cliff's delta with its 95% interval, filled where the Mann-Whitney test
  has q <= 0.05 over the layers, in the band that holds 95 of 100 permutations
  of the layer's labels; the line of text is the test of the change over depth.
  Below, the median of each population and its third quartile, beside the median
  of the null where there was one. Weights that differ by more than ten times
  are on a logarithmic scale.
  """
  with _style.new_figure(_style.WIDTH, 4.6) as figure:
    axes = figure.subplots(
        2, len(CONTEXT_NAMES), sharex=True, height_ratios=(1.25, 1)
    )
    for column, (name, title) in enumerate(CONTEXT_NAMES.items()):
      context = shown.contexts[name]
      above, below = axes[:, column]
      _band(above, context)
      _delta(above, np.asarray(context.layers), context, INK, width=0.8)
      above.set_title(f'{title}\n{_change(context)}', fontsize=7, color=INK)
      _courses(below, context, name.endswith('post'))
      below.set_xlabel('Layer', fontsize=8, color=INK)
    _share_height(axes[0])
    for place in axes.flat:
      _style.layer_axis(place, shown.num_layers, 4)
      _style.dress(place, ticks=6.5, length=2, grid=0.6)
      place.tick_params(labelsize=6.5, length=2, which='minor')
    axes[0, 0].set_ylabel("Cliff's delta", fontsize=8, color=INK)
    axes[1, 0].set_ylabel('Median over features', fontsize=8, color=INK)
    keys: dict[str, Any] = dict(_style.dots('delta, '))
    keys['95 % of permuted labels'] = Patch(color=_BAND_COLOR)
    keys |= {
        name: Line2D([], [], color=color, marker=marker, markersize=3)
        for name, (color, marker) in _POPULATIONS.items()
    }
    keys['third quartile'] = Line2D(
        [], [], color=INK, linestyle=_DASHES['p75'], linewidth=0.8
    )
    if any(np.isfinite(x.chance).any() for x in shown.contexts.values()):
      keys['random directions'] = Line2D([], [], **_CHANCE)
    _style.legend(figure, keys.values(), list(keys), columns=4)
    title = 'Semantic and other features in attention: '
    _style.head(figure, title, shown.label, about=shown.about)
  return figure


def _share_height(axes: np.ndarray) -> None:
  """One scale of delta for all contexts, with 0 in it."""
  low = min(place.get_ylim()[0] for place in axes)
  high = max(place.get_ylim()[1] for place in axes)
  for place in axes:
    place.set_ylim(low, high)
  for place in axes[1:]:
    place.tick_params(labelleft=False)


def _band(axes: Axes, context: ContextPopulations) -> None:
  """Where delta is for 95 of 100 permutations of the labels."""
  half = _BAND * context.permuted
  axes.bar(
      context.layers,
      2 * half,
      bottom=-half,
      width=min(np.diff(context.layers), default=1),
      color=_BAND_COLOR,
      linewidth=0,
  )


def _courses(
    axes: Axes, context: ContextPopulations, logarithmic: bool
) -> None:
  for name, (color, marker) in _POPULATIONS.items():
    for kind, dash in _DASHES.items():
      median = kind == 'median'
      axes.plot(
          context.layers,
          getattr(context, name)[kind],
          color=color,
          linestyle=dash,
          linewidth=1.2 if median else 0.8,
          marker=marker if median else '',
          markersize=2.6,
          gid=f'{name} {kind}',
      )
  axes.plot(context.layers, context.chance, gid='chance', **_CHANCE)
  values = np.concatenate([*context.semantic.values(), *context.other.values()])
  values = values[np.isfinite(values)]
  # Within one power of ten a logarithmic axis has no numbers on it.
  if logarithmic and values.size and values.max() > 10 * values.min() > 0:
    axes.set_yscale('log')
    axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(ticker.FormatStrFormatter('%g'))
    axes.yaxis.set_minor_formatter(ticker.NullFormatter())


def _delta(
    axes: Axes,
    x: np.ndarray,
    context: ContextPopulations,
    color: str,
    marker: str = 'o',
    *,
    width: float,
) -> None:
  """Cliff's delta with its interval, filled where the test is sure."""
  axes.axhline(0, color=INK, linewidth=0.6)
  axes.vlines(x, context.low, context.high, color=color, linewidth=width)
  sure = context.q <= _style.ALPHA
  for chosen, filled in ((sure, True), (~sure, False)):
    axes.plot(
        x[chosen],
        context.delta[chosen],
        gid='sure' if filled else 'not sure',
        **_style.dot(color, marker, filled=filled),
    )


def _change(context: ContextPopulations) -> str:
  """What the test says of the change over depth."""
  if math.isnan(context.change):
    return 'too few layers for a test'
  return f'change {context.change:+.2f}, {p_text(context.p_value)}'


def effects_figure(
    runs: Sequence[Populations], labels: Sequence[str], *, labelling: str
) -> MplFigure:
  """Draws Cliff's delta against relative depth, a panel for each context.

  Above 0 semantic features are ahead of the others. Bars are 95%
  intervals; a marker is filled where the Mann-Whitney test has q <= 0.05 over
  the layers of its run.

  Args:
    runs: One labelling of each run.
    labels: Their names.
    labelling: Which one, for the title.

  Returns:
    A figure of 7.2 by 2.8 inches, higher for many runs.

  Raises:
    ValueError: No run, or another number of names.
  """
  if not runs or len(runs) != len(labels):
    raise ValueError('A figure of effects needs runs, and a name for each.')
  height = 2.8 + 0.16 * max(len(runs) - 3, 0)
  with _style.new_figure(_style.WIDTH, height) as figure:
    axes = figure.subplots(1, len(CONTEXT_NAMES), sharey=True)
    for place, (name, title) in zip(axes, CONTEXT_NAMES.items(), strict=True):
      for i, run in enumerate(runs):
        color, marker, dash = _style.look(i)
        context = run.contexts[name]
        x = np.asarray(context.layers) / max(run.num_layers - 1, 1)
        place.plot(x, context.delta, color=color, linestyle=dash, linewidth=0.9)
        _delta(place, x, context, color, marker, width=0.6)
      place.set_title(title, fontsize=7, color=INK)
      place.set_xlim(-0.05, 1.05)
      _style.dress(place, x='Layer / last layer', ticks=6.5, length=2, grid=0.6)
    axes[0].set_ylabel("Cliff's delta", fontsize=8, color=INK)
    lines = [
        Line2D([], [], linestyle=dash, color=color, marker=marker, markersize=3)
        for color, marker, dash in map(_style.look, range(len(runs)))
    ]
    names = [_style.short(label, _style.LABEL) for label in labels]
    _style.legend(
        figure,
        [*lines, *_style.dots().values()],
        [*names, *_style.dots()],
        columns=min(len(names) + 2, 5),
        columnspacing=1.2,
    )
    _style.head(
        figure,
        f'Semantic against other features in attention, {labelling} labels',
    )
  return figure


POPULATIONS = Figure(
    experiment='semantic_attention',
    files=lambda summary: {f'populations_{x}': x for x in summary['contexts']},
    read=populations,
    draw=populations_figure,
)
