"""What weights cost beside activations, by formula, of eight real models.

No weights are read. `table` and `text` are what is printed; `run` leaves the
table as CSV and Markdown, and a figure, in a folder.
"""

from collections.abc import Sequence
import os
import pathlib

from matplotlib.figure import Figure

from ooc_jax import report
from ooc_jax import results
from ooc_jax import validation
from ooc_jax._files import atomic_write
from ooc_jax._files import make_folder

_NUMBERS = (
    'model',
    'features',
    'tokens',
    'activations_flops',
    'output_lens_flops',
    'input_lens_flops',
    'attention_flops',
    'activations_seconds',
    'weights_seconds',
    'equal_tokens',
)


def table(costs: Sequence[validation.Cost]) -> list[list[str]]:
  """Rows to read, the first the names of the columns."""
  speed = validation.FLOPS_PER_SECOND
  rows = [[
      'model',
      'F',
      'activations',
      's',
      'lenses',
      'pairs',
      's',
      'ratio',
      'equal at',
  ]]
  for x in costs:
    rows.append([
        x.name,
        f'{x.features}',
        _power(x.activations),
        _seconds(x.activations / speed),
        _power(x.output_lens + x.input_lens),
        _power(x.attention),
        _seconds(x.weights / speed),
        f'{x.activations / x.weights:.3g}',
        f'{x.equal_tokens / 1e6:.3g}M',
    ])
  return rows


def numbers(costs: Sequence[validation.Cost]) -> list[list[str]]:
  """The same to compute with, by part."""
  speed = validation.FLOPS_PER_SECOND
  rows = [list(_NUMBERS)]
  for x in costs:
    values = (
        x.activations,
        x.output_lens,
        x.input_lens,
        x.attention,
        x.activations / speed,
        x.weights / speed,
        x.equal_tokens,
    )
    rows.append([
        x.name,
        str(x.features),
        str(x.tokens),
        *(f'{value:.6g}' for value in values),
    ])
  return rows


def text(costs: Sequence[validation.Cost]) -> list[str]:
  """What is printed: the table, and what its numbers are."""
  tokens = f'{costs[0].tokens / 1e6:.1f}M'
  speed = f'{validation.FLOPS_PER_SECOND / 1e12:g}'
  return [
      *report.aligned_table(table(costs)),
      '',
      (
          'FLOPs of matrix products, with F features at every layer.'
          ' Activations: a'
      ),
      (
          f'forward pass over {tokens} tokens and every encoder. Weights:'
          ' lenses (decoders'
      ),
      (
          'with the unembedding, encoders with the embedding) and pairs of'
          ' features (in'
      ),
      (
          f'every head). Seconds (s) at {speed} TFLOP/s, as Llama 3 had them of'
          ' an H100, and'
      ),
      (
          'no file is read in them. "ratio": activations over weights; "equal'
          ' at": the'
      ),
      'tokens where it is 1.',
  ]


def figure(costs: Sequence[validation.Cost]) -> Figure:
  """Every part of every model, on one axis."""
  rows = [
      report.CostRow(
          x.name,
          {
              'activations': x.activations,
              'decoders with the unembedding': x.output_lens,
              'attention of features': x.attention,
              'all of the weights': x.weights,
          },
      )
      for x in costs
  ]
  about = f': {costs[0].tokens / 1e6:.1f}M tokens, or the weights'
  return report.cost_figure(
      rows, flops_per_second=validation.FLOPS_PER_SECOND, about=about
  )


def run(
    out: str | os.PathLike[str],
    *,
    tokens: int = validation.COST_TOKENS,
    figures: bool = True,
) -> list[validation.Cost]:
  """Leaves cost.csv, cost.md and figures/cost in a folder.

  Args:
    out: The folder.
    tokens: Of the text that activations would be read on.
    figures: Whether the figure is drawn.

  Raises:
    InputError: The folder cannot be written.
  """
  folder = pathlib.Path(out)
  make_folder(folder, parents=True)
  costs = validation.case_costs(tokens)
  csv = report.csv_table(numbers(costs))
  atomic_write(folder / 'cost.csv', csv.encode())
  words = report.markdown_table(table(costs))
  atomic_write(folder / 'cost.md', words.encode())
  if figures:
    results.write_figure(folder / 'figures' / 'cost', figure(costs))
  return costs


def _power(value: float) -> str:
  mantissa, _, exponent = f'{value:.1e}'.partition('e')
  return f'{mantissa}e{int(exponent)}'


def _seconds(value: float) -> str:
  return f'{value:.0f}' if value >= 10 else f'{value:.2g}'
