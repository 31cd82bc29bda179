"""What the files of a results folder hold.

`summary.json` is a `Summary`. Shares are fractions from 0 to 1, entropies are
in nats, null stands for a number that does not exist (the median of nothing).
`features/layer=NN.parquet` is the table of `features_table`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

import numpy as np
import pyarrow as pa

SCHEMA_VERSION = 1


class Share(TypedDict):
  """A share of features with its bootstrap 95% interval."""

  share: float | None
  low: float | None
  high: float | None


class Agreement(TypedDict):
  """How far a side says the same of a feature as the output side."""

  shared_tokens: float  # Mean share of the top tokens in common.
  both: float  # Share of features with both labels.
  phi: float | None  # Correlation of the labels; null where one is constant.


class AttentionLayerSummary(TypedDict):
  """Of experiment 2: one layer, or all together, in one context of attention.

  With `layer`, `weights`, `features`, `null_share` and what follows it as in
  `LayerSummary`. The summary has `sides`: context -> `layers`, `total`, `shape`
  and `shape_of_mean_heads`.
  """

  participating: Share  # In at least so many heads as the run asks for.
  at_least: dict[str, Share]  # In at least so many heads.
  mean_heads: dict[str, float]  # mean, low, high.
  nulls: NotRequired[dict[str, float]]  # Null -> share of its directions.
  median: NotRequired[float]  # Of the statistic, over heads and features.
  thresholds: NotRequired[list[float]]  # Of each head.


class LayerSummary(TypedDict):
  """One layer, or `total`: all layers together, without `layer`."""

  layer: NotRequired[int]
  weights: NotRequired[dict[str, str]]  # Dictionary file -> SHA-256.
  features: int  # How many there are.
  semantic: Share  # Under the rule and the thresholds of the run.
  measures: dict[str, float | None]  # Measure -> share that passes it alone.
  median: dict[str, float | None]  # Measure -> median over the features.
  undertrained: float | None  # Share of the top tokens.
  null_share: NotRequired[float]  # Of random directions called semantic.
  null_directions: NotRequired[int]  # How many of them.
  excess: NotRequired[float]  # Share over chance, with its 95% interval.
  excess_low: NotRequired[float]
  excess_high: NotRequired[float]
  thresholds: NotRequired[dict[str, Any]]  # Of the layer.


class Example(TypedDict):
  """A feature worth showing, most coherent first."""

  layer: int
  feature: int
  levenshtein: float | None
  cosine: float | None
  entropy: float | None  # Nats.
  tokens: list[str]  # Raw text, highest logit first.


class SideSummary(TypedDict):
  """A side beside the output side."""

  layers: list[LayerSummary]
  total: LayerSummary
  thresholds: dict[str, Any]  # Of the first layer.
  shape: dict[str, Any]
  agreement: Agreement


class Summary(TypedDict):
  """The whole of `summary.json`."""

  schema: int  # `SCHEMA_VERSION` of the writer.
  experiment: str  # 'output_prediction', ...
  num_layers: int  # Of the model, not of the run.
  layers: list[LayerSummary]
  total: LayerSummary
  thresholds: dict[str, Any]  # Of the first layer.
  shape: NotRequired[dict[str, Any]]  # `measures.DepthShape`, with `p_value`.
  sides: NotRequired[dict[str, SideSummary]]  # But for the output side.
  examples: list[Example]


def features_table(
    columns: Mapping[str, np.ndarray | Sequence[Any]],
    *,
    descriptions: Mapping[str, str] | None = None,
) -> pa.Table:
  """Builds the table of one layer, one row a feature.

  Args:
    columns: Name -> an array [F] (a column), an array [F, k] (a column of lists
      of length k), F strings, or F sequences of strings. Float32, float64, bool
      and the small integers keep their type, other floats become float32 and
      other integers int32.
    descriptions: Name -> what the column is, with its unit; kept in the file as
      the metadata of the field.

  Returns:
    The table: `feature` (int32, 0 to F - 1), then `columns` in their order.

  Raises:
    ValueError: A column is misshapen, not F long, out of int32, of a type a
      table cannot hold or named `feature`; or a description has no column. All
      problems at once.
  """
  descriptions = descriptions or {}
  problems = [
      f'{name} is described but not there'
      for name in sorted(set(descriptions) - {*columns, 'feature'})
  ]
  arrays = {}
  for name, values in columns.items():
    try:
      arrays[name] = _arrow(values)
    except ValueError as error:
      problems.append(f'{name}: {error}')
  if 'feature' in columns:
    problems.append('feature is the name of the row index')
  if len({len(array) for array in arrays.values()}) > 1:
    lengths = {name: len(array) for name, array in arrays.items()}
    problems.append(f'the numbers of rows differ: {lengths}')
  if not columns:
    problems.append('no column, so the number of features is unknown')
  if problems:
    raise ValueError('Cannot build the table: ' + '; '.join(problems) + '.')
  rows = len(next(iter(arrays.values())))
  arrays = {'feature': pa.array(np.arange(rows, dtype=np.int32)), **arrays}
  fields = [
      pa.field(
          name,
          array.type,
          metadata={'description': descriptions[name]}
          if name in descriptions
          else None,
      )
      for name, array in arrays.items()
  ]
  schema = pa.schema(fields, {'ooc_jax.schema': str(SCHEMA_VERSION)})
  return pa.Table.from_arrays(list(arrays.values()), schema=schema)


def _arrow(values: np.ndarray | Sequence[Any]) -> pa.Array:
  if not isinstance(values, np.ndarray):
    return _strings(values)
  if values.ndim not in (1, 2):
    raise ValueError(f'shape {values.shape} is neither [F] nor [F, k]')
  flat = pa.array(_plain_dtype(values).ravel())
  if values.ndim == 1:
    return flat
  if not values.shape[1]:
    raise ValueError('lists of length 0')
  return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def _plain_dtype(values: np.ndarray) -> np.ndarray:
  kind = values.dtype.kind
  if kind == 'b' or values.dtype in (np.float32, np.float64):
    return values
  if kind in 'iu':
    if values.dtype.itemsize < 4 or values.dtype == np.int32:
      return values
    limits = np.iinfo(np.int32)
    if values.size and (values.min() < limits.min or values.max() > limits.max):
      raise ValueError('a number does not fit in int32')
    return values.astype(np.int32)
  # bfloat16 of ml_dtypes has kind 'V' and is exact in float32.
  if values.dtype == np.float16 or values.dtype.name == 'bfloat16':
    return values.astype(np.float32)
  raise ValueError(f'dtype {values.dtype} has no column type')


def _strings(values: Sequence[Any]) -> pa.Array:
  flat = all(isinstance(value, str) for value in values)
  if not flat and not all(
      isinstance(value, Sequence)
      and not isinstance(value, str)
      and all(isinstance(item, str) for item in value)
      for value in values
  ):
    raise ValueError('neither strings nor sequences of strings')
  kind = pa.string() if flat else pa.list_(pa.string())
  try:
    return pa.array(values, kind)
  except UnicodeEncodeError:
    # A lone surrogate, half of a byte-level token, has no UTF-8.
    rows = [_utf8(v) if flat else list(map(_utf8, v)) for v in values]
    return pa.array(rows, kind)


def _utf8(text: str) -> str:
  return text.encode('utf-8', 'backslashreplace').decode()
