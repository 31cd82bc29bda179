"""Experiment 2 from weights to tables and folder."""

import dataclasses
import pathlib
import shutil
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import pyarrow.parquet as pq

import ooc_jax
from ooc_jax import experiments
from ooc_jax import measures
from ooc_jax import report
from ooc_jax.experiments import attention_participation
from ooc_jax.experiments import compare
from ooc_jax.results import tables
from tests import finished
from tests.experiments import scripts
from tests.experiments.attention_participation import small


class RunTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir().full_path)

  def _copy(self, family='llama'):
    """A finished run of this test's own, and its folder."""
    return shutil.copytree(
        small.finished_run(family).folder, self.root / 'copy'
    )

  def _again(self, out, family='llama', **settings):
    return attention_participation.run(
        dataclasses.replace(small.CONFIG, **settings),
        model=finished.checkpoint(family),
        out=out,
        figures=False,
    )

  @parameterized.parameters('llama', 'gemma2')
  def test_folder_holds_what_the_weights_say(self, family):
    run = small.finished_run(family)
    summary = run.summary
    model = small.model_of(family)
    heads = pq.read_table(run.folder / 'heads.parquet').to_pylist()
    self.assertLen(heads, 2 * 6)
    # Nothing is at the input of layer 0.
    self.assertEqual([row['layer'] for row in summary['layers']], [1, 2])
    every = {name: [] for name in measures.CONTEXTS}
    for layer in (1, 2):
      mlp = ooc_jax.load_dictionary('mlp', model=model, layer=layer - 1)
      table = small.layer_of(run, layer)
      self.assertEqual(table.num_rows, 36)
      for head in range(6):
        scores = small.float64_scores(model, mlp.decoder, layer, head)
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        weights /= weights.sum(axis=1, keepdims=True)
        expected = {
            'query_max': scores.max(axis=1),
            'query_mean': scores.mean(axis=1),
            'query_std': scores.std(axis=1),
            'key_max': scores.max(axis=0),
            'largest_weight': weights.max(axis=1),
            'largest_received': weights.max(axis=0),
            'received': weights.sum(axis=0),
            'self_weight': np.diag(weights),
            'entropy': -(weights * np.log(weights)).sum(axis=1),
        }
        for name, values in expected.items():
          np.testing.assert_allclose(
              small.by_head(table, name)[head],
              values,
              rtol=2e-4,
              atol=2e-5,
              err_msg=f'{name} {layer}.{head}',
          )
        np.testing.assert_array_equal(
            small.by_head(table, 'query_partners')[head, :, 0],
            scores.argmax(axis=1),
        )
        np.testing.assert_array_equal(
            small.by_head(table, 'key_partners')[head, :, 0],
            scores.argmax(axis=0),
        )
        row = heads[6 * (layer - 1) + head]
        self.assertEqual((row['layer'], row['head']), (layer, head))
        self.assertEqual(row['kv_head'], head // 3)
        largest = weights.max(axis=1)
        self.assertAlmostEqual(
            row['selectivity'], 36 * largest.mean(), delta=1e-3
        )
        self.assertAlmostEqual(
            row['diagonal_mass'], np.diag(weights).mean(), delta=1e-5
        )
        pair = np.unravel_index(scores.argmax(), scores.shape)
        self.assertEqual((row['best_query'], row['best_key']), pair)
        for name, column in zip(
            measures.CONTEXTS,
            ('query_max', 'largest_weight', 'key_max', 'largest_received'),
            strict=True,
        ):
          every[name].append(expected[column])
    self._check_shares(run, heads, every)

  def _check_shares(self, run, heads, every):
    """Pooled over all layers, heads and features, then counted."""
    summary = run.summary
    counts = pq.read_table(run.folder / 'participation.parquet')
    for name, found in every.items():
      values = np.asarray(found).reshape(2, 6, 36)
      cut = np.quantile(values, 0.75)
      side = summary['sides'][name]
      self.assertAlmostEqual(
          side['thresholds']['value'], cut, delta=1e-4 * max(1, abs(cut))
      )
      passed = values > cut
      np.testing.assert_array_equal(
          np.asarray(counts[f'{name}_heads']), passed.sum(axis=1).ravel()
      )
      for i, row in enumerate(side['layers']):
        heads_of = passed[i].sum(axis=0)
        self.assertAlmostEqual(
            row['participating']['share'], np.mean(heads_of >= 1)
        )
        self.assertAlmostEqual(
            row['at_least']['3']['share'], np.mean(heads_of >= 3)
        )
        self.assertAlmostEqual(row['mean_heads']['mean'], heads_of.mean())
        for head in range(6):
          self.assertAlmostEqual(
              heads[6 * i + head][f'{name}_share'], passed[i, head].mean()
          )
    shapes = pq.read_table(run.folder / 'shapes.parquet').to_pylist()
    # Two layers have no shape, whatever the threshold.
    self.assertEqual({row['name'] for row in shapes}, {'undecided'})
    self.assertEqual(summary['shapes'], {'undecided': len(shapes)})
    # The first context stands at the top, for figures and comparisons.
    self.assertEqual(
        summary['layers'][0]['participating'],
        summary['sides']['query_pre']['layers'][0]['participating'],
    )

  @parameterized.parameters('llama', 'gemma2')
  def test_compute_gives_the_tables_of_the_folder(self, family):
    run, model = small.finished_run(family), small.model_of(family)
    config = dataclasses.replace(small.CONFIG, model=None, dictionary='mine')
    # Read by no attention: the neurons of the last layer.
    found = attention_participation.compute(
        model, small.neurons(model, 0, 1, 2), config
    )
    summary = attention_participation.summarise(found, config)
    for layer in (1, 2):
      self.assertTrue(found.features[layer].equals(small.layer_of(run, layer)))
    files = {
        **{tables.heads_name(x): table for x, table in found.heads.items()},
        **{tables.nulls_name(x): table for x, table in found.nulls.items()},
        **summary.tables,
    }
    for name, table in files.items():
      stored = pq.read_table(run.folder / f'{name}.parquet')
      self.assertTrue(table.equals(stored), name)
    self.assertLen(files, 2 * 2 + 4)
    plain = ooc_jax.results.plain(summary.summary)
    self.assertEqual(plain | {'schema': 2}, run.summary)

  def test_a_model_and_dictionaries_that_were_given(self):
    model = small.model_of('llama')
    saes = small.neurons(model, 0)
    found = attention_participation.run(
        dataclasses.replace(small.CONFIG, model=None),
        model=model,
        dictionaries=saes,
        out=self.root / 'given',
        figures=False,
    )
    self.assertTrue(
        small.layer_of(found, 1).equals(
            small.layer_of(small.finished_run('llama'), 1)
        )
    )
    other = {0: dataclasses.replace(saes[0], decoder=saes[0].decoder * 2)}
    with self.assertRaisesRegex(ooc_jax.InputError, 'weights'):
      attention_participation.run(
          dataclasses.replace(small.CONFIG, model=None),
          model=model,
          dictionaries=other,
          out=self.root / 'given',
          figures=False,
      )

  def test_any_mesh_gives_the_same_features(self):
    alone = small.finished_run('llama')
    mesh = experiments.make_mesh('feature:4')
    many = small.computed(1, nulls='random', mesh=mesh).features[1]
    alone = small.layer_of(alone, 1)
    for column in ('query_partners', 'key_partners'):
      self.assertEqual(alone[column], many[column])
    for column in ('query_max', 'largest_weight', 'received', 'entropy'):
      np.testing.assert_allclose(
          small.by_head(alone, column),
          small.by_head(many, column),
          rtol=1e-5,
          atol=1e-6,
      )

  def test_no_layer_is_computed_twice(self):
    out = self._copy()
    before = scripts.digest(out)
    (out / 'features' / 'layer=01.parquet').unlink()
    (out / 'heads_02.parquet').unlink()
    stamp = (out / 'nulls_01.parquet').stat().st_mtime_ns
    self._again(out)
    self.assertEqual(scripts.digest(out), before)
    again = (out / 'nulls_01.parquet').stat().st_mtime_ns
    self.assertNotEqual(stamp, again)
    self._again(out)
    self.assertEqual((out / 'nulls_01.parquet').stat().st_mtime_ns, again)

  def test_another_configuration_is_refused_and_nothing_changes(self):
    out = self._copy()
    before = scripts.digest(out)
    with self.assertRaisesRegex(ooc_jax.InputError, 'holds another run'):
      self._again(out, partners=3)
    self.assertEqual(scripts.digest(out), before)

  def test_more_heads_than_there_are(self):
    with self.assertRaisesRegex(ooc_jax.InputError, 'at_least=7.*6 heads'):
      self._again(self.root / 'out', at_least=7)
    self.assertFalse((self.root / 'out').exists())

  def test_lines_name_every_layer_and_null(self):
    lines = attention_participation.text(
        small.finished_run('llama').summary, small.CONFIG
    )
    self.assertEqual(
        [line.split()[0] for line in lines[:4]], ['layer', '1', '2', 'all']
    )
    text = '\n'.join(lines)
    for word in ('random', 'permuted', 'tokens', 'Over depth', 'selectivity'):
      self.assertIn(word, text)
    self.assertLen(lines[lines.index('Most selective heads:') :], 5)

  @mock.patch.object(report, 'draw')
  def test_figures_are_drawn_unless_it_says_not(self, draw):
    out = self._copy()
    self._again(out)
    draw.assert_not_called()
    attention_participation.run(
        small.CONFIG, model=finished.checkpoint('llama'), out=out
    )
    draw.assert_called_once()
    self.assertEqual(draw.call_args.args, (out,))
    self.assertEqual(draw.call_args.kwargs, {'formats': ('png',)})
    draw.reset_mock()
    attention_participation.run(
        small.CONFIG,
        model=finished.checkpoint('llama'),
        out=out,
        figures=['png', 'pdf'],
    )
    self.assertEqual(draw.call_args.kwargs, {'formats': ['png', 'pdf']})

  def test_runs_are_compared(self):
    folders = [small.finished_run('llama').folder, self.root / 'b']
    self._again(folders[1], nulls='none', offset=1, write_tokens=0)
    found = compare.run(
        folders, out=self.root / 'compared', side='key_pre', figures=False
    )
    self.assertIn('participating %', found.rows[0])
    self.assertLen(found.rows, 3)
    self.assertTrue(any('offset differs' in x for x in found.cautions))
    self.assertEqual(found.figure[0], 'participation_by_depth')


if __name__ == '__main__':
  absltest.main()
