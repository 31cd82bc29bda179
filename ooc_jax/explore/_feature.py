"""Everything that is known of one feature."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
import pathlib
from typing import Any

import numpy as np

from ooc_jax._errors import InputError
from ooc_jax.explore import _attention
from ooc_jax.explore import _charts
from ooc_jax.explore import _tables
from ooc_jax.explore import _words
from ooc_jax.explore._library import Study

_SIDES = (('output', ''), ('input', 'input_'), ('embedding', 'embedding_'))
# Of a feature, after the prefix of a readout; the rest need not be read.
_LISTS = ('top_tokens', 'top_logits', 'bottom_tokens', 'bottom_logits')
_FACTS = {
    'mean': 'Logits, mean',
    'std': 'Logits, spread',
    'skewness': 'Logits, skewness',
    'kurtosis': 'Logits, excess kurtosis',
}
_LABELS = ('coherent', 'sharp', '_passes', 'q_value', 'at_resolution')
_SHARES = ('top_mass', 'undertrained', 'active_share', 'shared')


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
class Window:
  """A piece of text in which a feature is largest, or lowest.

  Attributes:
    value: Of its activation at the peak.
    before: Tokens before the peak.
    peak: The token at it.
    after: Tokens after it.
  """

  value: float
  before: Sequence[str]
  peak: str
  after: Sequence[str]


@dataclasses.dataclass(frozen=True)
class FeatureView:
  """What the page of a feature shows.

  Attributes:
    layer: Of the dictionary.
    feature: Its row.
    size: Features of the layer; 0 where experiment 1 does not have it.
    sides: A readout each.
    heads: In which it takes part.
    validation: Its row of the validation; empty where there is none.
    windows: In which it is largest, and then those in which it is lowest;
      None where the validation has none.
    partner_tokens: First top tokens of its partners.
    problems: Sentences about files that could not be read.
  """

  layer: int
  feature: int
  size: int
  sides: Sequence[Side]
  heads: Sequence[_attention.HeadView]
  validation: Mapping[str, Any]
  windows: Sequence[Window] | None
  partner_tokens: Mapping[int, Sequence[str]]
  problems: Sequence[str] = ()


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
  sides, size, problems = [], 0, []

  def read(function: Callable[..., Any], *args: Any) -> Any:
    """None, and a sentence more, where a file is damaged."""
    try:
      return function(*args)
    except _tables.Damaged as error:
      problems.append(f'Left out here: {error}')
      return None

  if layer in files:
    columns = _tables.columns(files[layer])
    size = _tables.counts({layer: files[layer]})[layer]
    shown = [
        prefix + x
        for _, prefix in _SIDES
        for x in (*_LISTS, *_FACTS, *_SHARES, *_words.MEASURES)
    ]
    row = _tables.row(files[layer], feature, shown)
    if row is None:
      raise InputError(
          f'There is no feature {feature} in layer {layer}, which has {size:,}.'
      )
    labels = read(_labels, study, layer, feature) or {}
    for name, prefix in _SIDES:
      if f'{prefix}top_tokens' in columns:
        sides.append(_side(study, name, prefix, layer, row, labels))
  heads = [
      view
      for x in attention
      for view in read(_attention.heads_of, study, x, feature) or ()
  ]
  if not sides and not heads:
    raise InputError(f'There is no feature {feature} in layer {layer}.')
  partners = {
      x for view in heads for own in view.partners.values() for x, _ in own
  }
  tokens = top_tokens(study, layer, sorted(partners))
  own = _tables.validation_files(study).get(layer)
  validation = (read(_tables.row, own, feature) if own else None) or {}
  windows = read(_windows, study, layer, feature)
  return FeatureView(
      layer, feature, size, sides, heads, validation, windows, tokens, problems
  )


def _windows(study: Study, layer: int, feature: int) -> Sequence[Window] | None:
  run = study.validation
  path = run.file(f'validation_windows_{layer:02d}') if run else None
  shown = ('rank', 'value', 'peak', 'tokens')
  if path is None or len(_tables.known(path, shown)) < len(shown):
    return None
  found = _tables.rows(
      f'SELECT {", ".join(shown)} FROM {_tables.source(path)}'
      f' WHERE feature = {feature} ORDER BY value < 0, rank'
  )
  return [
      Window(
          row['value'],
          row['tokens'][: row['peak']],
          row['tokens'][row['peak']],
          row['tokens'][row['peak'] + 1 :],
      )
      for row in found
      if 0 <= row['peak'] < len(row['tokens'])
  ]


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


def nearest(
    study: Study, layer: int, feature: int
) -> Sequence[tuple[int, float]] | None:
  """Features with the nearest decoders, and their cosines.

  None where the file of the layer does not have them.

  Raises:
    Damaged: The file cannot be read.
  """
  files = study.output.layer_files() if study.output else {}
  names = ('nearest', 'nearest_cosines')
  if layer not in files or len(_tables.known(files[layer], names)) < len(names):
    return None
  row = _tables.row(files[layer], feature, names)
  return list(zip(*(row[x] for x in names), strict=True)) if row else None


def _labels(study: Study, layer: int, feature: int) -> dict[str, Any]:
  path = None if study.output is None else study.output.file('labels')
  if path is None:
    return {}
  # Numbers that are not shown would double the time.
  shown = [x for x in _tables.columns(path) if x.endswith(_LABELS)]
  found = _tables.rows(
      f'SELECT {", ".join(map(_tables.name, shown)) or 1} FROM'
      f' {_tables.source(path)} WHERE layer = ? AND feature = ?',
      [layer, feature],
  )
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
      *((text, _words.number(own.get(x), 2)) for x, text in _FACTS.items()),
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


def _column(path: pathlib.Path, column: str, changed: int) -> np.ndarray:
  measured = _measured(path, changed)
  if column in measured:
    return measured[column]
  query = f'SELECT {_tables.name(column)} AS x FROM {_tables.source(path)}'
  return _tables.arrays(query)['x']


@functools.lru_cache(24)
def _measured(path: pathlib.Path, changed: int) -> dict[str, np.ndarray]:
  """The measures of all readouts of a file, in one query."""
  del changed  # Another value is another file.
  wanted = [prefix + x for _, prefix in _SIDES for x in _words.MEASURES]
  there = _tables.known(path, wanted)
  if not there:
    return {}
  shown = ', '.join(map(_tables.name, there))
  found = _tables.arrays(f'SELECT {shown} FROM {_tables.source(path)}')
  return {name: x.astype(np.float32) for name, x in found.items()}


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
