"""The figure of the two populations over depth."""

from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
import numpy as np

from ooc_jax.report import _style
from ooc_jax.report._participation import CONTEXT_NAMES
from ooc_jax.report._populations import ContextPopulations
from ooc_jax.report._populations import Populations

_INK = _style.INK
_COLORS = {'semantic': '#0072B2', 'other': '#D55E00'}
_MARKERS = {'semantic': 'o', 'other': 's'}
_DASHES = {'median': '-', 'p75': (0, (1, 1))}
_ALPHA = 0.05
_WIDTH = 7.2  # Inches.


def populations_figure(shown: Populations) -> Figure:
  """Draws both populations against the layer, a column for each context.

  Above, the median of each population and its third quartile; the line of text
  says whether the two medians go apart or together over depth. Below, Cliff's
  delta with its bootstrap 95% interval, filled where the Mann-Whitney test has
  q <= 0.05 over the layers. Weights that differ by more than ten times are on
  a logarithmic scale.

  Args:
    shown: One labelling of a run.

  Returns:
    A figure of 7.2 by 4.2 inches.
  """
  with _style.new_figure(_WIDTH, 4.2) as figure:
    axes = figure.subplots(2, len(CONTEXT_NAMES), sharex=True)
    for column, (name, title) in enumerate(CONTEXT_NAMES.items()):
      context = shown.contexts[name]
      _courses(axes[0, column], context, name.endswith('post'))
      axes[0, column].set_title(
          f'{title}\n{_relation(context)}', fontsize=7, color=_INK
      )
      _delta(axes[1, column], context)
      axes[1, column].set_xlabel('Layer', fontsize=8, color=_INK)
    last = shown.num_layers - 1
    for place in axes.flat:
      place.set_xlim(-0.02 * last - 0.3, 1.02 * last + 0.3)
      place.xaxis.set_major_locator(
          ticker.MaxNLocator(nbins=4, integer=True, steps=[1, 2, 5, 10])
      )
      place.grid(axis='y', color=_style.GRID, linewidth=0.6)
      place.set_axisbelow(True)
      _style.dress(place)
      place.tick_params(labelsize=6.5, length=2, which='both')
    axes[0, 0].set_ylabel('Over the features', fontsize=8, color=_INK)
    axes[1, 0].set_ylabel("Cliff's delta", fontsize=8, color=_INK)
    keys = _keys()
    figure.legend(
        keys.values(),
        keys.keys(),
        loc='outside lower center',
        ncols=len(keys),
        frameon=False,
        fontsize=7,
        labelcolor=_INK,
        columnspacing=1.2,
    )
    title = 'Semantic and other features in attention: '
    room = 72 * _WIDTH - 12 - _style.text_width(title, 9.5)
    figure.suptitle(
        title + _style.fitted(shown.label, room, 9.5),
        fontsize=9.5,
        color=_INK,
        x=0.01,
        ha='left',
    )
  return figure


def _courses(
    axes: Axes, context: ContextPopulations, logarithmic: bool
) -> None:
  for name, color in _COLORS.items():
    numbers = getattr(context, name)
    for number, dash in _DASHES.items():
      axes.plot(
          context.layers,
          numbers[number],
          color=color,
          linestyle=dash,
          linewidth=1.2 if number == 'median' else 0.8,
          marker=_MARKERS[name] if number == 'median' else '',
          markersize=2.6,
          gid=f'{name} {number}',
      )
  values = np.concatenate(
      [x for name in _COLORS for x in getattr(context, name).values()]
  )
  values = values[np.isfinite(values)]
  # Within one power of ten a logarithmic axis has no numbers on it.
  if logarithmic and values.size and values.max() > 10 * values.min() > 0:
    axes.set_yscale('log')
    axes.yaxis.set_minor_formatter(ticker.NullFormatter())


def _delta(axes: Axes, context: ContextPopulations) -> None:
  axes.axhline(0, color=_INK, linewidth=0.6)
  x = np.asarray(context.layers)
  axes.vlines(x, context.low, context.high, color=_INK, linewidth=0.8)
  sure = context.q <= _ALPHA
  for chosen, fill in ((sure, _INK), (~sure, 'white')):
    axes.plot(
        x[chosen],
        context.delta[chosen],
        linestyle='none',
        marker='o',
        markersize=3,
        markerfacecolor=fill,
        markeredgecolor=_INK,
        markeredgewidth=0.7,
        gid='sure' if fill == _INK else 'not sure',
    )


def _relation(context: ContextPopulations) -> str:
  """What the tests say of the two courses."""
  if not context.sign:  # Too few layers, or courses without a direction.
    return 'not decided'
  words = 'apart' if context.sign < 0 else 'together'
  return f'{words}, {_style.p_text(context.p_value)}'


def _keys() -> dict[str, Line2D | Patch]:
  keys: dict[str, Line2D | Patch] = {
      name: Line2D([], [], color=color, marker=_MARKERS[name], markersize=3)
      for name, color in _COLORS.items()
  }
  keys['third quartile'] = Line2D(
      [], [], color=_INK, linestyle=_DASHES['p75'], linewidth=0.8
  )
  keys['delta, q ≤ 0.05'] = Line2D(
      [], [], color=_INK, marker='o', markersize=3, linestyle='none'
  )
  keys['delta, q > 0.05'] = Line2D(
      [],
      [],
      color=_INK,
      marker='o',
      markersize=3,
      linestyle='none',
      markerfacecolor='white',
  )
  return keys
