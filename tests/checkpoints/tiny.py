"""Tiny checkpoints of every family, written without the code under test.

Names and shapes are those of transformers and of llama.cpp's converter. Sizes
are all different, so that a swapped axis cannot hide, and no two entries of a
checkpoint are equal.
"""

from collections.abc import Mapping
import dataclasses
import importlib
import json
import pathlib
from typing import Any

import gguf
import numpy as np
from safetensors.numpy import save_file
import tokenizers

from ooc_jax.model import families
from tests.model.families.facts import Facts

# Of tensors with Llama's names; others have a test of their own.
FAMILIES = ('llama', 'gemma2', 'gemma3', 'mistral', 'qwen2', 'qwen3')
GGUF_FAMILIES = tuple(
    family.name
    for family in families.FAMILIES
    if family.gguf is not None and family.name in FAMILIES
)
TOKENS = np.array([[3, 30, 0, 17, 5], [11, 2, 29, 8, 8]], np.int32)


def facts_of(family: str) -> Facts:
  """What the files of a family are: the family's own test says it."""
  # Imported when asked for, as those tests ask for tiny checkpoints.
  return importlib.import_module(f'tests.model.families.{family}_test').FACTS


@dataclasses.dataclass(frozen=True)
class Sizes:
  """V, D, M, L, N, K, H; the products N·H and K·H differ from them too."""

  v: int = 31
  d: int = 20
  m: int = 28
  l: int = 3
  n: int = 6
  k: int = 2
  h: int = 8


SIZES = Sizes()
# Rows that GGUF's blocks of 32 fit into.
BLOCKS_OF_32 = Sizes(d=64, m=96, h=32, n=5, k=1)


def hf_config(
    family: str, *, tied: bool, sizes: Sizes = SIZES, **changes: Any
) -> dict[str, Any]:
  """A `config.json` in the hub's dialect; None takes a key out."""
  config = {
      'vocab_size': sizes.v,
      'hidden_size': sizes.d,
      'intermediate_size': sizes.m,
      'num_hidden_layers': sizes.l,
      'num_attention_heads': sizes.n,
      'num_key_value_heads': sizes.k,
      'head_dim': sizes.h,
      'rms_norm_eps': 1e-5,
      'rope_theta': 10_000.0,
      'tie_word_embeddings': tied,
  }
  config |= facts_of(family).hf_keys(sizes.h)
  return {k: v for k, v in (config | changes).items() if v is not None}


def hf_shapes(
    family: str, *, tied: bool, sizes: Sizes = SIZES
) -> dict[str, tuple[int, ...]]:
  """Names and shapes as transformers saves them."""
  s = sizes
  shapes: dict[str, tuple[int, ...]] = {'model.embed_tokens.weight': (s.v, s.d)}
  for i in range(s.l):
    layer = f'model.layers.{i}'
    shapes |= {
        f'{layer}.self_attn.q_proj.weight': (s.n * s.h, s.d),
        f'{layer}.self_attn.k_proj.weight': (s.k * s.h, s.d),
        f'{layer}.self_attn.v_proj.weight': (s.k * s.h, s.d),
        f'{layer}.self_attn.o_proj.weight': (s.d, s.n * s.h),
        f'{layer}.mlp.gate_proj.weight': (s.m, s.d),
        f'{layer}.mlp.up_proj.weight': (s.m, s.d),
        f'{layer}.mlp.down_proj.weight': (s.d, s.m),
    }
    shapes |= {
        f'{layer}.{name}.weight': (s.h if 'self_attn' in name else s.d,)
        for name in facts_of(family).norms.values()
    }
    if facts_of(family).qkv_bias:
      shapes |= {
          f'{layer}.self_attn.{x}_proj.bias': (heads * s.h,)
          for x, heads in (('q', s.n), ('k', s.k), ('v', s.k))
      }
  shapes['model.norm.weight'] = (s.d,)
  if not tied:
    shapes['lm_head.weight'] = (s.v, s.d)
  return shapes


def tensors(
    family: str, *, tied: bool, sizes: Sizes = SIZES
) -> dict[str, np.ndarray]:
  """Float32 weights between -0.25 and 0.25, no two of them equal."""
  shapes = hf_shapes(family, tied=tied, sizes=sizes)
  count = sum(int(np.prod(shape)) for shape in shapes.values())
  # Every 4096th number of a grid, around and around: spread and distinct.
  odd = 4097
  grid = (np.arange(count, dtype=np.int64) * odd) % (1 << 20)
  assert np.unique(grid).size == count
  flat = (grid.astype(np.float32) - (1 << 19)) / (1 << 21)
  result, at = {}, 0
  for name, shape in shapes.items():
    size = int(np.prod(shape))
    result[name] = flat[at : at + size].reshape(shape)
    at += size
  return result


def write_folder(
    folder: pathlib.Path,
    config: Mapping[str, Any],
    weights: Mapping[str, np.ndarray],
    *,
    shards: int = 1,
    tokenizer: bool = False,
) -> pathlib.Path:
  """Writes a Hugging Face folder; with `shards`, tensors take turns."""
  folder.mkdir(parents=True, exist_ok=True)
  (folder / 'config.json').write_text(json.dumps(config))
  if tokenizer:
    word_level(config['vocab_size']).save(str(folder / 'tokenizer.json'))
  if shards == 1:
    save_file(dict(weights), folder / 'model.safetensors')
    return folder
  files: dict[str, dict[str, np.ndarray]] = {}
  for i, (name, x) in enumerate(weights.items()):
    file = f'model-{i % shards + 1:05}-of-{shards:05}.safetensors'
    files.setdefault(file, {})[name] = x
  for file, part in files.items():
    save_file(part, folder / file)
  index = {
      'metadata': {'total_size': sum(x.nbytes for x in weights.values())},
      'weight_map': {name: f for f, part in files.items() for name in part},
  }
  (folder / 'model.safetensors.index.json').write_text(json.dumps(index))
  return folder


def word_level(size: int) -> tokenizers.Tokenizer:
  """A tokenizer of `size` words, w0 to w{size - 1}."""
  words = {f'w{i}': i for i in range(size)}
  tokenizer = tokenizers.Tokenizer(
      tokenizers.models.WordLevel(words, unk_token='w0')
  )
  tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
  return tokenizer


_GGUF_NAMES = {
    'self_attn.q_proj': 'attn_q',
    'self_attn.k_proj': 'attn_k',
    'self_attn.v_proj': 'attn_v',
    'self_attn.o_proj': 'attn_output',
    'mlp.gate_proj': 'ffn_gate',
    'mlp.up_proj': 'ffn_up',
    'mlp.down_proj': 'ffn_down',
}


def _interleaved(weights: np.ndarray, heads: int) -> np.ndarray:
  """`LlamaModel.permute` of llama.cpp's convert_hf_to_gguf.py."""
  rows = weights.shape[0]
  return (
      weights.reshape(heads, 2, rows // heads // 2, *weights.shape[1:])
      .swapaxes(1, 2)
      .reshape(weights.shape)
  )


def gguf_tensors(
    family: str, weights: Mapping[str, np.ndarray], sizes: Sizes = SIZES
) -> dict[str, np.ndarray]:
  """The weights as llama.cpp's converter stores them."""
  facts = facts_of(family)
  names = _GGUF_NAMES | facts.gguf_norms
  result = {}
  for name, x in weights.items():
    if facts.gguf_offset and name.endswith('norm.weight'):
      x = x + np.float32(facts.gguf_offset)
    if facts.gguf_interleaved and 'q_proj' in name:
      x = _interleaved(x, sizes.n)
    if facts.gguf_interleaved and 'k_proj' in name:
      x = _interleaved(x, sizes.k)
    if name.startswith('model.layers.'):
      i, what = name.split('.', 2)[2].split('.', 1)
      what, kind = what.rsplit('.', 1)
      name = f'blk.{i}.{names[what]}.{kind}'
    else:
      name = {
          'model.embed_tokens.weight': 'token_embd.weight',
          'model.norm.weight': 'output_norm.weight',
          'lm_head.weight': 'output.weight',
      }[name]
    result[name] = x
  return result


def write_gguf(
    path: pathlib.Path,
    family: str,
    stored: Mapping[str, np.ndarray],
    *,
    sizes: Sizes = SIZES,
    kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
    raw: Mapping[str, gguf.GGMLQuantizationType] | None = None,
    vocabulary: bool = False,
    name: str | None = None,
) -> pathlib.Path:
  """Writes a GGUF file as llama.cpp's converter does.

  Args:
    path: Of the file.
    family: Also its `general.architecture`.
    stored: From `gguf_tensors`.
    sizes: Of the model.
    kind: What matrices are quantised to; vectors stay float32.
    raw: Tensors that are quantised bytes already, and their type.
    vocabulary: Whether to write a tokenizer of V byte-level pieces.
    name: Of the model, `general.name`.

  Returns:
    `path`.
  """
  writer = gguf.GGUFWriter(path, family)
  if name is not None:
    writer.add_name(name)
  writer.add_block_count(sizes.l)
  writer.add_embedding_length(sizes.d)
  writer.add_feed_forward_length(sizes.m)
  writer.add_head_count(sizes.n)
  writer.add_head_count_kv(sizes.k)
  writer.add_key_length(sizes.h)
  writer.add_value_length(sizes.h)
  writer.add_layer_norm_rms_eps(1e-5)
  writer.add_rope_freq_base(10_000.0)
  for key, value in facts_of(family).gguf_keys.items():
    whole = isinstance(value, int)
    add = writer.add_uint32 if whole else writer.add_float32
    add(f'{family}.{key}', value)
  if vocabulary:
    writer.add_tokenizer_model('gpt2')
    writer.add_tokenizer_pre('gpt-2')
    letters = [chr(ord('A') + i) for i in range(sizes.v - 1)]
    writer.add_token_list([*letters, 'CA'])
    writer.add_token_types([gguf.TokenType.NORMAL] * sizes.v)
    writer.add_array('tokenizer.ggml.merges', ['C A'])
  for name, x in stored.items():
    if raw is not None and name in raw:
      writer.add_tensor(name, x, raw_dtype=raw[name])
    elif x.ndim < 2 or kind == gguf.GGMLQuantizationType.F32:
      writer.add_tensor(name, x)
    else:
      writer.add_tensor(name, gguf.quants.quantize(x, kind), raw_dtype=kind)
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()
  return path
