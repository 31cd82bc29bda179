"""What a run found, in sentences, from its `summary.json`.

Whatever a summary lacks, because it was written by another version, makes a
sentence less.
"""

from collections.abc import Iterable, Mapping, Sequence
import math
import re
from typing import Any

from ooc_jax._text import p_text

CONTEXTS = {
    'query_pre': 'As a query, by score',
    'query_post': 'As a query, by weight',
    'key_pre': 'As a key, by score',
    'key_post': 'As a key, by weight',
}
READOUTS = {
    'output': 'Output side',
    'input': 'Input side',
    'embedding': 'Decoder on embedding',
}
MEASURES = {
    'levenshtein': ('Edit distance', 'low is coherent'),
    'cosine': ('Cosine', 'high is coherent'),
    'entropy': ('Entropy', 'nats, low is sharp'),
    'bottom_levenshtein': ('Edit distance, bottom', 'low is coherent'),
    'bottom_cosine': ('Cosine, bottom', 'high is coherent'),
}
HEAD_NUMBERS = {
    'selectivity': 'Selectivity',
    'median_selectivity': 'Median selectivity',
    'diagonal_mass': 'Diagonal mass',
    'copy_score': 'Copy score',
    'positive_share': 'Positive self-writes',
    'best_score': 'Best score',
    'entropy': 'Entropy, nats',
    'preferred_offset': 'Preferred distance',
    'query_pre_share': 'Participating queries, by score',
    'query_post_share': 'Participating queries, by weight',
    'key_pre_share': 'Participating keys, by score',
    'key_post_share': 'Participating keys, by weight',
}
# Column of the validation -> what it is.
_SCORES = {
    'output_decoder': 'Of the tokens that rise, in the lens of the decoder',
    'output_encoder': 'Of the tokens that rise, in the lens of the encoder',
    'output_peaks': 'Of the tokens that rise, among its peak tokens',
    'input_decoder': 'Of its peak tokens, in the lens of the decoder',
    'input_encoder': 'Of its peak tokens, in the lens of the encoder',
    'steering': 'Steering score',
}
_ACTIVITY = {
    'fires': 'Fires at so many positions',
    'mean_activation': 'Mean activation where it does',
    'max_activation': 'Largest activation',
    'lens_correlation': 'Correlation of lens and rise',
    'strength_low': 'Strength of steering, low',
    'divergence_low': 'Divergence at it, nats',
    'strength_high': 'Strength of steering, high',
    'divergence_high': 'Divergence at it, nats',
}
_LISTS = {
    'peak_tokens': 'Tokens at which it is most active',
    'raised_tokens': 'Tokens that rise most when it is added',
}
_TEXTS = {
    'prompt': 'A text',
    'plain': 'The model goes on',
    'steered_low': 'With a little of the feature',
    'steered_high': 'With more of it',
}
_STATEMENTS = {
    'inverse': 'Semantic and other features are inversely related over depth',
    'reversed': 'The relation is reversed for input labels of an untied model',
}


def percent(share: Any) -> str:
  """'41.8%', or a dash where there is no number."""
  return f'{100 * share:.1f}%' if _is_number(share) else '–'


def number(value: Any, digits: int = 3) -> str:
  """A number as short as it can be read, or a dash."""
  if isinstance(value, bool) or not _is_number(value):
    return '–'
  if isinstance(value, int):
    text = f'{value:,}'
  elif value and digits > 2 and abs(value) < 10**-digits:
    text = f'{value:.1e}'
  elif abs(value) >= 100:
    text = f'{value:,.0f}'
  else:
    text = f'{value:.{1 if abs(value) >= 10 and digits > 2 else digits}f}'
  return text.replace('-', '−')


def _is_number(value: Any) -> bool:
  return isinstance(value, (int, float)) and math.isfinite(value)


def shape_text(shape: Any) -> str:
  """'rising (p = 0.002)'."""
  if not isinstance(shape, Mapping) or 'name' not in shape:
    return ''
  p: Any = shape.get('p_value')
  return str(shape['name']) + (f' ({p_text(p)})' if _is_number(p) else '')


def output_findings(
    summary: Mapping[str, Any], settings: Mapping[str, Any]
) -> list[tuple[str, str]]:
  """Of experiment 1: what, and the sentence about it."""
  total = summary.get('total')
  if not isinstance(total, Mapping):
    return []
  found = []
  share = total.get('semantic') or {}
  if 'share' in share:
    text = f'{percent(share["share"])} of {total.get("features", 0):,} features'
    if _is_number(share.get('low')):
      interval = f'{percent(share["low"])} to {percent(share["high"])}'
      text += f' (95% interval {interval})'
    nulls = total.get('nulls') or {}
    chance = ' and '.join(
        f'{percent(null.get("share"))} of {null.get("directions", 0):,} {name}'
        for name, null in nulls.items()
        if isinstance(null, Mapping)
    )
    if chance:
      text += f', against {chance} random directions'
    found.append(('Semantic', text + '.'))
  kinds = total.get('found') or {}
  if {'coherent', 'sharp', 'sharp only'} <= set(kinds):
    found.append((
        'Why',
        (
            f'{percent(kinds["coherent"])} have top tokens that go together'
            f' (coherent); {percent(kinds["sharp"])} predict more sharply than'
            f' chance; {percent(kinds["sharp only"])} are semantic by sharpness'
            ' alone.'
        ),
    ))
  if _is_number(total.get('excess')) and _is_number(total.get('excess_low')):
    found.append((
        'Over chance',
        (
            f'{percent(total["excess"])} ({percent(total["excess_low"])} to'
            f' {percent(total["excess_high"])}, with the error of the'
            ' thresholds).'
        ),
    ))
  if shape := shape_text(summary.get('shape')):
    found.append(('Over depth', f'The share is {shape}.'))
  limits = summary.get('thresholds') or {}
  conditions = [
      f'{MEASURES[x][0].lower()}'
      f' {">" if "cosine" in x else "<"} {number(limits[x])}'
      for x in MEASURES
      if _is_number(limits.get(x))
  ]
  if conditions:
    rule = settings.get('rule', 'any')
    found.append(('Rule', f'{rule} of {", ".join(conditions)}.'.capitalize()))
  stability = total.get('stability') or {}
  names = {'null': 'another draw of chance', 'k': 'another number of tokens'}
  same = [
      f'{percent(stability[x])} under {name}'
      for x, name in names.items()
      if _is_number(stability.get(x))
  ]
  if same:
    found.append(('Stable', f'A label stays the same: {", ".join(same)}.'))
  for name, side in (summary.get('sides') or {}).items():
    own = (side.get('total') or {}).get('semantic') or {}
    agreement = side.get('agreement') or {}
    text = f'{percent(own.get("share"))} semantic'
    if _is_number(agreement.get('both')):
      text += (
          f'; {percent(agreement["both"])} on both sides,'
          f' {percent(agreement.get("shared_tokens"))} of top tokens shared'
      )
    if shape := shape_text(side.get('shape')):
      text += f'; over depth {shape}'
    found.append((READOUTS.get(name, name), text + '.'))
  return found


def attention_findings(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
  """Of experiment 2: context, and the sentence about it."""
  found = []
  for context, own in _in_order(summary):
    total = own.get('total') or {}
    share = (total.get('participating') or {}).get('share')
    if not _is_number(share):
      continue
    text = f'{percent(share)} participate'
    if nulls := total.get('nulls'):
      chance = ', '.join(f'{name} {percent(x)}' for name, x in nulls.items())
      text += f' (chance: {chance})'
    if shape := shape_text(own.get('shape')):
      text += f'; over depth {shape}'
    found.append((CONTEXTS.get(context, context), text + '.'))
  return found


def validation(row: Mapping[str, Any]) -> dict[str, Any]:
  """What the model's own forward pass says of a feature.

  Args:
    row: Of the table of the validation; empty where there is none.

  Returns:
    `scores`, each with its title, value and mean over the readouts of other
    features; `numbers`, `lists` of tokens and `texts`, with their titles.
  """
  scores = [
      (title, percent(row[x]), percent(row.get(f'{x}_permuted')))
      for x, title in _SCORES.items()
      if _is_number(row.get(x))
  ]
  numbers = [
      (title, number(row[x]))
      for x, title in _ACTIVITY.items()
      if _is_number(row.get(x))
  ]
  if row.get('sign') == -1:  # Of neurons, which write with either.
    numbers.insert(0, ('Steered by', 'its negative sign'))
  lists = [
      (title, [x for x in row[name] if x])
      for name, title in _LISTS.items()
      if any(row.get(name) or ())
  ]
  texts = [(title, row[x]) for x, title in _TEXTS.items() if row.get(x)]
  texts = texts if row.get('prompt') else []
  return {
      'scores': scores, 'numbers': numbers, 'lists': lists, 'texts': texts,
  }  # fmt: skip


def validation_findings(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
  """Of the validation: each score, beside what chance gives."""
  found = []
  for name, title in _SCORES.items():
    rows = _scores(summary, name)
    if not rows:
      continue
    means = [_mean([row.get('mean') for row in rows])]
    for null in ('permuted', 'random'):
      own = [(row.get(null) or {}).get('mean') for row in rows]
      means.append(_mean(own))
    value, other, random = map(percent, means)
    found.append((
        title,
        (
            f'{value} on average over layers; {other} with the lists of other'
            f' features, {random} of random directions.'
        ),
    ))
  return found


def validation_series(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
  """The output score over layers, for `line_chart`."""
  layers = [
      x
      for x in _layers(summary)
      if (x.get('scores') or {}).get('output_decoder')
  ]
  rows = _scores(summary, 'output_decoder')
  if not rows:
    return []
  x = [row['layer'] for row in layers]
  return [
      {
          'name': 'Output score',
          'x': x,
          'y': [row.get('mean') for row in rows],
          'low': [row.get('low') for row in rows],
          'high': [row.get('high') for row in rows],
          'look': 0,
      },
      *(
          {
              'name': name,
              'x': x,
              'y': [(row.get(null) or {}).get('mean') for row in rows],
              'look': look,
          }
          for null, name, look in (
              ('random', 'Random directions', 1),
              ('permuted', 'Lists of other features', -1),
          )
      ),
  ]


def _scores(summary: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
  """What is said of a score, layer by layer."""
  scores = [(x.get('scores') or {}).get(name) for x in _layers(summary)]
  return [x for x in scores if isinstance(x, Mapping)]


def _mean(values: Sequence[Any]) -> float | None:
  known = [x for x in values if _is_number(x)]
  return sum(known) / len(known) if known else None


def statement_findings(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
  """Of experiment 3: the verdict, and the statement it is about."""
  statements = summary.get('statements')
  if not isinstance(statements, Mapping):
    return []
  found = []
  for name, own in statements.items():
    text = _STATEMENTS.get(name, name.replace('_', ' ').capitalize())
    why = f' ({own["why"]})' if own.get('why') else ''
    found.append((str(own.get('verdict', '')).capitalize(), f'{text}{why}.'))
  return found


def depth_series(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
  """Shares over layers of experiment 1, for `line_chart`."""
  sides = {'output': summary, **(summary.get('sides') or {})}
  series = _series(sides.items(), 'semantic', READOUTS)
  layers = _layers(summary)
  if layers and all(_is_number(x.get('null_share')) for x in layers):
    series.append({
        'name': 'Random directions',
        'x': [row['layer'] for row in layers],
        'y': [row['null_share'] for row in layers],
        'look': -1,
    })
  return series


def attention_series(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
  """Shares over layers of experiment 2, for `line_chart`."""
  return _series(_in_order(summary), 'participating', CONTEXTS)


def _series(
    sides: Iterable[tuple[str, Any]], share: str, titles: Mapping[str, str]
) -> list[dict[str, Any]]:
  """A share of each side, with its interval."""
  series = []
  for i, (name, side) in enumerate(sides):
    layers = _layers(side)
    shares = [row.get(share) or {} for row in layers]
    if layers:
      series.append({
          'name': titles.get(name, name),
          'x': [row['layer'] for row in layers],
          'y': [x.get('share') for x in shares],
          'low': [x.get('low') for x in shares],
          'high': [x.get('high') for x in shares],
          'look': i,
      })
  return series


def _in_order(summary: Mapping[str, Any]) -> list[tuple[str, Any]]:
  """Context of attention and what is said of it, queries first."""
  sides = summary.get('sides') or {}
  return [(name, sides[name]) for name in CONTEXTS if name in sides]


def _layers(side: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
  rows = side.get('layers')
  rows = rows if isinstance(rows, list) else []
  good = [x for x in rows if isinstance(x, Mapping) and 'layer' in x]
  return sorted(good, key=lambda row: row['layer'])


def neuronpedia(model: str, dictionary: str, layer: int) -> str | None:
  """The part of an address at Neuronpedia, where the id is known.

  Only ids that follow from the name of the dictionary: the canonical residual
  ones of Gemma Scope, and those of Llama Scope.
  """
  match = re.search(
      r'gemma-scope-(2b|9b)-pt-(res|mlp|att)-canonical', dictionary
  )
  if match:
    width = re.search(r'width_(\d+k)', dictionary)
    size = width[1] if width else '16k'
    return f'gemma-2-{match[1]}/{layer}-gemmascope-{match[2]}-{size}'
  match = re.search(r'llama_scope_lx([rma])_(8x|32x)', dictionary)
  if match and '8b' in model.lower():
    kind = {'r': 'res', 'm': 'mlp', 'a': 'att'}[match[1]]
    size = {'8x': '32k', '32x': '131k'}[match[2]]
    return f'llama3.1-8b/{layer}-llamascope-{kind}-{size}'
  return None
