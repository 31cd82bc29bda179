"""A dictionary of one's own arrays, with and without an encoder."""

import pathlib

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec
import numpy as np

import ooc_jax
from ooc_jax import InputError
from ooc_jax import load_dictionary
from ooc_jax.dictionaries import DictionarySite
from ooc_jax.dictionaries import from_arrays
from ooc_jax.dictionaries import save_dictionary
from tests.dictionaries import written
from tests.dictionaries.models import tiny_model


class FromArraysTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.drawn = written.draw()
    self.decoder, self.encoder = self.drawn['W_dec'], self.drawn['W_enc'].T

  def test_computes_as_given(self):
    dictionary = from_arrays(
        self.decoder,
        self.encoder,
        layer=np.int64(3),
        hook='resid_mid',
        encoder_bias=self.drawn['b_enc'].tolist(),
        decoder_bias=self.drawn['b_dec'].astype(np.float64),
        threshold=jnp.asarray(self.drawn['threshold']),
        name='mine',
    )
    sae = written.reading(self.drawn)
    written.assert_computes(self, dictionary, sae, written.inputs())
    self.assertEqual(dictionary.site, DictionarySite(3, 'resid_mid'))
    self.assertEqual(dictionary.name, 'mine')
    self.assertEqual(dictionary.encoder_bias.dtype, jnp.float32)

  def test_without_an_encoder_the_decoder_is_read_and_nothing_else(self):
    model = tiny_model('gemma2')
    directions = np.random.default_rng(0).normal(size=(12, 20))
    bare = from_arrays(directions, layer=0)
    own = from_arrays(directions, directions, layer=0)
    self.assertIsNone(bare.encoder)
    self.assertFalse(bare.reads_stream)
    self.assertTrue(own.reads_stream)
    mask = jnp.ones(model.config.vocab_size, bool)
    read = [ooc_jax.output_lens(model, d, k=3, mask=mask) for d in (bare, own)]
    np.testing.assert_array_equal(read[0].top_ids, read[1].top_ids)
    scores = [
        ooc_jax.attention_statistics(model, d, 1, k=2) for d in (bare, own)
    ]
    jax.tree.map(np.testing.assert_array_equal, *scores)
    for call in (
        lambda: ooc_jax.input_lens(model, bare, k=3, mask=mask),
        lambda: ooc_jax.circuits.ov_writes(model, own, bare, 1, 0, k=3),
        lambda: ooc_jax.circuits.ov_copying(model, bare, 1, 0, k=3),
        lambda: bare.encode(directions),
    ):
      with self.assertRaisesRegex(InputError, 'arrays has no encoder'):
        call()
    decoded = bare.decode(np.eye(12, dtype=np.float32))
    np.testing.assert_allclose(decoded, directions, rtol=1e-6)

  def test_without_an_encoder_it_is_saved_and_loaded(self):
    bare = from_arrays(self.decoder, layer=2)
    for to in ('orbax', 'safetensors'):
      folder = pathlib.Path(self.create_tempdir().full_path) / to
      save_dictionary(bare, folder, to=to)
      back = load_dictionary(folder, dtype='bfloat16')
      self.assertIsNone(back.encoder)
      self.assertEqual(back.decoder.dtype, jnp.bfloat16)

  @parameterized.parameters('float32', 'bfloat16', 'float16')
  def test_dtypes_that_are_kept(self, dtype):
    given = jnp.asarray(self.decoder, dtype)
    dictionary = from_arrays(given, given, layer=0)
    self.assertEqual(dictionary.decoder.dtype, dtype)
    np.testing.assert_array_equal(dictionary.decoder, given)

  def test_sharding_is_kept(self):
    mesh = jax.make_mesh((1,), ('feature',))
    sharding = NamedSharding(mesh, PartitionSpec('feature'))
    given = jax.device_put(self.decoder, sharding)
    self.assertEqual(from_arrays(given, layer=0).decoder.sharding, sharding)

  def test_heads_are_read_at_their_width(self):
    wide = np.ones((written.F, written.HEADS), np.float32)
    dictionary = from_arrays(self.decoder, wide, layer=0, hook='attn_z')
    self.assertEqual(dictionary.encoder.shape, wide.shape)
    with self.assertRaisesRegex(InputError, 'encoder is of shape'):
      from_arrays(self.decoder, wide, layer=0)

  @parameterized.parameters(
      ({'decoder': np.ones(3)}, 'decoder is of shape'),
      ({'decoder': np.ones((0, 3))}, 'decoder is of shape'),
      ({'decoder': [[1.0], [1.0, 2.0]]}, 'no array of real numbers'),
      ({'decoder': np.ones((2, 3), complex)}, 'no array of real numbers'),
      ({'decoder': [['a']]}, 'no array of real numbers'),
      ({'decoder': np.full((2, 3), np.nan)}, 'decoder overflows'),
      ({'decoder': np.full((2, 3), 1e300)}, 'decoder overflows'),
      ({'encoder': np.ones((3, 2))}, 'encoder is of shape'),
      ({'encoder_bias': np.ones(3)}, 'encoder_bias is of shape'),
      ({'decoder_bias': np.ones(2)}, 'decoder_bias is of shape'),
      ({'decoder_bias': [1, 2, float('inf')]}, 'decoder_bias overflows'),
      ({'threshold': [0.0, float('nan')]}, 'threshold is NaN'),
      ({'encoder': None, 'threshold': [1.0, 2.0]}, 'belong to an encoder'),
      ({'layer': -1}, 'layer=-1 must be'),
      ({'layer': True}, 'layer=True must be'),
      ({'hook': 'resid'}, "hook='resid' must be one of"),
  )
  def test_what_is_refused(self, changes, message):
    given = {'decoder': np.ones((2, 3)), 'encoder': np.ones((2, 3)), 'layer': 0}
    with self.assertRaisesRegex(InputError, message) as caught:
      from_arrays(**(given | changes))
    self.assertNotIn('\n', str(caught.exception))

  def test_a_feature_that_never_fires(self):
    given = np.array([0.0, np.inf])
    dictionary = from_arrays(np.eye(2), np.eye(2), layer=0, threshold=given)
    np.testing.assert_array_equal(dictionary.encode(np.ones(2)), [1, 0])


if __name__ == '__main__':
  absltest.main()
