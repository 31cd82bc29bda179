"""Decoder rows for tools that steer: the rows, and what is said of them."""

import json
import pathlib

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import pyarrow.parquet as pq
import safetensors.numpy

import ooc_jax
from ooc_jax import InputError
from ooc_jax import export
from tests.explore import folders


class VectorsTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir().full_path)

  def _run(self, dictionary, features, **settings):
    """An export of written folders that name a dictionary that is there."""
    for name in ('out', 'validation'):
      write = getattr(folders, {'out': 'output'}.get(name, name))
      folder = write(self.root / 'in' / name, model='tiny-gemma2')
      config = json.loads((folder / 'config.json').read_text())
      config['settings'] |= {'dictionary': dictionary, **settings}
      (folder / 'config.json').write_text(json.dumps(config))
    path = self.root / 'in/validation/features/layer=01.parquet'
    table = pq.read_table(path)
    strength = np.full(len(table), np.nan)
    strength[7] = 3.5
    pq.write_table(table.append_column('strength_low', [strength]), path)
    done = export.run(
        [self.root / 'in'],
        export.Export(
            to='vectors', features=features, out=str(self.root / 'vectors')
        ),
    )
    manifest = json.loads((done.folder / 'vectors.json').read_text())
    loaded = safetensors.numpy.load_file(done.folder / manifest['file'])
    return manifest, loaded

  @parameterized.parameters('tiny-gemma2-res/layer_{layer}', 'mlp')
  def test_rows_are_those_of_the_dictionary(self, source):
    manifest, loaded = self._run(source, ('2/3', '1/8', '1/7'))
    self.assertEqual(manifest['model'], 'tiny-gemma2')
    self.assertEqual(manifest['dictionary'], source)
    self.assertIn('residual stream', manifest['unit'])
    names = [x['name'] for x in manifest['vectors']]
    self.assertEqual(
        names, ['layer_1.feature_7', 'layer_1.feature_8', 'layer_2.feature_3']
    )
    self.assertEqual(set(loaded), set(names))
    model = ooc_jax.load_model('tiny-gemma2')
    for about in manifest['vectors']:
      dictionary = ooc_jax.load_dictionary(
          source, model=model, layer=about['layer']
      )
      row = np.asarray(dictionary.decoder[about['feature']], np.float32)
      own = loaded[about['name']]
      self.assertEqual((own.dtype, own.shape), (np.float32, row.shape))
      np.testing.assert_array_equal(own, row)
      self.assertEqual(manifest['width'], len(row))
      self.assertAlmostEqual(about['norm'], float(np.linalg.norm(row)), 5)
      site = 'mlp_out' if source == 'mlp' else 'resid_post'
      self.assertEqual(about['site'], site)
      self.assertEqual(about['site_layer'], about['layer'])
      self.assertLen(about['top_tokens'], folders.K)
    # Of the validation, where the feature was steered.
    self.assertEqual(
        [x.get('strength_low') for x in manifest['vectors']], [3.5, None, None]
    )

  def test_what_cannot_be_read(self):
    with self.assertRaisesRegex(InputError, 'The run is a control'):
      self._run('mlp', ('1/7',), control='random_weights')
    with self.assertRaisesRegex(InputError, 'Unknown dictionary'):
      self._run('no-such-thing', ('1/7',), control='none')
    self.assertFalse((self.root / 'vectors').exists())

  def test_a_dictionary_that_has_become_smaller(self):
    np.savez(
        self.root / 'small.npz',
        W_dec=np.ones((5, 160), np.float32),
        W_enc=np.ones((160, 5), np.float32),
        b_enc=np.zeros(5, np.float32),
        b_dec=np.zeros(160, np.float32),
        threshold=np.zeros(5, np.float32),
    )
    with self.assertRaisesRegex(InputError, 'has 5 features now'):
      self._run(str(self.root / 'small.npz'), ('1/7',))


if __name__ == '__main__':
  absltest.main()
