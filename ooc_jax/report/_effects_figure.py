"""The figure of Cliff's delta over depth, of several runs of experiment 3."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
import numpy as np

from ooc_jax.report import _style
from ooc_jax.report._participation import CONTEXT_NAMES
from ooc_jax.report._populations import Populations

_INK = _style.INK
_ALPHA = 0.05
_WIDTH = 7.2  # Inches.


def effects_figure(
    runs: Sequence[Populations], labels: Sequence[str], *, labelling: str
) -> Figure:
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
  with _style.new_figure(_WIDTH, 2.8 + 0.16 * max(len(runs) - 3, 0)) as figure:
    axes = figure.subplots(1, len(CONTEXT_NAMES), sharey=True)
    for place, (name, title) in zip(axes, CONTEXT_NAMES.items(), strict=True):
      place.axhline(0, color=_INK, linewidth=0.6)
      for i, run in enumerate(runs):
        _draw(place, run, name, i)
      place.set_title(title, fontsize=7, color=_INK)
      place.set_xlabel('Layer / last layer', fontsize=8, color=_INK)
      place.set_xlim(-0.05, 1.05)
      place.grid(axis='y', color=_style.GRID, linewidth=0.6)
      place.set_axisbelow(True)
      _style.dress(place)
      place.tick_params(labelsize=6.5, length=2)
    axes[0].set_ylabel("Cliff's delta", fontsize=8, color=_INK)
    lines = [_key(i) for i in range(len(runs))]
    names = [_style.short(label, _style.LABEL) for label in labels]
    for filled, name in ((True, 'q ≤ 0.05'), (False, 'q > 0.05')):
      lines.append(
          Line2D([], [], color=_INK, linestyle='none', **_marker('o', filled))
      )
      names.append(name)
    figure.legend(
        lines,
        names,
        loc='outside lower center',
        ncols=min(len(names), 5),
        frameon=False,
        fontsize=7,
        labelcolor=_INK,
        columnspacing=1.2,
    )
    figure.suptitle(
        f'Semantic against other features in attention, {labelling} labels',
        fontsize=9.5,
        color=_INK,
        x=0.01,
        ha='left',
    )
  return figure


def _draw(axes: Axes, run: Populations, name: str, index: int) -> None:
  color, marker, dash = _style.look(index)
  context = run.contexts[name]
  x = np.asarray(context.layers) / max(run.num_layers - 1, 1)
  axes.vlines(x, context.low, context.high, color=color, linewidth=0.6)
  axes.plot(x, context.delta, color=color, linestyle=dash, linewidth=0.9)
  sure = context.q <= _ALPHA
  for chosen, filled in ((sure, True), (~sure, False)):
    axes.plot(
        x[chosen],
        context.delta[chosen],
        color=color,
        linestyle='none',
        gid='sure' if filled else 'not sure',
        **_marker(marker, filled),
    )


def _key(index: int) -> Line2D:
  color, marker, dash = _style.look(index)
  return Line2D([], [], color=color, linestyle=dash, **_marker(marker, True))


def _marker(marker: str, filled: bool) -> dict:
  look = {'marker': marker, 'markersize': 3, 'markeredgewidth': 0.7}
  return look if filled else look | {'markerfacecolor': 'white'}
