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
    lines += [f'  {line}' for line in _tests(summary, name)]
    counts = [
        f'{verdict} in {sum(row[name] == verdict for row in summary["sweep"])}'
        for verdict in measures.VERDICTS
    ]
    lines.append(
        f'  Under {len(summary["sweep"])} choices of labels and ways over'
        f' heads: {", ".join(counts)}.'
    )
  return lines


def _tests(summary: Mapping[str, Any], statement: str) -> list[str]:
  """The slopes of delta and their p; what else there is to know of them."""
  tests = summary['statements'][statement]['tests']
  if not all('change' in test for test in tests.values()):
    return []  # Too few layers.
  both, changes = statement == 'reversed', []
  for name in measures.CONTEXTS:
    test = tests[name]
    if both:
      change = f'{test["output_change"]:+.3f} and {test["input_change"]:+.3f}'
      change += f' (difference p {test["difference_p_value"]:.2g})'
    else:
      change = f'{test["change"]:+.3f}'
    changes.append(f'{name} {change} p {test["p_value"]:.2g}')
  words = ' under output and input labels' if both else ''
  least = max(test['least_change'] or 0.0 for test in tests.values())
  lines = [
      (
          f"Change of Cliff's delta over depth{words}, p by labels permuted"
          f' within each layer: {", ".join(changes)}.'
      ),
      f'{least:.3f} is found in 80 of 100 cases.',
  ]
  if not both:
    own = summary['contexts']['output']
    trends = [
        f'{name} {own[name]["delta"]["trend_p_value"]:.2g}'
        for name in measures.CONTEXTS
    ]
    lines.append(
        'P of a trend where layers may also differ by themselves:'
        f' {", ".join(trends)}.'
    )
  return lines


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
