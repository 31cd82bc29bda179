"""EleutherAI's sparsify against a reading of the format's words."""

import pathlib

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from ooc_jax import InputError
from ooc_jax import load_dictionary
from tests.dictionaries import written
from tests.dictionaries.models import tiny_model
from tests.dictionaries.models import tiny_tensors

_K = 5


def _encode(tensors, x, subtracts):
  """The k largest of relu((x - b_dec)·W + b), in float64, input by input."""
  wide = {n: t.astype(np.float64) for n, t in tensors.items()}
  out = np.zeros((len(x), written.F))
  for row, a in zip(x, out, strict=True):
    if subtracts:
      row = row - wide['b_dec']
    pre = np.maximum(row @ wide['W_enc'] + wide['b_enc'], 0)
    best = np.argsort(-pre)[:_K]
    a[best] = pre[best]
  return out


class SparsifyTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir().full_path)
    self.tensors = written.draw()
    self.x = written.inputs()

  def write(self, name, extra=None, **changes):
    config = {
        'activation': 'topk',
        'expansion_factor': 32,
        'normalize_decoder': True,
        'num_latents': written.F,
        'k': _K,
        'multi_topk': False,
        'skip_connection': False,
        'd_in': written.D,
    } | changes
    config = {k: v for k, v in config.items() if v is not None}
    return written.write_sparsify(self.root / name, self.tensors, config, extra)

  def assert_computes(self, dictionary, x, expected):
    actual = np.asarray(dictionary.encode(x.astype(np.float32)))
    np.testing.assert_array_equal(actual != 0, expected != 0)
    written.assert_same(actual, expected)
    decoded = expected @ self.tensors['W_dec'] + self.tensors['b_dec']
    written.assert_same(dictionary.decode(actual), decoded)

  @parameterized.product(
      changes=(
          {},
          {'transcode': False},
          {'normalize_decoder': False},
          # Of 2024: no activation, k or transcode beside it.
          {'activation': None, 'multi_topk': None, 'signed': False},
      ),
      as_file=(False, True),
  )
  def test_sae(self, changes, as_file):
    folder = self.write('layers.2', **changes)
    source = folder / 'sae.safetensors' if as_file else folder
    dictionary = load_dictionary(source, model=tiny_model('gemma2'))
    self.assertEqual((dictionary.site.layer, dictionary.top_k), (2, _K))
    self.assertEqual(dictionary.site.hook, 'resid_post')
    self.assertLen(dictionary.files, 2)
    expected = _encode(self.tensors, self.x, subtracts=True)
    self.assert_computes(dictionary, self.x, expected)

  @parameterized.parameters(False, True)
  def test_transcoder_reads_what_the_norm_makes(self, skip):
    extra = None
    if skip:
      matrix = np.random.default_rng(3).normal(size=(written.D, written.D))
      extra = {'W_skip': matrix.astype(np.float32)}
    folder = self.write('layers.1.mlp', extra, transcode=True)
    dictionary = load_dictionary(folder, model=tiny_model('llama'))
    self.assertEqual(dictionary.site.hook, 'mlp_in')
    name = 'model.layers.1.post_attention_layernorm.weight'
    gain = tiny_tensors('llama')[name]
    expected = _encode(self.tensors, self.x * gain, subtracts=False)
    self.assert_computes(dictionary, self.x, expected)

  @parameterized.parameters(
      ('layers.1', 1, 'resid_post'),
      ('layers_1', 1, 'resid_post'),
      ('h.0', 0, 'resid_post'),
      ('model.layers.1', 1, 'resid_post'),
      ('layers.1.mlp', 1, 'mlp_out'),
      ('layers.1.self_attn', 1, 'attn_out'),
      ('layers.1.attention', 1, 'attn_out'),
      ('embed_tokens', 0, 'embedding'),
  )
  def test_sites(self, name, layer, hook):
    dictionary = load_dictionary(self.write(name), model=tiny_model('llama'))
    self.assertEqual(dictionary.site.layer, layer)
    self.assertEqual(dictionary.site.hook, hook)

  def test_a_folder_of_another_name(self):
    folder = self.write('mine')
    with self.assertRaisesRegex(InputError, 'give layer='):
      load_dictionary(folder)
    self.assertEqual(load_dictionary(folder, layer=1).site.hook, 'resid_post')

  def test_size_from_the_factor(self):
    folder = self.write('layers.1', num_latents=0, expansion_factor=1)
    with self.assertRaisesRegex(InputError, '20 latents, and the weights'):
      load_dictionary(folder)

  @parameterized.parameters(
      ('layers.1', {'activation': 'groupmax'}, "'groupmax' is not read"),
      ('layers.1', {'signed': True}, 'signed is set'),
      ('layers.1', {'k': 0}, 'k is 0'),
      ('layers.1', {'k': None}, "'k' is missing"),
      ('layers.1', {'num_latents': 7}, '7 latents, and the weights have 33'),
      ('layers.1', {'d_in': 7}, 'd_in is 7, and the weights have 20'),
      ('layers.1', {'transcode': True}, 'only those of one MLP'),
  )
  def test_refuses(self, name, changes, message):
    with self.assertRaisesRegex(InputError, message):
      load_dictionary(self.write(name, **changes))

  def test_a_skip_connection_that_may_be_of_either(self):
    extra = {'W_skip': np.ones((written.D, written.D), np.float32)}
    with self.assertRaisesRegex(InputError, 'whether it is a transcoder'):
      load_dictionary(self.write('layers.1.mlp', extra))

  @parameterized.parameters('layers.1.mlp', 'layers.1.self_attn')
  def test_a_norm_after_the_block(self, name):
    """What Gemma adds to the stream is not the output of the module."""
    with self.assertRaisesRegex(InputError, 'whose output this model norms'):
      load_dictionary(self.write(name), model=tiny_model('gemma2'))

  def test_an_embedding_that_the_model_scales(self):
    with self.assertRaisesRegex(InputError, 'stream times 4.472'):
      load_dictionary(self.write('embed_tokens'), model=tiny_model('gemma2'))

  def test_a_config_without_weights_names_what_may_belong_to_it(self):
    folder = self.write('layers.1')
    (folder / 'sae.safetensors').unlink()
    with self.assertRaisesRegex(
        InputError, 'no sae_weights.safetensors or sae.safetensors, which'
    ):
      load_dictionary(folder)


if __name__ == '__main__':
  absltest.main()
