"""Llama Scope: raw space against the normed space that it was trained in."""

import math
import pathlib

from absl.testing import absltest
from absl.testing import parameterized
import ml_dtypes
import numpy as np

from ooc_jax import InputError
from ooc_jax import load_dictionary
from tests.dictionaries import written
from tests.dictionaries.models import tiny_model


def _bfloat16(tensors):
  return {n: x.astype(ml_dtypes.bfloat16) for n, x in tensors.items()}


class Trained:
  """The SAE as it was trained: on x̃ = s·x, with t·x̂ coming out.

  The decision is upstream's: its Initializer turns e to e/s, W to W·s/t, then
  rows of W to unit norm with the norm in E and e, and compares the result of
  raw x with the threshold of the file.
  """

  def __init__(self, tensors, config, include_norm):
    wide = {n: x.astype(np.float64) for n, x in tensors.items()}
    self.E, self.e = wide['W_enc'].T, wide['b_enc']
    self.W = wide['W_dec']
    self.w = wide.get('b_dec', np.zeros(written.D))
    norms = config['dataset_average_activation_norm']
    self.s = math.sqrt(written.D) / norms['in']
    self.t = math.sqrt(written.D) / norms['out']
    self.theta = config['jump_relu_threshold']
    self.include_norm = include_norm

  def encode(self, x):
    pre = (self.s * x) @ self.E.T + self.e
    inference = x @ self.E.T + self.e / self.s
    if self.include_norm:
      rows = self.W * self.s / self.t
      inference = inference * np.sqrt((rows**2).sum(axis=1))
    return np.where(inference > self.theta, pre, 0.0)

  def decode(self, a):
    return (a @ self.W + self.w) / self.t


class LlamaScopeTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path)
    self.tensors = _bfloat16(written.draw())
    self.x = 3 * written.inputs()

  def load(self, tensors=None, asked=None, **changes):
    config = written.llama_hyperparams(**changes)
    tensors = self.tensors if tensors is None else tensors
    written.write_llama_scope(self.folder, tensors, config)
    return load_dictionary(self.folder, **(asked or {}))

  @parameterized.named_parameters(
      ('file', True, None, True),
      ('file_without', False, None, False),
      ('sae_lens', True, False, False),
      ('asked', False, True, True),
      ('absent', None, None, True),
  )
  def test_raw_space_is_normed_space(self, in_file, asked, include_norm):
    config = written.llama_hyperparams(jump_relu_threshold=6.0)
    dictionary = self.load(
        asked={'sparsity_include_decoder_norm': asked},
        jump_relu_threshold=6.0,
        sparsity_include_decoder_norm=in_file,
    )
    sae = Trained(self.tensors, config, include_norm)
    self.assertNotAlmostEqual(sae.s, 1.0, places=1)
    written.assert_computes(self, dictionary, sae, self.x)
    self.assertEqual(dictionary.site.layer, 2)
    self.assertEqual(dictionary.site.hook, 'resid_post')
    self.assertLen(dictionary.files, 2)

  def test_decoder_norm_changes_decisions(self):
    """Else the test above could not tell one setting from the other."""
    config = written.llama_hyperparams(jump_relu_threshold=6.0)
    fires = [
        Trained(self.tensors, config, flag).encode(self.x) != 0
        for flag in (True, False)
    ]
    self.assertGreater((fires[0] != fires[1]).mean(), 0.05)

  def test_fields_are_scaled_the_published_way(self):
    """formats.md: encoder · s, decoder / s, b_dec / s, θ · s, b_enc kept."""
    dictionary = self.load(sparsity_include_decoder_norm=False)
    s = math.sqrt(written.D) / 6.3125
    wide = {n: x.astype(np.float64) for n, x in self.tensors.items()}
    written.assert_same(dictionary.encoder, wide['W_enc'].T * s, rtol=1e-7)
    written.assert_same(dictionary.decoder, wide['W_dec'] / s, rtol=1e-7)
    written.assert_same(dictionary.decoder_bias, wide['b_dec'] / s, rtol=1e-7)
    np.testing.assert_array_equal(dictionary.encoder_bias, wide['b_enc'])
    np.testing.assert_allclose(
        dictionary.threshold, 0.2021484375 * s, rtol=1e-7
    )
    self.assertEqual(dictionary.decoder.dtype, np.float32)

  @parameterized.parameters(
      # Layer, average norm, s as SAELens lists it, θ of the file, θ·s.
      (0, 1.0859375, 58.935251798561154, None, None),
      (8, 6.3125, 10.138613861386139, 0.2021484375, 2.0495),
      (15, 10.8125, 5.91907514450867, None, None),
      (19, 17.125, 3.737226277372263, 0.52734375, 1.9708),
      (31, 74.5, 0.8590604026845637, None, None),
  )
  def test_published_scales(self, layer, norm, scale, theta, scaled):
    """At the real width. θ·s is about the same in every layer; θ is not."""
    tensors = _bfloat16(written.draw(width=4096, size=2))
    theta = theta or 0.5
    dictionary = self.load(
        tensors,
        d_model=4096,
        d_sae=2,
        dataset_average_activation_norm={'in': norm, 'out': norm},
        hook_point_in=f'blocks.{layer}.hook_resid_post',
        hook_point_out=f'blocks.{layer}.hook_resid_post',
        jump_relu_threshold=theta,
        sparsity_include_decoder_norm=False,
    )
    stored = tensors['W_enc'].T.astype(np.float64)
    np.testing.assert_allclose(
        np.asarray(dictionary.encoder) / stored, scale, rtol=1e-6
    )
    np.testing.assert_allclose(dictionary.threshold, theta * scale, rtol=1e-6)
    if scaled is not None:
      np.testing.assert_allclose(dictionary.threshold, scaled, rtol=1e-4)

  def test_transcoder_has_a_scale_for_each_side(self):
    changes = {
        'hook_point_in': 'blocks.1.ln2.hook_normalized',
        'hook_point_out': 'blocks.1.hook_mlp_out',
        'dataset_average_activation_norm': {'in': 4.5, 'out': 1.25},
        'jump_relu_threshold': 0.9,
    }
    dictionary = self.load(**changes)
    sae = Trained(self.tensors, written.llama_hyperparams(**changes), True)
    self.assertGreater(abs(sae.s / sae.t - 1), 0.5)
    written.assert_computes(self, dictionary, sae, self.x)
    self.assertEqual(dictionary.site.hook, 'mlp_in')

  def test_bias_that_is_subtracted_first_is_folded(self):
    """x̃ - w is encoded: as upstream computes it before anything is folded."""
    changes = {'jump_relu_threshold': 6.0}
    dictionary = self.load(apply_decoder_bias_to_pre_encoder=True, **changes)
    sae = Trained(self.tensors, written.llama_hyperparams(**changes), True)
    sae.e = sae.e - sae.E @ sae.w
    written.assert_computes(self, dictionary, sae, self.x)
    plain = self.load(**changes)
    self.assertGreater(
        np.abs(plain.encoder_bias - dictionary.encoder_bias).max(), 0.5
    )

  def test_already_in_raw_space(self):
    dictionary = self.load(
        norm_activation='inference', sparsity_include_decoder_norm=False
    )
    np.testing.assert_array_equal(
        dictionary.encoder, self.tensors['W_enc'].T.astype(np.float32)
    )
    np.testing.assert_allclose(dictionary.threshold, 0.2021484375)

  def test_without_decoder_bias(self):
    del self.tensors['b_dec']
    dictionary = self.load(use_decoder_bias=False)
    np.testing.assert_array_equal(dictionary.decoder_bias, 0)

  def test_plain_relu(self):
    dictionary = self.load(act_fn='relu', jump_relu_threshold=None)
    np.testing.assert_array_equal(dictionary.threshold, 0)

  def test_top_k_with_a_threshold_is_a_jump_as_upstream(self):
    jump, top = self.load(), self.load(act_fn='topk')
    np.testing.assert_array_equal(jump.threshold, top.threshold)
    self.assertIsNone(top.top_k)

  def test_a_feature_that_writes_nothing_never_fires(self):
    self.tensors['W_dec'][4] = 0
    self.tensors['b_enc'][4] = 100
    dictionary = self.load()
    a = np.asarray(dictionary.encode(self.x.astype(np.float32)))
    np.testing.assert_array_equal(a[:, 4], 0)
    self.assertGreater((a != 0).mean(), 0.1)

  @parameterized.parameters(
      ('blocks.1.hook_mlp_out', 'mlp_out'),
      ('blocks.1.hook_attn_out', 'attn_out'),
  )
  def test_sites_of_what_blocks_add(self, hook, ours):
    model = tiny_model('llama')
    dictionary = self.load(
        asked={'model': model}, hook_point_in=hook, hook_point_out=hook
    )
    self.assertEqual(dictionary.site.hook, ours)
    self.assertEqual(dictionary.site.layer, 1)
    self.assertFalse(dictionary.site.reads_stream)

  def test_site_from_the_folder_where_the_file_is_silent(self):
    config = written.llama_hyperparams(hook_point_in=None, hook_point_out=None)
    for letter, hook in (('R', 'resid_post'), ('A', 'attn_out')):
      folder = self.folder / f'Llama3_1-8B-Base-L12{letter}-8x'
      written.write_llama_scope(folder, self.tensors, config)
      dictionary = load_dictionary(folder)
      self.assertEqual(dictionary.site.layer, 12)
      self.assertEqual(dictionary.site.hook, hook)
    written.write_llama_scope(self.folder / 'x', self.tensors, config)
    self.assertEqual(load_dictionary(self.folder / 'x', layer=3).site.layer, 3)

  def test_file_of_the_weights(self):
    expected = self.load()
    path = self.folder / 'checkpoints' / 'final.safetensors'
    np.testing.assert_array_equal(
        load_dictionary(path).decoder, expected.decoder
    )

  def test_dtype_is_what_was_asked(self):
    config = {'dtype': 'bfloat16'}
    dictionary = self.load(asked=config)
    self.assertEqual(dictionary.encoder.dtype, ml_dtypes.bfloat16)
    # Rounded once, after the scale.
    np.testing.assert_array_equal(
        dictionary.encoder,
        np.asarray(self.load().encoder).astype(ml_dtypes.bfloat16),
    )

  @parameterized.named_parameters(
      ('gated', {'use_glu_encoder': True}, 'use_glu_encoder is set'),
      ('token', {'norm_activation': 'token-wise'}, "'token-wise' divides by"),
      ('act', {'act_fn': 'tanh'}, "act_fn 'tanh' is not read"),
      (
          'top_k',
          {'act_fn': 'topk', 'jump_relu_threshold': 0.0},
          "act_fn 'topk' is not read",
      ),
      ('below', {'jump_relu_threshold': -0.5}, 'jump_relu_threshold is -0.5'),
      ('text', {'jump_relu_threshold': '0.5'}, "'0.5', and must be a finite"),
      ('none', {'jump_relu_threshold': None}, "threshold' is missing"),
      (
          'zero',
          {'dataset_average_activation_norm': {'in': 0, 'out': 1}},
          'not above zero',
      ),
      (
          'nan',
          {'dataset_average_activation_norm': {'in': math.nan, 'out': 1}},
          "'in' is nan, and must be a finite number",
      ),
      (
          'half',
          {'dataset_average_activation_norm': {'in': 1.0}},
          "'out' is missing",
      ),
      (
          'list',
          {'dataset_average_activation_norm': [1, 2]},
          'must be an object',
      ),
      ('width', {'d_model': 4096}, 'd_model is 4096, and the weights have 20'),
      ('size', {'d_sae': 7}, 'd_sae is 7, and the weights have 33'),
      (
          'hook',
          {'hook_point_in': 'blocks.2.mlp.hook_post'},
          "hook 'blocks.2.mlp.hook_post', which has no known map",
      ),
      (
          'crossing',
          {'hook_point_out': 'blocks.3.hook_resid_post'},
          'only SAEs, and transcoders of one MLP',
      ),
      ('flag', {'use_decoder_bias': 1}, "'use_decoder_bias' is 1, and must be"),
      (
          'bias_of_a_transcoder',
          {
              'hook_point_in': 'blocks.1.ln2.hook_normalized',
              'hook_point_out': 'blocks.1.hook_mlp_out',
              'apply_decoder_bias_to_pre_encoder': True,
          },
          'set in a transcoder',
      ),
  )
  def test_refuses(self, changes, message):
    with self.assertRaisesRegex(InputError, message):
      self.load(**changes)

  def test_layer_that_contradicts_the_file_is_refused(self):
    with self.assertRaisesRegex(
        InputError, 'of layer 2, and layer 7 was asked'
    ):
      self.load(asked={'layer': 7})

  def test_weights_that_are_not_there(self):
    self.load()
    path = self.folder / 'checkpoints' / 'final.safetensors'
    path.rename(path.with_suffix('.pt'))
    with self.assertRaisesRegex(InputError, 'no checkpoints/final.safetensors'):
      load_dictionary(self.folder)


if __name__ == '__main__':
  absltest.main()
