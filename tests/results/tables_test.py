"""The schema of every table, by its words."""

from absl.testing import absltest
from absl.testing import parameterized
import ml_dtypes
import numpy as np
import pyarrow as pa

from ooc_jax import measures
from ooc_jax import results
from ooc_jax.results import tables

_F, _K, _N = 5, 3, 2


def _values(schema, rows=_F):
  """A value for each column, all different."""
  rng = np.random.default_rng(0)
  found = {}
  for column in schema.columns:
    if column.name == 'feature' and column is schema.columns[0]:
      continue
    sizes = [{'F': rows, 'k': _K, 'N': _N}[x] for x in column.shape.split()]
    if pa.types.is_string(column.kind):
      texts = [[f'{i} {j}' for j in range(_K)] for i in range(rows)]
      found[column.name] = (
          texts if len(sizes) > 1 else [text[0] for text in texts]
      )
    elif pa.types.is_nested(column.kind):
      found[column.name] = [None] * rows
    else:
      dtype = np.dtype(column.kind.to_pandas_dtype())
      found[column.name] = (100 * rng.random(sizes)).astype(dtype)
  return found


class TablesTest(parameterized.TestCase):

  @parameterized.named_parameters(
      ('output_features', tables.output_features()),
      ('labels', tables.labels()),
      ('directions', tables.DIRECTIONS),
      ('output_sweep', tables.OUTPUT_SWEEP),
      ('attention_features', tables.ATTENTION_FEATURES),
      ('nulls', tables.NULLS),
      ('heads', tables.HEADS),
      ('attention_sweep', tables.ATTENTION_SWEEP),
      ('participation', tables.PARTICIPATION),
      ('shapes', tables.SHAPES),
      ('populations', tables.POPULATIONS),
      ('effects', tables.EFFECTS),
  )
  def test_arrays_come_back_in_their_shape(self, schema):
    values = _values(schema)
    folder = self.create_tempdir().full_path
    with results.ResultsFolder.open(folder, {}, provenance={}) as out:
      out.write_table('x', schema.build(values))
      table = out.read_table('x')
    self.assertEqual(table.column_names, [c.name for c in schema.columns])
    for name, value in values.items():
      np.testing.assert_array_equal(schema.array(table, name), value, name)

  def test_columns_of_experiment_1(self):
    """Names, types and order that users' notebooks read."""
    schema = tables.output_features(('output', 'input'))
    values = _values(schema)
    values.pop('active_share')
    # Of a run of the top end that reads one number of tokens.
    others = {measure.name for measure in measures.ALL_MEASURES[3:]} | {
        tables.size_column(measure.name, k)
        for measure in measures.ALL_MEASURES
        for k in tables.SWEEP_SIZES
    }
    for name in others:
      values.pop(name, None)
      values.pop(f'input_{name}', None)
    table = schema.build(values)
    names = table.column_names
    # Those of later measures stand after the first three.
    later = [measure.name for measure in measures.MEASURES[3:]]
    first = """feature top_ids top_tokens top_logits bottom_ids bottom_tokens
        bottom_logits mean std skewness kurtosis entropy top_mass top_entropy
        levenshtein cosine""".split()
    first += [*later, 'undertrained', 'shared']
    self.assertEqual(names[: len(first)], first)
    self.assertEqual(names[len(first)], 'input_top_ids')
    self.assertEqual(
        names[-4:],
        'input_active_share input_shared nearest nearest_cosines'.split(),
    )
    self.assertEqual(table.schema.field('top_ids').type, pa.list_(_INT, _K))
    self.assertEqual(table.schema.field('top_tokens').type, pa.list_(_TEXT))
    self.assertEqual(table.schema.field('entropy').type, pa.float32())
    self.assertEqual(table['feature'].to_pylist(), list(range(_F)))
    self.assertEqual(table.schema.metadata[b'ooc_jax.schema'], b'2')
    self.assertEqual(
        table.schema.field('input_entropy').metadata[b'description'],
        b'of the softmax at the spread of the run over the tokens that count,'
        b' nats',
    )

  def test_a_row_of_attention_is_a_feature_with_a_list_of_its_heads(self):
    values = _values(tables.ATTENTION_FEATURES)
    table = tables.ATTENTION_FEATURES.build(values)
    self.assertEqual(
        table['query_max'].to_pylist()[1], values['query_max'][:, 1].tolist()
    )
    self.assertEqual(
        table['key_partners'].to_pylist()[4],
        values['key_partners'][:, 4].ravel().tolist(),
    )
    text = table.schema.field('query_partners').metadata[b'description']
    self.assertIn(b'3 best partners', text)

  def test_one_null_of_several(self):
    values = _values(tables.NULLS)
    values['null'] = ['random', 'tokens', 'random', 'tokens', 'tokens']
    found = tables.null_statistic(
        tables.NULLS.build(values), 'tokens', 'key_pre'
    )
    np.testing.assert_array_equal(found, values['key_pre'][:, [1, 3, 4]])

  def test_every_context_has_a_statistic(self):
    self.assertEqual(tuple(tables.STATISTIC), measures.CONTEXTS)

  def test_names(self):
    self.assertEqual(tables.heads_name(3), 'heads_03')
    self.assertEqual(tables.nulls_name(12), 'nulls_12')
    self.assertEqual(tables.directions_name(tables.ALL_LAYERS), 'directions')
    self.assertEqual(tables.directions_name(4), 'directions_04')
    self.assertEqual(tables.name_of('sweep', 'output'), 'sweep')
    self.assertEqual(tables.name_of('sweep', 'input'), 'sweep_input')
    self.assertEqual(tables.prefix_of('output'), '')
    self.assertEqual(tables.prefix_of('embedding'), 'embedding_')

  def test_facts_about_a_layer_are_kept_with_it(self):
    table = tables.ATTENTION_FEATURES.build(_values(tables.ATTENTION_FEATURES))
    table = tables.with_weights(table, {'w': 'ab'})
    for layer in (None, 0, 17):
      known = tables.with_dictionary_layer(table, layer)
      self.assertEqual(tables.dictionary_layer(known), layer)
      self.assertEqual(tables.weights_of(known), {'w': 'ab'})
      self.assertEqual(known.schema.metadata[b'ooc_jax.schema'], b'2')


class RowsTest(absltest.TestCase):

  def test_what_a_row_lacks_is_null(self):
    table = tables.EFFECTS.build_rows([{'labelling': 'output', 'layer': 2}])
    self.assertEqual(table['delta'].to_pylist(), [None])
    self.assertTrue(np.isnan(tables.EFFECTS.array(table, 'delta')[0]))

  def test_shares_are_there_once_they_are_known(self):
    row = {'layer': 0, 'head': 1}
    self.assertNotIn(
        'key_pre_share', tables.HEADS.build_rows([row]).column_names
    )
    name = tables.share_name('key_pre', 'random')
    self.assertEqual(name, 'key_pre_share_random_null')
    table = tables.HEADS.build_rows([row | {name: 0.5}])
    self.assertEqual(table.column_names[-1], name)

  def test_an_unknown_column_is_refused(self):
    with self.assertRaisesRegex(ValueError, r"no columns \['sahre'\]"):
      tables.OUTPUT_SWEEP.build_rows([{'sahre': 1.0}])


_INT, _TEXT = pa.int32(), pa.string()


class BuildTest(parameterized.TestCase):

  def _build(self, values, kind=_INT, shape='F', **others):
    column = _column('x', kind, shape)
    return tables.TableSchema((column,)).build({'x': values, **others})

  def test_transposed_and_strided_arrays_are_read_as_they_are_indexed(self):
    ids = np.arange(1, 31, dtype=np.int32).reshape(_K, 10).T[::2]
    table = self._build(ids, shape='F k')
    self.assertEqual(table['x'].to_pylist(), ids.tolist())

  @parameterized.parameters(
      (np.int64, pa.int32()),
      (np.uint32, pa.int32()),
      (np.int16, pa.int32()),
      (np.int32, pa.int64()),
      (np.float16, pa.float32()),
      (ml_dtypes.bfloat16, pa.float32()),
      (np.float32, pa.float64()),
  )
  def test_dtype_becomes_that_of_the_column(self, dtype, kind):
    table = self._build(np.array([1, 2, 77]).astype(dtype), kind)
    self.assertEqual(table['x'].type, kind)
    self.assertEqual(table['x'].to_pylist(), [1, 2, 77])

  def test_nan_is_no_null(self):
    values = np.array([1.5, np.nan], np.float32)
    column = self._build(values, pa.float32())['x']
    self.assertEqual(column.null_count, 0)
    np.testing.assert_array_equal(column.to_numpy(), values)

  def test_a_lone_surrogate_is_written_out(self):
    table = self._build([['a\udc80', '\ud83d\ude42']], _TEXT, 'F k')
    self.assertEqual(table['x'].to_pylist(), [['a\\udc80', '\\ud83d\\ude42']])
    table = self._build(['\udfff'], _TEXT)
    self.assertEqual(table['x'].to_pylist(), ['\\udfff'])

  @parameterized.parameters(
      (np.ones((2, 3), np.int32), _INT, 'F', r'x: shape \(2, 3\) is not \[F\]'),
      (np.ones((), np.int32), _INT, 'F', r'x: shape \(\)'),
      (np.ones((2, 0), np.int32), _INT, 'F k', 'x: lists of length 0'),
      (np.ones(2, complex), _INT, 'F', 'x: dtype complex128'),
      (np.array(['a']), _INT, 'F', 'x: dtype <U1'),
      (np.array([None]), _INT, 'F', 'x: dtype object'),
      (np.ones(2), _INT, 'F', 'x: dtype float64 for a column of int32'),
      (np.ones(2), pa.float32(), 'F', 'x: dtype float64'),
      (np.ones(2, bool), pa.float32(), 'F', 'x: dtype bool'),
      (np.array([2**31]), _INT, 'F', 'x: a number does not fit'),
      (np.array([-(2**31) - 1]), _INT, 'F', 'x: a number does not fit'),
      (['a', ['b']], _TEXT, 'F', 'x: '),
      ([['a', 1]], _TEXT, 'F k', 'x: '),
  )
  def test_refused(self, values, kind, shape, reason):
    with self.assertRaisesRegex(ValueError, reason):
      self._build(values, kind, shape)

  def test_all_problems_at_once(self):
    schema = tables.TableSchema(tuple(_column(name, _INT) for name in 'abc'))
    with self.assertRaisesRegex(
        ValueError, 'z is no column; a: dtype bool.*; b is missing'
    ):
      schema.build({'a': np.ones(2, bool), 'c': np.ones(2, int), 'z': 1})
    with self.assertRaisesRegex(ValueError, "differ: {'a': 1, 'b': 2, 'c': 2}"):
      ones = np.ones(2, int)
      schema.build({'a': ones[:1], 'b': ones, 'c': ones})


def _column(name, kind, shape='F'):
  return tables.Column(name, kind, shape=shape)


if __name__ == '__main__':
  absltest.main()
