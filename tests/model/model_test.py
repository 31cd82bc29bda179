"""The randomly re-initialised model."""

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from ooc_jax.model import Model
from ooc_jax.model import Transformer
from ooc_jax.model import config_from_hf
from ooc_jax.model import norm_gain
from ooc_jax.model import random_weights
from tests.tiny import CONFIGS


def _model(family):
  config = config_from_hf(CONFIGS[family] | {'vocab_size': 150})
  tokens = jnp.ones((1, 3), jnp.int32)
  params = Transformer(config).init(jax.random.key(3), tokens)['params']
  scaled = jax.tree.map(lambda x: x * 3 + 0.125, params)
  return Model(config, scaled)


class RandomWeightsTest(parameterized.TestCase):

  @parameterized.parameters('llama', 'gemma2')
  def test_same_size_other_direction(self, family):
    model = _model(family)
    drawn = random_weights(model, 7)
    self.assertEqual(
        jax.tree.structure(drawn.params), jax.tree.structure(model.params)
    )
    before = np.asarray(model.params['layer_1']['mlp']['gate'], np.float64)
    after = np.asarray(drawn.params['layer_1']['mlp']['gate'], np.float64)
    np.testing.assert_allclose(
        np.sqrt((after**2).mean()), np.sqrt((before**2).mean()), rtol=0.1
    )
    cosine = (before * after).sum() / np.sqrt(
        (before**2).sum() * (after**2).sum()
    )
    self.assertLess(abs(cosine), 0.15)
    np.testing.assert_array_equal(norm_gain(drawn, 'final_norm'), 1.0)

  def test_layers_differ_and_seeds_repeat(self):
    model = _model('llama')
    one, again, two = (random_weights(model, seed) for seed in (1, 1, 2))
    gate = lambda m, i: np.asarray(m.params[f'layer_{i}']['mlp']['gate'])  # noqa: E731
    np.testing.assert_array_equal(gate(one, 0), gate(again, 0))
    self.assertFalse(np.array_equal(gate(one, 0), gate(two, 0)))
    self.assertFalse(np.array_equal(gate(one, 0), gate(one, 1)))

  def test_a_part_is_the_same_without_the_others(self):
    model = _model('llama')
    part = Model(model.config, {'embedding': model.params['embedding']})
    np.testing.assert_array_equal(
        random_weights(part, 5).params['embedding'],
        random_weights(model, 5).params['embedding'],
    )


if __name__ == '__main__':
  absltest.main()
