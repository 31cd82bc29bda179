"""SAELens's own files, every architecture and both styles of config."""

import pathlib

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from ooc_jax import InputError
from ooc_jax import load_dictionary
from tests.dictionaries import written
from tests.dictionaries.models import tiny_model

# As SAELens before 6.0 wrote it: of hundreds of keys those that matter, and a
# few that do not.
_OLD = {
    'hook_point': 'blocks.1.hook_resid_pre',
    'hook_point_layer': 1,
    'hook_point_head_index': None,
    'd_in': written.D,
    'd_sae': written.F,
    'activation_fn_str': 'relu',
    'use_ghost_grads': True,
    'l1_coefficient': 5,
    'normalize_activations': 'none',
    'dtype': 'torch.float32',
}
# And since then.
_NEW = {
    'architecture': 'standard',
    'd_in': written.D,
    'd_sae': written.F,
    'dtype': 'float32',
    'apply_b_dec_to_input': True,
    'normalize_activations': 'none',
    'reshape_activations': 'none',
    'metadata': {
        'sae_lens_version': '6.54.12',
        'model_name': 'gemma-2-2b',
        'hook_name': 'blocks.1.hook_resid_post',
        'hook_head_index': None,
        'prepend_bos': True,
    },
}


def _wide(tensors):
  return {name: x.astype(np.float64) for name, x in tensors.items()}


class SaeLensTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path)
    self.tensors = written.draw()
    del self.tensors['threshold']
    self.x = written.inputs()

  def load(self, config=None, asked=None, **changes):
    config = (_NEW if config is None else config) | changes
    config = {k: v for k, v in config.items() if v != 'absent'}
    written.write_sae_lens(self.folder, self.tensors, config)
    return load_dictionary(self.folder, **(asked or {}))

  def relu(self, **changes):
    return written.reading(
        self.tensors, **({'threshold': np.zeros(written.F)} | changes)
    )

  def folded(self, **changes):
    """b_dec is subtracted from the input before the encoder sees it."""
    w = _wide(self.tensors)
    shifted = w['b_enc'] - w['b_dec'] @ w['W_enc']
    return self.relu(b_enc=shifted, **changes)

  @parameterized.named_parameters(
      ('old', _OLD, 'resid_pre'), ('new', _NEW, 'resid_post')
  )
  def test_standard(self, config, hook):
    dictionary = self.load(config)
    written.assert_computes(self, dictionary, self.folded(), self.x)
    self.assertEqual(dictionary.site.layer, 1)
    self.assertEqual(dictionary.site.hook, hook)
    self.assertLen(dictionary.files, 2)
    # Folding is no small thing.
    self.assertGreater(
        np.abs(dictionary.encoder_bias - self.tensors['b_enc']).max(), 1.0
    )

  @parameterized.product(config=(_OLD, _NEW), as_file=(False, True))
  def test_bias_that_is_not_subtracted(self, config, as_file):
    dictionary = self.load(config, apply_b_dec_to_input=False)
    if as_file:
      path = self.folder / 'sae_weights.safetensors'
      dictionary = load_dictionary(path)
    written.assert_computes(self, dictionary, self.relu(), self.x)

  def test_jumprelu(self):
    threshold = written.draw()['threshold']
    self.tensors['threshold'] = threshold
    sae = self.folded(threshold=threshold.astype(np.float64))
    dictionary = self.load(architecture='jumprelu')
    written.assert_computes(self, dictionary, sae, self.x)

  @parameterized.parameters(False, True)
  def test_gated(self, subtract):
    """The two paths of the definition, and the one threshold they make."""
    rng = np.random.default_rng(5)
    del self.tensors['b_enc']
    for name in ('b_gate', 'b_mag', 'r_mag'):
      self.tensors[name] = rng.normal(size=written.F).astype(np.float32)
    w = _wide(self.tensors)
    x = self.x - w['b_dec'] if subtract else self.x
    gate = x @ w['W_enc'] + w['b_gate'] > 0
    magnitude = x @ (w['W_enc'] * np.exp(w['r_mag'])) + w['b_mag']
    expected = gate * np.maximum(magnitude, 0)
    # Both paths decide: some gates are open on nothing, some shut on much.
    self.assertGreater((gate & (magnitude < 0)).mean(), 0.02)
    self.assertGreater((~gate & (magnitude > 0)).mean(), 0.02)
    dictionary = self.load(architecture='gated', apply_b_dec_to_input=subtract)
    actual = np.asarray(dictionary.encode(self.x.astype(np.float32)))
    np.testing.assert_array_equal(actual != 0, expected != 0)
    written.assert_same(actual, expected)
    written.assert_same(
        dictionary.decode(actual), expected @ w['W_dec'] + w['b_dec']
    )

  @parameterized.product(rescale=(False, True), old=(False, True))
  def test_top_k(self, rescale, old):
    k = 6
    w = _wide(self.tensors)
    pre = (self.x - w['b_dec']) @ w['W_enc'] + w['b_enc']
    norms = np.linalg.norm(w['W_dec'], axis=1)
    if rescale:
      pre = pre * norms
    expected = np.zeros_like(pre)
    for row, out in zip(pre, expected, strict=True):
      best = np.argsort(-row)[:k]
      out[best] = np.maximum(row[best], 0)
    decoded = expected / (norms if rescale else 1) @ w['W_dec'] + w['b_dec']
    config = _NEW | {'architecture': 'topk', 'k': k}
    if old:
      config = _OLD | {
          'activation_fn_str': 'topk',
          'activation_fn_kwargs': {'k': k},
          'architecture': 'standard',
      }
    dictionary = self.load(config, rescale_acts_by_decoder_norm=rescale)
    self.assertEqual(dictionary.top_k, k)
    actual = np.asarray(dictionary.encode(self.x.astype(np.float32)))
    np.testing.assert_array_equal(actual != 0, expected != 0)
    written.assert_same(actual, expected)
    written.assert_same(dictionary.decode(actual), decoded)

  def test_rescaled_row_of_zeros_stays_one(self):
    self.tensors['W_dec'][2] = 0
    dictionary = self.load(
        architecture='topk', k=6, rescale_acts_by_decoder_norm=True
    )
    np.testing.assert_array_equal(dictionary.decoder[2], 0)
    a = np.asarray(dictionary.encode(self.x.astype(np.float32)))
    np.testing.assert_array_equal(a[:, 2], 0)

  @parameterized.product(
      architecture=('jumprelu_transcoder', 'skip_transcoder'),
      hook=('ln2.hook_normalized', 'hook_resid_mid'),
  )
  def test_transcoder(self, architecture, hook):
    threshold = np.zeros(written.F)
    if architecture.startswith('jumprelu'):
      self.tensors['threshold'] = written.draw()['threshold']
      threshold = self.tensors['threshold'].astype(np.float64)
    else:
      self.tensors['W_skip'] = np.ones((written.D, written.D), np.float32)
    metadata = {
        'hook_name': f'blocks.2.{hook}',
        'hook_name_out': 'blocks.2.hook_mlp_out',
    }
    dictionary = self.load(
        architecture=architecture,
        metadata=metadata,
        apply_b_dec_to_input=False,
        asked={'model': tiny_model('gemma2')},
    )
    written.assert_computes(
        self, dictionary, self.relu(threshold=threshold), self.x
    )
    self.assertEqual(dictionary.site.layer, 2)
    self.assertEqual(
        dictionary.site.hook, 'resid_mid' if 'mid' in hook else 'mlp_in'
    )
    self.assertEqual(dictionary.site.reads, (dictionary.site.hook, 2))
    self.assertEqual(dictionary.site.writes, ('mlp_out', 2))

  def test_heads(self):
    """The map itself is tested with Gemma Scope; here, that it is done."""
    self.tensors = written.draw(width=written.HEADS)
    self.tensors.pop('threshold')
    model = tiny_model('gemma2')
    dictionary = self.load(
        d_in=written.HEADS,
        reshape_activations='hook_z',
        metadata={'hook_name': 'blocks.1.attn.hook_z'},
        asked={'model': model},
    )
    self.assertEqual(dictionary.site.hook, 'attn_z')
    self.assertEqual(dictionary.decoder.shape, (written.F, written.D))
    self.assertEqual(dictionary.encoder.shape, (written.F, written.HEADS))

  @parameterized.parameters(
      ('hook_embed', 0, 'embedding'),
      ('model.layers.2', 2, 'resid_post'),
      ('blocks.2.hook_mlp_out', 2, 'mlp_out'),
      ('blocks.0.hook_attn_out', 0, 'attn_out'),
  )
  def test_sites(self, name, layer, hook):
    site = self.load(metadata={'hook_name': name}).site
    self.assertEqual((site.layer, site.hook), (layer, hook))

  def test_config_without_a_hook(self):
    config = {k: v for k, v in _OLD.items() if k != 'hook_point'}
    site = self.load(config).site
    self.assertEqual((site.layer, site.hook), (1, 'resid_post'))
    site = self.load(config, asked={'hook': 'mlp_out'}).site
    self.assertEqual((site.layer, site.hook), (1, 'mlp_out'))
    del config['hook_point_layer']
    with self.assertRaisesRegex(InputError, 'give layer='):
      self.load(config)

  def test_a_scaling_factor_of_one_is_none(self):
    self.tensors['scaling_factor'] = np.ones(written.F, np.float32)
    written.assert_computes(self, self.load(_OLD), self.folded(), self.x)
    self.tensors['scaling_factor'][0] = 2
    with self.assertRaisesRegex(InputError, 'scaling_factor that is not 1'):
      self.load(_OLD)

  def test_no_normalisation_may_be_said_in_three_ways(self):
    for value in (None, False, 'none'):
      dictionary = self.load(_OLD, normalize_activations=value)
      written.assert_computes(self, dictionary, self.folded(), self.x)

  @parameterized.parameters(
      ('layer_norm', "'layer_norm'.*no form out of context"),
      ('constant_norm_rescale', 'normed input by input'),
      ('expected_average_only_in', 'factor is not in the file; give norm_sc'),
      (True, 'the factor is not in'),
  )
  def test_what_was_normed_has_its_decoder(self, norm, message):
    dictionary = self.load(_OLD, normalize_activations=norm)
    np.testing.assert_array_equal(dictionary.decoder, self.tensors['W_dec'])
    self.assertFalse(dictionary.reads_stream)
    with self.assertRaisesRegex(InputError, message):
      dictionary.encode(self.x.astype(np.float32))

  def test_a_factor_that_is_given_is_folded_in(self):
    scale = 0.37
    dictionary = self.load(
        normalize_activations='expected_average_only_in',
        asked={'norm_scale': scale},
    )
    inner = self.folded()
    expected = inner.encode(self.x * scale)
    actual = dictionary.encode(self.x.astype(np.float32))
    written.assert_same(actual, expected)
    written.assert_same(
        dictionary.decode(actual), inner.decode(expected) / scale
    )
    for bad in (0.0, -1.0, float('nan')):
      with self.assertRaisesRegex(InputError, 'must be a number above zero'):
        self.load(
            normalize_activations='expected_average_only_in',
            asked={'norm_scale': bad},
        )

  @parameterized.product(
      architecture=('batchtopk', 'matryoshka_batchtopk'),
      rescale=(False, True),
  )
  def test_a_checkpoint_of_batch_wise_training(self, architecture, rescale):
    level = 0.7
    self.tensors['topk_threshold'] = np.array(level)
    dictionary = self.load(
        architecture=architecture,
        k=6.5,
        topk_threshold_lr=0.01,
        matryoshka_widths=[8, 33],
        rescale_acts_by_decoder_norm=rescale,
    )
    w = _wide(self.tensors)
    norms = (
        np.linalg.norm(w['W_dec'], axis=1) if rescale else np.ones(written.F)
    )
    pre = ((self.x - w['b_dec']) @ w['W_enc'] + w['b_enc']) * norms
    expected = np.where(pre > np.float32(level), pre, 0)
    actual = np.asarray(dictionary.encode(self.x.astype(np.float32)))
    np.testing.assert_array_equal(actual != 0, expected != 0)
    written.assert_same(actual, expected)
    decoded = expected @ (w['W_dec'] / norms[:, None]) + w['b_dec']
    written.assert_same(dictionary.decode(actual), decoded)

  def test_top_k_whose_k_stands_where_it_used_to(self):
    dictionary = self.load(
        architecture='topk', k='absent', activation_fn_kwargs={'k': 6}
    )
    self.assertEqual(dictionary.top_k, 6)

  def test_stored_dtype_is_kept(self):
    self.tensors = {n: x.astype(np.float16) for n, x in self.tensors.items()}
    dictionary = self.load()
    self.assertEqual(dictionary.decoder.dtype, np.float16)
    self.assertEqual(dictionary.encoder_bias.dtype, np.float32)
    written.assert_computes(self, dictionary, self.folded(), self.x)

  @parameterized.named_parameters(
      ('kind', {'architecture': 'temporal'}, "architecture 'temporal' has no"),
      ('batch', {'architecture': 'batchtopk'}, 'topk_threshold is missing'),
      (
          'whitening',
          {'normalize_activations': 'covariance_whitening'},
          "'covariance_whitening', which has no form out of context",
      ),
      ('act', {'activation_fn': 'tanh-relu'}, "'tanh-relu' is not read"),
      ('head', {'hook_head_index': 3}, 'one attention head'),
      ('k', {'architecture': 'topk', 'k': 34}, 'k is 34, and must be between'),
      ('no_k', {'architecture': 'topk'}, "'k' is missing"),
      ('width', {'d_in': 2304}, 'd_in is 2304, and the weights have 20'),
      ('size', {'d_sae': 7}, 'd_sae is 7, and the weights have 33'),
      ('tensors', {'architecture': 'jumprelu'}, 'threshold is missing'),
      ('flag', {'apply_b_dec_to_input': 'yes'}, "'yes', and must be true or"),
      ('metadata', {'metadata': 'x'}, "'metadata' is 'x', and must be an obj"),
      (
          'hook',
          {'metadata': {'hook_name': 'blocks.1.mlp.hook_post'}},
          "hook 'blocks.1.mlp.hook_post', which has no known map",
      ),
      (
          'normed',
          {'metadata': {'hook_name': 'blocks.1.ln2.hook_normalized'}},
          "an SAE of 'blocks.1.ln2.hook_normalized' is not read",
      ),
      (
          'stream_transcoder',
          {'architecture': 'transcoder', 'apply_b_dec_to_input': False},
          'transcoders of an MLP',
      ),
      (
          'crossing',
          {
              'architecture': 'transcoder',
              'apply_b_dec_to_input': False,
              'metadata': {
                  'hook_name': 'blocks.1.ln2.hook_normalized',
                  'hook_name_out': 'blocks.2.hook_mlp_out',
              },
          },
          "writes 'blocks.2.hook_mlp_out'",
      ),
  )
  def test_refuses(self, changes, message):
    with self.assertRaisesRegex(InputError, message):
      self.load(**changes)

  def test_a_transcoder_subtracts_nothing(self):
    metadata = {
        'hook_name': 'blocks.1.ln2.hook_normalized',
        'hook_name_out': 'blocks.1.hook_mlp_out',
    }
    with self.assertRaisesRegex(InputError, 'not of the space that it reads'):
      self.load(architecture='transcoder', metadata=metadata)


if __name__ == '__main__':
  absltest.main()
