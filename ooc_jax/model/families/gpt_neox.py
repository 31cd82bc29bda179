"""Pythia (GPT-NeoX): attention and MLP side by side, a quarter of a head turns.

The rows of queries, keys and values alternate head by head in one tensor.
"""

from collections.abc import Mapping
import dataclasses
from typing import Any

from ooc_jax.model._config import ModelConfig
from ooc_jax.model.families import _hf
from ooc_jax.model.families._family import Family
from ooc_jax.model.families._family import HuggingFace
from ooc_jax.model.families._family import ModelEntry
from ooc_jax.model.families._family import Rule
from ooc_jax.model.families._reader import Reader
from ooc_jax.model.families._tables import layer_norm_rules

_QKV = ('query', 'key', 'value')
# What transformers takes for a key that is left out.
_SHARE, _BASE = 0.25, 10_000.0


def _read_hf(hf: Reader) -> dict[str, Any]:
  _hf.check_activation(hf, 'hidden_act', {'gelu'})
  head_dim = _hf.even_head_dim(hf)
  if head_dim is None:
    raise hf.fail("'hidden_size' is not a multiple of 'num_attention_heads'")
  share = hf.number('rotary_pct', _SHARE)
  settings = dict(hf.settings)
  if isinstance(inner := settings.get('rope_parameters'), Mapping):
    inner = dict(inner)
    given = inner.pop('partial_rotary_factor', None)
    if given is not None:
      nested = Reader({'partial_rotary_factor': given}, hf.where)
      share = hf.number('rotary_pct', nested.number('partial_rotary_factor'))
      if share != given:
        raise hf.fail("'rotary_pct' and 'partial_rotary_factor' differ")
    settings['rope_parameters'] = inner
  if 'rotary_emb_base' in settings:
    settings.setdefault('rope_theta', settings.pop('rotary_emb_base'))
  reader = dataclasses.replace(hf, settings=settings)
  if not 0 < share <= 1:
    raise hf.fail(f"'rotary_pct' is {share}, not above 0 and up to 1")
  width = int(head_dim * share)
  rope = dataclasses.replace(
      _hf.read_rope(reader, _BASE),
      rotary_dim=None if width == head_dim else width,
  )
  return {
      'head_dim': head_dim,
      'attention_scale': _hf.attention_scale(hf, head_dim),
      'windows': (None,) * hf.layers('num_hidden_layers'),
      'rope': rope,
  }


def _write_hf(config: ModelConfig) -> dict[str, Any]:
  keys = _hf.write_rope(config.rope)
  width = None if config.rope is None else config.rope.rotary_dim
  return {
      'hidden_act': 'gelu',
      'rotary_pct': (width or config.head_dim) / config.head_dim,
      'rotary_emb_base': keys.pop('rope_theta', None),
      **keys,
  }


def _table() -> tuple[Rule, ...]:
  us, them = 'layer_{i}', 'gpt_neox.layers.{i}'
  qkv = f'{them}.attention.query_key_value'
  return (
      Rule('embedding', 'gpt_neox.embed_in.weight', 'v d -> v d'),
      Rule('unembedding', 'embed_out.weight', 'v d -> v d'),
      *layer_norm_rules('final_norm', 'gpt_neox.final_layer_norm'),
      *(
          Rule(f'{us}/attention/{name}', f'{qkv}.weight',
               '(n c h) d -> c d n h', part=part)
          for part, name in enumerate(_QKV)
      ),
      *(
          Rule(f'{us}/attention/{name}_bias', f'{qkv}.bias',
               '(n c h) -> c n h', part=part)
          for part, name in enumerate(_QKV)
      ),
      Rule(f'{us}/attention/output', f'{them}.attention.dense.weight',
           'd (n h) -> n h d'),
      Rule(f'{us}/attention/output_bias', f'{them}.attention.dense.bias',
           'd -> d'),
      Rule(f'{us}/mlp/up', f'{them}.mlp.dense_h_to_4h.weight', 'm d -> d m'),
      Rule(f'{us}/mlp/up_bias', f'{them}.mlp.dense_h_to_4h.bias', 'm -> m'),
      Rule(f'{us}/mlp/down', f'{them}.mlp.dense_4h_to_h.weight',
           'd m -> m d'),
      Rule(f'{us}/mlp/down_bias', f'{them}.mlp.dense_4h_to_h.bias', 'd -> d'),
      *layer_norm_rules(f'{us}/attention_norm', f'{them}.input_layernorm'),
      *layer_norm_rules(f'{us}/mlp_norm', f'{them}.post_attention_layernorm'),
  )  # fmt: skip


FAMILY = Family(
    name='gpt_neox',
    blocks={
        'activation': 'gelu',
        'norm_offset': 0.0,
        'scale_embedding': False,
        'layer_norm': True,
        'qkv_bias': True,
        'output_bias': True,
        'gated': False,
        'parallel': True,
    },
    hf=HuggingFace(
        model_types=('gpt_neox',),
        architecture='GPTNeoXForCausalLM',
        table=_table(),
        read=_read_hf,
        write=_write_hf,
        keys=frozenset({'rotary_emb_base', 'rotary_pct'}),
        sizes={
            'vocab_size': 'vocab_size',
            'embed_dim': 'hidden_size',
            'mlp_dim': 'intermediate_size',
            'num_layers': 'num_hidden_layers',
            'num_heads': 'num_attention_heads',
            'norm_eps': 'layer_norm_eps',
        },
        defaults={'layer_norm_eps': 1e-5, 'tie_word_embeddings': False},
        required={'attention_bias': True, 'use_parallel_residual': True},
        ignored=frozenset({'classifier_dropout', 'hidden_dropout'}),
        prefix='gpt_neox.',
        # The causal mask and the frequencies, as old files have them.
        buffers=(
            '.attention.bias',
            '.attention.masked_bias',
            '.rotary_emb.inv_freq',
        ),
    ),
    gguf=None,
    models={
        f'pythia-{size}': ModelEntry(f'EleutherAI/pythia-{size}')
        for size in ('70m', '160m', '410m', '1b', '1.4b', '2.8b', '6.9b')
    }
    | {
        f'pythia-{size}-deduped': ModelEntry(
            f'EleutherAI/pythia-{size}-deduped'
        )
        for size in ('70m', '160m', '410m')
    },
)
