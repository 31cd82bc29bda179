"""What the script prints of a summary of experiment 1."""

from collections.abc import Mapping
from typing import Any

from ooc_jax import measures
from ooc_jax.experiments._summary import shape_text
from ooc_jax.experiments._validated import output_lines
from ooc_jax.experiments.output_prediction._config import OutputPrediction

_ENDS = ('top', 'bottom')  # That of the table and the examples is the first.


def text(summary: Mapping[str, Any], config: OutputPrediction) -> list[str]:
  """The table of layers, the findings in sentences, and the examples."""
  from ooc_jax import report  # Matplotlib is slow to import.

  rows = (*summary['layers'], summary['total'])
  end = next(x for x in _ENDS if x in summary['total']['ends'])
  ends = 'both' if len(summary['total']['ends']) > 1 else end
  lines = [report.header(ends), *map(report.layer_line, rows), '']
  lines += [*_findings(summary, config), *output_lines(summary)]
  if summary['examples']:
    lines.append(
        f'\nMost coherent features (lowest mean rank in the measures, {end}'
        ' tokens):'
    )
    lines += report.example_lines(summary['examples'])
  return lines


def _findings(
    summary: Mapping[str, Any], config: OutputPrediction
) -> list[str]:
  limits, total = summary['thresholds'], summary['total']
  known = [m for m in measures.ALL_MEASURES if m.name in total['measures']]
  conditions = ', '.join(m.condition(limits[m.name]) for m in known)
  found = total['found']
  lines = [
      f'Semantic: {config.rule} of {conditions} ({config.thresholds}).',
      (
          f'Coherent by edit distance or cosine: {found["coherent"]:.1%}; sharp'
          f' by entropy at a spread of {config.spread:g}: {found["sharp"]:.1%};'
          f' semantic by sharpness alone: {found["sharp only"]:.1%}.'
      ),
  ]
  if len(total['ends']) > 1:
    shares = ', '.join(f'{x} {total["ends"][x]:.1%}' for x in _ENDS)
    lines.append(f'Semantic at one end of the vocabulary: {shares}.')
  low, high = total['excess_low'], total['excess_high']
  chance = '; '.join(
      f'{null["share"]:.1%} of {null["directions"]:,} {name}'
      for name, null in total['nulls'].items()
  )
  stability = [
      f'{share:.1%} of {what}'
      for what, share in (
          ('resampled nulls', total['stability']['null']),
          ('other numbers of top tokens', total['stability']['k']),
      )
      if share is not None
  ]
  lines += [
      f'Random directions called semantic: {chance}.',
      (
          f'Excess over chance ({config.null}): {total["excess"]:.1%}'
          f' ({low:.1%} to {high:.1%}, with the error of the thresholds).'
      ),
      *(
          [f'A label is the same under {", and ".join(stability)}.']
          if stability
          else []
      ),
      f'Over depth: {shape_text(summary["shape"])}.',
  ]
  for name, readout in summary['sides'].items():
    row, agreement = readout['total'], readout['agreement']
    lines.append(
        f'{name.capitalize()} side: {row["semantic"]["share"]:.1%} semantic'
        f' ({row["found"]["sharp only"]:.1%} by sharpness alone);'
        f' {agreement["both"]:.1%} on both sides,'
        f' {agreement["shared_tokens"]:.1%} of top tokens shared.'
    )
    lines.append(f'  Over depth: {shape_text(readout["shape"])}.')
  return lines
