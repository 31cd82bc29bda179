"""What training saves and refuses."""

import json
import pathlib

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from safetensors.numpy import load_file

from ooc_jax import InputError
from ooc_jax import load_dictionary
from ooc_jax.dictionaries import DictionarySite
from ooc_jax.dictionaries import training
from ooc_jax.dictionaries.training import TrainingRecipe
from tests.dictionaries.training import step_test


class SaveTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path) / 'layer_3'
    self.planted = step_test.Planted(24, active=2, offset=100.0)
    self.recipe = TrainingRecipe(**step_test.SMALL)
    self.state, _ = step_test.train(self.recipe, self.planted, steps=20)
    self.x = np.asarray(self.planted.batch(77)[1])

  def expected(self, p, x):
    """In the units of the training, then scaled back; float64."""
    s = float(self.state.scale[1])
    m = np.asarray(self.state.mean[1], np.float64)
    pre = (x - m) / s @ p.encoder + p.encoder_bias
    a = s * np.where(pre > np.exp(p.log_threshold), pre, 0)
    return a, a @ p.decoder.T + s * p.decoder_bias + m

  @parameterized.parameters('float32', 'bfloat16')
  def test_written_and_read_again(self, dtype):
    dictionary = training.to_dictionary(
        self.state, 1, site=step_test.SITE, name='x', dtype=dtype
    )
    training.write_sae_lens(dictionary, self.folder, {'model_name': 'm'})
    again = load_dictionary(self.folder)
    self.assertEqual(again.site, step_test.SITE)
    self.assertEqual(again.decoder.dtype, jnp.dtype(dtype))
    self.assertEqual(again.encoder_bias.dtype, np.float32)
    a = np.asarray(dictionary.encode(self.x))
    np.testing.assert_array_equal(again.encode(self.x), a)
    np.testing.assert_array_equal(again.decode(a), dictionary.decode(a))

    p = jax.tree.map(lambda y: np.asarray(y[1], np.float64), self.state.params)
    if dtype == 'bfloat16':
      rounded = {
          name: getattr(p, name).astype(ml_dtypes.bfloat16).astype(np.float64)
          for name in ('encoder', 'decoder')
      }
      p = p._replace(**rounded)
    expected, out = self.expected(p, self.x.astype(np.float64))
    self.assertBetween((expected != 0).mean(), 0.05, 0.5)
    # Far from the origin: 4 digits of float32 go to row · mean, no more.
    near = np.isclose(a, expected, rtol=0, atol=2e-3)
    self.assertGreater(near.mean(), 0.999)
    np.testing.assert_allclose(
        dictionary.decode(expected.astype(np.float32)), out, rtol=1e-5
    )

  def test_as_a_file_of_sae_lens(self):
    site = DictionarySite(0, 'embedding')
    dictionary = training.to_dictionary(self.state, 0, site=site, name='x')
    training.write_sae_lens(dictionary, self.folder)
    tensors = load_file(self.folder / 'sae_weights.safetensors')
    self.assertEqual(
        {name: x.shape for name, x in tensors.items()},
        {
            'W_enc': (step_test.D, step_test.F),
            'W_dec': (step_test.F, step_test.D),
            'b_enc': (step_test.F,),
            'b_dec': (step_test.D,),
            'threshold': (step_test.F,),
        },
    )
    config = json.loads((self.folder / 'cfg.json').read_text())
    self.assertEqual(config['architecture'], 'jumprelu')
    self.assertEqual(config['metadata']['hook_name'], 'hook_embed')
    self.assertIs(config['apply_b_dec_to_input'], False)
    self.assertEqual(load_dictionary(self.folder).site, site)
    with self.assertRaisesRegex(InputError, 'exists already'):
      training.write_sae_lens(dictionary, self.folder)

  @parameterized.parameters(({'top_k': 3},), ({'hook': 'mlp_in'},))
  def test_what_has_no_such_file_is_refused(self, changes):
    hook = changes.pop('hook', 'resid_post')
    dictionary = training.to_dictionary(
        self.state, 0, site=DictionarySite(1, hook), name='x'
    ).replace(**changes)
    with self.assertRaisesRegex(InputError, 'use save_dictionary'):
      training.write_sae_lens(dictionary, self.folder)
    self.assertFalse(self.folder.exists())


class RefusalTest(parameterized.TestCase):

  @parameterized.named_parameters(
      ('width', {'width': 0}, 'width=0 must be a whole number, at least 1'),
      ('steps', {'steps': -3}, 'steps=-3 must be a whole number'),
      ('rate', {'rate': float('nan')}, 'rate=nan must be above zero'),
      ('l0', {'l0': 0.0}, 'l0=0.0 must be above zero'),
      ('decay', {'decay': 1.5}, 'decay=1.5 is a share'),
      ('narrow', {'width': 20}, 'is more than the 20 features'),
  )
  def test_recipe(self, changes, message):
    with self.assertRaisesRegex(InputError, message):
      TrainingRecipe(**changes)

  def test_activations(self):
    recipe = TrainingRecipe(**step_test.SMALL)
    planted = step_test.Planted(24, active=2)
    with self.assertRaisesRegex(InputError, '63 activations cannot calibrate'):
      training.init_sae_state(recipe, planted.batch(0, 63))
    same = (
        jnp.ones((step_test.S, 70, step_test.D))
        .at[0]
        .set(planted.batch(0, 70)[0])
    )
    with self.assertRaisesRegex(InputError, 'site 1 have standard deviation 0'):
      training.init_sae_state(recipe, same)
    state = training.init_sae_state(recipe, planted.batch(0, 512))
    with self.assertRaisesRegex(InputError, '100 activations a step are no'):
      training.sae_step(recipe, state, planted.batch(0, 100))


if __name__ == '__main__':
  absltest.main()
