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
import numpy as np

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
_EFFECTS = ('delta', 'low', 'high', 'u', 'p_value', 'q_value')
# Population -> colour and marker.
_POPULATIONS = {'semantic': ('#0072B2', 'o'), 'other': ('#D55E00', 's')}
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
    sign: -1 where the courses of the medians go apart, 1 where together.
    p_value: Of that.
  """

  layers: tuple[int, ...]
  semantic: dict[str, np.ndarray]
  other: dict[str, np.ndarray]
  delta: np.ndarray
  low: np.ndarray
  high: np.ndarray
  q: np.ndarray
  sign: int
  p_value: float


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Populations:
  """One labelling of a run.

  Attributes:
    label: The name of the run, and the labelling.
    num_layers: Of the model.
    contexts: Name -> the populations.
  """

  label: str
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
    statement = run.summary['statements'][STATEMENTS[labelling]]
    tests = statement['readings']['courses']['tests']
    return Populations(
        label=f'{run.label}, {_LABELLINGS[labelling]} labels',
        num_layers=int(run.summary['num_layers']),
        contexts={
            context: _context(rows, tests[context])
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
) -> ContextPopulations:
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
      sign=int(test['sign']),
      p_value=float(test['p_value']),
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

  Above, the median of each population and its third quartile; the line of text
  says whether the two medians go apart or together over depth. Below, Cliff's
  delta with its bootstrap 95% interval, filled where the Mann-Whitney test has
  q <= 0.05 over the layers. Weights that differ by more than ten times are on
  a logarithmic scale.
  """
  with _style.new_figure(_style.WIDTH, 4.2) as figure:
    axes = figure.subplots(2, len(CONTEXT_NAMES), sharex=True)
    for column, (name, title) in enumerate(CONTEXT_NAMES.items()):
      context = shown.contexts[name]
      above, below = axes[:, column]
      _courses(above, context, name.endswith('post'))
      above.set_title(f'{title}\n{_relation(context)}', fontsize=7, color=INK)
      _delta(below, np.asarray(context.layers), context, INK, width=0.8)
      below.set_xlabel('Layer', fontsize=8, color=INK)
    for place in axes.flat:
      _style.layer_axis(place, shown.num_layers, 4)
      _style.dress(place, ticks=6.5, length=2, grid=0.6)
      place.tick_params(labelsize=6.5, length=2, which='minor')
    axes[0, 0].set_ylabel('Over the features', fontsize=8, color=INK)
    axes[1, 0].set_ylabel("Cliff's delta", fontsize=8, color=INK)
    keys = {
        name: Line2D([], [], color=color, marker=marker, markersize=3)
        for name, (color, marker) in _POPULATIONS.items()
    }
    keys['third quartile'] = Line2D(
        [], [], color=INK, linestyle=_DASHES['p75'], linewidth=0.8
    )
    keys |= _style.dots('delta, ')
    _style.legend(figure, keys.values(), list(keys), columnspacing=1.2)
    title = 'Semantic and other features in attention: '
    _style.head(figure, title, shown.label)
  return figure


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
  values = np.concatenate([*context.semantic.values(), *context.other.values()])
  values = values[np.isfinite(values)]
  # Within one power of ten a logarithmic axis has no numbers on it.
  if logarithmic and values.size and values.max() > 10 * values.min() > 0:
    axes.set_yscale('log')
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


def _relation(context: ContextPopulations) -> str:
  """What the tests say of the two courses."""
  if not context.sign:  # Too few layers, or courses without a direction.
    return 'not decided'
  words = 'apart' if context.sign < 0 else 'together'
  return f'{words}, {_style.p_text(context.p_value)}'


def effects_figure(
    runs: Sequence[Populations], labels: Sequence[str], *, labelling: str
) -> MplFigure:
  """Draws Cliff's delta against relative depth, a panel for each context.

  Above 0 semantic features are ahead of the others. Bars are bootstrap 95%
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
