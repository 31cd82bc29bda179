"""circuit-tracer's transcoders, of one layer and across layers."""

import pathlib

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
from safetensors.numpy import save_file

from ooc_jax import InputError
from ooc_jax import load_dictionary
from ooc_jax.circuits import attention_layer
from ooc_jax.dictionaries import save_dictionary
from tests.dictionaries import written
from tests.dictionaries.models import tiny_model
from tests.dictionaries.models import tiny_tensors
from tests.model import golden_files

_LAYERS = 4  # Of the model of a cross-layer transcoder.


def one_layer(skip: bool = False) -> dict[str, np.ndarray]:
  t = written.draw()
  tensors = {
      'W_enc': np.ascontiguousarray(t['W_enc'].T),
      'W_dec': t['W_dec'],
      'b_enc': t['b_enc'],
      'b_dec': t['b_dec'],
  }
  if skip:
    tensors['W_skip'] = np.ones((written.D, written.D), np.float32)
  return tensors


def cross_layer(layer: int):
  """Encoder file, decoder file."""
  t = written.draw()
  written_to = np.stack(
      [written.draw(10 + i)['W_dec'] for i in range(_LAYERS - layer)], 1
  )
  encoder = {
      f'W_enc_{layer}': np.ascontiguousarray(t['W_enc'].T),
      f'b_enc_{layer}': t['b_enc'],
      f'b_dec_{layer}': t['b_dec'],
  }
  return encoder, {f'W_dec_{layer}': written_to}


class OneLayerTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path)

  def write(self, hook=None, out='hook_mlp_out', skip=False):
    save_file(one_layer(skip), self.folder / 'layer_1.safetensors')
    if hook is not None:
      (self.folder / 'config.yaml').write_text(
          'model_name: "Qwen/Qwen3-4B"  # as published\n'
          f'feature_input_hook: {hook}\nfeature_output_hook: "{out}"\n'
          'nested:\n  feature_input_hook: elsewhere\n'
      )

  @parameterized.product(
      hook=(None, 'mlp.hook_in', 'ln2.hook_normalized', 'hook_resid_mid'),
      skip=(False, True),
      as_file=(False, True),
  )
  def test_computes(self, hook, skip, as_file):
    self.write(hook, skip=skip)
    source = self.folder / 'layer_1.safetensors' if as_file else self.folder
    dictionary = load_dictionary(source, model=tiny_model('llama'))
    site = dictionary.site
    reads = 'resid_mid' if hook == 'hook_resid_mid' else 'mlp_in'
    self.assertEqual(site.reads, (reads, 1))
    self.assertEqual(site.writes, ('mlp_out', 1))
    self.assertEqual(attention_layer(site), 2)
    with self.assertRaisesRegex(InputError, 'reads at one place and'):
      _ = site.tap
    gain = 1.0
    if hook in (None, 'mlp.hook_in'):
      name = 'model.layers.1.post_attention_layernorm.weight'
      gain = tiny_tensors('llama')[name]
    x = written.inputs()
    sae = written.reading(written.draw(), threshold=np.zeros(written.F))
    actual = dictionary.encode(x.astype(np.float32))
    expected = sae.encode(x * gain)
    written.assert_same(actual, expected)
    written.assert_same(dictionary.decode(actual), sae.decode(expected))

  def test_a_layer_of_the_folder(self):
    self.write('ln2.hook_normalized')
    save_file(one_layer(), self.folder / 'layer_2.safetensors')
    with self.assertRaisesRegex(InputError, 'of the layers 1, 2; give layer='):
      load_dictionary(self.folder)
    self.assertEqual(load_dictionary(self.folder, layer=2).site.layer, 2)

  @parameterized.parameters(
      ('hook_attn_in', 'hook_mlp_out', "is 'hook_attn_in', and must be one of"),
      ('mlp.hook_in', 'hook_resid_post', "is 'hook_resid_post', and only what"),
  )
  def test_refuses(self, hook, out, message):
    self.write(hook, out)
    with self.assertRaisesRegex(InputError, message):
      load_dictionary(self.folder)

  def test_a_norm_after_the_module(self):
    self.write('hook_resid_mid', 'mlp.hook_out')
    with self.assertRaisesRegex(InputError, 'this model norms before'):
      load_dictionary(self.folder, model=tiny_model('gemma2'))


class LayerNormTest(absltest.TestCase):
  """GPT-2: a norm that takes the mean away, and has a bias."""

  def test_reads_what_the_module_receives(self):
    golden = golden_files.load('gpt2')
    model = golden.model
    width = model.config.embed_dim
    t = written.draw(width=width)
    tensors = {
        'W_enc': np.ascontiguousarray(t['W_enc'].T),
        **{name: t[name] for name in ('W_dec', 'b_enc', 'b_dec')},
    }
    folder = pathlib.Path(self.create_tempdir().full_path)
    save_file(tensors, folder / 'layer_1.safetensors')
    dictionary = load_dictionary(folder, model=model)
    x = written.inputs(width)
    normed = (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)
    norm = model.params['layer_1']['mlp_norm']
    gain = np.asarray(norm['weight'], np.float64)
    bias = np.asarray(norm['bias'], np.float64)
    self.assertGreater(np.abs(bias).max(), 0.01)
    sae = written.reading(t, threshold=np.zeros(written.F))
    expected = sae.encode(normed * gain + bias)
    actual = dictionary.encode(normed.astype(np.float32))
    written.assert_same(actual, expected)


class CrossLayerTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path)
    for layer in (0, 1):
      encoder, decoder = cross_layer(layer)
      save_file(encoder, self.folder / f'W_enc_{layer}.safetensors')
      save_file(decoder, self.folder / f'W_dec_{layer}.safetensors')
    self.config = self.folder / 'config.yaml'
    self.config.write_text(
        "model_name: google/gemma-2-2b\nfeature_input_hook: 'hook_resid_mid'\n"
        'feature_output_hook: hook_mlp_out\n'
    )

  @parameterized.parameters((0, None), (0, 0), (0, 3), (1, None), (1, 2))
  def test_one_decoder_a_layer(self, layer, to_layer):
    dictionary = load_dictionary(self.folder, layer=layer, to_layer=to_layer)
    target = layer if to_layer is None else to_layer
    self.assertEqual(dictionary.site.reads, ('resid_mid', layer))
    self.assertEqual(dictionary.site.writes, ('mlp_out', target))
    self.assertEqual(attention_layer(dictionary.site), target + 1)
    self.assertLen(dictionary.files, 3)
    x = written.inputs()
    changes = {
        'threshold': np.zeros(written.F),
        'W_dec': written.draw(10 + target - layer)['W_dec'].astype(np.float64),
    }
    if target != layer:  # That bias is of another number.
      changes['b_dec'] = np.zeros(written.D)
    sae = written.reading(written.draw(), **changes)
    written.assert_computes(self, dictionary, sae, x)

  def test_saved_with_both_places(self):
    dictionary = load_dictionary(self.folder, layer=0, to_layer=3)
    saved = save_dictionary(dictionary, self.folder / 'saved')
    self.assertEqual(load_dictionary(saved).site, dictionary.site)

  def test_a_file_by_its_path(self):
    path = self.folder / 'W_enc_1.safetensors'
    self.assertEqual(load_dictionary(path, to_layer=3).site.writes[1], 3)

  def test_layers_of_the_model(self):
    model = tiny_model('gemma2')
    self.assertEqual(model.config.num_layers, 3)
    load_dictionary(self.folder, layer=0, to_layer=2, model=model)
    with self.assertRaisesRegex(InputError, 'is of layer 3, and the gemma2'):
      load_dictionary(self.folder, layer=0, to_layer=3, model=model)

  @parameterized.parameters(0, 4, -1)
  def test_layers_that_it_does_not_write_to(self, to_layer):
    with self.assertRaisesRegex(InputError, '1 to 3, and to_layer is'):
      load_dictionary(self.folder, layer=1, to_layer=to_layer)

  def test_files_that_are_missing_or_do_not_fit(self):
    with self.assertRaisesRegex(InputError, 'layers 0, 1; give layer='):
      load_dictionary(self.folder)
    self.config.unlink()
    with self.assertRaisesRegex(
        InputError, 'no config.yaml|in the config.yaml'
    ):
      load_dictionary(self.folder / 'W_enc_1.safetensors')
    self.config.write_text('feature_input_hook: hook_resid_mid\n')
    (self.folder / 'W_dec_1.safetensors').unlink()
    with self.assertRaisesRegex(InputError, 'no W_dec_1.safetensors'):
      load_dictionary(self.folder, layer=1)
    save_file(
        {'W_dec_1': np.ones((7, 3, written.D), np.float32)},
        self.folder / 'W_dec_1.safetensors',
    )
    with self.assertRaisesRegex(InputError, 'encoder beside it has 33 featur'):
      load_dictionary(self.folder, layer=1)

  def test_an_option_of_another_format(self):
    folder = written.write_npz(self.folder / 'layer_1', written.draw())
    with self.assertRaisesRegex(InputError, 'has no option to_layer'):
      load_dictionary(folder, to_layer=1)


if __name__ == '__main__':
  absltest.main()
