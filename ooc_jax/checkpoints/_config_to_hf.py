"""A Hugging Face `config.json` of our config, for models that had none."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ooc_jax._errors import InputError
from ooc_jax.model import Llama3Scaling
from ooc_jax.model import ModelConfig
from ooc_jax.model import Rope
from ooc_jax.model import config_from_hf
from ooc_jax.model import rope_frequencies

_TYPES = {
    'llama': ('llama', 'LlamaForCausalLM'),
    'gemma2': ('gemma2', 'Gemma2ForCausalLM'),
    'gemma3': ('gemma3_text', 'Gemma3ForCausalLM'),
}


def config_to_hf(config: ModelConfig) -> dict[str, Any]:
  """The config in the hub's dialect; `config_from_hf` reads the same again.

  Raises:
    InputError: Hugging Face's files cannot say it.
  """
  kind, architecture = _TYPES[config.family]
  hf: dict[str, Any] = {
      'architectures': [architecture],
      'model_type': kind,
      'vocab_size': config.vocab_size,
      'hidden_size': config.embed_dim,
      'intermediate_size': config.mlp_dim,
      'num_hidden_layers': config.num_layers,
      'num_attention_heads': config.num_heads,
      'num_key_value_heads': config.num_kv_heads,
      'head_dim': config.head_dim,
      'rms_norm_eps': config.norm_eps,
      'rope_theta': config.rope.base,
      'tie_word_embeddings': config.tied,
  }
  if (scaling := _scaling(config)) is not None:
    hf['rope_scaling'] = scaling
  if config.family == 'llama':
    hf['hidden_act'] = 'silu'
    return _checked(hf, config)
  hf['hidden_activation'] = 'gelu_pytorch_tanh'
  scalar = config.attention_scale**-2
  hf['query_pre_attn_scalar'] = (
      round(scalar) if abs(scalar - round(scalar)) < 1e-6 else scalar
  )
  sliding = [w for w in config.windows if w is not None]
  # A model without sliding layers needs the key and does not use it.
  hf['sliding_window'] = sliding[0] if sliding else 1
  hf['layer_types'] = [
      'full_attention' if w is None else 'sliding_attention'
      for w in config.windows
  ]
  hf['final_logit_softcapping'] = config.final_softcap
  if config.family == 'gemma2':
    hf['attn_logit_softcapping'] = config.attention_softcap
  elif config.local_rope is not None:
    hf['rope_local_base_freq'] = config.local_rope.base
  return _checked(hf, config)


def text_config(hf: Mapping[str, Any]) -> dict[str, Any]:
  """`hf`, or where it is of a multimodal model, the text model inside it."""
  nested = hf.get('text_config')
  if nested is None:
    return dict(hf)
  kind, architecture = _TYPES['gemma3']
  tied = hf.get('tie_word_embeddings', nested.get('tie_word_embeddings'))
  # The text model may be read without these, and not without the outer type.
  return {
      **nested,
      'architectures': [architecture],
      'model_type': kind,
      'tie_word_embeddings': True if tied is None else tied,
  }


def _checked(hf: dict[str, Any], config: ModelConfig) -> dict[str, Any]:
  again = config_from_hf(hf)
  if again.rope.llama3 is not None and config.rope.divisors is not None:
    return hf  # The same frequencies, in two forms.
  if again != config:
    raise InputError(
        'The config of this model has no form in a Hugging Face config.json;'
        ' keep it as Orbax (--to=orbax).'
    )
  return hf


def _scaling(config: ModelConfig) -> dict[str, Any] | None:
  rope = config.rope
  llama3 = rope.llama3
  if rope.divisors is not None:
    llama3 = _known_llama3(rope, config.head_dim)
  if llama3 is not None:
    return {
        'rope_type': 'llama3',
        'factor': llama3.factor,
        'low_freq_factor': llama3.low_frequency_factor,
        'high_freq_factor': llama3.high_frequency_factor,
        'original_max_position_embeddings': llama3.original_context,
    }
  if rope.linear_factor != 1:
    return {'rope_type': 'linear', 'factor': rope.linear_factor}
  return None


def _known_llama3(rope: Rope, head_dim: int) -> Llama3Scaling:
  """The published scaling (Llama 3.1, 3.2) whose divisors a GGUF file holds."""
  for factor in (8.0, 32.0):
    scaling = Llama3Scaling(
        factor=factor,
        low_frequency_factor=1.0,
        high_frequency_factor=4.0,
        original_context=8192,
    )
    same = rope_frequencies(Rope(base=rope.base, llama3=scaling), head_dim)
    # The file has float32 divisors.
    if np.allclose(rope_frequencies(rope, head_dim), same, rtol=1e-5, atol=0):
      return scaling
  raise InputError(
      'The RoPE divisors of this GGUF file are of no Llama that is known, and'
      ' a Hugging Face config.json cannot hold them; keep the model as Orbax'
      ' (--to=orbax).'
  )
