"""Qwen Scope against a reading of the format's words."""

import pathlib

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
from safetensors.numpy import save_file

from ooc_jax import InputError
from ooc_jax import load_dictionary
from tests.dictionaries import torch_files
from tests.dictionaries import written

_K = 7


def stored(seed: int = 0) -> dict[str, np.ndarray]:
  t = written.draw(seed)
  return {
      'W_enc': np.ascontiguousarray(t['W_enc'].T),
      'W_dec': np.ascontiguousarray(t['W_dec'].T),
      'b_enc': t['b_enc'],
      'b_dec': t['b_dec'],
  }


class QwenScopeTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    root = pathlib.Path(self.create_tempdir().full_path)
    self.folder = root / f'SAE-Res-Qwen3-1.7B-Base-W32K-L0_{_K}'
    for layer in (0, 3):
      torch_files.write_pt(
          self.folder / f'layer{layer}.sae.pt', stored(seed=layer)
      )

  def assert_computes(self, dictionary, layer):
    self.assertEqual(
        (dictionary.site.layer, dictionary.site.hook), (layer, 'resid_post')
    )
    self.assertEqual(dictionary.top_k, _K)
    w = {n: x.astype(np.float64) for n, x in written.draw(layer).items()}
    x = written.inputs()
    pre = x @ w['W_enc'] + w['b_enc']  # b_dec is not subtracted.
    expected = np.zeros_like(pre)
    for row, a in zip(pre, expected, strict=True):
      best = np.argsort(-row)[:_K]
      a[best] = np.maximum(row[best], 0)
    actual = np.asarray(dictionary.encode(x.astype(np.float32)))
    np.testing.assert_array_equal(actual != 0, expected != 0)
    written.assert_same(actual, expected)
    written.assert_same(
        dictionary.decode(actual), expected @ w['W_dec'] + w['b_dec']
    )

  @parameterized.parameters(0, 3)
  def test_a_layer_of_the_folder(self, layer):
    self.assert_computes(load_dictionary(self.folder, layer=layer), layer)
    file = self.folder / f'layer{layer}.sae.pt'
    self.assert_computes(load_dictionary(file), layer)

  def test_the_layer_has_to_be_said(self):
    with self.assertRaisesRegex(InputError, 'of the layers 0, 3; give layer='):
      load_dictionary(self.folder)
    with self.assertRaisesRegex(InputError, 'layer 3, and layer 0 was asked'):
      load_dictionary(self.folder / 'layer3.sae.pt', layer=0)

  def test_as_safetensors(self):
    """What the advice about a .pt makes of it."""
    save_file(stored(), self.folder / 'layer2.sae.safetensors')
    dictionary = load_dictionary(self.folder / 'layer2.sae.safetensors')
    self.assertEqual(dictionary.site.layer, 2)
    np.testing.assert_array_equal(dictionary.decoder, written.draw()['W_dec'])

  def test_k_that_no_path_says(self):
    file = self.folder.parent / 'mine' / 'layer1.sae.pt'
    torch_files.write_pt(file, stored())
    with self.assertRaisesRegex(InputError, 'path names no k .*give top_k='):
      load_dictionary(file)
    self.assertEqual(load_dictionary(file, top_k=4).top_k, 4)


if __name__ == '__main__':
  absltest.main()
