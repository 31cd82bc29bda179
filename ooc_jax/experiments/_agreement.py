"""How well attention was predicted: its table, its summary and its lines."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from ooc_jax import validation
from ooc_jax.results import tables

_COLUMNS = ('spearman', 'low', 'high', 'null', 'null_low', 'null_high')
_SHOWN = {
    'strongest': 'strongest',
    'sum': 'sum',
    'sum_turned': 'turned',
    'biased_sum_turned': 'with bias',
    'tokens_turned': 'tokens',
}


def heads_table(agreement: validation.AttentionAgreement) -> pa.Table:
  """`VALIDATION_HEADS` of a layer: for each predictor the mean, then heads."""
  rows = []
  for name, own in agreement.predictors.items():
    null = own.null
    values = np.stack([own.spearman, own.low, own.high], axis=1)
    values = np.concatenate([np.array([own.mean]), values])
    chance = np.full(values.shape, np.nan)
    if null is not None:
      null = np.concatenate([null.mean(axis=0, keepdims=True), null])
      low, high = np.quantile(null, (0.025, 0.975), axis=1)
      chance = np.stack([null.mean(axis=1), low, high], axis=1)
    for head, row in enumerate(np.concatenate([values, chance], axis=1), -1):
      known = zip(_COLUMNS, row.tolist(), strict=True)
      rows.append(
          {'layer': agreement.layer, 'windows': agreement.windows}
          | {'pairs': agreement.pairs, 'predictor': name, 'head': head}
          | {column: x for column, x in known if x == x}
      )
  return tables.VALIDATION_HEADS.build_rows(rows)


def heads_summary(
    table: pa.Table, dictionary_layer: int | None
) -> dict[str, Any]:
  """Of a layer: for each predictor the mean of its heads, and how many are
  over their null.

  Args:
    table: `VALIDATION_HEADS`.
    dictionary_layer: By which the table is named; None of the one before layer
      0.
  """
  rows = table.to_pylist()
  predictors, heads = {}, []
  for name in dict.fromkeys(row['predictor'] for row in rows):
    mean, *heads = [row for row in rows if row['predictor'] == name]
    over = [
        row['low'] > row['null_high']
        for row in heads
        if row['low'] is not None and row['null_high'] is not None
    ]
    predictors[name] = {column: mean[column] for column in _COLUMNS} | {
        'heads_over_null': sum(over) if mean['null'] is not None else None
    }
  about = {name: rows[0][name] for name in ('layer', 'windows', 'pairs')}
  return about | {
      'dictionary_layer': dictionary_layer,
      'heads': len(heads),
      'predictors': predictors,
  }


def heads_text(layers: Sequence[Mapping[str, Any]]) -> list[str]:
  """Lines about `heads_summary` of each layer.

  Args:
    layers: Rising; without one there are no lines.
  """
  if not layers:
    return []
  from ooc_jax import report  # Matplotlib is slow to import.

  rows = [['layer', *_SHOWN.values(), 'distance']]
  for row in layers:
    own = row['predictors']
    cells = [_cell(own[name]) for name in _SHOWN]
    distance = own['distance']['spearman']
    rows.append([str(row['layer']), *cells, _number(distance)])
  first = layers[0]
  return [
      (
          'Attention: Spearman correlation of the true scores before the'
          ' softmax with the'
      ),
      (
          f'scores of features, mean of {first["heads"]} heads (features'
          ' permuted); * is over'
      ),
      (
          f'chance. {first["pairs"]} pairs of positions in {first["windows"]}'
          ' windows. Without rotation: the'
      ),
      (
          'strongest features, the sum of all. At the true distance (turned):'
          ' the sum,'
      ),
      'the sum with the bias of the decoder, tokens; and the distance alone.',
      *report.aligned_table(rows),
  ]


def _cell(own: Mapping[str, Any]) -> str:
  value, null, low = own['spearman'], own['null'], own['low']
  over = None not in (low, own['null_high']) and low > own['null_high']
  return f'{_number(value)}{"*" if over else ""} ({_number(null)})'


def _number(value: float | None) -> str:
  # No sign of what is rounded to 0.
  return '-' if value is None else f'{round(value, 2) + 0.0:.2f}'
