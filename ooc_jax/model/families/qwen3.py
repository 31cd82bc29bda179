"""Qwen3, dense: Llama's blocks with normed queries and keys, heads of a width.

The mixtures of experts (`qwen3_moe`) are another architecture.
"""

from typing import Any

from ooc_jax.model._config import ModelConfig
from ooc_jax.model.families import llama
from ooc_jax.model.families import qwen2
from ooc_jax.model.families._family import GGUF
from ooc_jax.model.families._family import Family
from ooc_jax.model.families._family import HuggingFace
from ooc_jax.model.families._family import ModelEntry
from ooc_jax.model.families._reader import Reader
from ooc_jax.model.families._tables import gguf_table
from ooc_jax.model.families._tables import hf_table


def _read_hf(hf: Reader) -> dict[str, Any]:
  return llama.read_hf(hf) | {'windows': qwen2.read_windows(hf)}


def _write_hf(config: ModelConfig) -> dict[str, Any]:
  return {**llama.write_hf(config), **qwen2.write_windows(config)}


FAMILY = Family(
    name='qwen3',
    blocks={**llama.FAMILY.blocks, 'qk_norm': True},
    hf=HuggingFace(
        model_types=('qwen3',),
        architecture='Qwen3ForCausalLM',
        table=hf_table({
            **llama.HF_NORMS,
            'attention/query_norm': 'self_attn.q_norm',
            'attention/key_norm': 'self_attn.k_norm',
        }),
        read=_read_hf,
        write=_write_hf,
        keys=qwen2.HF_KEYS,
        # Not D / N: the heads of the small models are wider.
        defaults={**qwen2.HF_DEFAULTS, 'head_dim': 128},
    ),
    gguf=GGUF(
        architecture='qwen3',
        table=gguf_table(
            {
                **qwen2.GGUF_NORMS,
                'attention/query_norm': 'attn_q_norm',
                'attention/key_norm': 'attn_k_norm',
            },
            interleaved=False,
        ),
        read=qwen2.read_gguf,
    ),
    models={
        'qwen3-0.6b': ModelEntry('Qwen/Qwen3-0.6B'),
        'qwen3-1.7b': ModelEntry('Qwen/Qwen3-1.7B'),
        'qwen3-4b': ModelEntry('Qwen/Qwen3-4B'),
        'qwen3-8b': ModelEntry('Qwen/Qwen3-8B'),
        'qwen3-14b': ModelEntry('Qwen/Qwen3-14B'),
    },
)
