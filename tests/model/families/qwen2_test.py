"""Files of Qwen2 and 2.5, and what only they have."""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from ooc_jax import InputError
from ooc_jax.model import config_from_hf
from ooc_jax.model import config_to_hf
from ooc_jax.model import families
from ooc_jax.model import parameter_shapes
from tests.model.families import llama_test
from tests.model.families.facts import Facts

# As the hub has it.
QWEN25_05B = {
    'architectures': ['Qwen2ForCausalLM'],
    'attention_dropout': 0.0,
    'bos_token_id': 151643,
    'eos_token_id': 151643,
    'hidden_act': 'silu',
    'hidden_size': 896,
    'initializer_range': 0.02,
    'intermediate_size': 4864,
    'max_position_embeddings': 32768,
    'max_window_layers': 24,
    'model_type': 'qwen2',
    'num_attention_heads': 14,
    'num_hidden_layers': 24,
    'num_key_value_heads': 2,
    'rms_norm_eps': 1e-06,
    'rope_theta': 1000000.0,
    'sliding_window': 32768,
    'tie_word_embeddings': True,
    'torch_dtype': 'bfloat16',
    'transformers_version': '4.40.1',
    'use_cache': True,
    'use_mrope': False,
    'use_sliding_window': False,
    'vocab_size': 151936,
}
R1_QWEN_7B = {
    k: v for k, v in QWEN25_05B.items() if k != 'tie_word_embeddings'
} | {
    'bos_token_id': 151643,
    'hidden_size': 3584,
    'intermediate_size': 18944,
    'max_position_embeddings': 131072,
    'max_window_layers': 28,
    'num_attention_heads': 28,
    'num_hidden_layers': 28,
    'num_key_value_heads': 4,
    'rope_theta': 10000,
    'sliding_window': 4096,
    'tie_word_embeddings': False,
    'vocab_size': 152064,
}


def _golden(transformers):
  """One model per golden folder. Within a model, all sizes differ."""
  return {
      'qwen2': transformers.Qwen2Config(
          vocab_size=133,
          hidden_size=42,
          intermediate_size=54,
          num_hidden_layers=4,
          num_attention_heads=6,
          num_key_value_heads=2,
          head_dim=16,
          rms_norm_eps=1e-6,
          use_sliding_window=True,
          sliding_window=64,
          max_window_layers=2,
          rope_parameters={'rope_type': 'default', 'rope_theta': 1e6},
          tie_word_embeddings=True,
          attn_implementation='eager',
      )
  }


FACTS = Facts(
    hf_keys=lambda head_dim: {'model_type': 'qwen2', 'hidden_act': 'silu'},
    norms=llama_test.FACTS.norms,
    gguf_norms=llama_test.FACTS.gguf_norms,
    qkv_bias=True,
    golden=_golden,
    model_class=lambda folder: 'Qwen2ForCausalLM',
    sharp=1.0,
    sites=llama_test.FACTS.sites,
)


class Qwen2Test(parameterized.TestCase):

  def test_config_of_the_hub(self):
    config = config_from_hf(QWEN25_05B)
    self.assertTrue(config.qkv_bias)
    self.assertTrue(config.tied)
    self.assertEqual(config.windows, (None,) * 24)
    self.assertEqual((config.head_dim, config.num_kv_heads), (64, 2))
    shapes = parameter_shapes(config)
    self.assertEqual(shapes['layer_3/attention/query_bias'], (14, 64))
    self.assertEqual(shapes['layer_3/attention/key_bias'], (2, 64))
    # 494 million parameters, as the model's card says.
    self.assertEqual(sum(map(np.prod, shapes.values())), 494_032_768)
    distill = config_from_hf(R1_QWEN_7B)
    self.assertEqual((distill.head_dim, distill.tied), (128, False))
    count = sum(map(np.prod, parameter_shapes(distill).values()))
    self.assertEqual(count, 7_615_616_512)

  def test_windows_of_the_last_layers_only_where_they_are_used(self):
    sliding = QWEN25_05B | {'use_sliding_window': True, 'max_window_layers': 21}
    config = config_from_hf(sliding)
    self.assertEqual(config.windows, (None,) * 21 + (32768,) * 3)
    self.assertEqual(config_from_hf(config_to_hf(config)), config)
    types = ['full_attention'] * 21 + ['sliding_attention'] * 3
    self.assertEqual(config_from_hf(sliding | {'layer_types': types}), config)
    with self.assertRaisesRegex(InputError, 'layer_types'):
      config_from_hf(sliding | {'layer_types': types[::-1]})

  def test_rows_are_not_interleaved_in_gguf(self):
    rules = families.gguf_rules(config_from_hf(QWEN25_05B))
    (row,) = (r for r in rules if r.ours == 'layer_0/attention/query')
    plain = np.arange(896 * 2).reshape(896, 2)
    np.testing.assert_array_equal(row.convert(plain)[0, 0, :3], [0, 2, 4])


if __name__ == '__main__':
  absltest.main()
