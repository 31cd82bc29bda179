"""Experiment 3 from weights to folder, as a user runs it."""

import pathlib

from _attention_reader import by_head
from _attention_study import AttentionStudy
import _semantic_text
from _study import Study
from absl.testing import absltest
from absl.testing import parameterized
import attention_participation
import numpy as np
import output_prediction
import pyarrow.parquet as pq
import semantic_attention

import ooc_jax
from ooc_jax import results
from tests.tiny import make_checkpoint

_LABELS = Study(
    model='tiny',
    k=4,
    thresholds='quantile:0.8',
    null_size=150,
    examples=1,
)
_ATTENTION = AttentionStudy(
    model='tiny',
    context=5,
    pairs=3,
    partners=2,
    sample=7,
    nulls='random',
    write_tokens=0,
)
_SETTINGS = semantic_attention.Settings(least=4, draws=50)


class RunTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir().full_path)

  def _checkpoint(self, family, name='model', **settings):
    return str(make_checkpoint(self.root / name, family, **settings))

  @parameterized.parameters('llama', 'gemma2')
  def test_both_experiments_are_run_and_joined(self, family):
    weights = self._checkpoint(family)
    out = self.root / 'out'
    found = semantic_attention.run(
        _LABELS, _ATTENTION, out, _SETTINGS, weights
    ).summary
    self.assertEqual(found['layers'], [1, 2])
    self.assertEqual(found['tied'], family != 'llama')
    self.assertEqual(set(found['contexts']), {'output', 'input'})
    labels = pq.read_table(out / 'output_prediction' / 'labels.parquet')
    # The last layer's neurons are read by no attention.
    self.assertEqual(set(labels['layer'].to_pylist()), {0, 1})
    place = out / 'attention_participation' / 'features'
    for row in found['effects']:
      table = pq.read_table(place / f'layer={row["layer"]:02d}.parquet')
      column = {
          'query_pre': 'query_max',
          'query_post': 'largest_weight',
          'key_pre': 'key_max',
          'key_post': 'largest_received',
      }[row['context']]
      values = by_head(table, column).astype(np.float64).mean(axis=0)
      name = {'output': 'semantic', 'input': 'input_semantic'}[row['labelling']]
      mine = np.asarray(labels['layer']) == row['layer'] - 1
      chosen = np.asarray(labels[name])[mine]
      self.assertEqual(row['semantic'], chosen.sum())
      delta = np.sign(values[chosen][:, None] - values[~chosen][None]).mean()
      self.assertAlmostEqual(row['delta'], delta)
    for name in ('output', 'input'):
      for end in ('png', 'pdf'):
        figure = out / 'figures' / f'populations_{name}.{end}'
        self.assertGreater(figure.stat().st_size, 4000)
      lines = (out / f'populations_{name}.csv').read_text().splitlines()
      self.assertLen(lines, 1 + 4 * 2)
    verdict = found['statements']['inverse']
    self.assertEqual(verdict['verdict'], 'not decided')
    self.assertIn('2 layers', verdict['why'])
    text = '\n'.join(_semantic_text.report_lines(found))
    self.assertIn('inversely related over depth (output labels): not', text)
    before = {p: p.stat().st_mtime_ns for p in place.iterdir()}
    semantic_attention.run(_LABELS, _ATTENTION, out, _SETTINGS, weights)
    self.assertEqual(before, {p: p.stat().st_mtime_ns for p in place.iterdir()})

  def test_finished_runs_are_read(self):
    weights = self._checkpoint('llama')
    labels, attention = self.root / 'labels', self.root / 'attention'
    output_prediction.run(_LABELS, labels, weights)
    attention_participation.run(_ATTENTION, attention, weights)
    # Neither a model nor its weights are needed any more.
    (self.root / 'model' / 'model.safetensors').unlink()
    found = semantic_attention.run(
        labels, attention, self.root / 'out', _SETTINGS
    ).summary
    self.assertEqual(found['layers'], [1, 2])
    self._refusals(labels, attention)

  def _refusals(self, labels, attention):
    other = self._checkpoint('llama', 'other', seed=1)
    attention_participation.run(_ATTENTION, self.root / 'wrong', other)
    for first, second, message in (
        (attention, attention, '--labels=.*is of experiment'),
        (labels, labels, '--attention=.*is of experiment'),
        (labels, self.root / 'nowhere', 'is not a results folder'),
        (labels, self.root / 'wrong', 'other weights'),
    ):
      with self.assertRaisesRegex(ooc_jax.InputError, message):
        semantic_attention.run(
            first, second, self.root / f'out{len(message)}', _SETTINGS
        )
    # Another run does not go into the folder of this one.
    with self.assertRaisesRegex(ooc_jax.InputError, 'holds another run'):
      semantic_attention.run(
          labels,
          attention,
          self.root / 'out',
          semantic_attention.Settings(least=5, draws=50),
      )
    summary = results.ResultsFolder.view(self.root / 'out').read_summary()
    self.assertEqual(summary['experiment'], 'semantic_attention')

  def test_settings_that_are_none(self):
    for settings, message in (
        ({'over_heads': 'median'}, 'over_heads='),
        ({'least': 1}, 'least='),
        ({'draws': 0}, 'draws='),
    ):
      with self.assertRaisesRegex(ooc_jax.InputError, message):
        semantic_attention.Settings(**settings)


if __name__ == '__main__':
  absltest.main()
