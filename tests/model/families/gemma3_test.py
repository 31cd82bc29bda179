"""Gemma 3's files, and what only they have."""

from absl.testing import absltest

from ooc_jax.model import config_from_hf
from ooc_jax.model import families
from ooc_jax.model import text_config
from tests.model import real_configs
from tests.model.families import gemma2_test
from tests.model.families.facts import Facts

_LINEAR_ON_GLOBAL = {
    'full_attention': {
        'rope_type': 'linear',
        'rope_theta': 1_000_000.0,
        'factor': 8.0,
    },
    'sliding_attention': {'rope_type': 'default', 'rope_theta': 10_000.0},
}


def _golden(transformers):
  return {
      'gemma3': transformers.Gemma3TextConfig(
          vocab_size=113,
          hidden_size=24,
          intermediate_size=34,
          num_hidden_layers=7,
          num_attention_heads=6,
          num_key_value_heads=2,
          head_dim=10,
          query_pre_attn_scalar=33,
          sliding_window=64,
          attn_implementation='eager',
      ),
      'gemma3_nested': transformers.Gemma3Config(
          text_config={
              'vocab_size': 149,
              'hidden_size': 24,
              'intermediate_size': 38,
              'num_hidden_layers': 6,
              'num_attention_heads': 8,
              'num_key_value_heads': 2,
              'head_dim': 12,
              'query_pre_attn_scalar': 51,
              'sliding_window': 64,
              'sliding_window_pattern': 3,
              'rope_parameters': _LINEAR_ON_GLOBAL,
          },
          vision_config={
              'hidden_size': 8,
              'intermediate_size': 10,
              'num_hidden_layers': 1,
              'num_attention_heads': 2,
              'image_size': 28,
              'patch_size': 14,
          },
          mm_tokens_per_image=4,
          boi_token_index=146,
          eoi_token_index=147,
          image_token_index=148,
          attn_implementation='eager',
      ),
  }


FACTS = Facts(
    hf_keys=lambda head_dim: {
        **gemma2_test.hf_keys(head_dim),
        'model_type': 'gemma3_text',
        'rope_local_base_freq': 2_000.0,
        'sliding_window_pattern': 2,
    },
    norms={
        **gemma2_test.NORMS,
        'attention/query_norm': 'self_attn.q_norm',
        'attention/key_norm': 'self_attn.k_norm',
    },
    gguf_norms={
        **gemma2_test.GGUF_NORMS,
        'self_attn.q_norm': 'attn_q_norm',
        'self_attn.k_norm': 'attn_k_norm',
    },
    gguf_keys={
        'attention.sliding_window': 3,
        'attention.sliding_window_pattern': 2,
        'rope.freq_base_swa': 2_000.0,
    },
    gguf_offset=1.0,
    golden=_golden,
    model_class=lambda folder: {
        'gemma3': 'Gemma3ForCausalLM',
        'gemma3_nested': 'Gemma3ForConditionalGeneration',
    }[folder],
    sharp=1.1,  # Queries and keys are normed anyway.
    sites=gemma2_test.SITES,
)


class Gemma3Test(absltest.TestCase):

  def test_the_text_model_of_a_multimodal_one_is_the_same_model(self):
    hub = real_configs.GEMMA3_4B
    text = text_config(hub)
    self.assertNotIn('vision_config', text)
    self.assertEqual(config_from_hf(text), config_from_hf(hub))

  def test_norms_of_queries_have_a_row_each(self):
    config = config_from_hf(real_configs.GEMMA3_270M)
    for rules in (families.hf_rules(config), families.gguf_rules(config)):
      norms = [r for r in rules if r.ours.endswith('query_norm/weight')]
      self.assertLen(norms, 18)


if __name__ == '__main__':
  absltest.main()
