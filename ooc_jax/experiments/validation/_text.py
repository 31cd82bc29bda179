"""What the script prints of a summary of the validation."""

from collections.abc import Mapping, Sequence
from typing import Any

from ooc_jax.experiments._agreement import heads_text
from ooc_jax.experiments._summary import shape_text
from ooc_jax.experiments.validation._config import Validation

_HEADINGS = {
    'output_decoder': 'O lens',
    'output_encoder': 'O input',
    'output_peaks': 'O peaks',
    'input_decoder': 'I lens',
    'input_encoder': 'I input',
    'steering': 'steering',
}
_EXAMPLE_TOKENS = 6


def text(summary: Mapping[str, Any], config: Validation) -> list[str]:
  """Tables of scores and of labels, verdicts, and examples."""
  from ooc_jax import report  # Matplotlib is slow to import.

  layers = summary['layers']
  first = layers[0]['health']
  speed = first['tokens_per_second']
  lines = [
      (
          f'{first["tokens"]:,} tokens of {config.corpus!r} were read at'
          f' {speed:,.0f} tokens a second.'
      ),
      '',
      'Scores in %: mean (lists of other features / random directions); * is',
      'over both, by q <= 0.05. O: tokens that rise, among the tokens named by',
      (
          'the lens of the decoder, of the encoder (input), or by peaks on'
          ' text; I:'
      ),
      'peak tokens named; steering: (1 - min rank / V) max p.',
      *report.aligned_table(_score_rows(summary)),
      *_sign_lines(layers),
      '',
      'Semantic by weights and by activations, in %, with the correlation of',
      'the labels; health of the dictionary on this text, with 95%',
      'intervals; seconds as run, those of compiling apart.',
      *report.aligned_table(_label_rows(layers)),
      '',
  ]
  if 'cost' in summary:
    lines += [_cost_line(summary['cost']), '']
  for name, what in (
      ('output_decoder', 'The lens of the decoder names what rises'),
      ('input_encoder', 'The lens of the encoder names peak tokens'),
      ('input_decoder', 'The lens of the decoder names peak tokens'),
  ):
    lines.append(f'{what} {beats_text(summary["beats"][name])}.')
  for name, shape in summary['shapes'].items():
    lines.append(f'Over depth, by {name}: {shape_text(shape)}.')
  lines += ['', *_claim_lines(summary['claims'], config)]
  if summary['attention']:
    lines += ['', *heads_text(summary['attention'])]
    if summary['attention'][0]['layer']:
      lines += [
          (
              'Left out: layers whose attention no dictionary of the run is'
              ' before;'
          ),
          'that of layer 0 reads embeddings (--first).',
      ]
  for example in summary['examples']:
    lines += ['', *_example_lines(example)]
  return lines


def _cost_line(cost: Mapping[str, Any]) -> str:
  text, lens = cost['text_flops'], cost['lens_flops']
  return (
      f'Cost: activations {text:.1e} FLOPs in {cost["text_seconds"]:.1f} s,'
      f' both lenses {lens:.1e} in {cost["lens_seconds"]:.1f} s; as much by'
      f' FLOPs at {cost["tokens"] * lens / text:,.0f} tokens of'
      f' {cost["tokens"]:,}. Compiling took {cost["compile_seconds"]:.1f} s'
      ' more.'
  )


def beats_text(beats: Mapping[str, Any]) -> str:
  """Where a score is over chance, in words."""
  if beats['from'] is not None:
    return f'more often than either chance from layer {beats["from"]} on'
  both = sorted(set(beats['permuted']) & set(beats['random']))
  if both:
    return f'more often than either chance at {_layers(both)}'
  if beats['permuted']:
    return (
        'more often than lists of other features at'
        f' {_layers(beats["permuted"])}, and no more often than of random'
        ' directions'
    )
  return 'no more often than by chance'


def _layers(numbers: Sequence[int]) -> str:
  """'layer 3', 'layers 1, 3'."""
  ending = 's' if len(numbers) > 1 else ''
  return f'layer{ending} {", ".join(map(str, numbers))}'


def _sign_lines(layers: Sequence[Mapping[str, Any]]) -> list[str]:
  """Of neurons, which of them stand for minus themselves."""
  turned = [row['turned'] for row in layers if row['turned'] is not None]
  if not turned:
    return []
  low, high = (f'{100 * x:.0f}' for x in (min(turned), max(turned)))
  return [
      (
          'Neurons are read and steered by the sign that they fire with more,'
          ' which'
      ),
      f'is minus in {low} to {high}% of a layer.',
  ]


def _score_rows(summary: Mapping[str, Any]) -> list[list[str]]:
  rows = [['layer', *_HEADINGS.values(), 'lens~rise']]
  for row in summary['layers']:
    cells = []
    for name in _HEADINGS:
      over = all(
          row['layer'] in summary['beats'][name][null]
          for null in ('permuted', 'random')
      )
      cells.append(_score_cell(row['scores'][name], over))
    own, chance = row['lens_correlation'], row['null_lens_correlation']
    correlation = f'{_number(own, 2)} ({_number(chance, 2)})'
    rows.append([str(row['layer']), *cells, correlation])
  return rows


def _score_cell(score: Mapping[str, Any] | None, over: bool) -> str:
  if score is None:
    return '-'
  random = score['random']
  chance = '-' if random is None else f'{100 * random["mean"]:.1f}'
  return (
      f'{100 * score["mean"]:.1f}{"*" if over else ""}'
      f' ({100 * score["permuted"]["mean"]:.1f}/{chance})'
  )


def _label_rows(layers: Sequence[Mapping[str, Any]]) -> list[list[str]]:
  rows = [
      [
          'layer',
          'features',
          'weights',
          'activ.',
          'both',
          'phi',
          'judged',
          'rare',
      ]
      + ['L0', 'dead', 'FVU']
      + ['text s', 'lens s', 'steering s', 'compile s']
  ]
  for row in layers:
    health, table = row['health'], row['agreement']
    rare = '-'
    if row['rare'] is not None:
      rare = f'{row["rare"]["semantic"]}/{row["rare"]["features"]}'
    rows.append([
        str(row['layer']),
        str(row['features']),
        f'{100 * row["weights"]["share"]:.1f}',
        f'{100 * row["activations"]["share"]:.1f}',
        f'{100 * table["both"] / row["features"]:.1f}',
        _number(table['phi'], 2),
        f'{100 * row["judged"]:.0f}',
        rare,
        _interval(health, 'l0', 1),
        _number(None if health['dead'] is None else 100 * health['dead'], 1),
        _interval(health, 'fvu', 3),
        _number(health['text_seconds'], 1),
        _number(health['lens_seconds'], 1),
        _number(health['steering_seconds'], 1),
        _number(health['compile_seconds'], 1),
    ])
  return rows


def _claim_lines(claims: Mapping[str, Any], config: Validation) -> list[str]:
  missed, other, depth = claims['missed'], claims['other'], claims['depth']
  lines = ["The paper's claims, by tests on this model and text:"]
  words = 'no feature is rare on this text'
  if not missed['defined']:
    words = 'of neurons, firing is not defined'
  if missed['rare']:
    words = (
        f'of {missed["rare"]} that fire fewer than {config.rare} times,'
        f' {missed["semantic"]} are semantic by weights'
        f' (p = {missed["p_value"]:.2g} of chance)'
    )
    if missed['output_p_value'] is not None:
      words += (
          f'; {missed["scored"]} of them were steered, O over both nulls with'
          f' p = {missed["output_p_value"]:.2g}'
      )
  lines.append(
      f'  features that rarely fire have effects: {missed["verdict"]} ({words})'
  )
  lines.append(
      '  weights find other features than activations:'
      f' {other["verdict"]} ({other["missed"]} of {other["semantic"]} that are'
      ' semantic by weights are not so by activations)'
  )
  lines.append(
      f'  over another course of depth: {depth["verdict"]} (difference:'
      f' {depth["difference"]["name"]}; correlation of the courses'
      f' {_number(depth["correlation"], 2)},'
      f' p = {depth["relation_p_value"]:.2g})'
  )
  return lines


def _example_lines(example: Mapping[str, Any]) -> list[str]:
  tokens = {
      name: ' '.join(map(repr, example[name][:_EXAMPLE_TOKENS]))
      for name in ('lens', 'raised')
  }
  return [
      (
          f'layer {example["layer"]}, feature {example["feature"]}'
          f' (O {100 * example["score"]:.0f}%)'
      ),
      f'  lens     {tokens["lens"]}',
      f'  rise     {tokens["raised"]}',
      f'  plain    {example["prompt"]!r} {example["plain"]!r}',
      f'  0.25 nat {example["steered_low"]!r}',
      f'  0.5 nat  {example["steered_high"]!r}',
  ]


def _interval(health: Mapping[str, Any], name: str, digits: int) -> str:
  low, high = health[f'{name}_low'], health[f'{name}_high']
  if low is None:
    return _number(health[name], digits)
  return f'{health[name]:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})'


def _number(value: float | None, digits: int) -> str:
  return '-' if value is None else f'{value:.{digits}f}'
