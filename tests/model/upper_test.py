"""The upper layers alone against the whole forward pass."""

import functools

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

import ooc_jax
from ooc_jax import Site
from ooc_jax import model as model_room
from tests import finished


class UpperTest(parameterized.TestCase):

  @parameterized.parameters('llama', 'gemma2', 'gemma3')
  def test_any_stream_of_a_pass_leads_to_its_logits(self, family):
    model = ooc_jax.load_model(finished.checkpoint(family))
    config, L = model.config, model.config.num_layers
    tokens = jax.random.randint(jax.random.key(0), (2, 7), 0, config.vocab_size)
    keys = [(Site.RESID_PRE, i) for i in range(L)] + [(Site.RESID_POST, L - 1)]
    logits, saved = ooc_jax.run_with_taps(
        functools.partial(ooc_jax.forward, model), tokens, save=keys
    )

    @jax.jit
    def upper(x, first):
      x = model_room.run_layers(config, model.params, x, first)
      return model_room.stream_logits(config, model.params, x)

    for first, key in enumerate(keys):
      np.testing.assert_allclose(
          upper(saved[key], first), logits, rtol=1e-4, atol=1e-4
      )
    self.assertEqual(upper._cache_size(), 1)

  def test_the_neurons_are_what_the_mlp_writes_with(self):
    model = ooc_jax.load_model(finished.checkpoint('llama'))
    tokens = jnp.arange(10, dtype=jnp.int32)[None]
    keys = [(Site.MLP_NEURON, 1), (Site.MLP_OUT, 1)]
    _, saved = ooc_jax.run_with_taps(
        functools.partial(ooc_jax.forward, model), tokens, save=keys
    )
    neurons, out = (np.asarray(saved[key], np.float64) for key in keys)
    down = np.asarray(model_room.parameter(model, 'layer_1/mlp/down'))
    np.testing.assert_allclose(neurons @ down, out, rtol=1e-4, atol=1e-4)


if __name__ == '__main__':
  absltest.main()
