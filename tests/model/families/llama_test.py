"""Llama's files, and what only they have."""

from absl.testing import absltest
import numpy as np

from ooc_jax.model import config_from_hf
from ooc_jax.model import families
from tests.model import real_configs
from tests.model.families.facts import Facts

LLAMA3 = {
    'rope_type': 'llama3',
    'rope_theta': 10_000.0,
    'factor': 8.0,
    'low_freq_factor': 1.0,
    'high_freq_factor': 4.0,
    # Of the 9 wavelengths 2 are kept, 1 is interpolated and 6 are divided.
    'original_max_position_embeddings': 128,
}


def _golden(transformers):
  """One model per golden folder. Within a model, all sizes differ."""
  return {
      'llama': transformers.LlamaConfig(
          vocab_size=131,
          hidden_size=40,
          intermediate_size=56,
          num_hidden_layers=3,
          num_attention_heads=8,
          num_key_value_heads=2,
          head_dim=18,
          rms_norm_eps=1e-5,
          rope_parameters=LLAMA3,
          attn_implementation='eager',
      ),
      'llama_tied': transformers.LlamaConfig(
          vocab_size=139,
          hidden_size=48,
          intermediate_size=52,
          num_hidden_layers=5,
          num_attention_heads=6,
          num_key_value_heads=3,
          rms_norm_eps=1e-5,
          rope_parameters={'rope_type': 'default', 'rope_theta': 100_000.0},
          tie_word_embeddings=True,
          attn_implementation='eager',
      ),
  }


FACTS = Facts(
    hf_keys=lambda head_dim: {'model_type': 'llama', 'hidden_act': 'silu'},
    norms={
        'attention_norm': 'input_layernorm',
        'mlp_norm': 'post_attention_layernorm',
    },
    gguf_norms={
        'input_layernorm': 'attn_norm',
        'post_attention_layernorm': 'ffn_norm',
    },
    gguf_interleaved=True,
    golden=_golden,
    model_class=lambda folder: 'LlamaForCausalLM',
    sharp=1.0,
    sites={
        'attn_out': ('after', 'self_attn'),
        'resid_mid': ('before', 'post_attention_layernorm'),
        'mlp_out': ('after', 'mlp'),
    },
)


class LlamaTest(absltest.TestCase):

  def test_head_width_is_of_the_stream_where_the_file_does_not_say(self):
    config = config_from_hf(real_configs.LLAMA31_8B)
    self.assertEqual(config.head_dim, 4096 // 32)
    other = config_from_hf(real_configs.LLAMA31_8B | {'head_dim': 64})
    self.assertEqual(other.head_dim, 64)
    self.assertEqual(other.attention_scale, 64**-0.5)

  def test_rows_of_queries_are_interleaved_in_gguf_alone(self):
    """Row 1 of ggml's first head is the partner of row 0: our row H/2."""
    config = config_from_hf(real_configs.SMOLLM2_135M)
    rows = np.arange(9 * 64 * 2).reshape(9 * 64, 2)
    found = {}
    for kind, rules in (
        ('hf', families.hf_rules(config)),
        ('gguf', families.gguf_rules(config)),
    ):
      (rule,) = (r for r in rules if r.ours == 'layer_7/attention/query')
      found[kind] = rule.convert(rows)[0, 0]
    np.testing.assert_array_equal(found['hf'][:3], [0, 2, 4])
    np.testing.assert_array_equal(found['gguf'][:3], [0, 4, 8])
    self.assertEqual(found['gguf'][32], 2)


if __name__ == '__main__':
  absltest.main()
