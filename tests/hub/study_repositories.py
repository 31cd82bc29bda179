"""Studied models and their dictionaries, small, as their repositories are.

Names of tensors and files, keys of configs and the parts of the tokenizers are
the published ones; sizes are small, and of the weights those of golden files.
"""

from collections.abc import Mapping
import json
import pathlib
from typing import Any

import numpy as np
from safetensors.numpy import load_file
from safetensors.numpy import save_file
import tokenizers
from tokenizers import decoders
from tokenizers import models
from tokenizers import normalizers
from tokenizers import pre_tokenizers
from tokenizers import processors
from tokenizers import trainers

from tests import tiny
from tests.hub import repositories
from tests.model import golden_files

SIZE = 24  # F, features of a dictionary.
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{}"
    r'| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+'
)
# Keys of transformers 5 in the golden configs, of which the hub's have others.
_NEWER = ('dtype', 'rope_parameters', 'layer_types', 'transformers_version')
_BEGIN = '<｜begin▁of▁sentence｜>'


def _tokenizer(
    size: int, special: str, split: str | None
) -> tokenizers.Tokenizer:
  """A byte-level BPE; `split` is the expression before the bytes, if any."""
  tokenizer = tokenizers.Tokenizer(models.BPE())
  bytes_ = pre_tokenizers.ByteLevel(
      add_prefix_space=False, use_regex=split is None
  )
  tokenizer.pre_tokenizer = bytes_
  if split is not None:
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(tokenizers.Regex(split), 'isolated', False),
        bytes_,
    ])
  tokenizer.decoder = decoders.ByteLevel()
  trainer = trainers.BpeTrainer(
      vocab_size=size, special_tokens=[special], show_progress=False
  )
  tokenizer.train_from_iterator(tiny.PROSE * 3, trainer)
  return tokenizer


def _golden(name: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
  folder = golden_files.FOLDER / name
  config = json.loads((folder / 'config.json').read_text())
  kept = {k: v for k, v in config.items() if k not in _NEWER}
  return kept, load_file(folder / 'model.safetensors')


def _write(
    folder: pathlib.Path,
    config: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray],
    tokenizer: tokenizers.Tokenizer,
) -> None:
  folder.mkdir(parents=True)
  (folder / 'config.json').write_text(json.dumps(config))
  save_file(dict(tensors), folder / 'model.safetensors', {'format': 'pt'})
  tokenizer.save(str(folder / 'tokenizer.json'))


def qwen3(folder: pathlib.Path) -> dict[str, np.ndarray]:
  """Qwen/Qwen3-4B: tied, in shards, with rows that no token has."""
  config, tensors = _golden('qwen3')
  del tensors['lm_head.weight']
  config |= {
      'rope_theta': 1000000,
      'rope_scaling': None,
      'tie_word_embeddings': True,
      'torch_dtype': 'bfloat16',
      'transformers_version': '4.51.0',
  }
  tokenizer = _tokenizer(
      config['vocab_size'] - 9, '<|endoftext|>', _SPLIT.format('')
  )
  tokenizer.normalizer = normalizers.NFC()
  tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
  _write(folder, config, tensors, tokenizer)
  repositories.split(folder, 3)
  return tensors


def gpt2(folder: pathlib.Path) -> dict[str, np.ndarray]:
  """openai-community/gpt2: of the base class, with the masks of attention."""
  config, tensors = _golden('gpt2')
  tensors = {
      name.removeprefix('transformer.'): x
      for name, x in tensors.items()
      if name != 'lm_head.weight'
  }
  mask = np.tril(np.ones((1, 1, 8, 8), np.float32))
  named = tensors | {f'h.{i}.attn.bias': mask for i in range(config['n_layer'])}
  config |= {
      'n_ctx': config['n_positions'],
      'task_specific_params': {
          'text-generation': {'do_sample': True, 'max_length': 50}
      },
  }
  tokenizer = _tokenizer(config['vocab_size'], '<|endoftext|>', None)
  tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
  _write(folder, config, named, tokenizer)
  return tensors


def deepseek_r1_llama(folder: pathlib.Path) -> dict[str, np.ndarray]:
  """deepseek-ai/DeepSeek-R1-Distill-Llama-8B: untied, Llama 3's rotation."""
  rope = json.loads((golden_files.FOLDER / 'llama/config.json').read_text())[
      'rope_parameters'
  ]
  config, tensors = _golden('llama')
  config |= {
      'rope_theta': rope.pop('rope_theta'),
      'rope_scaling': rope,
      'torch_dtype': 'bfloat16',
      'transformers_version': '4.43.0.dev0',
  }
  tokenizer = _tokenizer(config['vocab_size'], _BEGIN, _SPLIT.format('{1,3}'))
  tokenizer.post_processor = processors.Sequence([
      processors.ByteLevel(trim_offsets=False),
      processors.TemplateProcessing(
          single=f'{_BEGIN} $A', special_tokens=[(_BEGIN, 0)]
      ),
  ])
  _write(folder, config, tensors, tokenizer)
  repositories.split(folder, 2)
  return tensors


def _draw(width: int, layer: int) -> dict[str, np.ndarray]:
  """W_enc [F, D], W_dec [F, D], b_enc [F], b_dec [D]."""
  rng = np.random.default_rng((7, layer))
  shapes = {'W_enc': (SIZE, width), 'W_dec': (SIZE, width)}
  shapes |= {'b_enc': (SIZE,), 'b_dec': (width,)}
  return {k: rng.normal(size=v).astype(np.float32) for k, v in shapes.items()}


def transcoders(root: pathlib.Path, folders: Mapping[int, str], width: int):
  """mwhanna: a file a layer; gives layer -> what is written to the stream."""
  root.mkdir(exist_ok=True)
  (root / 'config.yaml').write_text(
      'model_name: "Qwen/Qwen3-4B"\nmodel_kind: "transcoder_set"\n'
      'feature_input_hook: "mlp.hook_in"\nfeature_output_hook: "hook_mlp_out"\n'
  )
  drawn = {layer: _draw(width, layer) for layer in folders}
  for layer, tensors in drawn.items():
    save_file(tensors, root / f'layer_{layer}.safetensors')
  return {layer: tensors['W_dec'] for layer, tensors in drawn.items()}


def native_saes(root: pathlib.Path, folders: Mapping[int, str], width: int):
  """jbloom: `cfg.json` of SAELens before 6, and `sae_weights.safetensors`."""
  drawn = {layer: _draw(width, layer) for layer in folders}
  for layer, tensors in drawn.items():
    folder = root / folders[layer]
    folder.mkdir(parents=True)
    (folder / 'cfg.json').write_text(
        json.dumps({
            'model_name': 'gpt2-small',
            'hook_point': f'blocks.{layer}.hook_resid_pre',
            'hook_point_layer': layer,
            'hook_point_head_index': None,
            'dataset_path': 'Skylion007/openwebtext',
            'd_in': width,
            'd_sae': SIZE,
            'dtype': 'torch.float32',
            'l1_coefficient': 8e-05,
            'expansion_factor': 32,
        })
    )
    stored = tensors | {'W_enc': np.ascontiguousarray(tensors['W_enc'].T)}
    save_file(stored, folder / 'sae_weights.safetensors')
    save_file(
        {'sparsity': np.zeros(SIZE, np.float32)},
        folder / 'sparsity.safetensors',
    )
  return {layer: tensors['W_dec'] for layer, tensors in drawn.items()}


def llama_scope_r1(root: pathlib.Path, folders: Mapping[int, str], width: int):
  """fnlp: `config.json` and `sae_weights.safetensors`."""
  drawn = {layer: _draw(width, layer) for layer in folders}
  for layer, tensors in drawn.items():
    folder = root / folders[layer]
    folder.mkdir(parents=True)
    hook = f'blocks.{layer}.hook_resid_post'
    (folder / 'config.json').write_text(
        json.dumps({
            'sae_type': 'sae',
            'act_fn': 'jumprelu',
            'd_model': width,
            'dtype': 'torch.float32',
            'hook_point_in': hook,
            'hook_point_out': hook,
            'norm_activation': 'dataset-wise',
            'sparsity_include_decoder_norm': False,
            'use_decoder_bias': True,
        })
    )
    stored = {
        'encoder.weight': tensors['W_enc'],
        'encoder.bias': tensors['b_enc'],
        'decoder.weight': np.ascontiguousarray(tensors['W_dec'].T),
        'decoder.bias': tensors['b_dec'],
        'log_jumprelu_threshold': np.full(SIZE, -0.5, np.float32),
    }
    save_file(stored, folder / 'sae_weights.safetensors')
  return {layer: tensors['W_dec'] for layer, tensors in drawn.items()}
