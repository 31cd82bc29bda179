"""Repositories in the layout of the published ones, with tiny weights."""

from collections.abc import Iterable, Mapping
import json
import pathlib
import re

import numpy as np
import safetensors.numpy

from tests import tiny

GEMMA = 'google/gemma-2-2b'
LLAMA = 'meta-llama/Llama-3.1-8B'
INDEX = 'model.safetensors.index.json'
# What the published config.json holds beside the sizes.
_PUBLISHED = {
    'gemma2': {
        'architectures': ['Gemma2ForCausalLM'],
        'attention_bias': False,
        'attention_dropout': 0.0,
        'bos_token_id': 2,
        'cache_implementation': 'hybrid',
        'eos_token_id': 1,
        'hidden_act': 'gelu_pytorch_tanh',
        'initializer_range': 0.02,
        'pad_token_id': 0,
        'torch_dtype': 'float32',
        'transformers_version': '4.42.0.dev0',
        'use_cache': True,
    },
    'llama': {
        'architectures': ['LlamaForCausalLM'],
        'attention_bias': False,
        'attention_dropout': 0.0,
        'bos_token_id': 128000,
        'eos_token_id': 128001,
        'initializer_range': 0.02,
        'mlp_bias': False,
        'pretraining_tp': 1,
        'rope_scaling': {
            'factor': 8.0,
            'high_freq_factor': 4.0,
            'low_freq_factor': 1.0,
            'original_max_position_embeddings': 8192,
            'rope_type': 'llama3',
        },
        'torch_dtype': 'bfloat16',
        'transformers_version': '4.43.0.dev0',
        'use_cache': True,
    },
}
_PUBLISHED['gemma3'] = _PUBLISHED['gemma2'] | {
    'architectures': ['Gemma3ForCausalLM'],
    'attn_logit_softcapping': None,
    'final_logit_softcapping': None,
    'rope_scaling': None,
}
# Published beside them, and of no use here.
_OTHERS = {
    '.gitattributes': b'*.safetensors filter=lfs diff=lfs merge=lfs -text\n',
    'README.md': b'---\nlicense: other\n---\n# A model\n',
    'generation_config.json': b'{"do_sample": true}',
    'original/consolidated.00.pth': b'a pickle',
    'special_tokens_map.json': b'{"bos_token": "<bos>"}',
    'tokenizer.model': b'a sentencepiece model',
    'tokenizer_config.json': b'{"model_max_length": 131072}',
}
_LAYER = (
    'self_attn.q_proj', 'self_attn.k_proj', 'self_attn.v_proj',
    'self_attn.o_proj', 'mlp.gate_proj', 'mlp.up_proj', 'mlp.down_proj',
    'input_layernorm', 'post_attention_layernorm',
    'pre_feedforward_layernorm', 'post_feedforward_layernorm',
)  # fmt: skip


_GEMMA_3 = ('self_attn.q_norm', 'self_attn.k_norm')


def make_repository(
    folder: pathlib.Path, family: str, *, shards: int = 3, **settings
) -> dict[str, str]:
  """Writes a sharded model with everything that is published beside it.

  Args:
    folder: New.
    family: 'gemma2', 'gemma3' or 'llama'.
    shards: How many files; 1 is no index.
    **settings: Of `tests.tiny.make_checkpoint`.

  Returns:
    Tensor name -> shard.
  """
  tiny.make_checkpoint(folder, family, **(_PUBLISHED[family] | settings))
  for name, content in _OTHERS.items():
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)
  return split(folder, shards)


def weights(folder: pathlib.Path) -> dict[str, np.ndarray]:
  """All tensors of a folder, read by the library of the format."""
  tensors = {}
  for file in sorted(folder.glob('*.safetensors')):
    tensors |= safetensors.numpy.load_file(file)
  return tensors


def split(folder: pathlib.Path, shards: int) -> dict[str, str]:
  """Makes shards of about equal size of a folder's `model.safetensors`."""
  single = folder / 'model.safetensors'
  tensors = safetensors.numpy.load_file(single)
  sizes = {name: tensors[name].nbytes for name in model_order(tensors)}
  if shards == 1:
    return {name: single.name for name in sizes}
  limit, weight_map = sum(sizes.values()) / shards, {}
  while len(set(weight_map.values())) != shards:
    weight_map, limit = shard_map(sizes, limit), limit * 1.02
  return split_by(folder, weight_map)


def split_by(
    folder: pathlib.Path, weight_map: Mapping[str, str]
) -> dict[str, str]:
  """Splits a folder's `model.safetensors` as a `weight_map` says."""
  single = folder / 'model.safetensors'
  tensors = safetensors.numpy.load_file(single)
  assert set(tensors) == set(weight_map)
  for shard in set(weight_map.values()):
    part = {n: x for n, x in tensors.items() if weight_map[n] == shard}
    safetensors.numpy.save_file(part, folder / shard, {'format': 'pt'})
  single.unlink()
  index = {
      'metadata': {'total_size': sum(x.nbytes for x in tensors.values())},
      'weight_map': dict(sorted(weight_map.items())),
  }
  (folder / INDEX).write_text(json.dumps(index, indent=2) + '\n')
  return dict(weight_map)


def shard_map(sizes: Mapping[str, int], limit: float) -> dict[str, str]:
  """Fills one shard after the other up to `limit` bytes, as is published."""
  shard_of, shard, filled = {}, 1, 0
  for name, size in sizes.items():
    if filled and filled + size > limit:
      shard, filled = shard + 1, 0
    filled += size
    shard_of[name] = shard
  return {
      name: f'model-{i:05}-of-{shard:05}.safetensors'
      for name, i in shard_of.items()
  }


def model_order(names: Iterable[str]) -> list[str]:
  """Tensors in the order in which the model has them."""

  def place(name: str) -> tuple[int, int]:
    if match := re.fullmatch(r'model\.layers\.(\d+)\.(.+)\.weight', name):
      return int(match[1]), (*_LAYER, *_GEMMA_3).index(match[2])
    return {
        'model.embed_tokens.weight': (-1, 0),
        'model.norm.weight': (10**6, 0),
        'lm_head.weight': (10**6, 1),
    }[name]

  return sorted(names, key=place)


def llama_8b_shapes() -> dict[str, tuple[int, ...]]:
  """The 291 tensors of Llama-3.1-8B, in its order."""
  v, d, m, q, k = 128_256, 4096, 14_336, 32 * 128, 8 * 128
  layer = dict(
      zip(
          _LAYER,
          [(q, d), (k, d), (k, d), (d, q), (m, d), (m, d), (d, m), (d,), (d,)],
          strict=False,
      )
  )
  shapes = {'model.embed_tokens.weight': (v, d)}
  for i in range(32):
    for name, shape in layer.items():
      shapes[f'model.layers.{i}.{name}.weight'] = shape
  return shapes | {'model.norm.weight': (d,), 'lm_head.weight': (v, d)}


def llama_8b_files(folder: pathlib.Path) -> dict[str, str]:
  """Writes the published layout of Llama-3.1-8B, without its numbers.

  The shards are of real size, with real headers and a hole for the tensors.

  Returns:
    Tensor name -> shard.
  """
  shapes = llama_8b_shapes()
  sizes = {name: 2 * int(np.prod(shape)) for name, shape in shapes.items()}
  weight_map = shard_map(sizes, 5e9)
  for shard in sorted(set(weight_map.values())):
    header, at = {'__metadata__': {'format': 'pt'}}, 0
    for name in (n for n, s in weight_map.items() if s == shard):
      header[name] = {
          'dtype': 'BF16',
          'shape': shapes[name],
          'data_offsets': [at, at + sizes[name]],
      }
      at += sizes[name]
    text = json.dumps(header, separators=(',', ':')).encode()
    text += b' ' * (-len(text) % 8)
    with (folder / shard).open('wb') as file:
      file.write(len(text).to_bytes(8, 'little') + text)
      file.truncate(8 + len(text) + at)
  index = {
      'metadata': {'total_size': sum(sizes.values())},
      'weight_map': dict(sorted(weight_map.items())),
  }
  (folder / INDEX).write_text(json.dumps(index, indent=2) + '\n')
  config = _PUBLISHED['llama'] | {
      'model_type': 'llama',
      'hidden_act': 'silu',
      'hidden_size': 4096,
      'intermediate_size': 14_336,
      'max_position_embeddings': 131_072,
      'num_attention_heads': 32,
      'num_hidden_layers': 32,
      'num_key_value_heads': 8,
      'rms_norm_eps': 1e-5,
      'rope_theta': 500_000.0,
      'tie_word_embeddings': False,
      'vocab_size': 128_256,
  }
  (folder / 'config.json').write_text(json.dumps(config, indent=2) + '\n')
  return weight_map
