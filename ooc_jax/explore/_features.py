"""The table of features: filtered, sorted, a page at a time."""

from collections.abc import Mapping, Sequence
import dataclasses
import pathlib
from typing import Any

from ooc_jax.explore import _tables
from ooc_jax.explore._library import Study

PAGE = 50  # Rows.
SHOWN = 8  # Tokens of a row.
_ANSWERS = {'yes': '', 'no': 'NOT '}


@dataclasses.dataclass(frozen=True)
class Field:
  """A column of the table that can be sorted by.

  Attributes:
    key: Its name in addresses.
    title: In the head of the table.
    column: In the file.
    table: Which file: 'features', 'labels', 'participation', 'validation'.
    about: What it is, in a few words.
    kind: How it is shown: 'number', 'small', 'mark' or 'count'.
  """

  key: str
  title: str
  column: str
  table: str
  about: str
  kind: str = 'number'


_MEASURES = (
    Field('levenshtein', 'Edit dist.', 'levenshtein', 'features',
          'mean edit distance of the top tokens; low is coherent'),
    Field('cosine', 'Cosine', 'cosine', 'features',
          'mean cosine of the top tokens; high is coherent'),
    Field('entropy', 'Entropy', 'entropy', 'features',
          'of the prediction, nats; low is sharp'),
)  # fmt: skip
_LABELS = (
    Field('coherent', 'Coherent', 'coherent', 'labels',
          'its top tokens go together', 'mark'),
    Field('sharp', 'Sharp', 'sharp', 'labels',
          'its prediction is sharper than chance', 'mark'),
    Field('semantic', 'Semantic', 'semantic', 'labels',
          'by the rule of the run', 'mark'),
    Field('q', 'q', 'q_value', 'labels',
          'against random directions, after Benjamini-Hochberg', 'small'),
)  # fmt: skip
_VALIDATION = (
    Field('score', 'Output score', 'output_decoder', 'validation',
          'of the tokens that rise under steering, the share in its lens'),
    Field('fires', 'Fires', 'fires', 'validation',
          'positions of the corpus at which it is active', 'count'),
)  # fmt: skip
_HEADS = (
    Field('query', 'Query heads', 'query_pre_heads', 'participation',
          'heads in which it participates as a query', 'count'),
    Field('key', 'Key heads', 'key_pre_heads', 'participation',
          'heads in which it participates as a key', 'count'),
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Query:
  """What an address asks of the table.

  Attributes:
    layer: One layer, or None for all.
    side: A readout.
    coherent: 'yes', 'no' or '' for either; so are the next two.
    sharp: See there.
    participates: In at least one head, in some context.
    q: Largest q-value, or None.
    end: 'top', 'bottom' or '': the end of the vocabulary it is semantic by.
    score: Least output score, or None.
    fires: 'yes', 'no' or '': on the text of the validation.
    sort: Key of a `Field`, or 'id'.
    descending: Which way.
    page: From 1.
  """

  layer: int | None = None
  side: str = 'output'
  coherent: str = ''
  sharp: str = ''
  participates: str = ''
  q: float | None = None
  end: str = ''
  score: float | None = None
  fires: str = ''
  sort: str = 'id'
  descending: bool = False
  page: int = 1

  @property
  def prefix(self) -> str:
    """Of the columns of the readout."""
    return '' if self.side == 'output' else f'{self.side}_'


@dataclasses.dataclass(frozen=True)
class Sources:
  """The tables of a study with a row a feature, and what they have."""

  features: Mapping[int, pathlib.Path]
  labels: pathlib.Path | None
  participation: pathlib.Path | None
  validation: Mapping[int, pathlib.Path]
  layers: Mapping[int, int]  # Of attention -> of the dictionary.
  columns: Mapping[str, Sequence[str]]

  @classmethod
  def of(cls, study: Study) -> 'Sources':
    """What can be read; damaged files are left out."""
    features: Mapping[int, pathlib.Path] = {}
    labels = None
    if study.output is not None:
      features = _tables.whole(study.output.layer_files())
      labels = study.output.file('labels')
    validation = _tables.whole(_tables.validation_files(study))
    try:
      participation, heads = _tables.participation(study.attention)
    except _tables.Damaged:
      participation, heads = None, []
    columns = {'participation': heads}
    columns['features'] = _common(features)
    columns['validation'] = _common(validation)
    try:
      columns['labels'] = _tables.columns(labels)
    except _tables.Damaged:
      labels, columns['labels'] = None, []
    layers = _tables.attention_layers(study) if participation else {}
    if not layers:
      columns['participation'] = []  # No feature is known by its layer there.
    return cls(features, labels, participation, validation, layers, columns)

  def fields(self, prefix: str) -> list[Field]:
    """The fields of a readout that are there."""
    found = []
    for field in (*_MEASURES, *_LABELS, *_HEADS, *_VALIDATION):
      column = field.column
      if field.table in ('features', 'labels'):
        column = prefix + column
      if column in self.columns[field.table]:
        found.append(dataclasses.replace(field, column=column))
    keys = {x.key for x in found}
    if {'coherent', 'sharp'} <= keys:  # 'Semantic' is one or the other.
      found = [x for x in found if x.key != 'semantic']
    return found

  def query(self, table: str, layers: Sequence[int]) -> str:
    """Its rows of some layers of the dictionary, with `layer`, in SQL."""
    if table in ('features', 'validation'):
      files = self.features if table == 'features' else self.validation
      files = {x: path for x, path in files.items() if x in layers}
      names = [x for x in self.columns[table] if x != 'layer']
      return _tables.by_layer(files, names)
    wanted = ', '.join(map(str, layers))
    if table == 'labels':
      assert self.labels is not None
      return (
          f'SELECT * FROM {_tables.source(self.labels)}'
          f' WHERE layer IN ({wanted})'
      )
    assert self.participation is not None
    cases = ' '.join(f'WHEN {x} THEN {y}' for x, y in self.layers.items())
    return (
        f'SELECT * FROM (SELECT * REPLACE (CASE layer {cases} END AS layer)'
        f' FROM {_tables.source(self.participation)})'
        f' WHERE layer IN ({wanted})'
    )


def _common(files: Mapping[int, pathlib.Path]) -> list[str]:
  """The columns that every file has."""
  columns = [_tables.columns(path) for path in files.values()]
  return (
      [x for x in columns[0] if all(x in y for y in columns)] if files else []
  )


@dataclasses.dataclass(frozen=True)
class Page:
  """A page of the table.

  Attributes:
    fields: Its columns, after the feature and its tokens.
    rows: Each with `layer`, `feature`, `tokens`, and a value a field.
    total: Features on all pages.
    layers: That the study has.
  """

  fields: Sequence[Field]
  rows: Sequence[Mapping[str, Any]]
  total: int
  layers: Sequence[int]


def page(study: Study, query: Query) -> Page:
  """The rows that an address asks for.

  Raises:
    Damaged: A table cannot be read.
  """
  sources = Sources.of(study)
  fields = sources.fields(query.prefix)
  layers = [
      x for x in sources.features if query.layer is None or x == query.layer
  ]
  keys, total = _keys(sources, fields, query, layers)
  rows = _rows(sources, fields, query, keys)
  return Page(fields, rows, total, list(sources.features))


def chosen(study: Study, keys: Sequence[tuple[int, int]]) -> Page:
  """The rows of some features, by layer and number, in their order.

  Raises:
    Damaged: A table cannot be read.
  """
  sources = Sources.of(study)
  query = Query()
  fields = sources.fields(query.prefix)
  total = sum(_tables.counts(sources.features).values())
  rows = _rows(sources, fields, query, keys)
  return Page(fields, rows, total, list(sources.features))


def _keys(
    sources: Sources, fields: Sequence[Field], query: Query, layers: list[int]
) -> tuple[list[tuple[int, int]], int]:
  """Layer and feature of the rows of a page, and how many there are in all."""
  conditions, tables = _conditions(sources, fields, query)
  by_key = {field.key: field for field in fields}
  sort = by_key.get(query.sort)
  start = (query.page - 1) * PAGE
  counts = _tables.counts({x: sources.features[x] for x in layers})
  if not conditions and sort is None:
    total = sum(counts.values())
    found, before = [], 0
    for layer in sorted(counts, reverse=query.descending):
      size = counts[layer]
      for i in range(max(start - before, 0), min(start + PAGE - before, size)):
        found.append((layer, size - 1 - i if query.descending else i))
      before += size
    return found, total
  if not layers:
    return [], 0
  order = 'layer, feature'
  way = 'DESC' if query.descending else 'ASC'
  if sort is None:
    order = f'layer {way}, feature {way}'
  else:
    tables.add(sort.table)
    column = f'{sort.table}.{_tables.name(sort.column)}'
    order = f'{column} {way} NULLS LAST, layer, feature'
  if 'validation' in tables and not set(layers) & set(sources.validation):
    return [], 0
  first, *others = sorted(tables)
  joined = f'({sources.query(first, layers)}) AS {first}'
  for other in others:
    joined += f' JOIN ({sources.query(other, layers)}) AS {other}'
    joined += ' USING (layer, feature)'
  where = ' WHERE ' + ' AND '.join(conditions) if conditions else ''
  rows = _tables.rows(
      f'SELECT layer, feature, count(*) OVER () AS total FROM {joined}{where}'
      f' ORDER BY {order} LIMIT {PAGE} OFFSET {start}'
  )
  total = rows[0]['total'] if rows else 0
  return [(row['layer'], row['feature']) for row in rows], total


def _conditions(
    sources: Sources, fields: Sequence[Field], query: Query
) -> tuple[list[str], set[str]]:
  """What filters ask for, and the tables that they ask."""
  by_key = {field.key: field for field in fields}
  conditions, tables = [], set()

  def add(table: str, text: str) -> None:
    conditions.append(text)
    tables.add(table)

  for key, answer in (('coherent', query.coherent), ('sharp', query.sharp)):
    if answer in _ANSWERS and key in by_key:
      column = _tables.name(by_key[key].column)
      add('labels', f'{_ANSWERS[answer]}{column}')
  if query.q is not None and 'q' in by_key:
    add('labels', f'{_tables.name(by_key["q"].column)} <= {query.q!r}')
  if query.end in ('top', 'bottom'):
    passes = ends(sources, query.prefix)[query.end]
    if passes:
      text = ' OR '.join(map(_tables.name, passes))
      add('labels', f'({text})')
  heads = sources.columns['participation']
  if query.participates in _ANSWERS and heads:
    text = ' + '.join(map(_tables.name, heads))
    add('participation', f'{_ANSWERS[query.participates]}({text} > 0)')
  if query.score is not None and 'score' in by_key:
    add('validation', f'output_decoder >= {query.score!r}')
  if query.fires in _ANSWERS and 'fires' in by_key:
    add('validation', f'{_ANSWERS[query.fires]}(fires > 0)')
  return conditions, tables


def ends(sources: Sources, prefix: str) -> dict[str, list[str]]:
  """End of the vocabulary -> columns of labels that say it passes there."""
  others = ('input_', 'embedding_')
  found: dict[str, list[str]] = {'top': [], 'bottom': []}
  for column in sources.columns['labels']:
    own = column.removeprefix(prefix)
    if not column.startswith(prefix) or not own.endswith('_passes'):
      continue
    if not own.startswith(others):
      found['bottom' if own.startswith('bottom_') else 'top'].append(column)
  return found


def _rows(
    sources: Sources,
    fields: Sequence[Field],
    query: Query,
    keys: Sequence[tuple[int, int]],
) -> list[dict[str, Any]]:
  """What is shown of the features of a page, in its order."""
  if not keys:
    return []
  found: dict[tuple[int, int], dict[str, Any]] = {
      (layer, feature): {'layer': layer, 'feature': feature, 'tokens': []}
      for layer, feature in keys
  }
  layers = sorted({layer for layer, _ in keys})
  groups: dict[str, list[Field]] = {'features': []}
  for field in fields:
    groups.setdefault(field.table, []).append(field)
  tokens = f'{query.prefix}top_tokens'
  for table, own in groups.items():
    shown = [f'{_tables.name(x.column)} AS {_tables.name(x.key)}' for x in own]
    if table == 'features' and tokens in sources.columns['features']:
      shown.append(f'{_tables.name(tokens)}[:{SHOWN}] AS tokens')
    if not shown:
      continue
    columns = ', '.join(shown)
    # A file at a time, so that no other is opened.
    queries = []
    for layer in layers:
      wanted = ', '.join(str(y) for x, y in keys if x == layer)
      queries.append(
          f'SELECT layer, feature, {columns} FROM'
          f' ({sources.query(table, [layer])}) WHERE feature IN ({wanted})'
      )
    if table in ('labels', 'participation'):
      pairs = ', '.join(f'({x}, {y})' for x, y in keys)
      queries = [
          f'SELECT layer, feature, {columns} FROM'
          f' ({sources.query(table, layers)})'
          f' WHERE (layer, feature) IN ({pairs})'
      ]
    if table == 'validation':
      queries = [
          x
          for x, layer in zip(queries, layers, strict=True)
          if layer in sources.validation
      ]
    if queries:
      for row in _tables.rows(' UNION ALL '.join(queries)):
        found[row['layer'], row['feature']].update(row)
  return [found[key] for key in keys]
