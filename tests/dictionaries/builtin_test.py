"""Neurons, tokens and random directions, against the model that they are of."""

import functools

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np

import ooc_jax
from ooc_jax import InputError
from ooc_jax import Site
from ooc_jax import load_dictionary
from ooc_jax.dictionaries import random_dictionary
from tests.dictionaries import written
from tests.dictionaries.models import tiny_model

_D, _M, _LAYERS = 20, 36, 3
_TOKENS = np.array([[3, 30, 7, 17, 5, 90, 41], [11, 2, 29, 8, 8, 60, 12]])


def _float64(tree):
  return jax.tree.map(lambda x: np.asarray(x, np.float64), tree)


def _taps(model, *save):
  """Runs the real forward pass and returns activations [rows, D], float64."""
  run = functools.partial(ooc_jax.forward, model)
  _, saved = ooc_jax.run_with_taps(
      run, jnp.asarray(_TOKENS, jnp.int32), save=save
  )
  return [np.asarray(saved[k], np.float64).reshape(-1, _D) for k in save]


class NeuronTest(parameterized.TestCase):

  @parameterized.product(family=('llama', 'gemma2'), layer=(0, 2))
  def test_matches_definition(self, family, layer):
    model = tiny_model(family)
    p = _float64(model.params)[f'layer_{layer}']
    one = 1.0 if family == 'gemma2' else 0.0
    decoder, encoder = np.zeros((2, _M, _D))
    for m, d in np.ndindex(_M, _D):
      post = 1.0
      if family == 'gemma2':
        post = 1 + p['post_mlp_norm']['weight'][d]
      decoder[m, d] = p['mlp']['down'][m, d] * post
      encoder[m, d] = p['mlp']['gate'][d, m] * (
          one + p['mlp_norm']['weight'][d]
      )
    dictionary = load_dictionary('mlp', model=model, layer=layer)
    written.assert_same(dictionary.decoder, decoder)
    written.assert_same(dictionary.encoder, encoder)
    self.assertEqual(dictionary.size, _M)
    self.assertEqual(dictionary.name, f'mlp/layer_{layer}')
    self.assertEqual(
        (dictionary.site.layer, dictionary.site.hook), (layer, 'mlp_neuron')
    )
    for name in ('encoder_bias', 'decoder_bias', 'threshold'):
      self.assertFalse(np.asarray(getattr(dictionary, name)).any(), name)

  @parameterized.parameters('llama', 'gemma2')
  def test_fires_where_the_gate_of_the_real_pass_is_open(self, family):
    """And what the MLP adds is a combination of decoder rows.

    With only D of the M neurons connected, what the real pass adds has one set
    of coefficients on their decoder rows: act(gate) · up, divided by a positive
    RMS in Gemma. Its sign over the sign of `up` is that of the gate.
    """
    model, layer = tiny_model(family), 1
    path = f'layer_{layer}'
    down = model.params[path]['mlp']['down']
    params = dict(model.params)
    params[path] = params[path] | {
        'mlp': params[path]['mlp'] | {'down': down.at[_D:].set(0.0)}
    }
    model = model.replace(params=params)
    dictionary = load_dictionary('mlp', model=model, layer=layer)
    x, added = _taps(model, (Site.RESID_MID, layer), (Site.MLP_OUT, layer))
    rows = np.asarray(dictionary.decoder, np.float64)[:_D]
    coefficients = np.linalg.solve(rows.T, added.T).T
    np.testing.assert_allclose(coefficients @ rows, added, atol=1e-5)
    p = _float64(params)[path]
    one = 1.0 if family == 'gemma2' else 0.0
    normed = x / np.sqrt((x**2).mean(axis=1, keepdims=True) + 1e-6)
    up = (normed * (one + p['mlp_norm']['weight'])) @ p['mlp']['up'][:, :_D]
    open_in_pass = coefficients * up > 0
    fires = np.asarray(dictionary.encode(x.astype(np.float32)))[:, :_D] > 0
    # A GELU far below zero is nothing at all; the rest has a sign.
    clear = np.abs(coefficients) > 1e-3 * np.abs(coefficients).max()
    self.assertGreater(clear.mean(), 0.5)
    self.assertBetween(open_in_pass[clear].mean(), 0.2, 0.95)
    np.testing.assert_array_equal(fires[clear], open_in_pass[clear])


class TokenTest(parameterized.TestCase):

  @parameterized.parameters('llama', 'gemma2')
  def test_rows_are_what_the_stream_receives(self, family):
    model = tiny_model(family)
    dictionary = load_dictionary('tokens', model=model)
    (stream,) = _taps(model, (Site.RESID_PRE, 0))
    for side in (dictionary.encoder, dictionary.decoder):
      np.testing.assert_array_equal(np.asarray(side)[_TOKENS.ravel()], stream)
    self.assertEqual(dictionary.site.hook, 'embedding')
    self.assertEqual(dictionary.size, model.config.vocab_size)

  def test_both_sides_are_one_array(self):
    """A table of 2 GB is held once."""
    for dtype in (None, 'bfloat16'):
      dictionary = load_dictionary(
          'tokens', model=tiny_model('llama'), dtype=dtype
      )
      self.assertIs(dictionary.encoder, dictionary.decoder)


class RandomTest(absltest.TestCase):

  def test_isotropic_unit_directions(self):
    dictionary = load_dictionary('random', model=tiny_model('llama'), layer=1)
    rows = np.asarray(dictionary.decoder, np.float64)
    self.assertEqual(rows.shape, (4096, _D))
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    # Of 4096 draws the covariance is 1/D to some 1/64 of it.
    np.testing.assert_allclose(rows.T @ rows / 4096 * _D, np.eye(_D), atol=0.1)
    np.testing.assert_allclose(rows.mean(axis=0), 0, atol=0.02)

  def test_a_draw_is_of_its_layer_and_seed(self):
    model = tiny_model('llama')
    draw = lambda **k: np.asarray(random_dictionary(model, **k, size=5).decoder)  # noqa: E731
    np.testing.assert_array_equal(draw(layer=1), draw(layer=1))
    self.assertGreater(np.abs(draw(layer=1) - draw(layer=2)).min(), 0)
    self.assertGreater(np.abs(draw(layer=1) - draw(layer=1, seed=1)).min(), 0)


class LoadTest(parameterized.TestCase):

  @parameterized.named_parameters(
      ('model', {'source': 'mlp', 'layer': 0, 'model': None}, 'give model='),
      ('layer', {'source': 'random'}, 'give layer='),
      ('revision', {'source': 'mlp', 'layer': 0, 'revision': 'x'}, 'revision'),
      ('hook', {'source': 'mlp', 'layer': 0, 'hook': 'mlp_out'}, 'has no hook'),
      (
          'setting',
          {
              'source': 'mlp',
              'layer': 0,
              'sparsity_include_decoder_norm': False,
          },
          'has no sparsity_include_decoder_norm',
      ),
      ('last', {'source': 'mlp', 'layer': 3}, 'no layer 3; .* 0 to 2'),
      ('negative', {'source': 'random', 'layer': -1}, 'layer=-1'),
      ('not_a_layer', {'source': 'mlp', 'layer': 1.5}, 'layer=1.5'),
      ('bool', {'source': 'mlp', 'layer': True}, 'layer=True'),
      ('dtype', {'source': 'tokens', 'dtype': 'int8'}, "dtype='int8' must be"),
      ('no_dtype', {'source': 'tokens', 'dtype': 'wide'}, "dtype='wide'"),
      ('name', {'source': 'mpl', 'layer': 0}, "did you mean 'mlp'"),
      ('unknown_hook', {'source': 'x', 'hook': 'up'}, "hook='up' must be one"),
  )
  def test_refuses(self, arguments, message):
    arguments = {'model': tiny_model('llama')} | arguments
    # As users run it: without the test run's own type checks in front.
    jaxtyping.config.update('jaxtyping_disable', True)
    self.addCleanup(jaxtyping.config.update, 'jaxtyping_disable', False)
    with self.assertRaisesRegex(InputError, message):
      load_dictionary(arguments.pop('source'), **arguments)

  def test_no_directions_are_refused(self):
    with self.assertRaisesRegex(InputError, '0 directions'):
      random_dictionary(tiny_model('llama'), 0, size=0)

  def test_layers_may_be_numpy_numbers(self):
    dictionary = load_dictionary(
        'mlp', model=tiny_model('llama'), layer=np.int64(2)
    )
    self.assertEqual(dictionary.site.layer, 2)

  def test_dtype_and_mesh(self):
    mesh = jax.make_mesh(
        (4, 2),
        ('feature', 'vocab'),
        axis_types=(jax.sharding.AxisType.Auto,) * 2,
    )
    model = tiny_model('llama')
    plain = load_dictionary('mlp', model=model, layer=1)
    spread = load_dictionary(
        'mlp', model=model, layer=1, mesh=mesh, dtype=jnp.bfloat16
    )
    self.assertEqual(spread.decoder.dtype, jnp.bfloat16)
    self.assertEqual(spread.encoder_bias.dtype, jnp.float32)
    for name in ('encoder', 'decoder', 'encoder_bias', 'threshold'):
      self.assertEqual(
          getattr(spread, name).sharding.spec, jax.P('feature'), name
      )
    self.assertEqual(spread.decoder.addressable_shards[0].data.shape, (9, _D))
    np.testing.assert_array_equal(
        spread.decoder, plain.decoder.astype(jnp.bfloat16)
    )
    undivided = load_dictionary(
        'mlp', model=model, layer=1, mesh=_mesh((8,), ('feature',))
    )
    self.assertTrue(undivided.decoder.is_fully_replicated)
    np.testing.assert_array_equal(undivided.decoder, plain.decoder)
    with self.assertRaisesRegex(InputError, "none is 'feature'"):
      load_dictionary('mlp', model=model, layer=1, mesh=_mesh((4,), ('data',)))


def _mesh(shape, names):
  return jax.make_mesh(
      shape, names, axis_types=(jax.sharding.AxisType.Auto,) * len(names)
  )


if __name__ == '__main__':
  absltest.main()
