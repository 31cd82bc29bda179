"""Dictionaries of our own: there and back, and damaged."""

import pathlib
import shutil

from absl.testing import absltest
from absl.testing import parameterized
import jax
import numpy as np

import ooc_jax
from ooc_jax.dictionaries import save_dictionary
from tests.tiny import make_checkpoint


class OwnTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir().full_path)
    self.source, self.ours = self.root / 'source', self.root / 'to' / 'ours'

  @parameterized.product(kind=('mlp', 'random'), to=('orbax', 'safetensors'))
  def test_there_and_back_bit_for_bit(self, kind, to):
    make_checkpoint(self.source, 'gemma2')
    model = ooc_jax.load_model(self.source)
    dictionary = ooc_jax.load_dictionary(kind, model=model, layer=1)
    save_dictionary(dictionary, self.ours, to=to)
    again = ooc_jax.load_dictionary(self.ours)
    for a, b in zip(
        jax.tree.leaves(again), jax.tree.leaves(dictionary), strict=True
    ):
      self.assertEqual(a.dtype, b.dtype)
      self.assertEqual(np.asarray(a).tobytes(), np.asarray(b).tobytes())
    self.assertEqual(again.site, dictionary.site)
    self.assertEqual(again.name, dictionary.name)

  def test_damage(self):
    make_checkpoint(self.source, 'llama')
    model = ooc_jax.load_model(self.source)
    dictionary = ooc_jax.load_dictionary('mlp', model=model, layer=0)
    save_dictionary(dictionary, self.ours, to='safetensors')
    path = self.ours / 'ooc_jax_dictionary.json'
    good = path.read_text()
    for old, new in (('"format": 1', '"format": 2'), ('mlp_neuron', 'x'),
                     ('"decoder": {', '"other": {'), ('"layer": 0', '"l": 0'),
                     ('36', '35')):  # fmt: skip
      self.assertIn(old, good)
      path.write_text(good.replace(old, new))
      with self.assertRaisesRegex(ooc_jax.InputError, str(self.ours)):
        ooc_jax.load_dictionary(self.ours)
    path.write_text(good)
    ooc_jax.load_dictionary(self.ours)
    arrays = self.ours / 'dictionary.safetensors'
    arrays.write_bytes(arrays.read_bytes()[:-1])
    with self.assertRaisesRegex(ooc_jax.InputError, 'is damaged'):
      ooc_jax.load_dictionary(self.ours)
    again = self.root / 'again'
    save_dictionary(dictionary, again)
    shutil.rmtree(again / 'arrays')
    with self.assertRaisesRegex(ooc_jax.InputError, 'is damaged'):
      ooc_jax.load_dictionary(again)


if __name__ == '__main__':
  absltest.main()
