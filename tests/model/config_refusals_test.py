"""Configs that are refused rather than guessed, and what is said of them."""

import copy
import dataclasses
import json
import math

from absl.testing import absltest
from absl.testing import parameterized

from ooc_jax._errors import InputError
from ooc_jax.model import config_from_gguf
from ooc_jax.model import config_from_hf
from ooc_jax.model import config_to_hf
from ooc_jax.model import families
from tests.model import real_configs as real

_WHERE = 'folder/of mine/config.json'
_DEEP = json.loads('[' * 800 + ']' * 800)


def _with(config, **changes):
  return copy.deepcopy(config) | changes


def _in_text(**changes):
  config = copy.deepcopy(real.GEMMA3_4B)
  config['text_config'] |= changes
  return config


class RefusalTest(parameterized.TestCase):

  @parameterized.parameters(
      # Unknown keys, by name, all at once.
      (dict(residual_multiplier=2.0, clip_qkv=8), "'clip_qkv', 'residual"),
      (dict(query_pre_attn_scalar=256), 'query_pre_attn_scalar'),
      (dict(sliding_window=512), 'sliding_window'),
      (dict(layer_types=['full_attention'] * 32), 'layer_types'),
      # Values that are not implemented.
      (dict(model_type='mamba'), "'mamba' is not supported"),
      (dict(model_type=['llama']), r"\['llama'\] is not supported"),
      (dict(model_type=None), 'model_type None'),
      (dict(attention_bias=True), 'attention_bias = True'),
      (dict(mlp_bias=True), 'mlp_bias = True'),
      (dict(rope_interleaved=True), 'rope_interleaved = True'),
      (dict(quantization_config={'bits': 4}), 'quantization_config'),
      (dict(hidden_act='gelu'), "activation 'gelu'"),
      (dict(hidden_act=['silu']), 'activation'),
      (dict(hidden_act=''), "activation ''"),
      (dict(hidden_act=0), 'activation 0'),
      (dict(tie_word_embeddings='yes'), "'tie_word_embeddings' is 'yes'"),
      (dict(tie_word_embeddings=1), "'tie_word_embeddings' is 1"),
      # Missing.
      (dict(vocab_size=None), "'vocab_size' is missing"),
      (dict(hidden_size=None), "'hidden_size' is missing"),
      (dict(num_hidden_layers=None), "'num_hidden_layers' is missing"),
      (dict(num_attention_heads=None), "'num_attention_heads' is missing"),
      (dict(intermediate_size=None), "'intermediate_size' is missing"),
      # No numbers, or numbers that are no sizes.
      (dict(hidden_size='4096'), "'hidden_size' is '4096', not a whole"),
      (dict(vocab_size=[128256]), "'vocab_size' is .128256., not a whole"),
      (dict(vocab_size=True), "'vocab_size' is True"),
      (dict(vocab_size=math.nan), "'vocab_size' is nan"),
      (dict(vocab_size=10**400), "'vocab_size' is 1000"),
      (dict(vocab_size=128256.0), "'vocab_size' is 128256.0, not a whole"),
      (dict(vocab_size=0), 'vocab_size is 0'),
      (dict(vocab_size=10**12), 'vocab_size is 1000000000000, over'),
      (dict(intermediate_size=-1), 'mlp_dim is -1'),
      (dict(num_hidden_layers=10**12), "'num_hidden_layers' is 10000"),
      (dict(num_hidden_layers=-1), "'num_hidden_layers' is -1"),
      (dict(num_hidden_layers=2.5), "'num_hidden_layers' is 2.5"),
      (dict(num_attention_heads=0), 'head_dim'),
      (dict(num_attention_heads=12), "'head_dim' is missing"),
      (dict(num_key_value_heads=5), '32 is not a multiple of num_kv_heads 5'),
      (dict(num_key_value_heads=0), 'num_kv_heads is 0'),
      (dict(head_dim=127), 'head_dim 127 is odd'),
      (dict(head_dim=0), 'query scale is 0'),
      (dict(head_dim=2**20), 'head_dim is 1048576, over'),
      (dict(rms_norm_eps=0), 'norm_eps is 0'),
      (dict(rms_norm_eps=-1e-5), 'norm_eps is -1e-05'),
      (dict(rms_norm_eps=math.inf), "'rms_norm_eps' is inf"),
      # No float32, which all numbers become.
      (dict(rms_norm_eps=1e-60), 'norm_eps is 1e-60'),
      (dict(rope_theta=3.5e38), "'rope_theta' is 3.5e.38"),
      # Nesting that a recursive printer cannot follow.
      (dict(vocab_size=_DEEP), "'vocab_size' is "),
      (dict(quantization_config=_DEEP), 'quantization_config'),
      (dict(model_type=_DEEP), 'model_type'),
      (dict(rope_scaling=_DEEP), 'RoPE settings'),
  )  # fmt: skip
  def test_of_a_llama(self, changes, message):
    with self.assertRaisesRegex(InputError, message) as caught:
      config_from_hf(_with(real.LLAMA31_8B, **changes), _WHERE)
    self.assert_good_message(caught.exception)

  @parameterized.parameters(
      (dict(rope_theta='1e4'), "'rope_theta' is '1e4'"),
      (dict(rope_theta=0.0), 'base 0.0 of RoPE is not 1 or more'),
      (dict(rope_theta=-1e4), 'base -10000.0 of RoPE'),
      (dict(rope_scaling='linear'), 'not an object'),
      (dict(rope_scaling={}, rope_theta=math.inf), "'rope_theta' is inf"),
      (dict(rope_scaling={'rope_type': 'yarn', 'factor': 2}), "'yarn'"),
      (dict(rope_scaling={'rope_type': ['linear']}), 'is none of'),
      (dict(rope_scaling={'rope_type': None}), 'type None is none of'),
      (
          dict(rope_scaling={'rope_type': 'linear', 'type': 'default'}),
          "'rope_type' and 'type' differ",
      ),
      (dict(rope_scaling={'rope_type': 'linear'}), "'factor' is missing"),
      (
          dict(rope_scaling={'rope_type': 'linear', 'factor': 0}),
          'linear factor 0.0',
      ),
      (dict(rope_scaling={'type': 'linear', 'factor': [8]}), "'factor' is"),
      (dict(rope_scaling={'factor': 8.0}), r"unknown keys \['factor'\]"),
      (
          dict(rope_scaling={'rope_theta': 3.0}),
          "'rope_theta' differs inside and outside",
      ),
      (
          dict(rope_scaling={'partial_rotary_factor': 0.5}),
          'partial_rotary_factor',
      ),
      (
          dict(rope_parameters={'rope_theta': 5e5, 'rope_type': 'default'}),
          "both 'rope_parameters' and 'rope_scaling'",
      ),
      (
          dict(
              rope_scaling=None,
              rope_parameters={'rope_theta': 4e5, 'rope_type': 'default'},
          ),
          "both 'rope_parameters' and 'rope_theta'",
      ),
      (dict(rope_scaling=None, rope_parameters=[]), 'is not an object'),
      (
          dict(
              rope_scaling=None,
              rope_theta=None,
              rope_parameters={'rope_type': 'default'},
          ),
          "'rope_theta' is missing",
      ),
  )  # fmt: skip
  def test_of_rotary_settings(self, changes, message):
    with self.assertRaisesRegex(InputError, message) as caught:
      config_from_hf(_with(real.LLAMA31_8B, **changes), _WHERE)
    self.assert_good_message(caught.exception)

  @parameterized.parameters(
      ('factor', 0.0, 'factor of the RoPE scaling is 0.0'),
      ('factor', None, "'factor' is missing"),
      ('low_freq_factor', 4.0, 'low_frequency_factor 4.0 .*is not below'),
      ('high_freq_factor', -1.0, 'high_frequency_factor of .* is -1.0'),
      ('original_max_position_embeddings', '8192', "is '8192'"),
      ('original_max_position_embeddings', 0.5, 'original_context of .* is 0'),
      ('beta_fast', 32, 'beta_fast'),
  )
  def test_of_llama3_scaling(self, key, value, message):
    config = copy.deepcopy(real.LLAMA31_8B)
    config['rope_scaling'][key] = value
    with self.assertRaisesRegex(InputError, message) as caught:
      config_from_hf(config, _WHERE)
    self.assert_good_message(caught.exception)

  @parameterized.parameters(
      (_with(real.GEMMA2_2B, use_bidirectional_attention=True), 'directional'),
      (_with(real.GEMMA2_2B, hidden_activation='gelu'), "activation 'gelu'"),
      (_with(real.GEMMA2_2B, query_pre_attn_scalar=0), 'query scale is 0'),
      (_with(real.GEMMA2_2B, query_pre_attn_scalar=-1), 'query scale is -1'),
      (_with(real.GEMMA2_2B, query_pre_attn_scalar='x'), "is 'x'"),
      (_with(real.GEMMA2_2B, attn_logit_softcapping=0), 'attention_softcap'),
      (_with(real.GEMMA2_2B, final_logit_softcapping=-3), 'final_softcap'),
      (_with(real.GEMMA2_2B, final_logit_softcapping=True), 'True, not a'),
      (_with(real.GEMMA2_2B, sliding_window=None), 'sliding_window. is null'),
      (_with(real.GEMMA2_2B, sliding_window=0), 'sliding window is 0'),
      (_with(real.GEMMA2_2B, sliding_window=9.5), "'sliding_window' is 9.5"),
      (_with(real.GEMMA2_9B, sliding_window_size=512), 'differ'),
      (_with(real.GEMMA2_2B, sliding_window_pattern=2), 'unknown keys'),
      (_with(real.GEMMA2_2B, layer_types=['full_attention']), 'names 1 layer'),
      (_with(real.GEMMA2_2B, layer_types=['chunked'] * 26), 'layer_types'),
      (_with(real.GEMMA2_2B, layer_types=[[]] * 26), 'layer_types'),
      (_with(real.GEMMA2_2B, layer_types='full_attention'), 'layer_types'),
      (_with(real.GEMMA3_270M, attn_logit_softcapping=50.0), 'ignores one'),
      (
          _with(real.GEMMA3_270M, layer_types=None, sliding_window_pattern=0),
          "'sliding_window_pattern' is 0",
      ),
      (
          _with(real.GEMMA3_270M, layer_types=None, sliding_window_pattern=1.5),
          "'sliding_window_pattern' is 1.5",
      ),
      (
          _with(
              real.GEMMA3_270M,
              rope_theta=None,
              rope_local_base_freq=None,
              rope_parameters={'rope_theta': 1e6, 'rope_type': 'default'},
          ),
          'full_attention',
      ),
      (
          _with(
              real.GEMMA3_270M,
              rope_theta=None,
              rope_parameters={'full_attention': {}, 'sliding_attention': {}},
          ),
          "both 'rope_parameters' and 'rope_local_base_freq'",
      ),
      (_in_text(clip_qkv=1), 'clip_qkv'),
      (_in_text(vocab_size='many'), "'vocab_size' is 'many'"),
      (_in_text(tie_word_embeddings='no'), "is 'no', not true or false"),
      (_in_text(tie_word_embeddings=False) | dict(tie_word_embeddings=True),
       "'tie_word_embeddings' differs"),
      (real.GEMMA3_4B | dict(text_config=[]), "'text_config' is not an object"),
      (real.GEMMA3_4B | dict(model_type='llava'), "'llava' is not supported"),
      (real.GEMMA3_4B | dict(audio_config={}), 'audio_config'),
      (real.GEMMA3_4B | dict(hidden_size=9), 'hidden_size'),
  )  # fmt: skip
  def test_of_a_gemma(self, config, message):
    with self.assertRaisesRegex(InputError, message) as caught:
      config_from_hf(config, _WHERE)
    self.assert_good_message(caught.exception)

  @parameterized.parameters(
      ({'general.architecture': 'mamba'}, "'mamba' is not supported"),
      (
          {'general.architecture': 'gptneox'},
          "'gptneox' is not supported; .* and more as safetensors",
      ),
      ({'general.architecture': ['llama']}, 'is not supported'),
      ({'llama.expert_count': 8}, 'llama.expert_count'),
      ({'llama.attention.sliding_window': 64}, 'sliding_window'),
      ({'llama.attn_logit_softcapping': 50.0}, 'attn_logit_softcapping'),
      ({'llama.block_count': None}, 'block_count. is missing'),
      (
          {'llama.block_count': 10**12},
          'block_count. is 1000000000000, not from 1 to',
      ),
      ({'llama.block_count': 3.0}, 'block_count. is 3.0'),
      ({'llama.embedding_length': '576'}, "embedding_length' is '576'"),
      ({'llama.embedding_length': math.nan}, 'embedding_length. is nan'),
      ({'llama.attention.head_count': [9] * 29 + [3]}, 'all alike'),
      ({'llama.attention.head_count': 0}, 'head_count is 0'),
      ({'llama.attention.head_count_kv': 2}, 'num_kv_heads 2'),
      ({'llama.attention.key_length': 0}, 'not the head width 0'),
      (
          {'llama.attention.value_length': 32},
          'value_length is 32, not the head width 64',
      ),
      ({'llama.rope.dimension_count': 32}, 'partial rotary'),
      ({'llama.rope.freq_base': 0.0}, 'base 0.0'),
      ({'llama.rope.scaling.type': 'yarn'}, "'yarn' is not supported"),
      ({'llama.rope.scaling.type': ['linear']}, 'all alike'),
      ({'llama.rope.scaling.factor': -8.0}, 'linear factor -8.0'),
      ({'llama.rope.scaling.factor': 10**400}, 'scaling.factor. is 1000'),
      ({'llama.feed_forward_length': True}, 'feed_forward_length. is True'),
      ({'llama.attention.layer_norm_rms_epsilon': math.inf}, 'epsilon. is inf'),
  )
  def test_of_a_gguf_file(self, changes, message):
    metadata = real.GGUF_SMOLLM2 | changes
    with self.assertRaisesRegex(InputError, message) as caught:
      config_from_gguf(metadata, vocab_size=11, tied=True, where=_WHERE)
    self.assert_good_message(caught.exception)

  @parameterized.parameters(
      ({'gemma3.attention.sliding_window': None}, 'sliding_window. is missing'),
      ({'gemma3.attention.sliding_window': 0}, 'sliding window is 0'),
      ({'gemma3.attention.sliding_window_pattern': 0}, 'pattern is 0'),
      ({'gemma3.attention.sliding_window_pattern': [1, 0]}, 'not true or'),
      (
          {'gemma3.attention.sliding_window_pattern': [True]},
          'for each of',
      ),
      ({'gemma3.attention.head_count': [8, 4]}, 'all alike'),
      ({'gemma3.attn_logit_softcapping': 50.0}, 'attn_logit_softcapping'),
      ({'gemma3.final_logit_softcapping': 0.0}, 'final_softcap is 0.0'),
      ({'gemma3.rope.freq_base_swa': 0.0}, 'base 0.0'),
  )
  def test_of_a_gemma3_gguf_file(self, changes, message):
    metadata = real.GGUF_GEMMA3_4B | changes
    with self.assertRaisesRegex(InputError, message) as caught:
      config_from_gguf(metadata, vocab_size=11, tied=True, where=_WHERE)
    self.assert_good_message(caught.exception)

  @parameterized.parameters(
      ([1.0] * 31, '31 RoPE divisors for head_dim 64'),
      ([1.0] * 31 + [0.0], 'divisor is not above zero'),
      ([1.0] * 31 + [math.nan], 'divisor is not above zero'),
  )
  def test_of_gguf_divisors(self, divisors, message):
    with self.assertRaisesRegex(InputError, message) as caught:
      config_from_gguf(
          real.GGUF_SMOLLM2,
          vocab_size=11,
          tied=True,
          rope_divisors=divisors,
          where=_WHERE,
      )
    self.assert_good_message(caught.exception)

  def test_a_family_that_is_not_ours(self):
    config = config_from_hf(real.LLAMA31_8B)
    other = dataclasses.replace(config, family='gemma')
    for use in (families.hf_rules, families.gguf_rules, config_to_hf):
      with self.assertRaisesRegex(InputError, "'gemma' is none of 'llama', 'g"):
        use(other)
    with self.assertRaisesRegex(InputError, "activation 'relu' is none of"):
      dataclasses.replace(config, activation='relu')
    with self.assertRaisesRegex(InputError, '1 attention windows for 32'):
      dataclasses.replace(config, windows=(None,))

  def test_every_problem_is_said_at_once(self):
    config = config_from_hf(real.LLAMA31_8B)
    with self.assertRaisesRegex(InputError, 'mlp_dim is 0.*norm_eps is -1.0'):
      dataclasses.replace(config, mlp_dim=0, norm_eps=-1.0)

  def assert_good_message(self, error):
    """One sentence that names the file, of a length that can be read."""
    message = str(error)
    self.assertStartsWith(message, _WHERE)
    self.assertEndsWith(message, '.')
    self.assertNotIn('\n', message)
    self.assertLess(len(message), 600)


if __name__ == '__main__':
  absltest.main()
