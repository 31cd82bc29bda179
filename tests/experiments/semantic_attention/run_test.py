"""Experiment 3 from weights to tables and folder."""

import dataclasses
import functools
import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import pyarrow.parquet as pq

import ooc_jax
from ooc_jax import report
from ooc_jax import results
from ooc_jax.experiments import AttentionParticipation
from ooc_jax.experiments import OutputPrediction
from ooc_jax.experiments import SemanticAttention
from ooc_jax.experiments import attention_participation
from ooc_jax.experiments import semantic_attention
from ooc_jax.results import tables
from tests import finished

_LABELS = OutputPrediction(
    model='tiny',
    k=4,
    thresholds='quantile:0.8',
    null_size=150,
    examples=1,
)
_ATTENTION = AttentionParticipation(
    model='tiny',
    context=5,
    pairs=3,
    partners=2,
    nulls='random',
    write_tokens=0,
)
_CONFIG = SemanticAttention(least=4)
_folder = None


def setUpModule():
  global _folder
  _folder = tempfile.TemporaryDirectory()


def tearDownModule():
  _folder.cleanup()


@functools.cache
def _finished(family):
  """One run of all three experiments, which no test changes."""
  return semantic_attention.run(
      _CONFIG,
      labels=_LABELS,
      attention=_ATTENTION,
      model=finished.checkpoint(family),
      out=pathlib.Path(_folder.name) / f'{family}-run',
      figures=False,
  )


class RunTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir().full_path)

  @parameterized.parameters('llama', 'gemma2')
  def test_both_experiments_are_run_and_joined(self, family):
    run = _finished(family)
    out, found = run.folder, run.summary
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
      values = tables.ATTENTION_FEATURES.array(table, column)
      values = values.astype(np.float64).mean(axis=0)
      name = {'output': 'semantic', 'input': 'input_semantic'}[row['labelling']]
      mine = np.asarray(labels['layer']) == row['layer'] - 1
      chosen = np.asarray(labels[name])[mine]
      self.assertEqual(row['semantic'], chosen.sum())
      delta = np.sign(values[chosen][:, None] - values[~chosen][None]).mean()
      self.assertAlmostEqual(row['delta'], delta)
    for name in ('output', 'input'):
      lines = (out / f'populations_{name}.csv').read_text().splitlines()
      self.assertLen(lines, 1 + 4 * 2)
    verdict = found['statements']['inverse']
    self.assertEqual(verdict['verdict'], 'not decided')
    self.assertIn('2 layers', verdict['why'])
    text = '\n'.join(semantic_attention.text(found, _CONFIG))
    self.assertIn('inversely related over depth (output labels): not', text)
    # The run's labels, coherent ones, three measures at either end (they are
    # neurons), five levels of p.
    self.assertLen(found['sweep'], 2 * 13)
    self.assertIn('Under 26 choices of labels', text)

  @mock.patch.object(report, 'draw')
  def test_the_same_call_computes_nothing_and_draws(self, draw):
    out = _finished('llama').folder
    place = out / 'attention_participation' / 'features'
    before = {p: p.stat().st_mtime_ns for p in place.iterdir()}
    semantic_attention.run(
        _CONFIG,
        labels=_LABELS,
        attention=_ATTENTION,
        model=finished.checkpoint('llama'),
        out=out,
    )
    self.assertEqual(before, {p: p.stat().st_mtime_ns for p in place.iterdir()})
    self.assertEqual(
        [call.args[0] for call in draw.call_args_list],
        [out / 'attention_participation', out / 'output_prediction', out],
    )

  @parameterized.parameters('llama', 'gemma2')
  def test_compute_gives_the_tables_of_the_folder(self, family):
    run = _finished(family)
    model = ooc_jax.load_model(finished.checkpoint(family))
    saes = {
        x: ooc_jax.load_dictionary('mlp', model=model, layer=x)
        for x in range(3)
    }
    found = semantic_attention.compute(
        model, saes, _CONFIG, labels=_LABELS, attention=_ATTENTION
    )
    summary = semantic_attention.summarise(found, _CONFIG)
    for name, table in summary.tables.items():
      stored = pq.read_table(run.folder / f'{name}.parquet')
      self.assertTrue(table.equals(stored), name)
    plain = results.plain(summary.summary)
    self.assertEqual(plain | {'schema': 2}, run.summary)

  def test_a_model_and_dictionaries_that_were_given(self):
    model = ooc_jax.load_model(finished.checkpoint('llama'))
    saes = {
        x: ooc_jax.load_dictionary('mlp', model=model, layer=x) for x in (0, 2)
    }
    run = semantic_attention.run(
        _CONFIG,
        labels=dataclasses.replace(_LABELS, model=None),
        attention=dataclasses.replace(_ATTENTION, model=None),
        model=model,
        dictionaries=saes,
        out=self.root / 'given',
        figures=False,
    )
    # The neurons of the last layer are read by no attention.
    self.assertEqual(run.summary['layers'], [1])
    place = run.folder / 'output_prediction' / 'features'
    self.assertEqual([x.name for x in place.iterdir()], ['layer=00.parquet'])

  def test_finished_runs_are_read(self):
    folder = _finished('llama').folder
    labels, attention = (
        folder / 'output_prediction',
        folder / 'attention_participation',
    )
    out = self.root / 'out'
    # Neither a model nor its weights are needed.
    found = semantic_attention.run(
        _CONFIG, labels=labels, attention=attention, out=out, figures=False
    )
    self.assertEqual(found.summary, _finished('llama').summary)
    attention_participation.run(
        _ATTENTION,
        model=finished.checkpoint('llama', seed=1),
        out=self.root / 'wrong',
        figures=False,
    )
    for first, second, message in (
        (attention, attention, '--labels=.*is of experiment'),
        (labels, labels, '--attention=.*is of experiment'),
        (labels, self.root / 'nowhere', 'is not a results folder'),
        (labels, self.root / 'wrong', 'other weights'),
    ):
      with self.assertRaisesRegex(ooc_jax.InputError, message):
        semantic_attention.run(
            _CONFIG,
            labels=first,
            attention=second,
            out=self.root / f'out{len(message)}',
        )
    # Another run does not go into the folder of this one.
    with self.assertRaisesRegex(ooc_jax.InputError, 'holds another run'):
      semantic_attention.run(
          dataclasses.replace(_CONFIG, least=5),
          labels=labels,
          attention=attention,
          out=out,
      )
    summary = results.ResultsFolder.view(out).read_summary()
    self.assertEqual(summary['experiment'], 'semantic_attention')

  def test_settings_that_are_none(self):
    for settings, message in (
        ({'over_heads': 'median'}, 'over_heads='),
        ({'least': 1}, 'least='),
    ):
      with self.assertRaisesRegex(ooc_jax.InputError, message):
        SemanticAttention(**settings)


if __name__ == '__main__':
  absltest.main()
