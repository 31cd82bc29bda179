"""The shares of features under every rule and threshold that was tried."""

from collections.abc import Callable, Iterable, Iterator, Mapping
import dataclasses
import math
import os
from typing import Any

import matplotlib
from matplotlib import cm
from matplotlib import colors
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure as MplFigure
from matplotlib.font_manager import FontProperties
from matplotlib.path import Path
from matplotlib.textpath import TextPath
import numpy as np

from ooc_jax import measures
from ooc_jax.report import _style
from ooc_jax.report._depth import PARTICIPATING
from ooc_jax.report._reading import OUTPUT
from ooc_jax.report._reading import Figure
from ooc_jax.report._reading import Run
from ooc_jax.report._reading import by_readout
from ooc_jax.report._reading import reading
from ooc_jax.report._style import INK
from ooc_jax.report._style import number
from ooc_jax.results import tables

_RULES = ('any', 'majority', 'all')
_KINDS = ('null', 'quantile', 'fixed')
_ROW, _LOW_ROW = 0.155, 0.115  # Inches.
_TALL, _LEFT = 7.6, 1.15  # From the former on rows are low.
_CELL = 0.5  # At most.
_TOTAL = 0.3  # At least: the last two columns have names.
_NUMBER = 5.5  # Points.
_GAP = 0.5  # Of a cell, between the layers and the last two columns.
_SHADES = 'Blues'
_Cell = tuple[float, float, str, bool]  # Place, text, whether it is light.
# Of the quantiles of a sweep, so that the figure fits a page.
_QUANTILES = (0.5, 0.75, 0.9)
_TICKS = (0, 0.01, 0.05, 0.1, 0.25, 0.5, 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decision:
  """One way to count features.

  Attributes:
    rule: How many of the measures must pass, or in how many heads a feature
      participates; '' where one measure is alone.
    measure: That measure; '' where all of them vote.
    kind: Of threshold.
    level: The null's share, or the quantile; None for fixed thresholds.
    k: Top tokens, where they are not those of the run.
  """

  rule: str
  measure: str
  kind: str
  level: float | None
  k: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Sweep:
  """The sweep of one run.

  Attributes:
    label: The name of the run.
    about: What was read and how it was decided.
    layers: Layer numbers, rising.
    decisions: R ways to decide.
    share: Fraction of features counted, [R, L]; NaN where there is none.
    whole: Of all layers together, [R].
    null: Fraction of random directions, all layers together, [R].
    used: The index of the decision that the run itself made; None where it is
      not among them.
    both_ends: Whether either end of the vocabulary is enough for a vote.
  """

  label: str
  about: str = ''
  layers: tuple[int, ...]
  decisions: tuple[Decision, ...]
  share: np.ndarray
  whole: np.ndarray
  null: np.ndarray
  used: int | None = None
  both_ends: bool = False

  def __post_init__(self):
    rows, layers = len(self.decisions), len(self.layers)
    shapes = {
        'share': (self.share.shape, (rows, layers)),
        'whole': (self.whole.shape, (rows,)),
        'null': (self.null.shape, (rows,)),
    }
    problems = [
        f'{name} is {found}, and should be {due}'
        for name, (found, due) in shapes.items()
        if found != due
    ]
    if not rows or not layers:
      problems.append(f'{rows} decisions and {layers} layers')
    if problems:
      raise ValueError(f'Bad sweep: {"; ".join(problems)}.')


def sweep(
    folder: str | os.PathLike[str],
    label: str | None = None,
    *,
    readout: str = OUTPUT,
) -> Sweep:
  """Reads the sweep of a run of experiment 1; the rest as `depth_curve`.

  Votes of the measures stand before single measures, and the run's own
  decision at other numbers of top tokens after both. Of the quantiles there
  are a few, and of single measures those of the first end; the table has all.
  """

  def decision(row: Mapping[str, Any]) -> Decision:
    measure, level = row['measure'] or '', number(row['level'])
    return Decision(
        rule='' if measure else row['rule'],
        measure=measure,
        kind=row['kind'],
        level=None if math.isnan(level) else level,
        k=None if row['k'] == own_k else row['k'],
    )

  with reading(folder, readout, label) as run:
    rows = run.folder.read_table(run.table_name('sweep')).to_pylist()
    own_k, own = run.settings.get('k'), _by_settings(run)
    end = run.measures[0].end
    shown = {'', *(m.name for m in run.measures if m.end == end)}

    def is_shown(found: Decision) -> bool:
      same = own is not None and _same(dataclasses.replace(found, k=None), own)
      if found.k is not None or same:
        return same
      few = found.kind != 'quantile' or found.level in _QUANTILES
      return few and found.measure in shown

    rows = [row for row in rows if is_shown(decision(row))]
    found = _sweep(run, run.label, rows, decision, _order, own)
    both = any(m.end != end for m in run.measures)
    return dataclasses.replace(found, both_ends=both)


def participation_sweep(
    folder: str | os.PathLike[str], context: str, label: str | None = None
) -> Sweep:
  """Reads the sweep of one context of a run of experiment 2, as `sweep`.

  The rule of a decision says in how many heads a feature participates.
  """

  def decision(row: Mapping[str, Any]) -> Decision:
    heads = row['at_least']
    return Decision(
        rule=f'In at least {heads} head{"s" * (heads > 1)}',
        measure='',
        kind=row['thresholds'],
        level=row['level'],
    )

  with reading(folder, label=label) as run:
    rows = run.folder.read_table('sweep').to_pylist()
    kind, _, value = str(run.settings.get('participation', '')).partition(':')
    own = {'thresholds': kind, 'at_least': run.settings.get('at_least', 0)}
    if kind == 'quantile':
      own['level'] = float(value or 0.75)
    else:
      own['thresholds'] = f'null:{value or "random"}'
      own['level'] = number(run.settings.get('alpha'))
    return _sweep(
        run,
        f'{run.label}, {_style.CONTEXT_NAMES.get(context, context)}',
        [row for row in rows if row['context'] == context],
        decision,
        lambda d: int(d.rule.split()[3]),  # Heads become groups.
        decision(own),
    )


def _sweep(
    run: Run,
    label: str,
    rows: Iterable[Mapping[str, Any]],
    decision: Callable[[Mapping[str, Any]], Decision],
    order: Callable[[Decision], Any],
    own: Decision | None,
) -> Sweep:
  cells: dict[Decision, dict[int, tuple[float, float]]] = {}
  for row in rows:
    found = cells.setdefault(decision(row), {})
    if row['layer'] in found:
      raise ValueError(f'{decision(row)} has layer {row["layer"]} twice')
    found[row['layer']] = number(row['share']), number(row['null_share'])
  decisions = sorted(cells, key=order)
  layers = sorted({x for c in cells.values() for x in c} - {tables.ALL_LAYERS})
  none = math.nan, math.nan
  grid = np.array([
      [cells[d].get(x, none) for x in (*layers, tables.ALL_LAYERS)]
      for d in decisions
  ]).reshape(len(decisions), len(layers) + 1, 2)
  used = [i for i, d in enumerate(decisions) if own and _same(d, own)]
  return Sweep(
      label=label,
      about=run.about,
      layers=tuple(layers),
      decisions=tuple(decisions),
      share=grid[:, :-1, 0],
      whole=grid[:, -1, 0],
      null=grid[:, -1, 1],
      used=used[0] if used else None,
  )


def _order(decision: Decision) -> tuple[Any, ...]:
  """Votes before single measures, and in each the known order."""

  def place(name: str, known: tuple[str, ...]) -> tuple[int, str]:
    return (known.index(name) if name in known else len(known)), name

  level = math.inf if decision.level is None else decision.level
  names = tuple(measure.name for measure in measures.ALL_MEASURES)
  return (
      decision.k or 0,
      place(decision.measure, ('', *names)),
      place(decision.rule, _RULES),
      place(decision.kind, _KINDS),
      level,
  )


def _by_settings(run: Run) -> Decision | None:
  """What the settings of a run of experiment 1 say."""
  kind, _, value = str(run.settings.get('thresholds', '')).partition(':')
  level = None
  if kind != 'fixed':
    try:
      level = float(run.settings['alpha'] if kind == 'null' else value or 0.75)
    except (KeyError, TypeError, ValueError):
      return None
  rule = str(run.settings.get('rule'))
  return Decision(rule=rule, measure='', kind=kind, level=level)


def _same(one: Decision, other: Decision) -> bool:
  """Whether they differ by no more than the rounding of a level."""
  if dataclasses.replace(one, level=None) != dataclasses.replace(
      other, level=None
  ):
    return False
  if one.level is None or other.level is None:
    return one.level is other.level
  return math.isclose(one.level, other.level, rel_tol=1e-9)


def sweep_figure(
    sweep: Sweep, *, subject: str = 'Semantic features'
) -> MplFigure:
  """Draws the share of such features: a row a decision, a column a layer.

  Two more columns give the share of all layers together and that of random
  directions. Shades follow the root of the share, so that 1% differs from
  none; numbers are in per cent, where they fit. A triangle marks the decision
  of the run. The figure is at most 7.2 inches wide, and as high as the
  decisions ask for.
  """
  groups: dict[str, list[int]] = {}
  for i, decision in enumerate(sweep.decisions):
    groups.setdefault(_title(decision, sweep.both_ends), []).append(i)
  lines = len(sweep.decisions) + len(groups)
  row = min(max(_TALL / lines, _LOW_ROW), _ROW)
  columns = len(sweep.layers)
  cell = min((_style.WIDTH - _LEFT) / (columns + _GAP + 2), _CELL)
  if cell < _TOTAL:
    cell = (_style.WIDTH - _LEFT - 2 * _TOTAL) / (columns + _GAP)
  total = max(_TOTAL / cell, 1.0)
  end = columns + _GAP + 2 * total  # In cells, as all of the x axis is.
  width = max(_LEFT + cell * end, 3.6)
  with _style.new_figure(width, 1.35 + row * lines) as figure:
    axes = figure.add_subplot()
    norm = colors.PowerNorm(0.5, vmin=0, vmax=1)
    ticks, names, cells = [], [], []
    digits = 1 if cell > 0.33 else 0
    y = 0.0
    for title, rows in groups.items():
      axes.text(0, y + 0.55, title, fontsize=48 * row, color=INK, va='center')
      edges = y + 1 + np.arange(len(rows) + 1)
      last = np.stack([sweep.whole[rows], sweep.null[rows]], axis=1)
      for x, step, values, kind in (
          (0.0, 1.0, sweep.share[rows], 'layers'),
          (columns + _GAP, total, last, 'totals'),
      ):
        axes.pcolormesh(
            x + step * np.arange(values.shape[1] + 1),
            edges,
            np.ma.masked_invalid(values),
            norm=norm,
            cmap=_SHADES,
            edgecolors='white',
            linewidth=0.4,
            gid=kind,
        )
        cells += _cells((x, y + 1), step, values, digits)
      ticks += (edges[:-1] + 0.5).tolist()
      names += [
          ('▸ ' if i == sweep.used else '') + _row_name(sweep.decisions[i])
          for i in rows
      ]
      y += 1 + len(rows)
    axes.set_yticks(ticks, names)
    # Where all have room for three digits or '12.3', of 0.64 em each.
    if cell >= 3 * 0.64 * _NUMBER / 72:
      _annotate(axes, cells, _NUMBER)
    # Not every layer's name where there are many.
    shown = range(0, columns, -(-columns // 32))
    axes.set_xticks(
        [*(i + 0.5 for i in shown), end - 1.5 * total, end - 0.5 * total],
        [*(str(sweep.layers[i]) for i in shown), 'all', 'null'],
    )
    axes.set_xlabel('Layer', fontsize=8, color=INK)
    axes.xaxis.set_label_position('top')
    axes.set_xlim(0, end)
    axes.set_ylim(y, 0)
    axes.tick_params(labelsize=7, colors=INK, length=0, pad=2)
    axes.tick_params(axis='y', labelsize=45 * row)
    axes.tick_params(
        axis='x', top=True, labeltop=True, bottom=False, labelbottom=False
    )
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(
        cm.ScalarMappable(norm, _SHADES),
        ax=axes,
        orientation='horizontal',
        aspect=50,
        pad=0.01,
        fraction=0.03,
        ticks=_TICKS,
    )
    bar.ax.set_xticklabels([f'{100 * x:g}' for x in _TICKS])
    bar.ax.tick_params(labelsize=7, colors=INK, length=2)
    bar.outline.set_visible(False)
    bar.set_label(f'{subject} (%)', fontsize=8, color=INK)
    _style.head(
        figure,
        'Rules and thresholds: ',
        sweep.label,
        about=sweep.about,
    )
  return figure


def _title(decision: Decision, both_ends: bool) -> str:
  """What the rows of a group have in common."""
  labels = {measure.name: measure.label for measure in measures.ALL_MEASURES}
  if decision.k is not None:
    return 'The marked decision by other top tokens'
  if decision.measure:
    name = labels.get(decision.measure, decision.measure)
    where = ' at the top' if both_ends else ''
    return _style.short(f'{name.capitalize()}{where} alone', 40)
  words = ('no', 'one', 'two', 'three', 'four', 'five', 'six', 'seven')
  size = len(measures.MEASURES)
  every, most = words[size], words[size // 2 + 1]
  where = ' at either end' if both_ends else ''
  titles = {
      'any': f'Any of the {every} measures{where}',
      'majority': f'{most.capitalize()} of the {every} measures{where}',
      'all': f'All {every} measures{where}',
  }
  return titles.get(decision.rule) or _style.short(decision.rule, 40)


def _row_name(decision: Decision) -> str:
  """'null 0.01': the kind of threshold and its level."""
  if decision.k is not None:
    return f'{decision.k} tokens'
  level = '' if decision.level is None else f' {decision.level:g}'
  return _style.short(decision.kind + level, 24)


def _annotate(axes: Axes, cells: Iterable[_Cell], size: float) -> None:
  """Draws each character at all its places at once: texts take a second."""
  places: dict[tuple[str, float, bool], list[tuple[float, float]]] = {}
  for x, y, text, light in cells:
    left = -_style.text_width(text, size) / 2
    for character in text:
      places.setdefault((character, left, light), []).append((x, y))
      left += _style.text_width(character, size)
  font = FontProperties(family=['DejaVu Sans'], size=size)
  for (character, left, light), offsets in places.items():
    glyph = TextPath((left, -0.365 * size), character, prop=font)
    axes.add_collection(
        PathCollection(
            [Path(glyph.vertices / 72, glyph.codes)],
            offsets=offsets,
            offset_transform=axes.transData,
            transform=axes.figure.dpi_scale_trans,
            facecolor=INK if light else 'white',
            linewidth=0,
            gid=f'character {character}',
        ),
        autolim=False,
    ).set_in_layout(False)


def _cells(
    corner: tuple[float, float], step: float, values: np.ndarray, digits: int
) -> Iterator[_Cell]:
  """Per cents, dark on light shades, of cells `step` wide from a corner."""
  shades = matplotlib.colormaps[_SHADES](np.sqrt(np.clip(values, 0, 1)))
  light = shades[..., :3] @ [0.2126, 0.7152, 0.0722] > 0.5
  x, y = corner
  for i, j in zip(*np.nonzero(~np.isnan(values)), strict=True):
    text = f'{100 * values[i, j]:.{digits}f}'
    yield x + step * (j + 0.5), y + i + 0.53, text, bool(light[i, j])


OUTPUT_SWEEP = Figure(
    experiment='output_prediction',
    files=by_readout('sweep'),
    read=lambda folder, readout: sweep(folder, readout=readout),
    draw=sweep_figure,
)
ATTENTION_SWEEP = Figure(
    experiment='attention_participation',
    files=lambda summary: {f'sweep_{x}': x for x in measures.CONTEXTS},
    read=participation_sweep,
    draw=lambda read: sweep_figure(read, subject=PARTICIPATING),
)
