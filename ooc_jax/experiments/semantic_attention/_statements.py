"""The paper's two statements about the populations, by tests alone.

  inverse: "Semantic and non-semantic feature populations show inverse
    relationships in output-oriented contexts": the labels are those of the
    decoder and the unembedding.
  reversed: "but reversed relationships for input-encoding features in untied
    architectures": those of the encoder and the embedding, of an untied model.

The words allow several readings, and each has tests of its own, in the four
contexts of attention (query or key, score or weight):

  courses (the one that decides): the medians of the two populations go apart
    over depth, one up where the other goes down. `relation_over_depth` of the
    two courses of medians, with their standard errors. `inverse` expects
    apart; `reversed` expects together.
  over_chance: the same, after the median of the null is taken from both and the
    rest is divided by the null's quartile range, layer by layer; where
    experiment 2 had a null.
  sides: which population is ahead changes over depth (Cliff's delta).
    `crossing` of the deltas with the Mann-Whitney p of the layers. `inverse`
    expects a change. `reversed` expects that delta runs the other way than
    under the output labels: both courses of delta have a trend
    (`depth_shape`), of opposite signs; p is the larger of the two.

The four tests of a reading are judged together by `verdict`: q values over the
four, at 0.05. Layers where a population has too few features are left out;
with fewer than 6 layers nothing is decided. Of a tied model the second
statement says nothing, so it is not decided.

A caution: scores of a layer share the scale of its weights, which moves both
populations alike, against `inverse` and for `reversed`. The other two readings
are free of that.
"""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

import numpy as np

from ooc_jax import measures

APART, TOGETHER = -1, 1
_TIED = 'the model is tied, and the statement is about untied ones'
_UNREAD = 'there are no labels of the encoder and the embedding'
_LEAST_LAYERS = 6


def statements(
    rows: Sequence[Mapping[str, Any]], tied: bool
) -> dict[str, dict[str, Any]]:
  """The verdict on each statement, with the tests that it rests on.

  Args:
    rows: Of the table of effects, for every labelling, without what is null.
    tied: Whether the model is.

  Returns:
    'inverse' and 'reversed', each with `verdict` (of `measures.VERDICTS`, by
    the reading 'courses'), `why` (None, or why nothing was tested) and
    `readings`: 'courses', 'sides' and, with a null, 'over_chance', each with
    `verdict` and `tests`, context -> its numbers.
  """
  by = {
      labelling: {
          context: [
              row
              for row in rows
              if row['labelling'] == labelling
              and row['context'] == context
              and 'delta' in row
          ]
          for context in measures.CONTEXTS
      }
      for labelling in ('output', 'input')
  }
  inverse = {
      'courses': _judged(_each(by['output'], _course), APART),
      'sides': _judged(_each(by['output'], _side), APART),
  }
  why = None
  if tied:
    why = _TIED
  elif not any(row['labelling'] == 'input' for row in rows):
    why = _UNREAD
  opposite = {
      context: _opposite(by['output'][context], by['input'][context])
      for context in measures.CONTEXTS
  }
  if _has_chance(by['output']):
    tests = _each(by['output'], _over_chance)
    inverse['over_chance'] = _judged(tests, APART)
  # Of a tied model the tests are shown, and nothing is said.
  turned = {
      'courses': _judged(_each(by['input'], _course), TOGETHER, why),
      'sides': _judged(opposite, APART, why),
  }
  if _has_chance(by['input']):
    tests = _each(by['input'], _over_chance)
    turned['over_chance'] = _judged(tests, TOGETHER, why)
  few = _few_layers(by['output']) if why is None else None
  return {
      'inverse': _statement(inverse, _few_layers(by['output'])),
      'reversed': _statement(turned, why or few or _few_layers(by['input'])),
  }


def _statement(
    readings: Mapping[str, Mapping[str, Any]], why: str | None
) -> dict[str, Any]:
  return {
      'verdict': readings['courses']['verdict'],
      'why': why,
      'readings': readings,
  }


def _few_layers(contexts: Mapping[str, Sequence[Any]]) -> str | None:
  least = min(len(rows) for rows in contexts.values())
  if least >= _LEAST_LAYERS:
    return None
  count = '1 layer has' if least == 1 else f'{least} layers have'
  return (
      f'{count} enough features in both populations, and {_LEAST_LAYERS} are'
      ' needed'
  )


def _each(contexts, test) -> dict[str, dict[str, Any]]:
  return {name: test(rows) for name, rows in contexts.items()}


def _judged(
    tests: Mapping[str, Mapping[str, Any]],
    expected: int,
    why: str | None = None,
) -> dict[str, Any]:
  signs = [test['sign'] for test in tests.values()]
  p_values = [test['p_value'] for test in tests.values()]
  found = measures.verdict(signs, p_values, expected)
  return {
      'verdict': found if why is None else 'not decided',
      'tests': dict(tests),
  }


def _course(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
  """Sign and p of the two courses of medians."""
  relation = measures.relation_over_depth(
      _column(rows, 'layer'),
      _column(rows, 'semantic_median'),
      _column(rows, 'other_median'),
      _column(rows, 'semantic_error'),
      _column(rows, 'other_error'),
  )
  return dataclasses.asdict(relation)


def _has_chance(contexts: Mapping[str, Sequence[Mapping[str, Any]]]) -> bool:
  rows = [row for own in contexts.values() for row in own]
  return bool(rows) and all(row.get('chance_spread', 0) > 0 for row in rows)


def _over_chance(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
  """`_course` of how far the medians are over chance, in its own units."""
  scaled = []
  for row in rows:
    spread = row['chance_spread']
    scaled.append({'layer': row['layer']})
    for name in ('semantic', 'other'):
      over = row[f'{name}_median'] - row['chance_median']
      scaled[-1][f'{name}_median'] = over / spread
      scaled[-1][f'{name}_error'] = row[f'{name}_error'] / spread
  return _course(scaled)


def _side(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
  """Whether delta changes sides."""
  if len(rows) < _LEAST_LAYERS:
    return {'sign': 0, 'p_value': 1.0}
  sign, p = measures.crossing(_column(rows, 'delta'), _column(rows, 'p_value'))
  return {'sign': sign, 'p_value': p}


def _opposite(
    output: Sequence[Mapping[str, Any]], given: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
  """Whether delta runs the other way than under the output labels."""
  shapes = [
      measures.depth_shape(
          _column(rows, 'layer'), _column(rows, 'delta'), _errors(rows)
      )
      for rows in (output, given)
  ]
  trends = [(x.change, x.trend_p_value) for x in shapes]
  known = [(c, p) for c, p in trends if c is not None and p is not None]
  if len(known) < len(shapes):
    return {'sign': 0, 'p_value': 1.0}
  return {
      'sign': int(np.prod(np.sign([change for change, _ in known]))),
      'p_value': float(max(p for _, p in known)),
      'changes': [change for change, _ in known],
  }


def _errors(rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
  """Of delta; where no resample differs, that of one pair of features."""
  least = [1 / (row['semantic'] * row['other']) for row in rows]
  return np.maximum(_column(rows, 'error'), least)


def _column(rows: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
  kind = np.int64 if name == 'layer' else np.float64
  return np.asarray([row[name] for row in rows], kind)
