"""Gemma 3: Gemma 2 with normed queries and keys, and rotary bases of two kinds.

From 4B up the hub's files are of multimodal models, which nest the text model.
"""

from typing import Any

from ooc_jax.model._config import ModelConfig
from ooc_jax.model._config import Rope
from ooc_jax.model._config import shown
from ooc_jax.model.families import _gguf
from ooc_jax.model.families import _hf
from ooc_jax.model.families import gemma2
from ooc_jax.model.families._family import GGUF
from ooc_jax.model.families._family import Family
from ooc_jax.model.families._family import HuggingFace
from ooc_jax.model.families._family import ModelEntry
from ooc_jax.model.families._reader import Reader
from ooc_jax.model.families._tables import gguf_table
from ooc_jax.model.families._tables import hf_table

_PERIOD = 6
_LOCAL_BASE = 10_000.0


def _read_hf(hf: Reader) -> dict[str, Any]:
  if (cap := hf.get('attn_logit_softcapping')) is not None:
    raise hf.fail(
        f"'attn_logit_softcapping' is {shown(cap)}; Gemma 3 has no cap on"
        ' attention logits, and transformers ignores one, so this model is'
        ' refused'
    )
  period = hf.whole(
      'sliding_window_pattern', hf.whole('_sliding_window_pattern', _PERIOD)
  )
  if period < 1:
    raise hf.fail(f"'sliding_window_pattern' is {period}, not above zero")
  rope, local_rope = _hf.read_ropes(hf, 1_000_000.0, _LOCAL_BASE)
  return {
      **gemma2.read_heads(hf),
      'final_softcap': _hf.softcap(hf, 'final_logit_softcapping', None),
      'windows': _hf.sliding_windows(hf, period),
      'rope': rope,
      'local_rope': local_rope,
  }


def _write_hf(config: ModelConfig) -> dict[str, Any]:
  keys = {
      **gemma2.write_heads(config),
      'final_logit_softcapping': config.final_softcap,
      **_hf.write_sliding_windows(config),
      **_hf.write_rope(config.rope),
  }
  if config.local_rope is not None:
    keys['rope_local_base_freq'] = config.local_rope.base
  return keys


def _read_gguf(header: Reader) -> dict[str, Any]:
  # Not stored by older files; it is a constant of the architecture.
  local = header.number(
      'rope.freq_base_swa', header.number('rope.local.freq_base', _LOCAL_BASE)
  )
  cap = 'final_logit_softcapping'
  fields = {}
  if header.has('rope.global.freq_base'):  # Ollama's name.
    base = header.number('rope.global.freq_base')
    fields['rope'] = Rope(base=base, linear_factor=_gguf.linear_factor(header))
  return fields | {
      'final_softcap': None if header.get(cap) is None else header.number(cap),
      'windows': _gguf.sliding_windows(header, period=_PERIOD),
      'local_rope': Rope(base=local),
  }


FAMILY = Family(
    name='gemma3',
    blocks={**gemma2.BLOCKS, 'qk_norm': True},
    hf=HuggingFace(
        model_types=('gemma3_text', 'gemma3'),
        architecture='Gemma3ForCausalLM',
        table=hf_table({
            **gemma2.HF_NORMS,
            'attention/query_norm': 'self_attn.q_norm',
            'attention/key_norm': 'self_attn.k_norm',
        }),
        read=_read_hf,
        write=_write_hf,
        keys=gemma2.HF_KEYS
        | {
            '_sliding_window_pattern',
            'rope_local_base_freq',
            'sliding_window_pattern',
        },
        # Files of 4B and up leave out what equals these.
        defaults={
            **gemma2.HF_DEFAULTS,
            'vocab_size': 262_208,
            'hidden_size': 2304,
            'intermediate_size': 9216,
            'num_hidden_layers': 26,
            'num_attention_heads': 8,
        },
        wrapper='gemma3',
    ),
    gguf=GGUF(
        architecture='gemma3',
        table=gguf_table(
            {
                **gemma2.GGUF_NORMS,
                'attention/query_norm': 'attn_q_norm',
                'attention/key_norm': 'attn_k_norm',
            },
            interleaved=False,
            offset=-1.0,
        ),
        read=_read_gguf,
        keys_per_layer=frozenset({_gguf.PATTERN}),
        keys=gemma2.GGUF_KEYS
        | {
            'rope.freq_base_swa',
            'rope.global.freq_base',
            'rope.local.freq_base',
        },
        layers_of_27b=62,
    ),
    models={
        'gemma3-270m': ModelEntry('google/gemma-3-270m'),
        'gemma3-1b': ModelEntry('google/gemma-3-1b-pt'),
        'gemma3-4b': ModelEntry('google/gemma-3-4b-pt'),
        'gemma3-12b': ModelEntry('google/gemma-3-12b-pt'),
        'gemma3-27b': ModelEntry('google/gemma-3-27b-pt'),
    },
)
