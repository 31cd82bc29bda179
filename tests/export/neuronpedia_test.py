"""Neuronpedia's files, read back field by field by a reader of their format."""

import gzip
import json
import pathlib
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest

from ooc_jax import experiments
from ooc_jax import export
from ooc_jax.results import tables
from tests.explore import folders
from tests.export import neuronpedia_format

_LAYER = 3


def _rows(path):
  found = duckdb.sql(f"SELECT * FROM '{path}'")
  return [dict(zip(found.columns, x, strict=True)) for x in found.fetchall()]


class NeuronpediaTest(parameterized.TestCase):

  def test_a_bundled_model_read_back(self):
    self._check_model('tiny_gemma2')

  @pytest.mark.slow
  def test_the_other_bundled_model_read_back(self):
    self._check_model('tiny_llama3')

  def _check_model(self, name):
    root = pathlib.Path(self.create_tempdir().full_path)
    config = experiments.load_config(
        name,
        {'layers': str(_LAYER), 'null_size': 100, 'layer_null_size': 100},
        experiments.OutputPrediction,
    )
    experiments.output_prediction.run(
        config, out=root / 'run', mesh=None, figures=False
    )
    done = export.run(
        [root / 'run'],
        export.Export(to='neuronpedia', out=str(root / 'out'), creator='me'),
    )
    self.assertRegex(done.notes[0], 'no validation, so activations are left')
    model = name.replace('_', '-')
    source = f'{_LAYER}-{model}-res'
    found = neuronpedia_format.read(root / 'out', model, source)
    theirs = _rows(root / f'run/features/layer={_LAYER:02d}.parquet')
    self.assertLen(found.features, len(theirs))
    for ours, row in zip(found.features, theirs, strict=True):
      self.assertEqual(ours.index, row['feature'])
      self.assertEqual(ours.pos_str, row['top_tokens'])
      self.assertEqual(ours.pos_values, row['top_logits'])
      self.assertEqual(ours.neg_str, row['bottom_tokens'])
      self.assertEqual(ours.neg_values, row['bottom_logits'])
      self.assertGreater(ours.pos_values[0], ours.neg_values[0])
      # What is not known is what the converter has of an empty dashboard.
      self.assertEqual((ours.maxActApprox, ours.frac_nonzero), (0, 0))
      self.assertFalse(ours.hasVector)
      self.assertIsNone(ours.hookName)
      for field in (
          'vector',
          'logits_hist_data_bar_values',
          'neuron_alignment_l1',
          'freq_hist_data_bar_heights',
          'decoder_weights_dist',
      ):
        self.assertEqual(getattr(ours, field), [])
    self.assertEqual(found.activations, [])
    self.assertFalse((root / 'out' / model / source / 'activations').exists())
    self.assertEqual(found.model.layers, 8)
    self.assertFalse(found.model.inferenceEnabled)
    self.assertFalse(found.model.instruct)
    self.assertEqual(found.release.name, 'ooc-jax')
    self.assertEqual(found.release.creatorName, 'me')
    self.assertEqual(found.source_set.name, f'{model}-res')
    self.assertIn('convention normed', found.source.notes)
    self.assertTrue(found.source.hasDashboards)
    self.assertIsNone(found.source.num_prompts)

  def _written(self, **settings):
    """An export of written folders, with a validation that has windows."""
    root = pathlib.Path(self.create_tempdir().full_path)
    folders.output(root / 'in/out', model='gemma2-2b')
    folder = folders.validation(root / 'in/validation', model='gemma2-2b')
    windows = tables.VALIDATION_WINDOWS.build({
        'layer': np.array([1, 1, 1], np.int32),
        'feature': np.array([7, 7, 8], np.int32),
        'rank': np.array([0, 1, 0], np.int32),
        'value': np.array([2.5, 1.5, -3.0]),
        'window': np.array([4, 2, 0], np.int32),
        'position': np.array([9, 3, 1], np.int32),
        'peak': np.array([1, 0, 0], np.int32),
        'tokens': [[' a', folders.MARKUP, '\x00'], ['b'], ['low']],
    })
    name = tables.validation_windows_name(1)
    pq.write_table(windows, folder / f'{name}.parquet')
    path = folder / 'features/layer=01.parquet'
    table = pq.read_table(path)
    largest = [0.0] * len(table)
    largest[7] = 2.5
    pq.write_table(table.append_column('max_activation', [largest]), path)
    summary = json.loads((folder / 'summary.json').read_text())
    summary['layers'][0]['health'] = {'tokens': 127 * 6}
    (folder / 'summary.json').write_text(json.dumps(summary))
    about = json.loads((folder / 'config.json').read_text())
    about['settings']['length'] = 128
    (folder / 'config.json').write_text(json.dumps(about))
    export.run(
        [root / 'in'],
        export.Export(to='neuronpedia', out=str(root / 'out'), **settings),
    )
    return root / 'out'

  def test_a_validation_gives_activations(self):
    out = self._written()
    found = neuronpedia_format.read(out, 'gemma2-2b', '1-tiny-res')
    self.assertLen(found.features, folders.FEATURES)
    feature = found.features[7]
    self.assertEqual(feature.maxActApprox, 2.5)
    self.assertAlmostEqual(feature.frac_nonzero, 3 / (127 * 6))
    # Not the window at which a neuron is lowest.
    self.assertEqual([x.index for x in found.activations], [7, 7])
    first = found.activations[0]
    self.assertEqual(first.tokens, [' a', folders.MARKUP, '\x00'])
    self.assertEqual(first.values, [0, 2.5, 0])
    self.assertEqual((first.maxValue, first.qualifyingTokenIndex), (2.5, 1))
    self.assertEqual((first.binMin, first.binMax), (-1, 2.5))
    self.assertEqual(found.source.num_prompts, 6)
    self.assertEqual(found.source.num_tokens_in_prompt, 128)
    self.assertIn('at the peak of a window alone', found.source.notes)
    # Another layer has none.
    other = neuronpedia_format.read(out, 'gemma2-2b', '0-tiny-res')
    self.assertEqual(other.activations, [])

  def test_ids_may_be_given(self):
    out = self._written(
        model_id='gemma-2-2b', source_set='gemmascope-res-16k',
        features=('1/8', '1/7'),
    )  # fmt: skip
    found = neuronpedia_format.read(out, 'gemma-2-2b', '1-gemmascope-res-16k')
    self.assertEqual([x.index for x in found.features], [7, 8])

  def test_ids_that_it_has_are_known(self):
    root = pathlib.Path(self.create_tempdir().full_path)
    folder = folders.output(root / 'in', model='gemma2-2b')
    about = json.loads((folder / 'config.json').read_text())
    about['settings'][
        'dictionary'
    ] = 'gemma-scope-2b-pt-res-canonical/layer_{layer}/width_16k/canonical'
    (folder / 'config.json').write_text(json.dumps(about))
    config = export.Export(to='neuronpedia', best=1, out=str(root / 'out'))
    export.run([folder], config)
    for layer in range(folders.LAYERS):
      source = f'{layer}-gemmascope-res-16k'
      neuronpedia_format.read(root / 'out', 'gemma-2-2b', source)

  def test_batches_have_a_thousand_features(self):
    root = pathlib.Path(self.create_tempdir().full_path)
    with mock.patch.object(folders, 'FEATURES', 2050):
      with mock.patch.object(folders, 'LAYERS', 1):
        folders.output(root / 'in')
    config = export.Export(to='neuronpedia', out=str(root / 'out'))
    export.run([root / 'in'], config)
    found = neuronpedia_format.read(root / 'out', 'tiny', '0-tiny-res')
    self.assertEqual([x.index for x in found.features], [*range(2050)])
    self.assertLen([*(root / 'out/tiny/0-tiny-res/features').iterdir()], 3)

  def test_the_reader_finds_faults(self):
    out = self._written(features=('1/7',))
    path = out / 'gemma2-2b/1-tiny-res/features/batch-0.jsonl.gz'
    good = json.loads(gzip.decompress(path.read_bytes()))
    for fault in (
        {'pos_values': ['5']},
        {'frac_nonzero': None},
        {'index': '7'},
        {'layer': 'other'},
        {'more': 1},
    ):
      path.write_bytes(gzip.compress(json.dumps(good | fault).encode()))
      with self.assertRaisesRegex(ValueError, 'Not as Neuronpedia has it'):
        neuronpedia_format.read(out, 'gemma2-2b', '1-tiny-res')


if __name__ == '__main__':
  absltest.main()
