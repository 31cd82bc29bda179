"""Gemma 2: norms before and after, two caps, every second layer slides."""

from typing import Any

from ooc_jax.model._config import ModelConfig
from ooc_jax.model.families import _gguf
from ooc_jax.model.families import _hf
from ooc_jax.model.families._family import GGUF
from ooc_jax.model.families._family import Family
from ooc_jax.model.families._family import HuggingFace
from ooc_jax.model.families._family import ModelEntry
from ooc_jax.model.families._reader import Reader
from ooc_jax.model.families._tables import gguf_table
from ooc_jax.model.families._tables import hf_table

# Gemma 3 has these too.
BLOCKS = {
    'activation': 'gelu_tanh',
    'norm_offset': 1.0,
    'scale_embedding': True,
    'post_norms': True,
}
HF_NORMS = {
    'attention_norm': 'input_layernorm',
    'post_attention_norm': 'post_attention_layernorm',
    'mlp_norm': 'pre_feedforward_layernorm',
    'post_mlp_norm': 'post_feedforward_layernorm',
}
GGUF_NORMS = {
    'attention_norm': 'attn_norm',
    'post_attention_norm': 'post_attention_norm',
    'mlp_norm': 'ffn_norm',
    'post_mlp_norm': 'post_ffw_norm',
}
HF_KEYS = frozenset({
    'attn_logit_softcapping', 'final_logit_softcapping', 'layer_types',
    'query_pre_attn_scalar', 'sliding_window', 'sliding_window_size',
})  # fmt: skip
GGUF_KEYS = frozenset({
    'attention.sliding_window', 'attention.sliding_window_pattern',
    'final_logit_softcapping',
})  # fmt: skip
HF_DEFAULTS = {
    'head_dim': 256,
    'num_key_value_heads': 4,
    'query_pre_attn_scalar': 256,
    'rms_norm_eps': 1e-6,
    'sliding_window': 4096,
    'tie_word_embeddings': True,
}
_ATTENTION_CAP, _FINAL_CAP = 50.0, 30.0


def read_heads(hf: Reader) -> dict[str, Any]:
  """Width of the heads and scale of their logits, as all of Gemma has them."""
  # The hub's Gemma-1 and early Gemma-2 files say 'gelu' in `hidden_act` and
  # mean the tanh form, which `hidden_activation` names; only it is trusted,
  # and with neither, the tanh form is the default.
  _hf.check_activation(hf, 'hidden_activation', {'gelu_pytorch_tanh'})
  scalar = hf.number('query_pre_attn_scalar')
  return {
      'head_dim': hf.whole('head_dim'),
      'attention_scale': _hf.attention_scale(hf, scalar),
  }


def write_heads(config: ModelConfig) -> dict[str, Any]:
  """The keys that `read_heads` reads."""
  return {
      'hidden_activation': 'gelu_pytorch_tanh',
      'query_pre_attn_scalar': _hf.query_scalar(config),
  }


def _read_hf(hf: Reader) -> dict[str, Any]:
  return {
      **read_heads(hf),
      'attention_softcap': _hf.softcap(
          hf, 'attn_logit_softcapping', _ATTENTION_CAP
      ),
      'final_softcap': _hf.softcap(hf, 'final_logit_softcapping', _FINAL_CAP),
      'windows': _hf.sliding_windows(hf, period=2),
      'rope': _hf.read_rope(hf, 10_000.0),
  }


def _write_hf(config: ModelConfig) -> dict[str, Any]:
  return {
      **write_heads(config),
      'attn_logit_softcapping': config.attention_softcap,
      'final_logit_softcapping': config.final_softcap,
      **_hf.write_sliding_windows(config),
      **_hf.write_rope(config.rope),
  }


def _read_gguf(header: Reader) -> dict[str, Any]:
  return {
      # Old files do not say them, and have them all the same.
      'attention_softcap': header.number(
          'attn_logit_softcapping', _ATTENTION_CAP
      ),
      'final_softcap': header.number('final_logit_softcapping', _FINAL_CAP),
      'windows': _gguf.sliding_windows(header, period=2, window=4096),
  }


FAMILY = Family(
    name='gemma2',
    blocks=BLOCKS,
    hf=HuggingFace(
        model_types=('gemma2',),
        architecture='Gemma2ForCausalLM',
        table=hf_table(HF_NORMS),
        read=_read_hf,
        write=_write_hf,
        keys=HF_KEYS,
        defaults=HF_DEFAULTS,
    ),
    gguf=GGUF(
        architecture='gemma2',
        table=gguf_table(GGUF_NORMS, interleaved=False, offset=-1.0),
        read=_read_gguf,
        keys_per_layer=frozenset({_gguf.PATTERN}),
        keys=GGUF_KEYS | {'attn_logit_softcapping'},
        layers_of_27b=46,
    ),
    models={
        'tiny-gemma2': ModelEntry(
            None, package=('ooc_jax', 'bundled/tiny_gemma2')
        ),
        'gemma2-2b': ModelEntry('google/gemma-2-2b'),
        'gemma2-9b': ModelEntry('google/gemma-2-9b'),
        'gemma2-27b': ModelEntry('google/gemma-2-27b'),
    },
)
