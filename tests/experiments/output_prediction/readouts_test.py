"""Experiment 1 in every readout, against its null, and its control."""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import pyarrow.parquet as pq
import pytest

import ooc_jax
from ooc_jax import measures
from ooc_jax import results
from ooc_jax.experiments.output_prediction import OutputPrediction
from ooc_jax.experiments.output_prediction import parse_readouts
from tests import finished

# Neurons are read at both ends.
_MEASURES = tuple(measure.name for measure in measures.ALL_MEASURES)


def _coherence(table, prefix=''):
  columns = {m: table[prefix + m].to_numpy() for m in _MEASURES}
  return measures.Coherence(**columns)


class ReadoutsTest(parameterized.TestCase):

  def _run(self, family='llama', mesh=None, **settings):
    defaults = {'k': 5, 'layers': '0-1', 'null_size': 300}
    self.out = finished.run(
        'output_prediction', family, mesh=mesh, **(defaults | settings)
    )
    self.model = ooc_jax.load_model(finished.checkpoint(family))
    self.layers = [
        pq.read_table(path)
        for path in sorted((self.out / 'features').iterdir())
    ]
    return results.ResultsFolder.view(self.out).read_summary()

  @parameterized.parameters('llama', 'gemma2')
  def test_each_readout_is_its_contraction(self, family):
    """In float64, from the definition, whatever the library does."""
    self._run(family, convention='raw')
    mlp = ooc_jax.load_dictionary('mlp', model=self.model, layer=1)
    embedding = np.asarray(self.model.params['embedding'], np.float64)
    scaled = embedding * self.model.config.embedding_scale
    table = self.layers[1]
    sides = {'input_': np.asarray(mlp.encoder, np.float64)}
    if family == 'llama':
      sides['embedding_'] = np.asarray(mlp.decoder, np.float64)
    else:
      self.assertNotIn('embedding_top_ids', table.column_names)
    mask = np.asarray(ooc_jax.circuits.readable_mask(self.model))
    for prefix, rows in sides.items():
      logits = np.where(mask[None], rows @ scaled.T, -np.inf)
      found = np.asarray(table[f'{prefix}top_logits'].to_pylist())
      np.testing.assert_allclose(
          found, -np.sort(-logits, axis=1)[:, :5], rtol=1e-5, atol=1e-6
      )
      ids = np.asarray(table[f'{prefix}top_ids'].to_pylist())
      ours = np.asarray(table['top_ids'].to_pylist())
      shared = [
          len(set(a) & set(b)) / 5 for a, b in zip(ids, ours, strict=True)
      ]
      np.testing.assert_allclose(table[f'{prefix}shared'].to_numpy(), shared)

  def test_thresholds_hold_the_null_at_alpha(self):
    summary = self._run(alpha=0.05)
    null = pq.read_table(self.out / 'null_input.parquet')
    self.assertEqual(null.num_rows, 300)
    chance = _coherence(null)
    expected = measures.null_thresholds(chance, 0.05)
    row = summary['sides']['input']['layers'][1]
    for measure in _MEASURES:
      self.assertEqual(row['thresholds'][measure], getattr(expected, measure))
    self.assertLessEqual(row['null_share'], 0.05)
    self.assertEqual(
        row['null_share'], measures.is_semantic(chance, expected).mean()
    )
    labels = measures.is_semantic(
        _coherence(self.layers[1], 'input_'), expected
    )
    self.assertEqual(row['semantic']['share'], labels.mean())
    self.assertAlmostEqual(row['excess'], labels.mean() - row['null_share'])
    table = pq.read_table(self.out / 'labels.parquet')
    p = table['input_p_value'].to_numpy()
    np.testing.assert_array_equal(
        table['input_q_value'].to_numpy(), measures.q_values(p)
    )
    sweep = pq.read_table(self.out / 'sweep_input.parquet').to_pylist()
    (same,) = [
        r
        for r in sweep
        if (r['rule'], r['kind'], r['layer']) == ('any', 'quantile', 1)
        and r['level'] == 0.75
    ]
    self.assertGreater(same['null_share'], 0.0)

  def test_both_nulls_are_read_and_one_decides(self):
    isotropic, matched = (
        self._run(null=null, convention='folded')
        for null in ('isotropic', 'matched')
    )
    null = pq.read_table(self.out / 'null.parquet')
    np.testing.assert_array_equal(np.unique(null['layer']), [0, 1])
    self.assertEqual(set(null['null'].to_pylist()), {'matched'})
    first, second = (row['thresholds'] for row in matched['layers'])
    self.assertNotEqual(first['entropy'], second['entropy'])
    first, second = (row['thresholds'] for row in isotropic['layers'])
    self.assertEqual(first, second)
    for summary, name, other in (
        (isotropic, 'isotropic', 'matched'), (matched, 'matched', 'isotropic')
    ):  # fmt: skip
      total = summary['total']
      nulls = total['nulls']
      self.assertCountEqual(nulls, [name, other])
      self.assertEqual(nulls[name]['share'], total['null_share'])
      self.assertEqual(nulls[name]['semantic'], total['semantic']['share'])
      self.assertGreaterEqual(nulls[other]['directions'], 200)

  def test_random_weights_know_nothing(self):
    trained = self._run(readouts='output')
    drawn = self._run(readouts='output', control='random_weights', seed=3)
    self.assertNotEqual(
        trained['total']['median']['cosine'], drawn['total']['median']['cosine']
    )
    # 72 neurons at 1 %, of which chance lets a few through.
    self.assertLess(drawn['total']['semantic']['share'], 0.08)

  def test_only_the_output_readout(self):
    summary = self._run(readouts='output')
    self.assertEqual(summary['sides'], {})
    self.assertNotIn('input_top_ids', self.layers[0].column_names)
    self.assertFalse((self.out / 'null_input.parquet').exists())

  @parameterized.parameters('feature:2,vocab:4', 'vocab:2', 'feature:4')
  @pytest.mark.slow
  def test_any_mesh_gives_the_same_features(self, mesh):
    self._run()
    alone = self.layers
    self._run(mesh=mesh)
    for one, many in zip(alone, self.layers, strict=True):
      for prefix in ('', 'input_', 'embedding_'):
        for column in ('top_ids', 'bottom_ids'):
          self.assertEqual(one[prefix + column], many[prefix + column])
        for column in (*_MEASURES, 'kurtosis'):
          np.testing.assert_allclose(
              one[prefix + column].to_numpy(),
              many[prefix + column].to_numpy(),
              rtol=1e-4,
              atol=1e-5,
          )

  def test_settings_that_are_none(self):
    for settings, words in (
        ({'readouts': 'input'}, 'readouts='),
        ({'readouts': 'output,left'}, 'readouts='),
        ({'null': 'none'}, 'null='),
        ({'alpha': 1.5}, 'alpha='),
        ({'control': 'shuffled'}, 'control='),
        ({'null_size': 9}, 'null_size='),
    ):
      with self.assertRaisesRegex(ooc_jax.InputError, words):
        OutputPrediction(model='tiny', **settings)
    with self.assertRaisesRegex(ooc_jax.InputError, 'tied'):
      parse_readouts('output,embedding', tied=True)


if __name__ == '__main__':
  absltest.main()
