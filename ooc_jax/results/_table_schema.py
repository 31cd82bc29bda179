"""A kind of table: its columns, how arrays become one, and back."""

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
import json
import typing
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from ooc_jax.results._summary import SCHEMA_VERSION

INT, LONG, BOOL = pa.int32(), pa.int64(), pa.bool_()
SINGLE, DOUBLE, TEXT = pa.float32(), pa.float64(), pa.string()
_WEIGHTS = b'ooc_jax.weights'


@typing.runtime_checkable
class Columns(Protocol):
  """A `pa.Table`, or one in a file that is read column by column."""

  @property
  def schema(self) -> pa.Schema:
    """With the metadata of the table."""
    ...

  @property
  def column_names(self) -> list[str]:
    """In their order."""
    ...

  def __getitem__(self, name: str) -> pa.ChunkedArray:
    """A column."""
    ...


@dataclasses.dataclass(frozen=True)
class Column:
  """One column.

  Attributes:
    name: In the file.
    kind: Of a number, or of what a row holds where that is no number.
    text: What it is, with its unit; '{k}' stands for the length of its lists.
    shape: Of the array in memory: 'F', 'F k', 'N F' or 'N F k', F the rows of
      the table.
    optional: Whether a file may lack it.
  """

  name: str
  kind: pa.DataType
  text: str = ''
  shape: str = 'F'
  optional: bool = False


@dataclasses.dataclass(frozen=True)
class TableSchema:
  """The columns of a kind of table, in their order.

  Attributes:
    columns: All that may be there.
    described: Whether the file says what its columns are.
  """

  columns: tuple[Column, ...]
  described: bool = False

  def build(
      self,
      columns: Mapping[str, Any],
      metadata: Mapping[str, str] | None = None,
  ) -> pa.Table:
    """A table of arrays.

    Args:
      columns: Name -> array of the shape of the column, or a list of strings or
        of what its kind says. `feature` may be left out: it is counted.
      metadata: Added to the file's.

    Raises:
      ValueError: A column is missing, unknown, misshapen, of another type or
        another length. All problems at once.
    """
    given = dict(columns)
    problems = []
    known = {column.name for column in self.columns}
    problems += [f'{name} is no column' for name in given if name not in known]
    fields, arrays = [], []
    for column in self.columns:
      if column.name == 'feature' and 'feature' not in given and arrays == []:
        continue  # Counted below, once the number of rows is known.
      if column.name not in given:
        if not column.optional:
          problems.append(f'{column.name} is missing')
        continue
      try:
        arrays.append(_arrow(column, given[column.name]))
        last = np.shape(given[column.name])[-1] if 'k' in column.shape else 0
        fields.append(self._field(column, arrays[-1].type, last))
      except (ValueError, TypeError, pa.ArrowException) as error:
        problems.append(f'{column.name}: {error}')
    lengths = {
        field.name: len(array)
        for field, array in zip(fields, arrays, strict=True)
    }
    if len(set(lengths.values())) > 1:
      problems.append(f'the numbers of rows differ: {lengths}')
    if problems:
      raise ValueError('Cannot build the table: ' + '; '.join(problems) + '.')
    first = self.columns[0]
    if first.name == 'feature' and 'feature' not in given:
      rows = len(arrays[0]) if arrays else 0
      arrays.insert(0, pa.array(np.arange(rows, dtype=np.int32)))
      fields.insert(0, self._field(first, pa.int32()))
    meta = dict(metadata or {})
    if self.described:
      meta = {'ooc_jax.schema': str(SCHEMA_VERSION), **meta}
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields, meta or None))

  def build_rows(self, rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """A table of rows; what a row lacks is null.

    Raises:
      ValueError: A row has something that is no column.
    """
    rows = [dict(row) for row in rows]
    known = {column.name for column in self.columns}
    given = {name for row in rows for name in row}
    if unknown := sorted(given - known):
      raise ValueError(f'Cannot build the table: no columns {unknown}.')
    shown = [c for c in self.columns if not c.optional or c.name in given]
    return pa.Table.from_pylist(
        rows, pa.schema([self._field(c, c.kind) for c in shown])
    )

  def array(self, table: Columns, name: str) -> Any:
    """One column in its shape in memory.

    Args:
      table: Of this schema.
      name: Of the column.

    Returns:
      An array, null as NaN; lists where the column holds no numbers.

    Raises:
      KeyError: The schema or the table has no such column.
    """
    column = self._named(name)
    values = table[name].combine_chunks()
    if column.shape == 'F':
      if pa.types.is_string(column.kind) or pa.types.is_nested(column.kind):
        return values.to_pylist()
      return values.to_numpy(zero_copy_only=False)
    if pa.types.is_string(column.kind):
      return values.to_pylist()
    flat = values.flatten().to_numpy(zero_copy_only=False)
    found = flat.reshape(-1, values.type.list_size)
    if column.shape == 'F k':
      return found
    if column.shape == 'N F':
      return found.T
    heads = next(
        table.schema.field(c.name).type.list_size
        for c in self.columns
        if c.shape == 'N F' and c.name in table.column_names
    )
    return found.reshape(len(found), heads, -1).transpose(1, 0, 2)

  def _named(self, name: str) -> Column:
    for column in self.columns:
      if column.name == name:
        return column
    raise KeyError(name)

  def _field(self, column: Column, kind: pa.DataType, k: int = 0) -> pa.Field:
    text = column.text.replace('{k}', str(k)) if self.described else ''
    return pa.field(
        column.name, kind, metadata={'description': text} if text else None
    )


def _arrow(column: Column, values: Any) -> pa.Array:
  if pa.types.is_string(column.kind):
    if isinstance(values, np.ndarray):
      values = values.tolist()
    return _strings(values, column.shape != 'F')
  if column.kind == pa.list_(pa.string()):
    return _strings(values, True)
  if pa.types.is_nested(column.kind):
    return pa.array(values, column.kind)
  array = np.asarray(values)
  axes = column.shape.split()
  if array.ndim != len(axes):
    raise ValueError(f'shape {array.shape} is not [{column.shape}]')
  if axes[0] == 'N':
    array = np.moveaxis(array, 0, 1)
    array = np.ascontiguousarray(array.reshape(array.shape[0], -1))
  flat = pa.array(_cast(array, column.kind).ravel())
  if array.ndim == 1:
    return flat
  if not array.shape[1]:
    raise ValueError('lists of length 0')
  return pa.FixedSizeListArray.from_arrays(flat, array.shape[1])


def _cast(array: np.ndarray, kind: pa.DataType) -> np.ndarray:
  """The same numbers in the type of the column; not a float for a label."""
  wanted = np.dtype(kind.to_pandas_dtype())
  # bfloat16 of ml_dtypes has kind 'V', and is exact in float32.
  found = 'f' if array.dtype.name == 'bfloat16' else array.dtype.kind
  if found == 'u':
    found = 'i'
  if found != wanted.kind or (
      found == 'f' and array.dtype.itemsize > wanted.itemsize
  ):
    raise ValueError(f'dtype {array.dtype} for a column of {kind}')
  if found == 'i' and array.size:
    limits = np.iinfo(wanted)
    if array.min() < limits.min or array.max() > limits.max:
      raise ValueError(f'a number does not fit in {kind}')
  return array.astype(wanted)


def _strings(values: Sequence[Any], nested: bool) -> pa.Array:
  kind = pa.list_(pa.string()) if nested else pa.string()
  try:
    return pa.array(values, kind)
  except UnicodeEncodeError:
    # A lone surrogate, half of a byte-level token, has no UTF-8.
    rows = [list(map(_utf8, v)) if nested else _utf8(v) for v in values]
    return pa.array(rows, kind)


def _utf8(text: str) -> str:
  return text.encode('utf-8', 'backslashreplace').decode()


FEATURE = Column('feature', INT)  # Row of the dictionary.


def columns(
    kind: pa.DataType, shape: str = 'F', /, **texts: str
) -> tuple[Column, ...]:
  return tuple(Column(name, kind, text, shape) for name, text in texts.items())


def with_weights(table: pa.Table, weights: Mapping[str, str]) -> pa.Table:
  """The table with the SHA-256 of the files its layer was read from."""
  return with_metadata(
      table, _WEIGHTS, json.dumps(dict(weights), sort_keys=True)
  )


def weights_of(table: Columns) -> dict[str, str]:
  """File -> SHA-256, as `with_weights` put them."""
  return json.loads(table.schema.metadata[_WEIGHTS])


def with_metadata(table: pa.Table, key: bytes, value: str) -> pa.Table:
  return table.replace_schema_metadata(
      {**(table.schema.metadata or {}), key: value}
  )
