"""An explanation on a terminal, in some thirty lines."""

from collections.abc import Mapping, Sequence
import textwrap
from typing import Any

from ooc_jax._text import display_width
from ooc_jax._text import printable
from ooc_jax._text import quoted
from ooc_jax.experiments.explain._compute import Explanation
from ooc_jax.experiments.explain._compute import Side
from ooc_jax.experiments.explain._config import FeatureName
from ooc_jax.experiments.explain._known import Known

_WIDTH = 100
_INDENT = 14
_LABEL = 36  # Of the longest measure.
_SIDES = {
    'output': ('Output side', 'promotes', 'suppresses'),
    'input': ('Input side', 'is read in', 'is shut by'),
}
_CONTEXTS = (('query', 'as a query'), ('key', 'as a key'))


def text(name: FeatureName, found: Explanation, known: Known) -> list[str]:
  """Lines without any character that a terminal would obey."""
  site, at = found.site.writes
  facts = f'  Length {found.norm:.3g}'
  if found.cosine is not None:
    facts += f', cosine with its encoder {found.cosine:.2f}'
  place = f'feature {found.feature} of {found.size:,}, {site} of layer {at}'
  lines = [f'{printable(found.name)}: {place}', _nearest(f'{facts}.', found)]
  if known.folders:
    folders = ', '.join(printable(x) for x in known.folders.values())
    lines += textwrap.wrap(
        f'With what is in {folders}.',
        _WIDTH,
        initial_indent='  ',
        subsequent_indent='  ',
    )
  if name.page is not None:
    lines.append(f'  {printable(name.page)}')
  for side in found.sides:
    lines += ['', *_side_lines(side, found.directions, known)]
  lines += ['', *_attention_lines(found, known)]
  lines += _writer_lines(found)
  return lines + _validation_lines(known)


def _line(title: str, body: str) -> str:
  return f'  {title:<{_INDENT - 2}}{body}'


def _tokens(tokens: Sequence[str], room: int = _WIDTH - _INDENT) -> str:
  """As many quoted tokens as there is room for."""
  shown = ''
  for token in tokens:
    more = f'{quoted(token, 24)} '
    if display_width(shown) + display_width(more) > room:
      break
    shown += more
  return shown.rstrip()


def _nearest(line: str, found: Explanation) -> str:
  """The line, and as many features with near decoders as it has room for."""
  start = ' Nearest:'
  for i, cosine in found.nearest:
    tokens = _tokens(found.partner_tokens[i], 14)
    cell = f'{start} {i} ({cosine:.2f}) {tokens}'.rstrip()
    if display_width(line + cell) > _WIDTH:
      break
    line, start = line + cell, ';'
  return line


def _side_lines(side: Side, directions: int, known: Known) -> list[str]:
  title, promotes, suppresses = _SIDES[side.name]
  prefix = '' if side.name == 'output' else f'{side.name}_'
  facts = [
      *_label(known.labels, prefix),
      f'logits {side.top[0][1]:.3g} to {side.bottom[0][1]:.3g}',
      f'{side.top_mass:.0%} on top {len(side.top)}',
  ]
  if side.active_share is not None:
    facts.append(f'active on {side.active_share:.1%}')
  lines = [f'{title}: {", ".join(facts)}']
  lines.append(_line(promotes, _tokens([x for x, _ in side.top])))
  lines.append(_line(suppresses, _tokens([x for x, _ in side.bottom])))
  limits = known.thresholds.get(side.name, {})
  for x in side.values:
    less = 'low' if x.measure.low_is_coherent else 'high'
    sign = '≤' if x.p <= 1 / directions else '='
    body = f'{x.value:6.2f}  random {x.chance:.2f}  p {sign} {x.p:.3f}'
    limit = limits.get(x.measure.name)
    if limit is not None:
      passes = known.labels.get(f'{prefix}{x.measure.name}_passes')
      body += f'  limit {limit:.2f}'
      if passes is not None:
        body += ', passes' if passes else ', does not pass'
    lines.append(f'  {x.measure.label} ({less})'.ljust(_LABEL) + body)
  return lines


def _label(labels: Mapping[str, Any], prefix: str) -> list[str]:
  """'coherent', 'not sharp', 'q = 0.02', of what is known."""
  words = [
      name if labels[prefix + name] else f'not {name}'
      for name in ('coherent', 'sharp')
      if labels.get(prefix + name) is not None
  ]
  q = labels.get(f'{prefix}q_value')
  if q is not None:
    sign = '≤' if labels.get(f'{prefix}at_resolution') else '='
    words.append(f'q {sign} {q:.2g}')
  return words


def _attention_lines(found: Explanation, known: Known) -> list[str]:
  layer = found.attention_layer
  if layer is None:
    return ['Attention: no layer reads it.']
  head = f'Attention of layer {layer}'
  counts = [
      f'{before} {title} ({after} by weight)'
      for role, title in _CONTEXTS
      if (before := known.participation.get(f'{role}_pre_heads')) is not None
      and (after := known.participation.get(f'{role}_post_heads')) is not None
  ]
  if counts:
    head += f': takes part in {", ".join(counts)}, of {known.num_heads} heads'
  lines = [head]
  for use in found.heads:
    cells = []
    for role, arrow in (('query', 'asks'), ('key', 'answers')):
      i, score = use.partners[role][0]
      tokens = _tokens(found.partner_tokens[i], 22)
      cells.append(f'{arrow} {i} ({score:.1f}) {tokens}')
    lines.append(_line(f'{layer}.{use.head}', '; '.join(cells)))
    lines.append(
        _line(
            '',
            f'largest weight {use.weight:.3f}; writes'
            f' {_tokens(use.writes, 60)}',
        )
    )
  return lines


def _writer_lines(found: Explanation) -> list[str]:
  if not found.writers:
    return []
  lines = [
      'Heads that can write it, by strength over chance (1), and from what'
  ]
  return lines + [
      _line(f'{x.layer}.{x.head}', f'{x.strength:.2f}  {_tokens(x.sources)}')
      for x in found.writers
  ]


def _validation_lines(known: Known) -> list[str]:
  row = known.validation
  if not row:
    return []
  facts = []
  if row.get('fires') is not None:
    share = f' ({row["fires"] / known.tokens:.2%})' if known.tokens else ''
    facts.append(f'fires at {row["fires"]:,} positions{share}')
  if row.get('max_activation') is not None:
    facts.append(f'largest activation {row["max_activation"]:.3g}')
  score = row.get('output_decoder')
  if score is not None and score == score:
    other = row.get('output_decoder_permuted') or 0.0
    facts.append(f'output score {score:.2f} ({other:.2f} of other lists)')
  lines = ['', f'On text: {", ".join(facts) or "not measured"}']
  for title, name in (('peaks at', 'peak_tokens'), ('raises', 'raised_tokens')):
    tokens = [x for x in row.get(name) or () if x]
    if tokens:
      lines.append(_line(title, _tokens(list(dict.fromkeys(tokens)))))
  for window in known.windows[:2]:
    lines.append(_line(f'{window["value"]:.3g}', _window(window)))
  return lines


def _window(window: Mapping[str, Any]) -> str:
  """Its text on one line, the token of the peak between »«."""
  peak, tokens = window['peak'], window['tokens']
  before = printable(''.join(tokens[:peak]))
  at = f'»{printable(tokens[peak])}«'
  room = _WIDTH - _INDENT - display_width(at)
  while before and display_width(before) > room * 2 // 3:
    before = before[1:]
  after = printable(''.join(tokens[peak + 1 :]))
  while after and display_width(before + after) > room:
    after = after[:-1]
  return before + at + after
