"""Live comparison with transformers, on models the golden files do not hold.

Needs the extra `parity` (torch and transformers), and is skipped without it:
  pip install -e '.[parity,test]'
  pytest tests/parity
"""

import functools
import json

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ooc_jax.checkpoints import load_model
from ooc_jax.model import Site
from ooc_jax.model import config_from_hf
from ooc_jax.model import forward
from ooc_jax.model import rope_frequencies
from ooc_jax.model import run_with_taps
from tests.model import golden_files
from tests.model import real_configs
from tests.model.families import gpt2_test
from tests.model.families import gpt_neox_test
from tests.model.families import mistral_test
from tests.model.families import qwen2_test
from tests.model.families import qwen3_test
from tests.model.families.llama_test import LLAMA3

torch = pytest.importorskip('torch')
transformers = pytest.importorskip('transformers')
# ruff: noqa: E402
from tests import make_golden

pytestmark = pytest.mark.parity

_LENGTH = 150
# Rounding, of logits up to 8; measured 2.6e-5 at most, and on the golden files,
# which are four times as long, 2.2e-5.
_TOLERANCE = 5e-5
_HEADS = {
    'multi_head': (6, 6),
    'grouped': (8, 2),
    'grouped_by_two': (6, 3),
    'multi_query': (5, 1),
}


_ROPE = {'rope_type': 'default', 'rope_theta': 10_000.0}
# Name in transformers, and the settings for sizes and a window.
_OTHER_MODELS = {
    'mistral': (
        'Mistral',
        lambda sizes, window: {
            **sizes, 'rms_norm_eps': 1e-5, 'sliding_window': window,
            'rope_parameters': _ROPE,
        },
    ),
    'qwen2': (
        'Qwen2',
        lambda sizes, window: {
            **sizes, 'use_sliding_window': True, 'sliding_window': window,
            'max_window_layers': 1, 'rope_parameters': _ROPE,
        },
    ),
    'qwen3': (
        'Qwen3', lambda sizes, window: {**sizes, 'rope_parameters': _ROPE}
    ),
    'gpt2': (
        'GPT2',
        lambda sizes, window: {
            'vocab_size': sizes['vocab_size'],
            'n_embd': sizes['hidden_size'],
            'n_head': sizes['num_attention_heads'],
            'n_inner': sizes['intermediate_size'],
            'n_layer': 4,
            'n_positions': 200,
            'attn_implementation': 'eager',
        },
    ),
    'gpt_neox': (
        'GPTNeoX',
        lambda sizes, window: {
            'vocab_size': sizes['vocab_size'],
            'hidden_size': sizes['num_attention_heads'] * sizes['head_dim'],
            'num_attention_heads': sizes['num_attention_heads'],
            'intermediate_size': sizes['intermediate_size'],
            'num_hidden_layers': 4,
            'rope_parameters': _ROPE | {
                'partial_rotary_factor': 4 / sizes['head_dim']
            },
            'attn_implementation': 'eager',
        },
    ),
}  # fmt: skip
# The hub's files that the families' tests hold.
_HUB = {
    'mistral_7b': mistral_test.MISTRAL_7B,
    'qwen2.5_0.5b': qwen2_test.QWEN25_05B,
    'r1_qwen_7b': qwen2_test.R1_QWEN_7B,
    'qwen3_4b': qwen3_test.QWEN3_4B,
    'gpt2': gpt2_test.GPT2,
    'pythia_70m': gpt_neox_test.PYTHIA_70M,
}


def _reference(family: str, heads: str, seed: int):
  """A random model; the sizes come from the seed, and all differ."""
  rng = np.random.default_rng(seed)
  N, K = _HEADS[heads]
  shared = {
      'vocab_size': int(rng.integers(90, 120)),
      'hidden_size': N * int(rng.integers(3, 6)),
      'intermediate_size': int(rng.integers(41, 60)),
      'num_hidden_layers': 4,
      'num_attention_heads': N,
      'num_key_value_heads': K,
      'head_dim': 2 * int(rng.integers(4, 9)),
      'attn_implementation': 'eager',
  }
  window = int(rng.integers(20, 90))
  if family in _OTHER_MODELS:
    name, keys = _OTHER_MODELS[family]
    config = getattr(transformers, f'{name}Config')(**keys(shared, window))
    kind = 'LMHeadModel' if name == 'GPT2' else 'ForCausalLM'
    model = getattr(transformers, name + kind)(config)
  elif family == 'llama':
    llama3 = LLAMA3 | {'rope_theta': 500_000.0}
    config = transformers.LlamaConfig(
        **shared,
        rms_norm_eps=1e-5,
        tie_word_embeddings=bool(seed % 2),
        rope_parameters=llama3,
    )
    model = transformers.LlamaForCausalLM(config)
  elif family == 'gemma2':
    config = transformers.Gemma2Config(
        **shared,
        query_pre_attn_scalar=13,
        sliding_window=window,
        attn_logit_softcapping=5.0,
        final_logit_softcapping=4.0,
    )
    model = transformers.Gemma2ForCausalLM(config)
  else:
    config = transformers.Gemma3TextConfig(
        **shared,
        query_pre_attn_scalar=40,
        sliding_window=window,
        sliding_window_pattern=2 + seed % 3,
    )
    model = transformers.Gemma3ForCausalLM(config)
  model.eval()
  make_golden.randomise(model, seed)
  tokens = rng.integers(config.vocab_size, size=(2, _LENGTH))
  return model, tokens


class LiveTest(parameterized.TestCase):

  def save(self, model) -> str:
    folder = self.create_tempdir().full_path
    model.save_pretrained(folder)
    return folder

  @parameterized.product(
      family=('llama', 'gemma2', 'gemma3', *_OTHER_MODELS), heads=tuple(_HEADS)
  )
  def test_every_logit_and_every_site(self, family, heads):
    seed = 20 + list(_HEADS).index(heads)
    reference, tokens = _reference(family, heads, seed)
    logits, sites = make_golden.run(reference, tokens)
    model = load_model(self.save(reference))
    layers = range(model.config.num_layers)
    actual, saved = jax.jit(
        functools.partial(
            run_with_taps,
            functools.partial(forward, model),
            save=[(Site(site), i) for site in sites for i in layers],
        )
    )(jnp.asarray(tokens, jnp.int32))
    np.testing.assert_allclose(actual, logits, rtol=0, atol=_TOLERANCE)
    for site in sites:
      np.testing.assert_allclose(
          np.stack([saved[Site(site), i] for i in layers]),
          sites[site],
          rtol=0,
          atol=1e-4,
          err_msg=site,
      )

  @parameterized.parameters('llama', 'gemma2', 'gemma3')
  def test_bfloat16_is_as_near_as_theirs(self, family):
    """Theirs and ours, both in bfloat16, against theirs in float32."""
    reference, tokens = _reference(family, 'grouped', 31)
    logits, _ = make_golden.run(reference, tokens)
    model = load_model(self.save(reference))
    ours = forward(model, jnp.asarray(tokens, jnp.int32), dtype=jnp.bfloat16)
    with torch.no_grad():
      theirs = reference.to(torch.bfloat16)(torch.from_numpy(tokens)).logits
    our_error = np.abs(ours - logits).mean()
    their_error = np.abs(theirs.float().numpy() - logits).mean()
    # We keep attention and logits in float32, so we are nearer if anything.
    self.assertLess(our_error, 1.2 * their_error)

  @parameterized.parameters(*golden_files.NAMES)
  def test_the_golden_files_are_what_this_transformers_computes(self, name):
    golden = golden_files.load(name)
    config = transformers.AutoConfig.from_pretrained(golden_files.FOLDER / name)
    cls = getattr(transformers, config.architectures[0])
    model = cls.from_pretrained(
        golden_files.FOLDER / name,
        dtype=torch.float32,
        attn_implementation='eager',
    )
    logits, _ = make_golden.run(model.eval(), np.asarray(golden.tokens))
    np.testing.assert_allclose(
        logits[:, golden.positions], golden.logits, rtol=0, atol=_TOLERANCE
    )

  @parameterized.parameters(*real_configs.SIZES)
  def test_real_configs_mean_the_same_to_transformers(self, name):
    """Read by transformers from the hub's dialect, and saved in its own."""
    hub = getattr(real_configs, name)
    cls = {
        'llama': transformers.LlamaConfig,
        'gemma2': transformers.Gemma2Config,
        'gemma3': transformers.Gemma3Config,
        'gemma3_text': transformers.Gemma3TextConfig,
    }[hub['model_type']]
    theirs = cls.from_dict(json.loads(json.dumps(hub)))
    saved = json.loads(theirs.to_json_string())
    self.assertIn('rope_parameters', json.dumps(saved))
    self.assertEqual(config_from_hf(saved), config_from_hf(hub))

  @parameterized.parameters(*_HUB)
  def test_configs_of_the_hub_mean_the_same_to_transformers(self, name):
    hub = _HUB[name]
    cls = transformers.CONFIG_MAPPING[hub['model_type']]
    theirs = cls.from_dict(json.loads(json.dumps(hub)))
    saved = json.loads(theirs.to_json_string())
    self.assertEqual(config_from_hf(saved), config_from_hf(hub))

  @parameterized.parameters(*real_configs.SIZES)
  def test_frequencies_of_real_models(self, name):
    hub = getattr(real_configs, name)
    ours = config_from_hf(hub)
    text = hub.get('text_config', hub)
    cls, rotary = {
        'llama': (
            transformers.LlamaConfig,
            transformers.models.llama.modeling_llama.LlamaRotaryEmbedding,
        ),
        'gemma2': (
            transformers.Gemma2Config,
            transformers.models.gemma2.modeling_gemma2.Gemma2RotaryEmbedding,
        ),
        'gemma3_text': (
            transformers.Gemma3TextConfig,
            transformers.models.gemma3.modeling_gemma3.Gemma3RotaryEmbedding,
        ),
    }[text['model_type']]
    theirs = rotary(cls.from_dict(json.loads(json.dumps(text))))
    for layer in range(6):
      kind = 'inv_freq'
      if ours.family == 'gemma3':
        sliding = ours.windows[layer] is not None
        kind = f'{"sliding" if sliding else "full"}_attention_inv_freq'
      np.testing.assert_allclose(
          rope_frequencies(ours.rope_of(layer), ours.head_dim),
          getattr(theirs, kind).numpy(),
          rtol=1e-6,  # They compute in float32.
      )


if __name__ == '__main__':
  absltest.main()
