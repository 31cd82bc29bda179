"""GPT-2: LayerNorm, learned positions, one tensor for queries, keys and values.

Its files call the sizes by other names, and store matrices as [in, out].
"""

from typing import Any

from ooc_jax.model._config import ModelConfig
from ooc_jax.model.families import _hf
from ooc_jax.model.families._family import GGUF
from ooc_jax.model.families._family import Family
from ooc_jax.model.families._family import HuggingFace
from ooc_jax.model.families._family import ModelEntry
from ooc_jax.model.families._family import Rule
from ooc_jax.model.families._reader import Reader
from ooc_jax.model.families._tables import layer_norm_rules


def _read_hf(hf: Reader) -> dict[str, Any]:
  _hf.check_activation(
      hf, 'activation_function', {'gelu_new', 'gelu_pytorch_tanh'}
  )
  embed_dim, num_heads = hf.whole('n_embd'), hf.whole('n_head')
  if num_heads < 1 or embed_dim % num_heads:
    raise hf.fail(
        f"'n_embd' {embed_dim} is not a multiple of 'n_head' {num_heads}"
    )
  head_dim = embed_dim // num_heads
  positions = hf.whole('n_positions')
  if hf.whole('n_ctx', positions) != positions:
    raise hf.fail("'n_ctx' and 'n_positions' differ")
  return {
      'head_dim': head_dim,
      'mlp_dim': hf.whole('n_inner', 4 * embed_dim),
      'attention_scale': _hf.attention_scale(hf, head_dim),
      'positions': positions,
      'rope': None,
      'windows': (None,) * hf.layers('n_layer'),
  }


def _write_hf(config: ModelConfig) -> dict[str, Any]:
  return {
      'activation_function': 'gelu_new',
      'n_inner': config.mlp_dim,
      'n_positions': config.positions,
  }


def _read_gguf(header: Reader) -> dict[str, Any]:
  return {
      'positions': header.whole('context_length'),
      'rope': None,
      'windows': (None,) * header.layers('block_count'),
  }


def _table(
    layer: str,
    names: dict[str, str],
    norms: dict[str, str],
    tables: dict[str, str],
    axes: str,
) -> tuple[Rule, ...]:
  """One of both formats.

  Args:
    layer: What the names of a layer's tensors start with.
    names: Of its products.
    norms: Of its norms.
    tables: Of the rest.
    axes: 'in out' or 'out in', the order in which matrices are stored.
  """

  def matrix(inner: str, outer: str, ours: str) -> str:
    theirs = {'in': inner, 'out': outer}
    return f'{" ".join(theirs[x] for x in axes.split())} -> {ours}'

  us = 'layer_{i}'
  qkv, out = names['qkv'], names['output']
  up, down = names['up'], names['down']
  return (
      Rule('embedding', tables['embedding'], 'v d -> v d'),
      Rule('positions', tables['positions'], 't d -> t d'),
      Rule('unembedding', tables['unembedding'], 'v d -> v d'),
      *layer_norm_rules('final_norm', tables['norm']),
      *(
          Rule(f'{us}/attention/{name}', f'{layer}.{qkv}.weight',
               matrix('d', '(c n h)', 'c d n h'), part=part)
          for part, name in enumerate(('query', 'key', 'value'))
      ),
      *(
          Rule(f'{us}/attention/{name}_bias', f'{layer}.{qkv}.bias',
               '(c n h) -> c n h', part=part)
          for part, name in enumerate(('query', 'key', 'value'))
      ),
      Rule(f'{us}/attention/output', f'{layer}.{out}.weight',
           matrix('(n h)', 'd', 'n h d')),
      Rule(f'{us}/attention/output_bias', f'{layer}.{out}.bias', 'd -> d'),
      Rule(f'{us}/mlp/up', f'{layer}.{up}.weight', matrix('d', 'm', 'd m')),
      Rule(f'{us}/mlp/up_bias', f'{layer}.{up}.bias', 'm -> m'),
      Rule(f'{us}/mlp/down', f'{layer}.{down}.weight',
           matrix('m', 'd', 'm d')),
      Rule(f'{us}/mlp/down_bias', f'{layer}.{down}.bias', 'd -> d'),
      *(
          rule
          for ours, theirs in norms.items()
          for rule in layer_norm_rules(f'{us}/{ours}', f'{layer}.{theirs}')
      ),
  )  # fmt: skip


FAMILY = Family(
    name='gpt2',
    blocks={
        'activation': 'gelu_tanh',
        'norm_offset': 0.0,
        'scale_embedding': False,
        'layer_norm': True,
        'qkv_bias': True,
        'output_bias': True,
        'gated': False,
    },
    hf=HuggingFace(
        model_types=('gpt2',),
        architecture='GPT2LMHeadModel',
        table=_table(
            'transformer.h.{i}',
            {
                'qkv': 'attn.c_attn',
                'output': 'attn.c_proj',
                'up': 'mlp.c_fc',
                'down': 'mlp.c_proj',
            },
            {'attention_norm': 'ln_1', 'mlp_norm': 'ln_2'},
            {
                'embedding': 'transformer.wte.weight',
                'positions': 'transformer.wpe.weight',
                'norm': 'transformer.ln_f',
                'unembedding': 'lm_head.weight',
            },
            'in out',
        ),
        read=_read_hf,
        write=_write_hf,
        keys=frozenset({
            'activation_function', 'n_ctx', 'n_inner', 'n_positions',
        }),  # fmt: skip
        sizes={
            'vocab_size': 'vocab_size',
            'embed_dim': 'n_embd',
            'num_layers': 'n_layer',
            'num_heads': 'n_head',
            'norm_eps': 'layer_norm_epsilon',
        },
        defaults={
            'vocab_size': 50257,
            'n_embd': 768,
            'n_layer': 12,
            'n_head': 12,
            'n_positions': 1024,
            'layer_norm_epsilon': 1e-5,
            'tie_word_embeddings': True,
        },
        required={
            'add_cross_attention': False,
            'scale_attn_by_inverse_layer_idx': False,
            'scale_attn_weights': True,
        },
        ignored=frozenset({
            'attn_pdrop', 'embd_pdrop', 'reorder_and_upcast_attn',
            'resid_pdrop', 'summary_activation', 'summary_first_dropout',
            'summary_proj_to_labels', 'summary_type', 'summary_use_proj',
        }),  # fmt: skip
        prefix='transformer.',
        # The causal mask, as old files have it.
        buffers=('.attn.bias', '.attn.masked_bias'),
    ),
    gguf=GGUF(
        architecture='gpt2',
        table=_table(
            'blk.{i}',
            {
                'qkv': 'attn_qkv',
                'output': 'attn_output',
                'up': 'ffn_up',
                'down': 'ffn_down',
            },
            {'attention_norm': 'attn_norm', 'mlp_norm': 'ffn_norm'},
            {
                'embedding': 'token_embd.weight',
                'positions': 'position_embd.weight',
                'norm': 'output_norm',
                'unembedding': 'output.weight',
            },
            'out in',
        ),
        read=_read_gguf,
        keys=frozenset({'attention.layer_norm_epsilon'}),
        norm_eps='attention.layer_norm_epsilon',
    ),
    models={
        'gpt2': ModelEntry('openai-community/gpt2'),
        'gpt2-medium': ModelEntry('openai-community/gpt2-medium'),
        'gpt2-large': ModelEntry('openai-community/gpt2-large'),
        'gpt2-xl': ModelEntry('openai-community/gpt2-xl'),
    },
)
