"""Pythia's files, and what only they have."""

import json
import pathlib
import shutil

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import safetensors.numpy

from ooc_jax import InputError
from ooc_jax.checkpoints import convert_model
from ooc_jax.checkpoints import load_model
from ooc_jax.model import config_from_hf
from ooc_jax.model import config_to_hf
from ooc_jax.model import families
from ooc_jax.model import forward
from ooc_jax.model import parameter_shapes
from ooc_jax.model import rope_frequencies
from tests.model import golden_files
from tests.model.families.facts import Facts

# As the hub has it.
PYTHIA_70M = {
    'architectures': ['GPTNeoXForCausalLM'],
    'bos_token_id': 0,
    'eos_token_id': 0,
    'hidden_act': 'gelu',
    'hidden_size': 512,
    'initializer_range': 0.02,
    'intermediate_size': 2048,
    'layer_norm_eps': 1e-05,
    'max_position_embeddings': 2048,
    'model_type': 'gpt_neox',
    'num_attention_heads': 8,
    'num_hidden_layers': 6,
    'rotary_emb_base': 10000,
    'rotary_pct': 0.25,
    'tie_word_embeddings': False,
    'torch_dtype': 'float16',
    'transformers_version': '4.24.0',
    'use_cache': True,
    'use_parallel_residual': True,
    'vocab_size': 50304,
}


def _golden(transformers):
  """One model per golden folder. Within a model, all sizes differ."""
  return {
      'gpt_neox': transformers.GPTNeoXConfig(
          vocab_size=141,
          hidden_size=48,
          intermediate_size=66,
          num_hidden_layers=4,
          num_attention_heads=3,
          layer_norm_eps=1e-5,
          max_position_embeddings=700,
          # 4 of the 16 entries of a head turn.
          rope_parameters={
              'rope_type': 'default',
              'rope_theta': 10_000.0,
              'partial_rotary_factor': 0.25,
          },
          attn_implementation='eager',
      )
  }


FACTS = Facts(
    hf_keys=lambda head_dim: {'model_type': 'gpt_neox'},
    norms={
        'attention_norm': 'input_layernorm',
        'mlp_norm': 'post_attention_layernorm',
    },
    gguf_norms={},
    llama_names=False,
    golden=_golden,
    model_class=lambda folder: 'GPTNeoXForCausalLM',
    sharp=1.0,
    sites={'attn_out': ('after', 'attention'), 'mlp_out': ('after', 'mlp')},
)


class GPTNeoXTest(parameterized.TestCase):

  def test_config_of_the_hub(self):
    config = config_from_hf(PYTHIA_70M)
    self.assertFalse(config.tied)
    self.assertTrue(config.parallel)
    self.assertEqual(config.activation, 'gelu')
    self.assertEqual((config.head_dim, config.rope.rotary_dim), (64, 16))
    np.testing.assert_allclose(
        rope_frequencies(config.rope, 64), 10_000.0 ** -(np.arange(8) / 8)
    )
    count = sum(map(np.prod, parameter_shapes(config).values()))
    self.assertEqual(count, 70_426_624)
    self.assertEqual(config_from_hf(config_to_hf(config)), config)
    later = {k: v for k, v in PYTHIA_70M.items() if 'rotary' not in k} | {
        'rope_parameters': {
            'rope_type': 'default',
            'rope_theta': 10000,
            'partial_rotary_factor': 0.25,
        }
    }
    self.assertEqual(config_from_hf(later), config)

  def test_all_of_a_head_turns(self):
    config = config_from_hf(PYTHIA_70M | {'rotary_pct': 1.0})
    self.assertIsNone(config.rope.rotary_dim)
    self.assertLen(rope_frequencies(config.rope, 64), 32)

  @parameterized.parameters(
      ({'use_parallel_residual': False}, 'use_parallel_residual'),
      ({'hidden_act': 'gelu_new'}, 'gelu_new'),
      ({'attention_bias': False}, 'attention_bias'),
      ({'rotary_pct': 0}, 'rotary_pct'),
      ({'rotary_pct': 0.05}, '3 entries of a head turn'),
      ({'num_attention_heads': 7}, 'num_attention_heads'),
      (
          {
              'rope_parameters': {
                  'rope_type': 'default',
                  'rope_theta': 10000,
                  'partial_rotary_factor': 0.5,
              }
          },
          'differ',
      ),
  )
  def test_what_is_not_implemented(self, change, message):
    with self.assertRaisesRegex(InputError, message):
      config_from_hf(PYTHIA_70M | change)

  def test_rows_alternate_head_by_head(self):
    """Against the definition: for each head its query, key and value rows."""
    golden = golden_files.load('gpt_neox')
    stored = safetensors.numpy.load_file(
        golden_files.FOLDER / 'gpt_neox' / 'model.safetensors'
    )
    N, H, D = 3, 16, 48
    fused = stored['gpt_neox.layers.2.attention.query_key_value.weight']
    x = np.random.default_rng(0).normal(size=D)
    rows = (fused.astype(np.float64) @ x).reshape(N, 3, H)
    for i, name in enumerate(('query', 'key', 'value')):
      weight = golden.model.params['layer_2']['attention'][name]
      np.testing.assert_allclose(
          np.einsum('d,dnh->nh', x, np.asarray(weight, np.float64)),
          rows[:, i],
          rtol=1e-6,
      )

  def test_conversions_and_old_buffers(self):
    golden = golden_files.load('gpt_neox').short(9)
    expected = forward(golden.model, golden.tokens)
    folder = pathlib.Path(self.create_tempdir().full_path)
    for kind in ('orbax', 'safetensors'):
      out = folder / kind
      convert_model(golden_files.FOLDER / 'gpt_neox', out, to=kind)
      model = load_model(out)
      self.assertEqual(model.config, golden.model.config)
      np.testing.assert_array_equal(forward(model, golden.tokens), expected)
    # transformers' own file again, and what older versions stored beside it.
    stored = safetensors.numpy.load_file(
        golden_files.FOLDER / 'gpt_neox' / 'model.safetensors'
    )
    written = safetensors.numpy.load_file(
        folder / 'safetensors' / 'model.safetensors'
    )
    self.assertEqual(set(written), set(stored))
    for name, x in stored.items():
      np.testing.assert_array_equal(written[name], x, err_msg=name)
    old = folder / 'old'
    shutil.copytree(golden_files.FOLDER / 'gpt_neox', old)
    for i in range(4):
      layer = f'gpt_neox.layers.{i}.attention'
      stored[f'{layer}.bias'] = np.ones((1, 1, 7, 7), np.uint8)
      stored[f'{layer}.masked_bias'] = np.array(-1e4, np.float16)
      stored[f'{layer}.rotary_emb.inv_freq'] = np.ones(2, np.float16)
    safetensors.numpy.save_file(stored, old / 'model.safetensors')
    config = golden_files.in_hub_dialect(
        json.loads((old / 'config.json').read_text())
    )
    (old / 'config.json').write_text(json.dumps(config))
    np.testing.assert_array_equal(
        forward(load_model(old), golden.tokens), expected
    )

  def test_no_gguf_files(self):
    config = config_from_hf(PYTHIA_70M)
    with self.assertRaisesRegex(InputError, 'no GGUF files of the gpt_neox'):
      families.gguf_rules(config)


if __name__ == '__main__':
  absltest.main()
