"""The two populations of experiment 3, from its results folder."""

import dataclasses
import math
import os
from typing import Any

import numpy as np

from ooc_jax.report._participation import CONTEXT_NAMES
from ooc_jax.report._reading import name_of
from ooc_jax.report._reading import reading
from ooc_jax.report._style import number

_LABELLINGS = {'output': 'decoder-unembedding', 'input': 'encoder-embedding'}
STATEMENTS = {'output': 'inverse', 'input': 'reversed'}
NUMBERS = ('mean', 'median', 'p75')
_EFFECTS = ('delta', 'low', 'high', 'u', 'p_value', 'q_value')


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ContextPopulations:
  """Both populations in one context of attention.

  Attributes:
    layers: L layer numbers, rising.
    semantic: Number (`NUMBERS`) -> its course, [L]; NaN is a gap.
    other: Likewise.
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
  """Reads one labelling of a finished run of experiment 3.

  Args:
    folder: Its results folder.
    labelling: 'output' or 'input'.
    label: The name of the run.

  Raises:
    InputError: Not a results folder, not finished, or without that labelling.
  """
  with reading(folder) as results:
    summary = results.read_summary()
    rows = results.read_table('populations').to_pylist()
    effects = results.read_table('effects').to_pylist()
    tests = summary['statements'][STATEMENTS[labelling]]['readings']['courses']
    contexts = {
        context: _context(
            [x for x in rows if _is_of(x, labelling, context)],
            [x for x in effects if _is_of(x, labelling, context)],
            tests['tests'][context],
        )
        for context in CONTEXT_NAMES
    }
    name = _LABELLINGS[labelling]
    return Populations(
        label=f'{name_of(results, label)}, {name} labels',
        num_layers=int(summary['num_layers']),
        contexts=contexts,
    )


def population_rows(
    folder: str | os.PathLike[str], labelling: str
) -> list[list[str]]:
  """The table of one labelling: a row for each context and layer.

  Args:
    folder: Of a finished run of experiment 3.
    labelling: 'output' or 'input'.

  Returns:
    Cells for `csv_table`, the first row the names of the columns; '' where
    there is no number.

  Raises:
    InputError: Not a results folder, or damaged tables.
  """
  with reading(folder) as results:
    rows = results.read_table('populations').to_pylist()
    effects = results.read_table('effects').to_pylist()
    both = ('semantic', 'other')
    columns = [f'{name}_{x}' for name in both for x in ('size', *NUMBERS)]
    table = [['context', 'layer', *columns, *_EFFECTS]]
    for effect in effects:
      if effect['labelling'] != labelling:
        continue
      place = effect['context'], effect['layer']
      mine = {
          row['population']: row
          for row in rows
          if row['labelling'] == labelling
          and (row['context'], row['layer']) == place
      }
      cells = [mine[name][x] for name in both for x in ('size', *NUMBERS)]
      cells += [effect[x] for x in _EFFECTS]
      table.append([place[0], str(place[1]), *map(_cell, cells)])
    return table


def _context(
    rows: list[dict[str, Any]],
    effects: list[dict[str, Any]],
    test: dict[str, Any],
) -> ContextPopulations:
  layers = sorted({row['layer'] for row in rows})
  courses = {}
  for name in ('semantic', 'other'):
    own = {row['layer']: row for row in rows if row['population'] == name}
    courses[name] = {
        x: np.asarray([number(own[layer][x]) for layer in layers])
        for x in NUMBERS
    }
  by_layer = {row['layer']: row for row in effects}
  delta, low, high, q = (
      np.asarray([number(by_layer[layer][x]) for layer in layers])
      for x in ('delta', 'low', 'high', 'q_value')
  )
  return ContextPopulations(
      layers=tuple(layers),
      semantic=courses['semantic'],
      other=courses['other'],
      delta=delta,
      low=low,
      high=high,
      q=q,
      sign=int(test['sign']),
      p_value=float(test['p_value']),
  )


def _is_of(row: dict[str, Any], labelling: str, context: str) -> bool:
  return row['labelling'] == labelling and row['context'] == context


def _cell(value: float | int | None) -> str:
  if value is None or (isinstance(value, float) and math.isnan(value)):
    return ''
  return repr(value)
