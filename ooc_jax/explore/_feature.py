"""Everything that is known of one feature."""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
import pathlib
from typing import Any

import numpy as np

from ooc_jax._errors import InputError
from ooc_jax.explore import _charts
from ooc_jax.explore import _tables
from ooc_jax.explore import _words
from ooc_jax.explore._library import Study

_SIDES = (('output', ''), ('input', 'input_'), ('embedding', 'embedding_'))
_MOST_PARTNERS = 5


@dataclasses.dataclass(frozen=True)
class TokenBar:
  """A token of a list, its logit, and the length of its bar in per cent."""

  token: str
  logit: float
  length: float


@dataclasses.dataclass(frozen=True)
class MeasureView:
  """A measure of a feature beside chance."""

  title: str
  about: str
  value: float | None
  passes: bool | None
  chart: _charts.Histogram | None


@dataclasses.dataclass(frozen=True)
class Side:
  """What a readout says of a feature."""

  name: str
  title: str
  top: Sequence[TokenBar]
  bottom: Sequence[TokenBar]
  labels: Mapping[str, Any]
  measures: Sequence[MeasureView]
  facts: Sequence[tuple[str, str]]


@dataclasses.dataclass(frozen=True)
class HeadView:
  """A feature in one head of attention.

  Attributes:
    layer: Of the attention.
    head: Its number.
    partners: Role -> partner and score.
    numbers: Name -> value.
    writes: Tokens that the head writes for the feature, if that is known.
  """

  layer: int
  head: int
  partners: Mapping[str, Sequence[tuple[int, float]]]
  numbers: Mapping[str, Any]
  writes: Sequence[str]


@dataclasses.dataclass(frozen=True)
class FeatureView:
  """What the page of a feature shows."""

  layer: int
  feature: int
  size: int
  sides: Sequence[Side]
  heads: Sequence[HeadView]
  validation: Mapping[str, Any]
  partner_tokens: Mapping[int, Sequence[str]]


def feature_view(study: Study, layer: int, feature: int) -> FeatureView:
  """Reads what is known of a feature.

  Raises:
    Damaged: A file that it is in cannot be read.
    InputError: There is no such layer, or no such feature in it.
  """
  files = study.output.layer_files() if study.output else {}
  attention = [
      x for x, own in _tables.attention_layers(study).items() if own == layer
  ]
  if layer not in files and not attention:
    raise InputError(f'There is no layer {layer} in these results.')
  sides, size = [], 0
  if layer in files:
    columns = _tables.columns(files[layer])
    size = _tables.counts({layer: files[layer]})[layer]
    row = _row(files[layer], feature)
    if row is None:
      raise InputError(
          f'There is no feature {feature} in layer {layer}, which has {size:,}.'
      )
    labels = _labels(study, layer, feature)
    for name, prefix in _SIDES:
      if f'{prefix}top_tokens' in columns:
        sides.append(_side(study, name, prefix, layer, row, labels))
  heads = [view for x in attention for view in _heads(study, x, layer, feature)]
  if not sides and not heads:
    raise InputError(f'There is no feature {feature} in layer {layer}.')
  partners = {
      x for view in heads for own in view.partners.values() for x, _ in own
  }
  tokens = top_tokens(study, layer, sorted(partners))
  own = _tables.validation_files(study).get(layer)
  validation = (_row(own, feature) or {}) if own is not None else {}
  return FeatureView(layer, feature, size, sides, heads, validation, tokens)


def _row(path: pathlib.Path, feature: int) -> dict[str, Any] | None:
  _tables.columns(path)  # Says so where the file is empty.
  found = _tables.rows(
      f'SELECT * FROM {_tables.source(path)} WHERE feature = {feature}'
  )
  return found[0] if found else None


def top_tokens(
    study: Study, layer: int, features: Sequence[int], most: int = 4
) -> dict[int, Sequence[str]]:
  """The first top tokens of some features of a layer."""
  files = study.output.layer_files() if study.output else {}
  if layer not in files or not features:
    return {}
  try:
    if 'top_tokens' not in _tables.columns(files[layer]):
      return {}
    found = _tables.rows(
        f'SELECT feature, top_tokens[:{most}] AS tokens FROM'
        f' {_tables.source(files[layer])}'
        f' WHERE feature IN ({", ".join(map(str, features))})'
    )
  except _tables.Damaged:
    return {}  # The page says what is damaged where that is shown.
  return {row['feature']: row['tokens'] for row in found}


def _labels(study: Study, layer: int, feature: int) -> dict[str, Any]:
  path = None if study.output is None else study.output.file('labels')
  if path is None:
    return {}
  try:
    _tables.columns(path)
    found = _tables.rows(
        f'SELECT * FROM {_tables.source(path)} WHERE layer = ? AND feature = ?',
        [layer, feature],
    )
  except _tables.Damaged:
    return {}
  return found[0] if found else {}


def _side(
    study: Study,
    name: str,
    prefix: str,
    layer: int,
    row: Mapping[str, Any],
    labels: Mapping[str, Any],
) -> Side:
  own = {k.removeprefix(prefix): v for k, v in row.items() if _of(k, prefix)}
  said = {
      k.removeprefix(prefix): v for k, v in labels.items() if _of(k, prefix)
  }
  biggest = max(
      (abs(x) for stem in ('top', 'bottom') for x in own[f'{stem}_logits']),
      default=1.0,
  )
  lists = [
      [
          TokenBar(token, logit, round(100 * abs(logit) / (biggest or 1), 1))
          for token, logit in zip(
              own[f'{stem}_tokens'], own[f'{stem}_logits'], strict=True
          )
      ]
      for stem in ('top', 'bottom')
  ]
  measures = []
  for measure, (title, about) in _words.MEASURES.items():
    if own.get(measure) is None:
      continue
    chart = _measure_chart(study, name, prefix, layer, measure, own[measure])
    passes = said.get(f'{measure}_passes')
    measures.append(MeasureView(title, about, own[measure], passes, chart))
  facts = [
      ('Logits, mean', _words.number(own.get('mean'), 2)),
      ('Logits, spread', _words.number(own.get('std'), 2)),
      ('Logits, skewness', _words.number(own.get('skewness'), 2)),
      ('Logits, excess kurtosis', _words.number(own.get('kurtosis'), 2)),
      ('Mass of the top tokens', _words.percent(own.get('top_mass'))),
      ('Under-trained top tokens', str(own.get('undertrained', '–'))),
  ]
  if own.get('active_share') is not None:
    facts.append(
        ('Active on', f'{_words.percent(own["active_share"])} of tokens')
    )
  if own.get('shared') is not None:
    facts.append(('Shared with output', _words.percent(own['shared'])))
  top, bottom = lists
  title = _words.READOUTS[name]
  return Side(name, title, top, bottom, said, measures, facts)


def _of(column: str, prefix: str) -> bool:
  """Whether a column is of a readout."""
  if prefix:
    return column.startswith(prefix)
  return not column.startswith(('input_', 'embedding_'))


def _measure_chart(
    study: Study,
    side: str,
    prefix: str,
    layer: int,
    measure: str,
    value: float,
) -> _charts.Histogram | None:
  assert study.output is not None
  run = study.output
  path = run.layer_files()[layer]
  features = _column(path, prefix + measure, path.stat().st_mtime_ns)
  chance = chance_of(study, side, measure)
  limits = dict(run.summary)
  if side != 'output':
    limits = (run.summary.get('sides') or {}).get(side) or {}
  rows = [x for x in limits.get('layers') or () if x.get('layer') == layer]
  thresholds = (rows[0].get('thresholds') if rows else None) or {}
  threshold = thresholds.get(measure)
  return _charts.histogram(chance, features, value, threshold)


@functools.lru_cache(64)
def _column(path: pathlib.Path, column: str, changed: int) -> np.ndarray:
  del changed  # Another value is another file.
  query = f'SELECT {_tables.name(column)} AS x FROM {_tables.source(path)}'
  return _tables.arrays(query)['x']


def chance_of(study: Study, side: str, measure: str) -> np.ndarray:
  """A measure of the random directions of a readout."""
  run = study.output
  if run is None:
    return np.zeros(0)
  stem = 'null' if side == 'output' else f'null_{side}'
  path = run.file(stem)
  try:
    if path is None or measure not in _tables.columns(path):
      return np.zeros(0)
    return _column(path, measure, path.stat().st_mtime_ns)
  except _tables.Damaged:
    return np.zeros(0)


def layer_column(study: Study, layer: int, column: str) -> np.ndarray:
  """A number of every feature of a layer; empty where it is not known."""
  files = study.output.layer_files() if study.output else {}
  if layer not in files or column not in _tables.columns(files[layer]):
    return np.zeros(0)
  return _column(files[layer], column, files[layer].stat().st_mtime_ns)


def _heads(
    study: Study, attention: int, layer: int, feature: int
) -> list[HeadView]:
  del layer  # Of the dictionary; the files are of the layers of attention.
  assert study.attention is not None
  row = _row(study.attention.layer_files()[attention], feature)
  if row is None or not row.get('query_max'):
    return []
  writes: dict[int, Sequence[str]] = {}
  try:
    for head in _tables.heads(study, but=('profile',)):
      if head['layer'] == attention:
        for key, tokens in zip(
            head.get('write_features') or (),
            head.get('write_tokens') or (),
            strict=False,
        ):
          if key == feature:
            writes[head['head']] = tokens
  except _tables.Damaged:
    pass  # The page of the heads says so.
  number = len(row['query_max'])
  views = []
  for head in range(number):
    partners = {}
    for role in ('query', 'key'):
      ids, scores = row.get(f'{role}_partners'), row.get(f'{role}_scores')
      if ids and scores:
        k = len(ids) // number
        pairs = zip(ids, scores, strict=True)
        partners[role] = list(pairs)[head * k : head * k + _MOST_PARTNERS]
    numbers = {
        name: row[name][head]
        for name in (
            'query_max',
            'largest_weight',
            'key_max',
            'largest_received',
        )
        if row.get(name)
    }
    views.append(
        HeadView(attention, head, partners, numbers, writes.get(head, ()))
    )
  return views


def best_pairs(
    study: Study, attention: int, head: int, most: int = 20
) -> list[dict[str, Any]]:
  """The pairs of query and key with the largest scores in a head."""
  run = study.attention
  files = {} if run is None else run.layer_files()
  if attention not in files:
    return []
  path = files[attention]
  if not _tables.known(path, ['query_partners']):
    return []
  return _tables.rows(
      'WITH t AS (SELECT feature, query_partners, query_scores,'
      ' len(query_partners) // len(query_max) AS k FROM'
      f' {_tables.source(path)})'
      ' SELECT feature AS query, query_partners[? * k + 1] AS key,'
      ' query_scores[? * k + 1] AS score FROM t'
      f' ORDER BY score DESC LIMIT {most}',
      [head, head],
  )
