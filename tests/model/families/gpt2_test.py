"""GPT-2's files, and what only they have."""

import dataclasses
import json
import pathlib

from absl.testing import absltest
from absl.testing import parameterized
import gguf
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save_file

from ooc_jax import InputError
from ooc_jax.checkpoints import convert_model
from ooc_jax.checkpoints import load_model
from ooc_jax.model import config_from_hf
from ooc_jax.model import config_to_hf
from ooc_jax.model import families
from ooc_jax.model import forward
from ooc_jax.model import parameter_shapes
from tests.model.families.facts import Facts

# As the hub has it.
GPT2 = {
    'activation_function': 'gelu_new',
    'architectures': ['GPT2LMHeadModel'],
    'attn_pdrop': 0.1,
    'bos_token_id': 50256,
    'embd_pdrop': 0.1,
    'eos_token_id': 50256,
    'initializer_range': 0.02,
    'layer_norm_epsilon': 1e-05,
    'model_type': 'gpt2',
    'n_ctx': 1024,
    'n_embd': 768,
    'n_head': 12,
    'n_layer': 12,
    'n_positions': 1024,
    'resid_pdrop': 0.1,
    'summary_activation': None,
    'summary_first_dropout': 0.1,
    'summary_proj_to_labels': True,
    'summary_type': 'cls_index',
    'summary_use_proj': True,
    'task_specific_params': {
        'text-generation': {'do_sample': True, 'max_length': 50}
    },
    'vocab_size': 50257,
}


def _golden(transformers):
  """One model per golden folder. Within a model, all sizes differ."""
  return {
      'gpt2': transformers.GPT2Config(
          vocab_size=127,
          n_embd=40,
          n_layer=3,
          n_head=5,
          n_inner=68,
          n_positions=610,
          layer_norm_epsilon=1e-5,
          attn_implementation='eager',
      )
  }


FACTS = Facts(
    hf_keys=lambda head_dim: {'model_type': 'gpt2'},
    norms={'attention_norm': 'ln_1', 'mlp_norm': 'ln_2'},
    gguf_norms={},
    llama_names=False,
    golden=_golden,
    model_class=lambda folder: 'GPT2LMHeadModel',
    sharp=1.0,
    sites={
        'attn_out': ('after', 'attn'),
        'resid_mid': ('before', 'ln_2'),
        'mlp_out': ('after', 'mlp'),
    },
)
_SIZES = {
    'vocab_size': 23, 'n_embd': 12, 'n_layer': 2, 'n_head': 3, 'n_inner': 20,
    'n_positions': 15,
}  # fmt: skip
_TOKENS = jnp.asarray([[3, 19, 0, 7, 22], [5, 5, 1, 13, 9]])
# In llama.cpp, and whether its converter transposes it.
_GGUF_NAMES = {
    'attn.c_attn': 'attn_qkv', 'attn.c_proj': 'attn_output',
    'mlp.c_fc': 'ffn_up', 'mlp.c_proj': 'ffn_down', 'ln_1': 'attn_norm',
    'ln_2': 'ffn_norm',
}  # fmt: skip
_GGUF_TABLES = {
    'wte': 'token_embd', 'wpe': 'position_embd', 'ln_f': 'output_norm',
}  # fmt: skip


def tiny_config() -> dict[str, object]:
  return {k: v for k, v in (GPT2 | _SIZES).items() if k != 'n_ctx'}


def tiny_tensors() -> dict[str, np.ndarray]:
  """As the hub has them: no prefix, and the causal mask."""
  rng = np.random.default_rng(0)
  V, D, M, T = 23, 12, 20, 15
  shapes = {'wte.weight': (V, D), 'wpe.weight': (T, D)}
  for i in range(2):
    shapes |= {
        f'h.{i}.{name}.weight': shape
        for name, shape in (
            ('attn.c_attn', (D, 3 * D)),
            ('attn.c_proj', (D, D)),
            ('mlp.c_fc', (D, M)),
            ('mlp.c_proj', (M, D)),
            ('ln_1', (D,)),
            ('ln_2', (D,)),
        )
    }
  shapes['ln_f.weight'] = (D,)
  shapes |= {
      k.replace('.weight', '.bias'): shape[-1:]
      for k, shape in shapes.items()
      if not k.startswith('w')
  }
  return {
      k: rng.normal(0.2, 0.4, size=shape).astype(np.float32)
      for k, shape in shapes.items()
  }


def write(folder: pathlib.Path, tensors: dict[str, np.ndarray]) -> pathlib.Path:
  folder.mkdir(parents=True)
  (folder / 'config.json').write_text(json.dumps(tiny_config()))
  save_file(tensors, folder / 'model.safetensors')
  return folder


def write_gguf(path: pathlib.Path, tensors: dict[str, np.ndarray]) -> None:
  """As llama.cpp's converter does."""
  writer = gguf.GGUFWriter(path, 'gpt2')
  writer.add_block_count(2)
  writer.add_context_length(15)
  writer.add_embedding_length(12)
  writer.add_feed_forward_length(20)
  writer.add_head_count(3)
  writer.add_layer_norm_eps(1e-5)
  for name, x in tensors.items():
    parts = name.split('.')
    if parts[0] == 'h':
      what = '.'.join(parts[2:-1])
      name = f'blk.{parts[1]}.{_GGUF_NAMES[what]}.{parts[-1]}'
      x = x.T if x.ndim == 2 else x
    else:
      name = f'{_GGUF_TABLES[parts[0]]}.{parts[-1]}'
    writer.add_tensor(name, np.ascontiguousarray(x))
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()


class GPT2Test(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path)

  def test_config_of_the_hub(self):
    config = config_from_hf(GPT2)
    self.assertTrue(config.tied)
    self.assertIsNone(config.rope)
    self.assertEqual((config.positions, config.mlp_dim), (1024, 3072))
    self.assertEqual((config.head_dim, config.num_kv_heads), (64, 12))
    count = sum(map(np.prod, parameter_shapes(config).values()))
    self.assertEqual(count, 124_439_808)
    self.assertEqual(config_from_hf(config_to_hf(config)), config)

  @parameterized.parameters(
      ({'activation_function': 'relu'}, 'relu'),
      ({'scale_attn_by_inverse_layer_idx': True}, 'scale_attn_by_inverse'),
      ({'scale_attn_weights': False}, 'scale_attn_weights'),
      ({'add_cross_attention': True}, 'add_cross_attention'),
      ({'n_head': 7}, "'n_head' 7"),
      ({'n_positions': 512}, "'n_ctx' and 'n_positions' differ"),
  )
  def test_what_is_not_implemented(self, change, message):
    with self.assertRaisesRegex(InputError, message):
      config_from_hf(GPT2 | change)

  def test_every_form_of_the_files_is_the_same_model(self):
    """Bare names with masks, names of transformers 5, GGUF, conversions."""
    tensors = tiny_tensors()
    mask = np.tril(np.ones((1, 1, 15, 15), np.float32))
    masks = {f'h.{i}.attn.bias': mask for i in range(2)}
    bare = load_model(write(self.folder / 'bare', tensors | masks))
    expected = forward(bare, _TOKENS)
    self.assertGreater(float(expected.std()), 0.1)
    prefixed = {f'transformer.{k}': x for k, x in tensors.items()}
    path = write(self.folder / 'prefixed', prefixed)
    write_gguf(self.folder / 'm.gguf', tensors)
    sources = [path, self.folder / 'm.gguf']
    for kind in ('orbax', 'safetensors'):
      out = self.folder / kind
      convert_model(path, out, to=kind)
      sources.append(out)
    for source in sources:
      model = load_model(source)
      # GGUF has float32 numbers.
      self.assertAlmostEqual(model.config.norm_eps, 1e-5, delta=1e-11)
      self.assertEqual(
          dataclasses.replace(model.config, norm_eps=1e-5), bare.config
      )
      np.testing.assert_array_equal(
          forward(model, _TOKENS), expected, err_msg=str(source)
      )

  def test_queries_keys_and_values_of_one_tensor(self):
    """Against the definition: c_attn's columns in three runs of heads."""
    tensors = tiny_tensors()
    model = load_model(write(self.folder / 'm', tensors))
    x = np.random.default_rng(1).normal(size=12)
    fused = x @ tensors['h.1.attn.c_attn.weight'].astype(np.float64)
    for i, name in enumerate(('query', 'key', 'value')):
      weight = model.params['layer_1']['attention'][name]
      np.testing.assert_allclose(
          np.einsum('d,dnh->nh', x, weight).ravel(),
          fused[12 * i : 12 * (i + 1)],
          rtol=1e-6,
      )
      bias = model.params['layer_1']['attention'][f'{name}_bias']
      np.testing.assert_array_equal(
          np.ravel(bias), tensors['h.1.attn.c_attn.bias'].reshape(3, -1)[i]
      )

  def test_no_more_positions_than_were_learned(self):
    model = load_model(write(self.folder / 'm', tiny_tensors()))
    self.assertEqual(forward(model, jnp.zeros((1, 15), int)).shape, (1, 15, 23))
    with self.assertRaisesRegex(InputError, '16 positions'):
      forward(model, jnp.zeros((1, 16), int))

  def test_all_tensors_are_read(self):
    config = config_from_hf(tiny_config())
    names = {rule.theirs for rule in families.hf_rules(config)}
    self.assertEqual(names, {f'transformer.{k}' for k in tiny_tensors()})
    ours = [rule.ours for rule in families.hf_rules(config)]
    self.assertCountEqual(ours, parameter_shapes(config))


if __name__ == '__main__':
  absltest.main()
