"""The shares of semantic features under every rule and threshold tried."""

import dataclasses
import math
import os
from typing import Any

import numpy as np

from ooc_jax.report._reading import MEASURES
from ooc_jax.report._reading import OUTPUT
from ooc_jax.report._reading import name_of
from ooc_jax.report._reading import reading
from ooc_jax.report._reading import table_of
from ooc_jax.report._style import number

_RULES = ('any', 'majority', 'all')
_KINDS = ('null', 'quantile', 'fixed')
_WHOLE = -1  # The layer of a row about the whole model.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decision:
  """One way to call features semantic.

  Attributes:
    rule: How many of the measures must pass; '' where one measure is alone.
    measure: That measure; '' where all three vote.
    kind: Of threshold.
    level: The null's share, or the quantile; None for fixed thresholds.
  """

  rule: str
  measure: str
  kind: str
  level: float | None


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Sweep:
  """The sweep of one run.

  Attributes:
    label: The name of the run.
    layers: Layer numbers, rising.
    decisions: R ways to decide: those by vote first, then single measures.
    share: Fraction of semantic features, [R, L]; NaN where there is none.
    whole: Of all layers together, [R].
    null: Fraction of random directions, all layers together, [R].
    used: The index of the decision that the run itself made; None where it is
      not among them.
  """

  label: str
  layers: tuple[int, ...]
  decisions: tuple[Decision, ...]
  share: np.ndarray
  whole: np.ndarray
  null: np.ndarray
  used: int | None = None

  def __post_init__(self):
    rows, layers = len(self.decisions), len(self.layers)
    shapes = {
        'share': (self.share.shape, (rows, layers)),
        'whole': (self.whole.shape, (rows,)),
        'null': (self.null.shape, (rows,)),
    }
    problems = [
        f'{name} is {found}, and should be {wanted}'
        for name, (found, wanted) in shapes.items()
        if found != wanted
    ]
    if not rows or not layers:
      problems.append(f'{rows} decisions and {layers} layers')
    if problems:
      raise ValueError(f'Bad sweep: {"; ".join(problems)}.')


def sweep(
    folder: str | os.PathLike[str],
    label: str | None = None,
    *,
    side: str = OUTPUT,
) -> Sweep:
  """Reads the sweep of a finished run.

  It is `sweep.parquet` (of another side `sweep_SIDE.parquet`): a row for each
  decision and layer, with `rule`, `kind`, `level`, `measure` ('' for a vote of
  the three), `layer` (-1 for the whole model), `share` and `null_share`.

  Args:
    folder: A results folder.
    label: See `depth_curve`.
    side: Likewise.

  Returns:
    The sweep.

  Raises:
    InputError: Not a results folder, or no sweep in it, or a damaged one.
  """
  with reading(folder) as results:
    cells: dict[Decision, dict[int, tuple[float, float]]] = {}
    names = ('rule', 'kind', 'level', 'measure', 'layer', 'share', 'null_share')
    table = (
        results.read_table(table_of(side, 'sweep')).select(names).to_pylist()
    )
    for row in table:
      measure, level = row['measure'] or '', number(row['level'])
      decision = Decision(
          rule='' if measure else row['rule'],
          measure=measure,
          kind=row['kind'],
          level=None if math.isnan(level) else level,
      )
      found = cells.setdefault(decision, {})
      if row['layer'] in found:
        raise ValueError(f'{decision} has layer {row["layer"]} twice')
      found[row['layer']] = number(row['share']), number(row['null_share'])
    decisions = sorted(cells, key=_order)
    layers = sorted({x for c in cells.values() for x in c} - {_WHOLE})
    none = math.nan, math.nan
    grid = np.array(
        [[cells[d].get(x, none) for x in (*layers, _WHOLE)] for d in decisions]
    ).reshape(len(decisions), len(layers) + 1, 2)
    return Sweep(
        label=name_of(results, label, side),
        layers=tuple(layers),
        decisions=tuple(decisions),
        share=grid[:, :-1, 0],
        whole=grid[:, -1, 0],
        null=grid[:, -1, 1],
        used=_used(decisions, results.config['settings']),
    )


def decision_text(decision: Decision) -> str:
  """'null 0.01': the kind of threshold and its level."""
  if decision.level is None:
    return decision.kind
  return f'{decision.kind} {decision.level:g}'


def _order(decision: Decision) -> tuple[Any, ...]:
  """Votes before single measures, and in each the known order."""
  level = math.inf if decision.level is None else decision.level
  return (
      _place(decision.measure, ('', *MEASURES)),
      _place(decision.rule, _RULES),
      _place(decision.kind, _KINDS),
      level,
  )


def _place(name: str, known: tuple[str, ...]) -> tuple[int, str]:
  return (known.index(name) if name in known else len(known)), name


def _used(decisions: list[Decision], settings: dict[str, Any]) -> int | None:
  """Where the settings of the run are among the decisions."""
  kind, _, value = str(settings.get('thresholds', '')).partition(':')
  level = None
  if kind != 'fixed':
    try:
      level = float(settings['alpha'] if kind == 'null' else value or 0.75)
    except (KeyError, TypeError, ValueError):
      return None
  for i, d in enumerate(decisions):
    if (d.measure, d.rule, d.kind) != ('', settings.get('rule'), kind):
      continue
    if level is None or d.level is None:
      if level is d.level:
        return i
    elif math.isclose(d.level, level, rel_tol=1e-9):
      return i
  return None
