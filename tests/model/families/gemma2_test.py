"""Gemma 2's files, and what only they have."""

from absl.testing import absltest

from ooc_jax.model import config_from_hf
from ooc_jax.model import families
from tests.model import real_configs
from tests.model.families.facts import Facts

NORMS = {
    'attention_norm': 'input_layernorm',
    'post_attention_norm': 'post_attention_layernorm',
    'mlp_norm': 'pre_feedforward_layernorm',
    'post_mlp_norm': 'post_feedforward_layernorm',
}
GGUF_NORMS = {
    'input_layernorm': 'attn_norm',
    'post_attention_layernorm': 'post_attention_norm',
    'pre_feedforward_layernorm': 'ffn_norm',
    'post_feedforward_layernorm': 'post_ffw_norm',
}
# What is added to the stream is the output of the post-norms.
SITES = {
    'attn_out': ('after', 'post_attention_layernorm'),
    'resid_mid': ('before', 'pre_feedforward_layernorm'),
    'mlp_out': ('after', 'post_feedforward_layernorm'),
}


def hf_keys(head_dim):
  """What both Gemmas say of a tiny model."""
  return {
      'model_type': 'gemma2',
      'hidden_activation': 'gelu_pytorch_tanh',
      # What llama.cpp assumes, for GGUF files do not hold it.
      'query_pre_attn_scalar': head_dim,
      'sliding_window': 3,
  }


def _golden(transformers):
  return {
      'gemma2': transformers.Gemma2Config(
          vocab_size=127,
          hidden_size=30,
          intermediate_size=44,
          num_hidden_layers=4,
          num_attention_heads=6,
          num_key_value_heads=3,
          head_dim=16,
          query_pre_attn_scalar=10,
          sliding_window=64,
          # Small, so that the tanh bends attention and final logits without a
          # softmax so sharp that rounding errors grow.
          attn_logit_softcapping=4.0,
          final_logit_softcapping=3.0,
          attn_implementation='eager',
      )
  }


FACTS = Facts(
    hf_keys=hf_keys,
    norms=NORMS,
    gguf_norms=GGUF_NORMS,
    gguf_keys={'attention.sliding_window': 3},
    gguf_offset=1.0,
    golden=_golden,
    model_class=lambda folder: 'Gemma2ForCausalLM',
    sharp=1.8,  # The cap tames the softmax.
    sites=SITES,
)


class Gemma2Test(absltest.TestCase):

  def test_gain_of_a_gguf_norm(self):
    config = config_from_hf(real_configs.GEMMA2_2B)
    for rule in families.gguf_rules(config):
      is_norm = rule.ours.endswith('norm/weight')
      self.assertEqual(rule.offset, -1.0 if is_norm else 0.0, rule.ours)
    self.assertEqual(config.norm_offset, 1.0)


if __name__ == '__main__':
  absltest.main()
