"""Costs by formula against parameters, published sizes and XLA's own count."""

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

import ooc_jax
from ooc_jax import model as models
from ooc_jax import validation
from tests import finished
from tests.model import real_configs

# Parameters in all, as the model cards and papers give them, in millions.
_PUBLISHED = {
    'SmolLM2-135M': 134.5,
    'Gemma-3-270M': 268.1,
    'Llama-3.2-1B': 1235.8,
    'Gemma-2-2B': 2614.3,
    'Gemma-2-9B': 9241.7,
    'Gemma-2-27B': 27227.1,
    'Llama-3.1-8B': 8030.3,
    'Llama-3.1-70B': 70553.7,
}
_UNTIED = ('Llama-3.1-8B', 'Llama-3.1-70B')


def _flops(fn, *args):
  return jax.jit(fn).lower(*args).compile().cost_analysis()['flops']


class CostTest(parameterized.TestCase):

  @parameterized.parameters(*validation.COST_CASES)
  def test_sizes_add_up_to_the_published_number_of_parameters(self, case):
    tables = 2 if case.name in _UNTIED else 1
    total = validation.layer_parameters(case)
    total += tables * case.vocab_size * case.embed_dim
    # Norms are left out.
    self.assertAlmostEqual(total / 1e6 / _PUBLISHED[case.name], 1, delta=2e-3)

  @parameterized.parameters(
      ('SmolLM2-135M', 'SMOLLM2_135M'),
      ('Gemma-3-270M', 'GEMMA3_270M'),
      ('Gemma-2-2B', 'GEMMA2_2B'),
      ('Gemma-2-9B', 'GEMMA2_9B'),
      ('Gemma-2-27B', 'GEMMA2_27B'),
      ('Llama-3.1-8B', 'LLAMA31_8B'),
  )
  def test_sizes_are_those_of_the_config_on_the_hub(self, name, constant):
    config = models.config_from_hf(getattr(real_configs, constant), 'config')
    case = next(x for x in validation.COST_CASES if x.name == name)
    for field in models.ModelConfig.__dataclass_fields__:
      if hasattr(case, field):
        self.assertEqual(getattr(case, field), getattr(config, field), field)

  def test_a_forward_pass_is_what_xla_counts(self):
    model = ooc_jax.load_model(finished.checkpoint('llama'))
    c = model.config
    T, F = 64, 200
    found = validation.cost(c, F, tokens=T, window=T)

    def matrices(params, tokens):
      save = [(ooc_jax.Site.RESID_POST, i) for i in range(c.num_layers)]
      forward = ooc_jax.Transformer(c).apply
      _, saved = models.run_with_taps(
          lambda p, x, tap: forward({'params': p}, x, tap=tap),
          params,
          tokens,
          save=save,
      )
      return [x @ jnp.ones((c.embed_dim, F)) for x in saved.values()]

    counted = _flops(matrices, model.params, jnp.zeros((1, T), jnp.int32))
    # XLA counts norms, rotations and softmax too, large in so small a model.
    self.assertGreater(counted, found.activations)
    self.assertLess(counted, 1.25 * found.activations)

  def test_products_of_weights_are_what_xla_counts(self):
    c = validation.COST_CASES[0]
    F, D, H = 100, c.embed_dim, c.head_dim
    found = validation.cost(c, [F])
    x, u = jnp.ones((F, D)), jnp.ones((c.vocab_size, D))
    lens = _flops(lambda x, u: jnp.einsum('fd,vd->fv', x, u), x, u)
    self.assertEqual(found.output_lens, lens)
    self.assertEqual(found.input_lens, lens)

    def scores(x, q, k):
      q, k = jnp.einsum('fd,dnh->fnh', x, q), jnp.einsum('fd,dkh->fkh', x, k)
      k = jnp.repeat(k, c.num_heads // c.num_kv_heads, axis=1)
      return jnp.einsum('fnh,gnh->nfg', q, k)

    q, k = jnp.ones((D, c.num_heads, H)), jnp.ones((D, c.num_kv_heads, H))
    self.assertEqual(found.attention, _flops(scores, x, q, k))

  def test_both_ways_take_as_long_at_that_many_tokens(self):
    for cost in validation.case_costs():
      with self.subTest(cost.name):
        np.testing.assert_allclose(
            cost.equal_tokens * cost.activations / cost.tokens, cost.weights
        )

  def test_neurons_need_no_encoder(self):
    c = validation.COST_CASES[0]
    with_one = validation.cost(c, [100, 50])
    without = validation.cost(c, [100, 50], encoded=False)
    self.assertEqual(
        with_one.a_token - without.a_token, 2 * c.embed_dim * (100 + 50)
    )
    self.assertEqual(with_one.weights, without.weights)


if __name__ == '__main__':
  absltest.main()
