"""Gemma Scope and Gemma Scope 2 against a reading of the formats' words."""

import pathlib

from absl.testing import absltest
from absl.testing import parameterized
import ml_dtypes
import numpy as np

from ooc_jax import InputError
from ooc_jax import load_dictionary
from ooc_jax.dictionaries import save_dictionary
from ooc_jax.dictionaries.formats._arrays import NpzArchive
from ooc_jax.dictionaries.formats._arrays import read_array
from tests.dictionaries import written
from tests.dictionaries.models import tiny_model
from tests.dictionaries.models import tiny_tensors

_PLACE = 'layer_1/width_16k/average_l0_71'


class GemmaScopeCase(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path)
    self.x = written.inputs()

  def assert_site(self, dictionary, layer, hook):
    self.assertEqual(dictionary.site.layer, layer)
    self.assertEqual(dictionary.site.hook, hook)

  def write(self, where, tensors=None, **kwargs):
    tensors = written.draw() if tensors is None else tensors
    return written.write_npz(self.folder / where, tensors, **kwargs)


class NpzTest(GemmaScopeCase):

  @parameterized.product(
      where=('res', 'mlp'), compressed=(False, True), as_file=(False, True)
  )
  def test_computes_what_it_says(self, where, compressed, as_file):
    path = self.write(
        f'gemma-scope-2b-pt-{where}/{_PLACE}', compressed=compressed
    )
    source = path / 'params.npz' if as_file else path
    dictionary = load_dictionary(source, model=tiny_model('gemma2'))
    sae = written.reading(written.draw())
    written.assert_computes(self, dictionary, sae, self.x)
    hook = {'res': 'resid_post', 'mlp': 'mlp_out'}[where]
    self.assert_site(dictionary, 1, hook)
    self.assertEqual(dictionary.name, str(source))
    self.assertEqual(dictionary.files, (str(path / 'params.npz'),))
    # Stored exactly; a transposed encoder has another shape.
    np.testing.assert_array_equal(dictionary.encoder, written.draw()['W_enc'].T)
    np.testing.assert_array_equal(dictionary.decoder, written.draw()['W_dec'])

  def test_column_major_arrays_are_the_same(self):
    tensors = {n: np.asfortranarray(x) for n, x in written.draw().items()}
    dictionary = load_dictionary(self.write(_PLACE, tensors))
    sae = written.reading(tensors)
    written.assert_computes(self, dictionary, sae, self.x)

  def test_other_widths_of_float(self):
    tensors = written.draw()
    tensors['W_enc'] = tensors['W_enc'].astype(np.float16)
    tensors['W_dec'] = tensors['W_dec'].astype(np.float64)
    dictionary = load_dictionary(self.write(_PLACE, tensors))
    self.assertEqual(dictionary.encoder.dtype, np.float16)
    self.assertEqual(dictionary.decoder.dtype, np.float32)
    sae = written.reading(tensors)
    written.assert_computes(self, dictionary, sae, self.x)

  def test_loaded_arrays_do_not_follow_the_file(self):
    path = self.write(_PLACE) / 'params.npz'
    dictionary = load_dictionary(path)
    # JAX may or may not copy; what it is given is a copy already.
    array = read_array(NpzArchive(path), 'W_dec')
    with path.open('r+b') as file:
      file.write(b'\x7f' * path.stat().st_size)
    np.testing.assert_array_equal(dictionary.decoder, written.draw()['W_dec'])
    np.testing.assert_array_equal(dictionary.encoder, written.draw()['W_enc'].T)
    np.testing.assert_array_equal(array, written.draw()['W_dec'])

  def test_embedding_is_read_in_the_stream(self):
    """Trained on rows of W_E; the stream holds √D times these."""
    path = self.write('gemma-scope-2b-pt-res/embedding/width_4k/average_l0_6')
    dictionary = load_dictionary(path, model=tiny_model('gemma2'))
    self.assert_site(dictionary, 0, 'embedding')
    root = np.sqrt(written.D)
    tensors = written.draw()
    expected = written.reading(tensors)
    stream = root * self.x  # What a model adds up to from an embedding x.
    actual = dictionary.encode(stream.astype(np.float32))
    written.assert_same(actual, expected.encode(self.x))
    written.assert_same(
        dictionary.decoder, root * tensors['W_dec'].astype(np.float64)
    )
    np.testing.assert_array_equal(dictionary.decoder_bias, tensors['b_dec'])

  def test_embedding_in_a_parent_folder_means_nothing(self):
    dictionary = load_dictionary(self.write(f'embedding/x/{_PLACE}'))
    self.assert_site(dictionary, 1, 'resid_post')

  @parameterized.named_parameters(
      ('path', 'gemma-scope-2b-pt-att/' + _PLACE, {}),
      ('width', 'somewhere', {'layer': 1}),
      ('hook', 'somewhere', {'layer': 1, 'hook': 'attn_z'}),
  )
  def test_attention_writes_through_the_output_weights(self, where, asked):
    tensors = written.draw(width=written.HEADS)
    path = self.write(where, tensors)
    dictionary = load_dictionary(path, model=tiny_model('gemma2'), **asked)
    self.assert_site(dictionary, 1, 'attn_z')
    self.assertFalse(dictionary.site.reads_stream)
    self.assert_heads_mapped(dictionary, tensors, 'gemma2')
    # It reads the heads' outputs as they are.
    x = written.inputs(width=written.HEADS)
    sae = written.reading(tensors)
    written.assert_same(dictionary.encode(x.astype(np.float32)), sae.encode(x))

  def test_attention_of_a_model_without_a_norm_after_it(self):
    tensors = written.draw(width=written.HEADS)
    dictionary = load_dictionary(
        self.write(_PLACE, tensors), model=tiny_model('llama')
    )
    self.assert_heads_mapped(dictionary, tensors, 'llama')

  def assert_heads_mapped(self, dictionary, tensors, family):
    """One head after the other, from the tensors of the model's own file."""
    theirs = tiny_tensors(family)
    prefix = 'model.layers.1'
    o_proj = theirs[f'{prefix}.self_attn.o_proj.weight']  # [D, N·H]
    N, H = 6, 8
    rows = [*tensors['W_dec'].astype(float), tensors['b_dec'].astype(float)]
    mapped = np.zeros((len(rows), written.D))
    for out, row in zip(mapped, rows, strict=True):
      for n in range(N):
        head = slice(n * H, (n + 1) * H)
        for d in range(written.D):
          out[d] += row[head] @ o_proj[d, head]
    if family == 'gemma2':
      mapped *= 1 + theirs[f'{prefix}.post_attention_layernorm.weight']
    written.assert_same(dictionary.decoder, mapped[:-1])
    written.assert_same(dictionary.decoder_bias, mapped[-1])

  def test_transcoder_reads_the_normed_stream_without_the_gain(self):
    path = self.write(f'gemma-scope-2b-pt-transcoders/{_PLACE}')
    dictionary = load_dictionary(path, model=tiny_model('gemma2'))
    self.assert_site(dictionary, 1, 'mlp_in')
    self.assertTrue(dictionary.site.reads_normed)
    sae = written.reading(written.draw())
    written.assert_computes(self, dictionary, sae, self.x)

  def test_a_scaling_factor_of_one_is_none(self):
    tensors = written.draw() | {'scaling_factor': np.ones(written.F)}
    load_dictionary(self.write(_PLACE, tensors))
    tensors['scaling_factor'][3] = 2
    with self.assertRaisesRegex(InputError, 'scaling_factor that is not 1'):
      load_dictionary(self.write('other/' + _PLACE, tensors))

  def test_layer_is_told_by_the_caller_where_no_path_does(self):
    path = self.write('a')
    self.assert_site(load_dictionary(path, layer=2), 2, 'resid_post')
    self.assert_site(
        load_dictionary(path, layer=2, hook='mlp_out'), 2, 'mlp_out'
    )
    with self.assertRaisesRegex(InputError, 'give layer='):
      load_dictionary(path)

  def test_layer_stands_in_a_path(self):
    for layer in (1, 2):
      tensors = written.draw(seed=layer)
      self.write(f'res/layer_{layer}/width_16k/canonical', tensors)
    source = f'{self.folder}/res/layer_{{layer}}/width_16k/canonical'
    dictionary = load_dictionary(source, layer=2)
    self.assert_site(dictionary, 2, 'resid_post')
    np.testing.assert_array_equal(
        dictionary.decoder, written.draw(seed=2)['W_dec']
    )
    self.assertNotIn('{', dictionary.name)
    with self.assertRaisesRegex(InputError, 'is of every layer; give layer='):
      load_dictionary(source)

  @parameterized.named_parameters(
      ('layer', {'layer': 2}, 'of layer 1, and layer 2 was asked for'),
      ('hook', {'hook': 'attn_z'}, "hook 'mlp_out', and 'attn_z' was asked"),
  )
  def test_what_the_path_says_is_not_overruled(self, asked, message):
    path = self.write(f'gemma-scope-2b-pt-mlp/{_PLACE}')
    with self.assertRaisesRegex(InputError, message):
      load_dictionary(path, **asked)

  def test_another_model_is_refused_with_both_widths(self):
    path = self.write(_PLACE, written.draw(width=24))
    with self.assertRaisesRegex(
        InputError, '24 wide .* residual stream of the gemma2 .* is 20 wide'
    ):
      load_dictionary(path, model=tiny_model('gemma2'))
    path = self.write(f'gemma-scope-2b-pt-att/{_PLACE}')
    with self.assertRaisesRegex(InputError, 'heads of the .* are 48 wide'):
      load_dictionary(path, model=tiny_model('gemma2'))
    path = self.write('layer_3/width_16k/average_l0_9')
    with self.assertRaisesRegex(InputError, 'layer 3, and .* has 0 to 2'):
      load_dictionary(path, model=tiny_model('gemma2'))

  def test_heads_need_the_model(self):
    path = self.write(
        f'gemma-scope-2b-pt-att/{_PLACE}', written.draw(width=written.HEADS)
    )
    with self.assertRaisesRegex(InputError, "give model=.*'attention'"):
      load_dictionary(path)
    model = tiny_model('gemma2')
    params = {k: v for k, v in model.params.items() if k != 'layer_1'}
    with self.assertRaisesRegex(InputError, "'attention' in parts"):
      load_dictionary(path, model=model.replace(params=params))

  @parameterized.named_parameters(
      ('missing', {'b_enc': None}, 'b_enc is missing'),
      ('unknown', {'extra': np.ones(3, np.float32)}, "'extra' is of no use"),
      ('transposed', {'W_enc': written.draw()['W_enc'].T}, 'D is 33 in W_enc'),
      ('bias', {'b_dec': np.ones(19, np.float32)}, '20 in W_enc and 19 in b_'),
      ('scalar', {'threshold': np.float32(1)}, r'threshold is \[\], not \[F\]'),
      ('empty', {'b_enc': np.ones(0, np.float32)}, r'b_enc is \[0\]'),
      (
          'integers',
          {'b_enc': np.ones(33, int)},
          "'b_enc.npy' is not plain",
      ),
      ('nan', {'b_enc': np.full(33, np.nan, np.float32)}, "'b_enc' holds NaN"),
      ('inf', {'W_dec': np.full((33, 20), -np.inf)}, "'W_dec' holds NaN"),
      ('overflow', {'W_dec': np.full((33, 20), 1e300)}, "'W_dec' holds NaN"),
  )
  def test_refuses(self, change, message):
    tensors = {
        n: x for n, x in (written.draw() | change).items() if x is not None
    }
    with self.assertRaisesRegex(InputError, message):
      load_dictionary(self.write(_PLACE, tensors))

  def test_what_was_saved_is_loaded_like_the_rest(self):
    tensors = written.draw(width=written.HEADS)
    path = self.write(f'gemma-scope-2b-pt-att/{_PLACE}', tensors)
    model = tiny_model('gemma2')
    mapped = load_dictionary(path, model=model)
    saved = save_dictionary(mapped, self.folder / 'saved', to='safetensors')
    # In the residual stream already: no model is needed.
    for again in (load_dictionary(saved), load_dictionary(saved, model=model)):
      np.testing.assert_array_equal(again.decoder, mapped.decoder)
      self.assert_site(again, 1, 'attn_z')
    with self.assertRaisesRegex(InputError, 'layer 1, and layer 2 was asked'):
      load_dictionary(saved, layer=2)
    with self.assertRaisesRegex(InputError, "no revision 'x'"):
      load_dictionary(saved, revision='x')
    narrow = mapped.replace(
        decoder=mapped.decoder[:, :7], decoder_bias=mapped.decoder_bias[:7]
    )
    saved = save_dictionary(narrow, self.folder / 'narrow', to='safetensors')
    with self.assertRaisesRegex(InputError, '7 wide .* stream .* is 20 wide'):
      load_dictionary(saved, model=model)

  def test_too_narrow_a_dtype_is_refused(self):
    tensors = written.draw()
    tensors['W_dec'] *= np.float32(1e6)
    path = self.write(_PLACE, tensors)
    load_dictionary(path, dtype='bfloat16')
    with self.assertRaisesRegex(InputError, 'decoder overflows float16'):
      load_dictionary(path, dtype='float16')


class GemmaScope2Test(GemmaScopeCase):

  def write(self, where, tensors=None, config=None):
    tensors = written.draw() if tensors is None else tensors
    return written.write_gemma_scope_2(self.folder / where, tensors, config)

  @parameterized.named_parameters(
      ('path', 'resid_post/layer_2_width_16k_l0_medium', None),
      (
          'config',
          'anywhere',
          {
              'hf_hook_point_in': 'model.layers.2.output',
              'hf_hook_point_out': 'model.layers.2.output',
              'width': written.F,
              'model_name': 'gemma-v3-270m-pt',
              'architecture': 'jump_relu',
              'l0': 60,
              'affine_connection': False,
              'type': 'sae',
          },
      ),
  )
  def test_computes_what_it_says(self, where, config):
    path = self.write(where, config=config)
    sae = written.reading(written.draw())
    for source in (path, path / 'params.safetensors'):
      dictionary = load_dictionary(source)
      written.assert_computes(self, dictionary, sae, self.x)
      self.assert_site(dictionary, 2, 'resid_post')
      self.assertLen(dictionary.files, 1 if config is None else 2)

  @parameterized.parameters(
      ('mlp_out_all', 'post_feedforward_layernorm.output', 'mlp_out'),
      ('attn_out', 'self_attn.o_proj.input', 'attn_z'),
      ('transcoder_all', 'pre_feedforward_layernorm.output', 'mlp_in'),
  )
  def test_site_of_path_and_config_agree(self, folder, module, hook):
    heads = hook == 'attn_z'
    tensors = written.draw(width=written.HEADS if heads else written.D)
    inside = {'hf_hook_point_in': f'model.layers.1.{module}'}
    for name, config in (
        (f'{folder}/layer_1_width_16k_l0_small', None),
        ('other', inside),
    ):
      path = self.write(name, tensors, config)
      dictionary = load_dictionary(path, model=tiny_model('gemma2'))
      self.assert_site(dictionary, 1, hook)

  @parameterized.parameters(False, True)
  def test_transcoder_reads_with_the_gain(self, affine):
    """Unlike Gemma Scope's; here the gain goes into the encoder."""
    tensors = written.draw()
    if affine:
      skip = np.random.default_rng(3).normal(size=(written.D, written.D))
      tensors['affine_skip_connection'] = skip.astype(np.float32)
    path = self.write('transcoder_all/layer_1_width_16k_l0_big', tensors)
    dictionary = load_dictionary(path, model=tiny_model('gemma2'))
    weight = tiny_tensors('gemma2')[
        'model.layers.1.pre_feedforward_layernorm.weight'
    ]
    sae = written.reading(tensors)
    # What the norm makes of x / RMS is what the transcoder was trained on.
    expected = sae.encode(self.x * (1 + weight))
    actual = np.asarray(dictionary.encode(self.x.astype(np.float32)))
    np.testing.assert_array_equal(actual != 0, expected != 0)
    written.assert_same(actual, expected)
    written.assert_same(dictionary.decode(actual), sae.decode(expected))
    with self.assertRaisesRegex(InputError, "'norms'"):
      load_dictionary(path)

  def test_bfloat16_is_kept_unless_asked_otherwise(self):
    tensors = {
        n: x.astype(ml_dtypes.bfloat16) for n, x in written.draw().items()
    }
    path = self.write('resid_post/layer_1_width_16k_l0_big', tensors)
    dictionary = load_dictionary(path)
    self.assertEqual(dictionary.encoder.dtype, ml_dtypes.bfloat16)
    self.assertEqual(dictionary.threshold.dtype, np.float32)
    sae = written.reading(tensors)
    written.assert_computes(self, dictionary, sae, self.x)
    wide = load_dictionary(path, dtype='float32')
    self.assertEqual(wide.decoder.dtype, np.float32)
    np.testing.assert_array_equal(wide.decoder, tensors['W_dec'].astype(float))

  @parameterized.named_parameters(
      ('architecture', {'architecture': 'topk'}, "'topk' is not 'jump_relu'"),
      ('width', {'width': 16384}, 'width is 16384, and the weights have 33'),
      (
          'module',
          {'hf_hook_point_in': 'model.layers.1.mlp'},
          "module 'model.layers.1.mlp', which has no known map",
      ),
      ('type', {'hf_hook_point_in': 7}, "'hf_hook_point_in' is 7, and must be"),
      ('text', {'width': 'wide'}, "'width' is 'wide', and must be a whole"),
  )
  def test_refuses_a_config(self, config, message):
    with self.assertRaisesRegex(InputError, message):
      load_dictionary(self.write('layer_1', config=config))

  def test_cross_layer_transcoder_is_refused(self):
    tensors = written.draw()
    tensors['W_dec'] = np.stack([tensors['W_dec']] * 3, axis=1)
    with self.assertRaisesRegex(InputError, 'cross-layer transcoder'):
      load_dictionary(self.write('layer_1', tensors))


if __name__ == '__main__':
  absltest.main()
