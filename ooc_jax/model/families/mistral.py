"""Mistral 7B and Nemo: Llama's blocks, of which all layers slide or none.

llama.cpp stores these models as `llama`, without their window.
"""

from typing import Any

from ooc_jax.model._config import ModelConfig
from ooc_jax.model.families import llama
from ooc_jax.model.families._family import Family
from ooc_jax.model.families._family import HuggingFace
from ooc_jax.model.families._family import ModelEntry
from ooc_jax.model.families._reader import Reader

# Null is none; left out is what transformers takes.
_WINDOW = 4096


def _read_hf(hf: Reader) -> dict[str, Any]:
  window = None
  if not hf.has('sliding_window') or hf.get('sliding_window') is not None:
    window = hf.whole('sliding_window', _WINDOW)
  fields = llama.read_hf(hf)
  return fields | {'windows': (window,) * len(fields['windows'])}


def _write_hf(config: ModelConfig) -> dict[str, Any]:
  return {**llama.write_hf(config), 'sliding_window': config.windows[0]}


FAMILY = Family(
    name='mistral',
    blocks=llama.FAMILY.blocks,
    hf=HuggingFace(
        model_types=('mistral',),
        architecture='MistralForCausalLM',
        table=llama.FAMILY.hf.table,
        read=_read_hf,
        write=_write_hf,
        keys=frozenset({'sliding_window'}),
        defaults={**llama.FAMILY.hf.defaults, 'num_key_value_heads': 8},
    ),
    gguf=None,
    models={
        'mistral-7b': ModelEntry('mistralai/Mistral-7B-v0.1'),
        'mistral-7b-v0.3': ModelEntry('mistralai/Mistral-7B-v0.3'),
    },
)
