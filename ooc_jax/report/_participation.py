"""What the figures of experiment 2 show, from its results folder."""

import dataclasses
import math
import os
from typing import Any

import numpy as np

from ooc_jax.report._curve import DepthCurve
from ooc_jax.report._curve import depth_curve
from ooc_jax.report._reading import name_of
from ooc_jax.report._reading import reading
from ooc_jax.report._style import number
from ooc_jax.report._sweep import Decision
from ooc_jax.report._sweep import Sweep

# Context -> how figures call it.
CONTEXT_NAMES = {
    'query_pre': 'query, score',
    'query_post': 'query, weight',
    'key_pre': 'key, score',
    'key_post': 'key, weight',
}
_NUMBERS = ('selectivity', 'diagonal_mass', 'copy_score', 'preferred_offset')
_WHOLE = -1  # The layer of a row about the whole model.


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class HeadMap:
  """A number of every head, for some names.

  Attributes:
    label: The name of the run.
    layers: L layer numbers, rising.
    shares: Context -> share of features in each head, [L, N]; NaN is a gap.
    numbers: Another name -> a number of each head, [L, N].
  """

  label: str
  layers: tuple[int, ...]
  shares: dict[str, np.ndarray]
  numbers: dict[str, np.ndarray]

  def __post_init__(self):
    grids = {**self.shares, **self.numbers}
    shapes = {grid.shape for grid in grids.values()}
    if len(shapes) != 1 or next(iter(shapes))[0] != len(self.layers):
      raise ValueError(
          f'Bad head map: {len(self.layers)} layers and grids {shapes}.'
      )


def participation_curve(
    folder: str | os.PathLike[str], context: str, label: str | None = None
) -> DepthCurve:
  """The share of participating features over depth, in one context.

  Args:
    folder: Of a finished run of experiment 2.
    context: One of `measures.CONTEXTS`.
    label: Its name; by default that of the context.

  Raises:
    InputError: Not a results folder, not finished, without that context, or a
      damaged summary.
  """
  name = CONTEXT_NAMES.get(context, context) if label is None else label
  return depth_curve(folder, name, side=context)


def head_map(
    folder: str | os.PathLike[str], label: str | None = None
) -> HeadMap:
  """Reads the table of heads of a finished run.

  Args:
    folder: Of experiment 2.
    label: The name of the run.

  Raises:
    InputError: Not a results folder, or no table of heads in it.
  """
  with reading(folder) as results:
    table = results.read_table('heads')
    layer, head = (np.asarray(table[x]) for x in ('layer', 'head'))
    layers = np.unique(layer)
    heads = int(head.max()) + 1

    def grid(name: str) -> np.ndarray:
      found = np.full((layers.size, heads), math.nan)
      values = [number(x) for x in table[name].to_pylist()]
      found[np.searchsorted(layers, layer), head] = values
      return found

    return HeadMap(
        label=name_of(results, label),
        layers=tuple(layers.tolist()),
        shares={x: grid(f'{x}_share') for x in CONTEXT_NAMES},
        numbers={x: grid(x) for x in _NUMBERS},
    )


def participation_sweep(
    folder: str | os.PathLike[str], context: str, label: str | None = None
) -> Sweep:
  """Reads the sweep of a finished run of experiment 2.

  It is `sweep.parquet`: a row for each context, threshold, number of heads and
  layer; see `measures.participation_sweep`.

  Args:
    folder: A results folder.
    context: One of `measures.CONTEXTS`.
    label: The name of the run.

  Returns:
    The sweep; the rule of a decision says in how many heads.

  Raises:
    InputError: Not a results folder, or no sweep in it, or a damaged one.
  """
  with reading(folder) as results:
    cells: dict[Decision, dict[int, tuple[float, float]]] = {}
    settings = results.config['settings']
    used = None
    for row in results.read_table('sweep').to_pylist():
      if row['context'] != context:
        continue
      m = row['at_least']
      heads = 'head' if m == 1 else 'heads'
      decision = Decision(
          rule=f'In at least {m} {heads}',
          measure='',
          kind=row['thresholds'],
          level=row['level'],
      )
      found = cells.setdefault(decision, {})
      found[row['layer']] = number(row['share']), number(row['null_share'])
      if _is_used(row, settings):
        used = decision
    # In the order of the table: heads within a threshold become groups.
    decisions = sorted(cells, key=lambda d: int(d.rule.split()[3]))
    layers = sorted({x for c in cells.values() for x in c} - {_WHOLE})
    grid = np.array(
        [[cells[d][x] for x in (*layers, _WHOLE)] for d in decisions]
    ).reshape(len(decisions), len(layers) + 1, 2)
    shown = CONTEXT_NAMES.get(context, context)
    return Sweep(
        label=f'{name_of(results, label)}, {shown}',
        layers=tuple(layers),
        decisions=tuple(decisions),
        share=grid[:, :-1, 0],
        whole=grid[:, -1, 0],
        null=grid[:, -1, 1],
        used=None if used is None else decisions.index(used),
    )


def _is_used(row: dict[str, Any], settings: dict[str, Any]) -> bool:
  """Whether a row is by the threshold of the run."""
  if row['at_least'] != settings.get('at_least'):
    return False
  kind, _, value = str(settings.get('participation', '')).partition(':')
  if kind == 'quantile':
    level = float(value or 0.75)
    return row['thresholds'] == kind and math.isclose(row['level'], level)
  name = f'null:{value or "random"}'
  return row['thresholds'] == name and math.isclose(
      row['level'], float(settings.get('alpha', math.nan))
  )
