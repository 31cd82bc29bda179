"""Features in the heads that read them, and the pairs of a head."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

from ooc_jax.explore import _tables
from ooc_jax.explore._library import Study

_MOST_PARTNERS = 5
_HEAD_NUMBERS = (
    'query_max',
    'largest_weight',
    'key_max',
    'largest_received',
)
_PARTNERS = (
    'query_partners',
    'query_scores',
    'key_partners',
    'key_scores',
)


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


def heads_of(study: Study, attention: int, feature: int) -> list[HeadView]:
  """A feature in the heads of a layer of attention that reads it.

  Raises:
    Damaged: The file of the layer cannot be read.
  """
  assert study.attention is not None
  row = _tables.row(
      study.attention.layer_files()[attention],
      feature,
      (*_HEAD_NUMBERS, *_PARTNERS),
  )
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
    numbers = {name: row[name][head] for name in _HEAD_NUMBERS if row.get(name)}
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
