"""Tables of two runs that differ by rounding alone."""

from collections.abc import Mapping
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq


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
    features: int,
    ranks: int = 2,
    digits: float = 3e-6,
) -> Mapping[str, float]:
  """AssertionError unless they are equal up to rounding.

  Ids, words and labels are the same. A p-value is a rank among random
  directions: as many change places as lie within the rounding of an entropy. A
  q-value is a p-value over its rank among the features, at most their number of
  them. A null's share is of directions that pass a level which is one of their
  own values, its stability one of 400 nulls drawn from it. An active share
  counts tokens, and a share in a sweep counts features, of which one or two may
  be at the level itself.

  Args:
    ours: By name.
    theirs: Likewise.
    null_size: How many random directions there are.
    features: In a layer.
    ranks: By how many places a p-value may move; one of 32,768 directions has
      up to a dozen others within 1e-5 nats.
    digits: Relative and absolute, of float32 sums in another order.

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
      atol = {
          'p_value': rank,
          'q_value': rank * table.num_rows,
          'active_share': 2.5e-4,
          'share': 1.01 / features if 'sweep' in name else digits,
          'null_share': rank,
          'null_stability': 2 / 400,
      }.get(kind, digits)
      np.testing.assert_allclose(a, b, digits, atol, err_msg=place)
      if not np.array_equal(a, b, equal_nan=True):
        found[place] = float(np.nanmax(np.abs(a - b)))
  return found
