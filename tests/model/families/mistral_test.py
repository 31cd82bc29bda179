"""Mistral's files, and what only they have."""

import dataclasses
import pathlib

from absl.testing import absltest
from absl.testing import parameterized
import jax.numpy as jnp
import numpy as np

from ooc_jax import InputError
from ooc_jax.checkpoints import load_model
from ooc_jax.model import config_from_hf
from ooc_jax.model import config_to_hf
from ooc_jax.model import families
from ooc_jax.model import forward
from tests.checkpoints import tiny
from tests.model.families import llama_test
from tests.model.families.facts import Facts

# As the hub has it.
MISTRAL_7B = {
    'architectures': ['MistralForCausalLM'],
    'bos_token_id': 1,
    'eos_token_id': 2,
    'hidden_act': 'silu',
    'hidden_size': 4096,
    'initializer_range': 0.02,
    'intermediate_size': 14336,
    'max_position_embeddings': 32768,
    'model_type': 'mistral',
    'num_attention_heads': 32,
    'num_hidden_layers': 32,
    'num_key_value_heads': 8,
    'rms_norm_eps': 1e-05,
    'rope_theta': 10000.0,
    'sliding_window': 4096,
    'tie_word_embeddings': False,
    'torch_dtype': 'bfloat16',
    'transformers_version': '4.34.0.dev0',
    'use_cache': True,
    'vocab_size': 32000,
}


def _golden(transformers):
  """One model per golden folder. Within a model, all sizes differ."""
  return {
      'mistral': transformers.MistralConfig(
          vocab_size=137,
          hidden_size=44,
          intermediate_size=58,
          num_hidden_layers=3,
          num_attention_heads=6,
          num_key_value_heads=2,
          head_dim=14,
          rms_norm_eps=1e-5,
          sliding_window=64,
          rope_parameters={'rope_type': 'default', 'rope_theta': 10_000.0},
          attn_implementation='eager',
      )
  }


FACTS = Facts(
    hf_keys=lambda head_dim: {
        'model_type': 'mistral',
        'hidden_act': 'silu',
        'sliding_window': 3,
    },
    norms=llama_test.FACTS.norms,
    gguf_norms={},
    golden=_golden,
    model_class=lambda folder: 'MistralForCausalLM',
    sharp=llama_test.FACTS.sharp,
    sites=llama_test.FACTS.sites,
)


class MistralTest(parameterized.TestCase):

  def test_config_of_the_hub(self):
    config = config_from_hf(MISTRAL_7B)
    self.assertEqual(config.windows, (4096,) * 32)
    self.assertEqual((config.head_dim, config.num_kv_heads), (128, 8))
    self.assertEqual(config.attention_scale, 128**-0.5)
    left_out = {k: v for k, v in MISTRAL_7B.items() if k != 'sliding_window'}
    self.assertEqual(config_from_hf(left_out), config)
    nemo = MISTRAL_7B | {'sliding_window': None, 'head_dim': 160}
    self.assertEqual(config_from_hf(nemo).windows, (None,) * 32)
    self.assertEqual(config_from_hf(nemo).head_dim, 160)
    later = {k: v for k, v in MISTRAL_7B.items() if k != 'rope_theta'} | {
        'rope_parameters': {'rope_theta': 10000.0, 'rope_type': 'default'}
    }
    self.assertEqual(config_from_hf(later), config)

  @parameterized.parameters(0, -1, 2.5, '4096', True)
  def test_window_that_is_none(self, window):
    with self.assertRaisesRegex(InputError, 'sliding.window'):
      config_from_hf(MISTRAL_7B | {'sliding_window': window})

  @parameterized.parameters(4096, None)
  def test_written_config_is_read_again(self, window):
    config = config_from_hf(MISTRAL_7B | {'sliding_window': window})
    hf = config_to_hf(config)
    self.assertEqual(hf['model_type'], 'mistral')
    self.assertEqual(hf['sliding_window'], window)
    mixed = dataclasses.replace(config, windows=(64,) + config.windows[1:])
    with self.assertRaisesRegex(InputError, 'has no form'):
      config_to_hf(mixed)

  def test_a_llama_that_slides(self):
    """The logits are Llama's up to the window, and others after it."""
    weights = tiny.tensors('mistral', tied=False)
    models = {}
    for family in ('mistral', 'llama'):
      folder = self.create_tempdir(family).full_path
      config = tiny.hf_config(family, tied=False)
      models[family] = load_model(
          tiny.write_folder(pathlib.Path(folder), config, weights)
      )
    tokens = jnp.asarray(np.random.default_rng(0).integers(31, size=(2, 9)))
    ours = forward(models['mistral'], tokens)
    plain = forward(models['llama'], tokens)
    np.testing.assert_allclose(ours[:, :3], plain[:, :3], rtol=0, atol=1e-6)
    self.assertGreater(float(jnp.abs(ours - plain)[:, 3:].max(-1).min()), 1e-5)
    # Three layers of a window of 3 see 6 tokens back and no further.
    other = forward(models['mistral'], tokens.at[:, 0].add(1) % 31)
    np.testing.assert_array_equal(ours[:, 7:], other[:, 7:])
    self.assertGreater(float(jnp.abs(ours - other)[:, 6].max()), 1e-6)

  def test_no_gguf_files(self):
    config = config_from_hf(MISTRAL_7B)
    with self.assertRaisesRegex(InputError, 'no GGUF files of the mistral'):
      families.gguf_rules(config)


if __name__ == '__main__':
  absltest.main()
