"""Tables of two runs that differ by rounding alone."""

from collections.abc import Mapping
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

# Statistics of float32 sums, whose last digits depend on their order.
_DIGITS = 3e-6


def tables(folder: pathlib.Path) -> Mapping[str, pa.Table]:
  """Every table of a results folder."""
  return {
      str(path.relative_to(folder)): pq.read_table(path)
      for path in sorted(folder.rglob('*.parquet'))
  }


def check(
    ours: Mapping[str, pa.Table],
    theirs: Mapping[str, pa.Table],
    *,
    null_size: int,
    ranks: int = 2,
) -> Mapping[str, float]:
  """AssertionError unless they are equal up to rounding.

  Ids, words and labels are the same. A p-value is a rank among random
  directions: as many change places as lie within the rounding of an entropy. A
  q-value is a p-value over its rank among the features, at most their number of
  them.

  Args:
    ours: By name.
    theirs: Likewise.
    null_size: How many random directions there are.
    ranks: By how many places a p-value may move; one of 32,768 directions has
      up to a dozen others within 1e-5 nats.

  Returns:
    The largest difference in each column where there is one.
  """
  assert ours.keys() == theirs.keys(), (ours.keys(), theirs.keys())
  found: dict[str, float] = {}
  for name, table in ours.items():
    other = theirs[name]
    assert table.schema == other.schema, name
    for column in table.column_names:
      a, b = table[column], other[column]
      while pa.types.is_list(a.type) or pa.types.is_fixed_size_list(a.type):
        a, b = pc.list_flatten(a), pc.list_flatten(b)
      place = f'{name} {column}'
      if not pa.types.is_floating(a.type):
        assert a.to_pylist() == b.to_pylist(), place
        continue
      a, b = (np.asarray(x.to_pylist(), np.float64) for x in (a, b))
      kind = column.removeprefix('input_').removeprefix('embedding_')
      rank = ranks / null_size * (1 + 1e-6)
      atol = {'p_value': rank, 'q_value': rank * table.num_rows}.get(kind)
      rtol = _DIGITS if atol is None else 0.0
      np.testing.assert_allclose(a, b, rtol, atol or _DIGITS, err_msg=place)
      if not np.array_equal(a, b, equal_nan=True):
        found[place] = float(np.nanmax(np.abs(a - b)))
  return found
