"""Small random models in real Hugging Face layout, with tokenizers.

Every size differs from every other, so that a swapped axis cannot hide.
"""

import json
import pathlib

import numpy as np
import safetensors.numpy
import tokenizers
from tokenizers import decoders
from tokenizers import models
from tokenizers import pre_tokenizers
from tokenizers import trainers

from ooc_jax.model import config_from_hf
from ooc_jax.model import families
from ooc_jax.model import parameter_shapes

PROSE = (
    'the king of the north walked to the river and the river was cold',
    'walking and walked, talking and talked, kings and kingdoms of old',
    'a small house by the river, a smaller house by the northern sea',
    'she walks, he walks, they walk; the kingdom talks of nothing else',
)
_COMMON = {
    'hidden_size': 20,
    'intermediate_size': 36,
    'num_hidden_layers': 3,
    'num_attention_heads': 6,
    'num_key_value_heads': 2,
    'head_dim': 8,
    'rms_norm_eps': 1e-6,
    'max_position_embeddings': 512,
}
CONFIGS = {
    'llama': (
        _COMMON
        | {
            'model_type': 'llama',
            'hidden_act': 'silu',
            'rope_theta': 5e5,
            'tie_word_embeddings': False,
        }
    ),
    'gemma2': (
        _COMMON
        | {
            'model_type': 'gemma2',
            'hidden_activation': 'gelu_pytorch_tanh',
            'query_pre_attn_scalar': 11,
            'sliding_window': 16,
            'final_logit_softcapping': 30.0,
            'attn_logit_softcapping': 50.0,
            'rope_theta': 1e4,
        }
    ),
    'gemma3': (
        _COMMON
        | {
            'model_type': 'gemma3_text',
            'hidden_activation': 'gelu_pytorch_tanh',
            'query_pre_attn_scalar': 11,
            'sliding_window': 16,
            'sliding_window_pattern': 2,
            'rope_theta': 1e6,
            'rope_local_base_freq': 1e4,
        }
    ),
}


def make_tokenizer(size: int = 150) -> tokenizers.Tokenizer:
  """A byte-level BPE with two special tokens, trained on a few sentences."""
  tokenizer = tokenizers.Tokenizer(models.BPE())
  tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  tokenizer.decoder = decoders.ByteLevel()
  trainer = trainers.BpeTrainer(
      vocab_size=size,
      special_tokens=['<|end|>', '<|unused|>'],
      show_progress=False,
  )
  tokenizer.train_from_iterator(PROSE * 3, trainer)
  return tokenizer


def make_checkpoint(
    folder: pathlib.Path, family: str = 'llama', seed: int = 0, **overrides
) -> pathlib.Path:
  """Writes a random model of `family` to `folder` and returns the folder."""
  folder.mkdir(parents=True, exist_ok=True)
  tokenizer = make_tokenizer()
  tokenizer.save(str(folder / 'tokenizer.json'))
  # Three padding rows past the tokenizer's vocabulary, as real models have.
  hf = CONFIGS[family] | {'vocab_size': tokenizer.get_vocab_size() + 3}
  hf |= overrides
  (folder / 'config.json').write_text(json.dumps(hf))
  config = config_from_hf(hf)
  rng = np.random.default_rng(seed)
  shapes = parameter_shapes(config)
  tensors = {}
  for rule in families.hf_rules(config):
    shape = shapes[rule.ours]
    x = rng.normal(size=shape) * (0.3 if len(shape) == 1 else 1.0)
    if len(shape) == 1 and family == 'llama':
      x += 1.0
    tensors[rule.theirs] = np.ascontiguousarray(
        rule.inverse().convert(x.astype(np.float32))
    )
  safetensors.numpy.save_file(tensors, folder / 'model.safetensors')
  return folder
