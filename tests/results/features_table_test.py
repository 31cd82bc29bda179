"""The table of one layer."""

from absl.testing import absltest
from absl.testing import parameterized
import ml_dtypes
import numpy as np
import pyarrow as pa

from ooc_jax import results

_F, _K = 5, 3


def _columns():
  rng = np.random.default_rng(0)
  return {
      'top_ids': rng.integers(1, 2**20, (_F, _K)).astype(np.int32),
      'top_logits': rng.normal(size=(_F, _K)).astype(np.float32),
      'entropy': rng.random(_F, np.float32),
      'semantic': rng.random(_F) < 0.5,
      'q': rng.random(_F),
      'tokens': [[f' token {i}', '\n', 'é'] for i in range(_F)],
      'label': [f'feature "{i}"' for i in range(_F)],
  }


class FeaturesTableTest(parameterized.TestCase):

  def test_types_names_and_values(self):
    columns = _columns()
    table = results.features_table(columns)
    self.assertEqual(table.column_names, ['feature', *columns])
    expected = {
        'feature': pa.int32(),
        'top_ids': pa.list_(pa.int32(), _K),
        'top_logits': pa.list_(pa.float32(), _K),
        'entropy': pa.float32(),
        'semantic': pa.bool_(),
        'q': pa.float64(),
        'tokens': pa.list_(pa.string()),
        'label': pa.string(),
    }
    types = {field.name: field.type for field in table.schema}
    self.assertEqual(types, expected)
    self.assertEqual(table['feature'].to_pylist(), [0, 1, 2, 3, 4])
    for name, values in columns.items():
      if isinstance(values, np.ndarray):
        values = values.tolist()
      self.assertEqual(table[name].to_pylist(), values, name)

  def test_transposed_and_strided_arrays_are_read_as_they_are_indexed(self):
    ids = np.arange(1, 31, dtype=np.int32).reshape(_K, 10).T[::2]
    table = results.features_table({'ids': ids})
    self.assertEqual(table['ids'].to_pylist(), ids.tolist())

  @parameterized.parameters(
      (np.int64, pa.int32()),
      (np.uint32, pa.int32()),
      (np.uint8, pa.uint8()),
      (np.int16, pa.int16()),
      (np.float16, pa.float32()),
      (ml_dtypes.bfloat16, pa.float32()),
  )
  def test_dtype_becomes(self, dtype, expected):
    values = np.array([1, 2, 77]).astype(dtype)
    table = results.features_table({'x': values})
    self.assertEqual(table['x'].type, expected)
    self.assertEqual(table['x'].to_pylist(), [1, 2, 77])

  def test_nan_is_no_null(self):
    values = np.array([1.5, np.nan], np.float32)
    column = results.features_table({'x': values})['x']
    self.assertEqual(column.null_count, 0)
    np.testing.assert_array_equal(column.to_numpy(), values)

  def test_descriptions_are_kept_in_the_file(self):
    folder = self.create_tempdir().full_path
    table = results.features_table(
        _columns(),
        descriptions={'entropy': 'nats, over V', 'feature': 'row of decoder'},
    )
    with results.ResultsFolder.open(folder, {}, provenance={}) as out:
      out.write_layer(0, table)
      read = out.read_layer(0)
    self.assertTrue(read.equals(table))
    self.assertEqual(
        read.schema.field('entropy').metadata[b'description'], b'nats, over V'
    )
    self.assertIn(b'description', read.schema.field('feature').metadata)
    self.assertNotIn(
        b'description', read.schema.field('top_ids').metadata or {}
    )
    self.assertEqual(read.schema.metadata[b'ooc_jax.schema'], b'1')
    self.assertEqual(read.schema.field('top_ids').type.list_size, _K)

  def test_a_lone_surrogate_is_written_out(self):
    table = results.features_table({
        'x': [['a\udc80', '\ud83d\ude42']],
        'y': ['\udfff'],
    })
    self.assertEqual(table['x'].to_pylist(), [['a\\udc80', '\\ud83d\\ude42']])
    self.assertEqual(table['y'].to_pylist(), ['\\udfff'])

  @parameterized.parameters(
      ({'x': np.ones((2, 3, 4))}, r'x: shape \(2, 3, 4\)'),
      ({'x': np.ones(())}, r'x: shape \(\)'),
      ({'x': np.ones((2, 0))}, 'x: lists of length 0'),
      ({'x': np.ones(2, complex)}, 'x: dtype complex128'),
      ({'x': np.array(['a'])}, 'x: dtype <U1'),
      ({'x': np.array([None])}, 'x: dtype object'),
      ({'x': np.array([2**31])}, 'x: a number does not fit'),
      ({'x': np.array([-(2**31) - 1])}, 'x: a number does not fit'),
      ({'x': ['a', ['b']]}, 'x: neither strings nor'),
      ({'x': [['a', 1]]}, 'x: neither strings nor'),
      ({'x': np.ones(2), 'y': np.ones(3)}, "differ: {'x': 2, 'y': 3}"),
      ({'x': np.ones(2), 'y': [['a']]}, "differ: {'x': 2, 'y': 1}"),
      ({'feature': np.ones(2)}, 'feature is the name'),
      ({}, 'no column'),
  )
  def test_refused(self, columns, reason):
    with self.assertRaisesRegex(ValueError, reason):
      results.features_table(columns)

  def test_all_problems_at_once(self):
    with self.assertRaisesRegex(
        ValueError, 'z is described but not there; x: shape .*; y: dtype'
    ):
      results.features_table(
          {'x': np.ones((1, 1, 1)), 'y': np.ones(1, complex)},
          descriptions={'z': ''},
      )


if __name__ == '__main__':
  absltest.main()
