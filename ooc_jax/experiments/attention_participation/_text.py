"""What experiment 2 says on a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from ooc_jax import measures
from ooc_jax._text import quoted
from ooc_jax.experiments._summary import shape_text
from ooc_jax.experiments.attention_participation._config import (
    AttentionParticipation,
)

_NAMES = {
    'query_pre': 'As a query, largest score',
    'query_post': 'As a query, largest weight',
    'key_pre': 'As a key, largest score',
    'key_post': 'As a key, largest weight',
}


def text(
    summary: Mapping[str, Any], config: AttentionParticipation
) -> list[str]:
  """The table of layers, what the run found, and the most selective heads."""
  from ooc_jax import report  # Matplotlib is slow to import.

  lines = report.aligned_table(_rows(summary, config))
  lines += ['', *_findings(summary, config)]
  if summary['examples']:
    lines += ['', 'Most selective heads:', *_heads(summary['examples'])]
  return lines


def _rows(
    summary: Mapping[str, Any], config: AttentionParticipation
) -> list[list[str]]:
  """Shares in per cent, each with that of the first null behind it."""
  contexts = [summary['sides'][name] for name in measures.CONTEXTS]
  head = ['layer', 'features']
  for name in measures.CONTEXTS:
    head += [name.replace('_', ' ')] + ['chance'] * bool(config.null_kinds)
  rows = [[*head, 'mean heads']]
  groups = zip(*[(*x['layers'], x['total']) for x in contexts], strict=True)
  for group in groups:
    first = group[0]
    row = [str(first.get('layer', 'all')), str(first['features'])]
    for own in group:
      row.append(f'{own["participating"]["share"]:.1%}')
      if config.null_kinds:
        row.append(f'{own["null_share"]:.1%}')
    rows.append([*row, f'{first["mean_heads"]["mean"]:.2f}'])
  return rows


def _findings(
    summary: Mapping[str, Any], config: AttentionParticipation
) -> list[str]:
  """What the run found, in sentences."""
  if config.participation.startswith('quantile'):
    threshold = f'{config.participation} of all features, heads and layers'
  else:
    threshold = f'{config.participation} at {config.alpha:g}, head by head'
  lines = [
      f'Participating: in at least {config.at_least} of'
      f' {summary["num_heads"]} heads, over {threshold}.'
  ]
  for name, words in _NAMES.items():
    own = summary['sides'][name]
    total = own['total']
    line = f'{words}: {total["participating"]["share"]:.1%} participate'
    if config.null_kinds:
      others = ', '.join(
          f'{null} {total["nulls"][null]:.1%}' for null in config.null_kinds
      )
      line += f' (chance: {others})'
    lines.append(
        f'{line}; over depth {shape_text(own["shape"])}, mean heads'
        f' {shape_text(own["shape_of_mean_heads"])}.'
    )
  counts = sorted(summary['shapes'].items(), key=lambda x: (-x[1], x[0]))
  shapes = ', '.join(f'{name} in {number}' for name, number in counts)
  lines.append(
      f'Over depth, under all {sum(summary["shapes"].values())} thresholds,'
      f' numbers of heads and contexts of the sweep: {shapes}.'
  )
  return lines


def _heads(examples: Sequence[Mapping[str, Any]]) -> list[str]:
  """A line a head."""
  from ooc_jax import report  # Matplotlib is slow to import.

  rows = [[
      'head', 'selectivity', 'diagonal', 'copy', 'offset', 'writes'
  ]]  # fmt: skip
  for row in examples:
    copy = row['copy_score']
    rows.append([
        f'{row["layer"]}.{row["head"]}',
        f'{row["selectivity"]:.1f}',
        f'{row["diagonal_mass"]:.3f}',
        '-' if copy is None else f'{copy:.2f}',
        str(row['preferred_offset']),
    ])
    tokens = row['write_tokens'] or [[]]
    rows[-1].append(' '.join(quoted(x, 16) for x in tokens[0]) or '-')
  # Tokens are quoted by now, and would be escaped a second time in a cell.
  table = report.aligned_table([row[:-1] for row in rows])
  return [f'{line}  {row[-1]}' for line, row in zip(table, rows, strict=True)]
