"""Qwen2 and Qwen2.5: Llama's blocks with biases on queries, keys and values.

The R1 distills of Qwen shape are of this family, those of Llama shape of
Llama's.
"""

from typing import Any

from ooc_jax.model._config import ModelConfig
from ooc_jax.model.families import _hf
from ooc_jax.model.families import llama
from ooc_jax.model.families._family import GGUF
from ooc_jax.model.families._family import Family
from ooc_jax.model.families._family import HuggingFace
from ooc_jax.model.families._family import ModelEntry
from ooc_jax.model.families._reader import Reader
from ooc_jax.model.families._tables import gguf_table
from ooc_jax.model.families._tables import hf_table

HF_KEYS = frozenset({
    'layer_types', 'max_window_layers', 'sliding_window', 'use_sliding_window',
})  # fmt: skip
HF_DEFAULTS = {
    'max_window_layers': 28,
    'num_key_value_heads': 32,
    'rms_norm_eps': 1e-6,
    'sliding_window': 4096,
    'tie_word_embeddings': False,
    'use_sliding_window': False,
}
GGUF_NORMS = {'attention_norm': 'attn_norm', 'mlp_norm': 'ffn_norm'}


def read_windows(hf: Reader) -> tuple[int | None, ...]:
  """Per layer its window: the first `max_window_layers` have none.

  Files name a window that they do not use: `use_sliding_window` decides.
  """
  num_layers = hf.layers('num_hidden_layers')
  window = None
  if hf.flag('use_sliding_window'):
    window = hf.whole('sliding_window')
  first = hf.whole('max_window_layers')
  windows = tuple(window if i >= first else None for i in range(num_layers))
  types = hf.get('layer_types')
  if types is None:
    return windows
  # Without a window transformers has no use for a type that says it slides.
  if types != _hf.layer_types(windows):
    raise hf.fail(
        "'layer_types' are not what 'use_sliding_window' and"
        " 'max_window_layers' say"
    )
  return windows


def write_windows(config: ModelConfig) -> dict[str, Any]:
  """The keys that `read_windows` reads."""
  sliding = [i for i, w in enumerate(config.windows) if w is not None]
  if not sliding:
    return {'use_sliding_window': False}
  return {
      'use_sliding_window': True,
      'sliding_window': config.windows[sliding[0]],
      'max_window_layers': sliding[0],
  }


def _read_hf(hf: Reader) -> dict[str, Any]:
  return llama.read_hf(hf) | {'windows': read_windows(hf)}


def _write_hf(config: ModelConfig) -> dict[str, Any]:
  return {**llama.write_hf(config), **write_windows(config)}


def read_gguf(header: Reader) -> dict[str, Any]:
  """The fields of a GGUF file that are no sizes: llama.cpp has no window."""
  return {'windows': (None,) * header.layers('block_count')}


FAMILY = Family(
    name='qwen2',
    blocks={**llama.FAMILY.blocks, 'qkv_bias': True},
    hf=HuggingFace(
        model_types=('qwen2',),
        architecture='Qwen2ForCausalLM',
        table=hf_table(llama.HF_NORMS, qkv_bias=True),
        read=_read_hf,
        write=_write_hf,
        keys=HF_KEYS,
        defaults=HF_DEFAULTS,
        ignored=frozenset({'use_mrope'}),
    ),
    gguf=GGUF(
        architecture='qwen2',
        table=gguf_table(GGUF_NORMS, interleaved=False, qkv_bias=True),
        read=read_gguf,
    ),
    models={
        'qwen2.5-0.5b': ModelEntry('Qwen/Qwen2.5-0.5B'),
        'qwen2.5-1.5b': ModelEntry('Qwen/Qwen2.5-1.5B'),
        'qwen2.5-7b': ModelEntry('Qwen/Qwen2.5-7B'),
        'deepseek-r1-qwen-7b': ModelEntry(
            'deepseek-ai/DeepSeek-R1-Distill-Qwen-7B'
        ),
    },
)
