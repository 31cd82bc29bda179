"""What experiment 3 says on a terminal."""

from collections.abc import Mapping
from typing import Any

from ooc_jax import measures
from ooc_jax.experiments.semantic_attention._config import SemanticAttention

_LABELLINGS = {
    'output': 'Semantic by decoder and unembedding',
    'input': 'Semantic by encoder and embedding',
}
_STATEMENTS = {
    'inverse': (
        'Semantic and other features are inversely related over depth'
        ' (output labels)'
    ),
    'reversed': 'The relation is reversed for input labels of an untied model',
}
_READINGS = {
    'courses': 'courses of the medians (- apart, + together)',
    'over_chance': 'medians over chance (- apart, + together)',
    'sides': 'sides of delta (- they change, + they stay)',
}


def text(summary: Mapping[str, Any], config: SemanticAttention) -> list[str]:
  """A table for each labelling, and the verdicts."""
  from ooc_jax import report  # Matplotlib is slow to import.

  del config  # The summary says it all.
  lines = []
  for labelling in [x for x in _LABELLINGS if x in summary['contexts']]:
    rows = [row for row in summary['effects'] if row['labelling'] == labelling]
    lines += [
        (
            f"{_LABELLINGS[labelling]}; Cliff's delta of semantic against other"
            ' features, * where q <= 0.05:'
        ),
        *report.aligned_table(_rows(rows)),
        '',
    ]
  for name, words in _STATEMENTS.items():
    found = summary['statements'][name]
    why = '' if found['why'] is None else f' ({found["why"]})'
    lines.append(f'{words}: {found["verdict"]}{why}.')
    for reading, title in _READINGS.items():
      if reading in found['readings']:
        lines.append(f'  {_reading(title, found["readings"][reading])}')
  return lines


def _reading(title: str, reading: Mapping[str, Any]) -> str:
  """One line: the verdict and the four tests."""
  tests = []
  for context in measures.CONTEXTS:
    test = reading['tests'][context]
    sign = {-1: '-', 0: '0', 1: '+'}[test['sign']]
    tests.append(f'{context} {sign} p {test["p_value"]:.2g}')
  return f'By the {title}: {reading["verdict"]}; {", ".join(tests)}.'


def _rows(effects: list[Mapping[str, Any]]) -> list[list[str]]:
  cells: dict[int, dict[str, Mapping[str, Any]]] = {}
  for row in effects:
    cells.setdefault(row['layer'], {})[row['context']] = row
  names = [name.replace('_', ' ') for name in measures.CONTEXTS]
  rows = [['layer', 'semantic', 'other', *names]]
  for layer, found in sorted(cells.items()):
    first = found[measures.CONTEXTS[0]]
    row = [str(layer), str(first['semantic']), str(first['other'])]
    for name in measures.CONTEXTS:
      own = found[name]
      if 'delta' not in own:
        row.append('-')
        continue
      mark = '*' if own['q_value'] <= 0.05 else ' '
      row.append(f'{own["delta"]:+.3f}{mark}')
    rows.append(row)
  return rows
