"""The two tiny models: their configs, in Hugging Face's words, and tokenizers.

Every size differs from every other one where the architecture lets it, and
each trap of the real models is in one of them: a query scale that is not the
head width, post-norms, softcaps, alternating windows, scaled frequencies.
"""

from collections.abc import Callable, Iterable, Mapping
import dataclasses
import json
from typing import Any

import tokenizers
from tokenizers import decoders
from tokenizers import models
from tokenizers import normalizers
from tokenizers import pre_tokenizers
from tokenizers import processors
from tokenizers import trainers

VOCABULARY = 4096
CONTEXT = 512
_COMMON = {
    'vocab_size': VOCABULARY,
    'hidden_size': 128,
    'intermediate_size': 384,
    'num_hidden_layers': 8,
    'num_attention_heads': 4,
    'num_key_value_heads': 2,
    'max_position_embeddings': CONTEXT,
    'attention_bias': False,
}
_SPACE = '\u2581'  # ▁
_GEMMA_SPECIAL = ('<pad>', '<eos>', '<bos>', '<unk>')
_LLAMA_SPECIAL = ('<|begin_of_text|>', '<|end_of_text|>')
# Words with the space before them, numbers of at most three digits, runs of
# punctuation, line breaks: what Llama 3 splits a text into.
_LLAMA_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r'| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+'
)


@dataclasses.dataclass(frozen=True)
class TinyModel:
  """What is trained.

  Attributes:
    name: As `load_model` will know it.
    config: A config.json.
    bos: The token before every text.
    train_tokenizer: From texts and a vocabulary size.
  """

  name: str
  config: Mapping[str, Any]
  bos: str
  train_tokenizer: Callable[[Iterable[str], int], tokenizers.Tokenizer]


def _train_gemma(texts: Iterable[str], size: int) -> tokenizers.Tokenizer:
  """BPE over characters with '▁' for spaces and bytes to fall back on."""
  tokenizer = tokenizers.Tokenizer(
      models.BPE(unk_token='<unk>', byte_fallback=True, fuse_unk=True)
  )
  tokenizer.normalizer = normalizers.Replace(' ', _SPACE)
  # No token spans two words, nor a word and its punctuation: what a token
  # says is then a word form, which the measures compare.
  tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
      pre_tokenizers.Split(_SPACE, 'merged_with_next'),
      pre_tokenizers.Split('\n', 'isolated'),
      pre_tokenizers.Punctuation('contiguous'),
      pre_tokenizers.Digits(individual_digits=True),
  ])
  tokenizer.decoder = decoders.Sequence([
      decoders.Replace(_SPACE, ' '),
      decoders.ByteFallback(),
      decoders.Fuse(),
  ])
  fallback = [f'<0x{byte:02X}>' for byte in range(256)]
  trainer = trainers.BpeTrainer(
      vocab_size=size,
      # Special to the trainer only, so that no merge makes or breaks them.
      special_tokens=[*_GEMMA_SPECIAL, *fallback],
      # A rarer character is written as bytes.
      limit_alphabet=96,
      show_progress=False,
  )
  tokenizer.train_from_iterator(texts, trainer)
  tokenizer = _without_special(tokenizer, fallback)
  tokenizer.post_processor = processors.TemplateProcessing(
      single='<bos> $A', special_tokens=[('<bos>', 2)]
  )
  return tokenizer


def _train_llama(texts: Iterable[str], size: int) -> tokenizers.Tokenizer:
  """Byte-level BPE with 'Ġ' for spaces; special tokens come last."""
  tokenizer = tokenizers.Tokenizer(models.BPE())
  tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
      pre_tokenizers.Split(tokenizers.Regex(_LLAMA_WORDS), 'isolated'),
      pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
  ])
  tokenizer.decoder = decoders.ByteLevel()
  trainer = trainers.BpeTrainer(
      vocab_size=size - len(_LLAMA_SPECIAL),
      initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
      show_progress=False,
  )
  tokenizer.train_from_iterator(texts, trainer)
  tokenizer.add_special_tokens(list(_LLAMA_SPECIAL))
  bos = _LLAMA_SPECIAL[0]
  tokenizer.post_processor = processors.TemplateProcessing(
      single=f'{bos} $A', special_tokens=[(bos, tokenizer.token_to_id(bos))]
  )
  return tokenizer


def _without_special(
    tokenizer: tokenizers.Tokenizer, names: list[str]
) -> tokenizers.Tokenizer:
  """The same tokenizer, in which `names` are ordinary tokens."""
  content = json.loads(tokenizer.to_str())
  content['added_tokens'] = [
      token
      for token in content['added_tokens']
      if token['content'] not in names
  ]
  return tokenizers.Tokenizer.from_str(json.dumps(content))


TINY_MODELS = {
    'tiny_gemma2': TinyModel(
        'tiny-gemma2',
        _COMMON
        | {
            'model_type': 'gemma2',
            'head_dim': 40,
            # D / N, as in Gemma-2 27B, and not the head width.
            'query_pre_attn_scalar': 32,
            'hidden_activation': 'gelu_pytorch_tanh',
            'rms_norm_eps': 1e-6,
            'rope_theta': 10_000.0,
            'sliding_window': 128,
            'attn_logit_softcapping': 50.0,
            'final_logit_softcapping': 30.0,
            'tie_word_embeddings': True,
        },
        '<bos>',
        _train_gemma,
    ),
    'tiny_llama3': TinyModel(
        'tiny-llama3',
        _COMMON
        | {
            'model_type': 'llama',
            'head_dim': 32,
            'hidden_act': 'silu',
            'mlp_bias': False,
            'rms_norm_eps': 1e-5,
            'rope_theta': 500_000.0,
            # Of Llama 3.1, with an original context that fits this one.
            'rope_scaling': {
                'rope_type': 'llama3',
                'factor': 8.0,
                'low_freq_factor': 1.0,
                'high_freq_factor': 4.0,
                'original_max_position_embeddings': 256,
            },
            'tie_word_embeddings': False,
        },
        '<|begin_of_text|>',
        _train_llama,
    ),
}
