"""What experiment 2 says on a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from ooc_jax import measures
from ooc_jax._text import quoted
from ooc_jax.experiments._summary import shape_text
from ooc_jax.experiments._validated import attention_lines
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
  lines += ['', *_findings(summary, config), *attention_lines(summary)]
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
  # Of the context that the summary begins with.
  rows = [[*head, f'heads ({measures.CONTEXTS[0].replace("_", " ")})']]
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
  lines = []
  if config.length is not None:
    lines.append(
        'Features are on the mean of the stream, with a length of'
        f' {config.length:g} to its 1: what their scores share is the mean with'
        ' itself, which says nothing of a feature.'
    )
  lines += [
      f'Participating: in at least {config.at_least} of'
      f' {summary["num_heads"]} heads, over {threshold}.'
  ]
  for name, words in _NAMES.items():
    own = summary['sides'][name]
    total = own['total']
    share = total['participating']
    line = (
        f'{words}: {share["share"]:.1%} ({share["low"]:.1%} to'
        f' {share["high"]:.1%}) participate'
    )
    if config.null_kinds:
      others = ', '.join(
          f'{null} {total["nulls"][null]:.1%}' for null in config.null_kinds
      )
      line += (
          f'; by chance {others}; over {config.null_kinds[0]}'
          f' {total["excess"]:+.1%} ({total["excess_low"]:+.1%} to'
          f' {total["excess_high"]:+.1%})'
      )
    lines += [
        f'{line}.',
        f'  Over depth: {shape_text(own["shape"])}.',
        f'  Mean heads: {shape_text(own["shape_of_mean_heads"])}.',
    ]
  if 'mean_stream' in summary:
    lines.append(_mean_stream(summary['mean_stream']))
  top = summary['top_key']
  lines.append(
      f'One key takes at most {top["share"]:.1%} of the weight in a head'
      f' (key {top["key"]}, head {top["layer"]}.{top["head"]}); sinks above'
      ' --sink_share can be left out.'
  )
  counts = sorted(summary['shapes'].items(), key=lambda x: (-x[1], x[0]))
  shapes = ', '.join(f'{name} in {number}' for name, number in counts)
  lines.append(
      f'Over depth, under all {sum(summary["shapes"].values())} thresholds,'
      f' numbers of heads and contexts of the sweep: {shapes}.'
  )
  return lines


def _mean_stream(found: Mapping[str, Any]) -> str:
  """What the heads do with the mean of the stream, in a sentence."""
  names = {'dictionary': 'decoder bias', 'estimate': 'estimated'}
  origin = ', '.join(names[x] for x in found['origins'])
  near = {x: found['offsets'].get(x, 0) for x in ('0', '1', '2')}
  near['farther'] = found['heads'] - sum(near.values())
  offsets = ', '.join(f'{x} in {number}' for x, number in near.items())
  roles = ' and '.join(
      f'{found[f"{role}_mean"]:.2f} ± {found[f"{role}_std"]:.2f} as a {role}'
      for role in measures.ROLES
  )
  return (
      f'Mean of the stream ({origin}): of {found["heads"]} heads it prefers the'
      f' distance {offsets}; with it a feature scores {roles} (mean and spread'
      ' over features, mean over heads), and it with itself'
      f' {found["own"]:.2f}.'
  )


def _heads(examples: Sequence[Mapping[str, Any]]) -> list[str]:
  """A line a head."""
  from ooc_jax import report  # Matplotlib is slow to import.

  by_chance = 'relative_selectivity' in examples[0]
  # From the mean of the stream, which says better what a head prefers.
  of_mean = any(row.get('bias_offset') is not None for row in examples)
  head = ['head', 'F', 'selectivity'] + ['÷ chance'] * by_chance
  head += ['diagonal', 'copy', 'distance' if of_mean else 'distance (pairs)']
  rows = [[*head, 'writes']]
  for row in examples:
    copy = row['copy_score']
    rows.append([
        f'{row["layer"]}.{row["head"]}',
        str(row['features']),
        f'{row["selectivity"]:.1f}',
    ])
    if by_chance:
      rows[-1].append(f'{row["relative_selectivity"]:.2f}')
    offset = row['bias_offset' if of_mean else 'preferred_offset']
    rows[-1] += [
        f'{row["diagonal_mass"]:.3f}',
        '-' if copy is None else f'{copy:.2f}',
        '-' if offset is None else str(offset),
    ]
    tokens = row['write_tokens'] or [[]]
    rows[-1].append(' '.join(quoted(x, 16) for x in tokens[0]) or '-')
  # Tokens are quoted by now, and would be escaped a second time in a cell.
  table = report.aligned_table([row[:-1] for row in rows])
  return [f'{line}  {row[-1]}' for line, row in zip(table, rows, strict=True)]
