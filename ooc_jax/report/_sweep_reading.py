"""Reads the sweeps of a run: what is counted under every rule and threshold."""

from collections.abc import Callable, Iterable, Mapping
import dataclasses
import math
import os
from typing import Any

import numpy as np

from ooc_jax import measures
from ooc_jax.report import _style
from ooc_jax.report._reading import OUTPUT
from ooc_jax.report._reading import Run
from ooc_jax.report._reading import reading
from ooc_jax.report._style import number
from ooc_jax.results import tables

_RULES = ('any', 'majority', 'all')
_KINDS = ('null', 'quantile', 'fixed')
# Of the quantiles of a sweep, so that the figure fits a page.
_QUANTILES = (0.5, 0.75, 0.9)


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
