"""Llama Scope R1-Distill against a reading of the format's words."""

import json
import pathlib

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
from safetensors.numpy import save_file

from ooc_jax import InputError
from ooc_jax import load_dictionary
from tests.dictionaries import written

_SCALE = 0.43
_LOG = 'log_jumprelu_threshold'


def stored() -> dict[str, np.ndarray]:
  t = written.draw()
  return {
      'encoder.weight': np.ascontiguousarray(t['W_enc'].T),
      'encoder.bias': t['b_enc'],
      'decoder.weight': np.ascontiguousarray(t['W_dec'].T),
      'decoder.bias': t['b_dec'],
      _LOG: np.log(t['threshold']),
  }


def write(folder, **changes):
  config = {
      'd_model': written.D,
      'hook_point_in': 'blocks.2.hook_resid_post',
      'hook_point_out': 'blocks.2.hook_resid_post',
      'norm_activation': 'dataset-wise',
      'sparsity_include_decoder_norm': False,
  } | changes
  config = {k: v for k, v in config.items() if v is not None}
  folder.mkdir(parents=True, exist_ok=True)
  save_file(stored(), folder / 'sae_weights.safetensors')
  (folder / 'config.json').write_text(json.dumps(config))
  return folder


class LlamaScopeR1Test(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path) / 'L2R'

  def assert_computes(self, dictionary, scale, with_norm):
    """pre = s x·E + e over its own threshold; t x̂ = a·W + w."""
    self.assertEqual(
        (dictionary.site.layer, dictionary.site.hook), (2, 'resid_post')
    )
    w = {n: x.astype(np.float64) for n, x in written.draw().items()}
    threshold = np.exp(stored()[_LOG].astype(np.float64))
    if with_norm:
      threshold = threshold / np.linalg.norm(w['W_dec'], axis=1)
    inner = written.reading(w, threshold=threshold)
    x = written.inputs()
    expected = inner.encode(x * scale)
    actual = np.asarray(dictionary.encode(x.astype(np.float32)))
    np.testing.assert_array_equal(actual != 0, expected != 0)
    written.assert_same(actual, expected)
    written.assert_same(
        dictionary.decode(actual), inner.decode(expected) / scale
    )

  @parameterized.parameters(False, True)
  def test_computes(self, with_norm):
    write(self.folder, sparsity_include_decoder_norm=with_norm)
    for source in (self.folder, self.folder / 'sae_weights.safetensors'):
      dictionary = load_dictionary(source, norm_scale=_SCALE)
      self.assert_computes(dictionary, _SCALE, with_norm)
    for asked in (False, True):
      dictionary = load_dictionary(
          self.folder, norm_scale=_SCALE, sparsity_include_decoder_norm=asked
      )
      self.assert_computes(dictionary, _SCALE, asked)

  def test_where_the_factor_may_stand(self):
    write(self.folder)
    with self.assertRaisesRegex(InputError, 'or give norm_scale='):
      load_dictionary(self.folder)
    write(self.folder, dataset_average_activation_norm={'in': 5.0, 'out': 5.0})
    dictionary = load_dictionary(self.folder)
    self.assert_computes(dictionary, np.sqrt(written.D) / 5, False)
    write(self.folder, norm_activation='inference')
    self.assert_computes(load_dictionary(self.folder), 1.0, False)

  @parameterized.parameters(
      ({'d_model': 7}, 'd_model is 7, and the weights have 20'),
      ({'expansion_factor': 8}, 'expansion_factor is 8, and the weights have'),
      ({'hook_point_out': 'blocks.2.hook_mlp_out'}, 'only SAEs are read'),
      ({'hook_point_in': None}, "'hook_point_in' is missing"),
  )
  def test_refuses(self, changes, message):
    write(self.folder, **changes)
    with self.assertRaisesRegex(InputError, message):
      load_dictionary(self.folder, norm_scale=_SCALE)


if __name__ == '__main__':
  absltest.main()
