"""What the configs of real files mean."""

import copy
import dataclasses
import math

from absl.testing import absltest
from absl.testing import parameterized

from ooc_jax.model import Llama3Scaling
from ooc_jax.model import Rope
from ooc_jax.model import config_from_gguf
from ooc_jax.model import config_from_hf
from tests.model import real_configs as real


def _with(config, **changes):
  return copy.deepcopy(config) | changes


class RealConfigsTest(parameterized.TestCase):

  @parameterized.parameters(*real.SIZES)
  def test_means_the_published_sizes(self, name):
    c = config_from_hf(getattr(real, name))
    sizes, rest = real.SIZES[name]
    tied, scalar, caps, eps, base, window, global_layers = rest
    self.assertEqual(
        (
            c.num_layers, c.embed_dim, c.num_heads, c.num_kv_heads,
            c.head_dim, c.mlp_dim, c.vocab_size,
        ),
        sizes,
    )  # fmt: skip
    self.assertEqual(c.tied, tied)
    self.assertAlmostEqual(c.attention_scale, 1 / math.sqrt(scalar), places=12)
    self.assertEqual((c.attention_softcap, c.final_softcap), caps)
    self.assertEqual((c.norm_eps, c.rope.base), (eps, base))
    for i, actual in enumerate(c.windows):
      self.assertEqual(actual, None if i in global_layers else window)

  def test_families(self):
    llama = config_from_hf(real.LLAMA31_8B)
    self.assertEqual((llama.family, llama.norm_offset), ('llama', 0.0))
    self.assertEqual((llama.embedding_scale, llama.post_norms), (1.0, False))
    self.assertEqual(llama.group_size, 4)
    gemma2 = config_from_hf(real.GEMMA2_2B)
    self.assertEqual((gemma2.family, gemma2.norm_offset), ('gemma2', 1.0))
    self.assertEqual(gemma2.embedding_scale, 48.0)
    self.assertEqual((gemma2.post_norms, gemma2.qk_norm), (True, False))
    gemma3 = config_from_hf(real.GEMMA3_270M)
    self.assertEqual((gemma3.family, gemma3.norm_offset), ('gemma3', 1.0))
    self.assertEqual((gemma3.post_norms, gemma3.qk_norm), (True, True))

  def test_rotary_settings(self):
    llama = config_from_hf(real.LLAMA31_8B)
    scaling = Llama3Scaling(
        factor=8.0,
        low_frequency_factor=1.0,
        high_frequency_factor=4.0,
        original_context=8192,
    )
    self.assertEqual(llama.rope, Rope(base=5e5, llama3=scaling))
    gemma2 = config_from_hf(real.GEMMA2_9B)
    self.assertEqual(gemma2.rope_of(0), gemma2.rope_of(1))
    small = config_from_hf(real.GEMMA3_270M)
    self.assertEqual(small.rope_of(4), Rope(base=1e4))
    self.assertEqual(small.rope_of(5), Rope(base=1e6))
    large = config_from_hf(real.GEMMA3_4B)
    self.assertEqual(large.rope_of(4), Rope(base=1e4))
    self.assertEqual(large.rope_of(5), Rope(base=1e6, linear_factor=8.0))

  @parameterized.parameters(
      ('GGUF_SMOLLM2', 'SMOLLM2_135M'),
      ('GGUF_GEMMA2_2B', 'GEMMA2_2B'),
      ('GGUF_GEMMA3_4B', 'GEMMA3_4B'),
  )
  def test_gguf_means_the_same(self, gguf, hf):
    expected = config_from_hf(getattr(real, hf))
    actual = config_from_gguf(
        getattr(real, gguf), vocab_size=expected.vocab_size, tied=True
    )
    # GGUF stores float32.
    self.assertAlmostEqual(actual.norm_eps, expected.norm_eps, places=12)
    self.assertEqual(
        dataclasses.replace(actual, norm_eps=expected.norm_eps), expected
    )

  def test_gguf_knows_the_27b_models_by_depth(self):
    """Their files do not hold query_pre_attn_scalar; it is D / N."""
    ours = real.GGUF_GEMMA2_2B | {
        'gemma2.attention.head_count': 32,
        'gemma2.attention.head_count_kv': 16,
        'gemma2.attention.key_length': 128,
        'gemma2.attention.value_length': 128,
        'gemma2.block_count': 46,
        'gemma2.embedding_length': 4608,
    }
    config = config_from_gguf(ours, vocab_size=256000, tied=True)
    self.assertAlmostEqual(config.attention_scale, 144**-0.5, places=12)

  def test_gguf_divisors_and_untied(self):
    divisors = [1.0] * 20 + [4.0] * 4 + [8.0] * 8
    config = config_from_gguf(
        real.GGUF_SMOLLM2, vocab_size=11, tied=False, rope_divisors=divisors
    )
    self.assertEqual(config.rope.divisors, tuple(divisors))
    self.assertFalse(config.tied)

  def test_gguf_factor_without_a_type_is_linear(self):
    """So llama.cpp reads it; with type 'none' it does not count."""
    ours = real.GGUF_SMOLLM2 | {'llama.rope.scaling.factor': 4.0}

    def read(metadata):
      return config_from_gguf(metadata, vocab_size=11, tied=True).rope

    self.assertEqual(read(ours), Rope(base=1e5, linear_factor=4.0))
    ours |= {'llama.rope.scaling.type': 'none'}
    self.assertEqual(read(ours), Rope(base=1e5))

  @parameterized.parameters(
      ({'hidden_act': None}, {}),
      ({'hidden_act': 'swish'}, {}),
      ({'head_dim': None}, {}),
      ({'head_dim': 64}, {'head_dim': 64, 'attention_scale': 0.125}),
      ({'num_key_value_heads': None}, {'num_kv_heads': 32}),
      ({'tie_word_embeddings': None}, {}),
      ({'tie_word_embeddings': True}, {'tied': True}),
      ({'rope_scaling': None}, {'rope': Rope(base=5e5)}),
      (
          {'rope_scaling': {'type': 'linear', 'factor': 2}},
          {'rope': Rope(base=5e5, linear_factor=2.0)},
      ),
      ({'attention_bias': None, 'quantization_config': None}, {}),
  )
  def test_what_may_be_said_in_other_ways(self, said, meant):
    plain = config_from_hf(real.LLAMA31_8B)
    self.assertEqual(
        config_from_hf(_with(real.LLAMA31_8B, **said)),
        dataclasses.replace(plain, **meant),
    )

  def test_gemma_may_leave_out_its_constants(self):
    plain = config_from_hf(real.GEMMA2_2B)
    for key in (
        'attn_logit_softcapping', 'final_logit_softcapping', 'head_dim',
        'hidden_activation', 'query_pre_attn_scalar', 'rms_norm_eps',
        'rope_theta', 'sliding_window', 'num_key_value_heads',
    ):  # fmt: skip
      short = {k: v for k, v in real.GEMMA2_2B.items() if k != key}
      self.assertEqual(config_from_hf(short), plain, msg=key)
    # Null is not the same as left out.
    uncapped = _with(real.GEMMA2_2B, final_logit_softcapping=None)
    self.assertIsNone(config_from_hf(uncapped).final_softcap)


if __name__ == '__main__':
  absltest.main()
