"""Files of the dense Qwen3, and what only they have."""

from absl.testing import absltest
import numpy as np

from ooc_jax import InputError
from ooc_jax.model import config_from_hf
from ooc_jax.model import config_to_hf
from ooc_jax.model import parameter_shapes
from tests.model.families import llama_test
from tests.model.families.facts import Facts

# As the hub has it.
QWEN3_4B = {
    'architectures': ['Qwen3ForCausalLM'],
    'attention_bias': False,
    'attention_dropout': 0.0,
    'bos_token_id': 151643,
    'eos_token_id': 151645,
    'head_dim': 128,
    'hidden_act': 'silu',
    'hidden_size': 2560,
    'initializer_range': 0.02,
    'intermediate_size': 9728,
    'max_position_embeddings': 40960,
    'max_window_layers': 36,
    'model_type': 'qwen3',
    'num_attention_heads': 32,
    'num_hidden_layers': 36,
    'num_key_value_heads': 8,
    'rms_norm_eps': 1e-06,
    'rope_scaling': None,
    'rope_theta': 1000000,
    'sliding_window': None,
    'tie_word_embeddings': True,
    'torch_dtype': 'bfloat16',
    'transformers_version': '4.51.0',
    'use_cache': True,
    'use_sliding_window': False,
    'vocab_size': 151936,
}


def _golden(transformers):
  """One model per golden folder. Within a model, all sizes differ."""
  return {
      'qwen3': transformers.Qwen3Config(
          vocab_size=149,
          hidden_size=46,
          intermediate_size=62,
          num_hidden_layers=3,
          num_attention_heads=6,
          num_key_value_heads=2,
          head_dim=18,
          rms_norm_eps=1e-6,
          rope_parameters={'rope_type': 'default', 'rope_theta': 1e6},
          attn_implementation='eager',
      )
  }


FACTS = Facts(
    hf_keys=lambda head_dim: {'model_type': 'qwen3', 'hidden_act': 'silu'},
    norms={
        **llama_test.FACTS.norms,
        'attention/query_norm': 'self_attn.q_norm',
        'attention/key_norm': 'self_attn.k_norm',
    },
    gguf_norms={
        **llama_test.FACTS.gguf_norms,
        'self_attn.q_norm': 'attn_q_norm',
        'self_attn.k_norm': 'attn_k_norm',
    },
    golden=_golden,
    model_class=lambda folder: 'Qwen3ForCausalLM',
    sharp=1.0,
    sites=llama_test.FACTS.sites,
)


class Qwen3Test(absltest.TestCase):

  def test_config_of_the_hub(self):
    config = config_from_hf(QWEN3_4B)
    self.assertTrue(config.qk_norm)
    self.assertFalse(config.qkv_bias)
    # Not D / N = 80.
    self.assertEqual(
        (config.head_dim, config.attention_scale), (128, 128**-0.5)
    )
    self.assertEqual(config.windows, (None,) * 36)
    left_out = {k: v for k, v in QWEN3_4B.items() if k != 'head_dim'}
    self.assertEqual(config_from_hf(left_out), config)
    count = sum(map(np.prod, parameter_shapes(config).values()))
    self.assertEqual(count, 4_022_468_096)
    self.assertEqual(config_from_hf(config_to_hf(config)), config)

  def test_experts_are_refused(self):
    with self.assertRaisesRegex(InputError, 'qwen3_moe'):
      config_from_hf(QWEN3_4B | {'model_type': 'qwen3_moe'})


if __name__ == '__main__':
  absltest.main()
