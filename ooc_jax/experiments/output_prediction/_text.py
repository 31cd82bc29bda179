"""What the script prints of a summary of experiment 1."""

from collections.abc import Mapping
from typing import Any

from ooc_jax import measures
from ooc_jax.experiments.output_prediction._config import OutputPrediction


def text(summary: Mapping[str, Any], config: OutputPrediction) -> list[str]:
  """The table of layers, the findings in sentences, and the examples."""
  from ooc_jax import report  # Matplotlib is slow to import.

  rows = (*summary['layers'], summary['total'])
  lines = [report.header(), *map(report.layer_line, rows), '']
  lines += _findings(summary, config)
  if summary['examples']:
    lines.append(
        '\nMost coherent features (lowest mean rank in the three measures):'
    )
    lines += report.example_lines(summary['examples'])
  return lines


def _findings(
    summary: Mapping[str, Any], config: OutputPrediction
) -> list[str]:
  limits, total = summary['thresholds'], summary['total']
  conditions = ', '.join(
      measure.condition(limits[measure.name]) for measure in measures.MEASURES
  )
  low, high = total['excess_low'], total['excess_high']
  shape = summary['shape']
  p = '' if shape['p_value'] is None else f' (p = {shape["p_value"]:.2g})'
  found = total['found']
  lines = [
      f'Semantic: {config.rule} of {conditions} ({config.thresholds}).',
      (
          f'Coherent by edit distance or cosine: {found["coherent"]:.1%}; sharp'
          f' by entropy: {found["sharp"]:.1%}; semantic by sharpness alone:'
          f' {found["sharp only"]:.1%}.'
      ),
      (
          f'Random directions ({config.null}): {total["null_share"]:.1%} are'
          f' called semantic; excess {total["excess"]:.1%} ({low:.1%} to'
          f' {high:.1%}).'
      ),
      f'Over depth: {shape["name"]}{p}.',
  ]
  for name, readout in summary['sides'].items():
    row, agreement = readout['total'], readout['agreement']
    lines.append(
        f'{name.capitalize()} side: {row["semantic"]["share"]:.1%} semantic;'
        f' {agreement["both"]:.1%} on both sides,'
        f' {agreement["shared_tokens"]:.1%} of top tokens shared.'
    )
  return lines
