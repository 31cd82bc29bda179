"""Small tokenizers trained here, and what llama.cpp would say of them."""

import json
from typing import Any

import numpy as np
import tokenizers
from tokenizers import decoders
from tokenizers import models
from tokenizers import normalizers
from tokenizers import pre_tokenizers
from tokenizers import trainers

BYTES = tuple(f'<0x{b:02X}>' for b in range(256))
SPECIAL = ('<pad>', '<eos>', '<bos>', '<unk>')
PRE = 'tokenizer.ggml.'
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r'| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+'
)
QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r'| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+'
)


def split(regex: str) -> pre_tokenizers.PreTokenizer:
  return pre_tokenizers.Sequence([
      pre_tokenizers.Split(tokenizers.Regex(regex), 'isolated'),
      pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
  ])


GPT2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
SMOLLM = pre_tokenizers.Sequence(
    [pre_tokenizers.Digits(individual_digits=True), GPT2]
)


def words(rng: np.random.Generator, count: int) -> list[str]:
  """Pseudo-words of few syllables, so that long merges are learnt."""
  syllables = [
      'ka',
      'lo',
      'mi',
      'ren',
      'é',
      'sto',
      'th',
      'qu',
      'an',
      '日本',
      'ß',
  ]
  extras = ["'ll", "'S", '12', '2024', '.', ',', '\n', '\n\n', '  ', '<b>', '—']
  out = []
  for _ in range(count):
    word = ''.join(rng.choice(syllables, rng.geometric(0.4)))
    out.append(rng.choice(extras) if rng.random() < 0.3 else ' ' + word)
  return out


def _noise(rng: np.random.Generator, length: int) -> str:
  """Characters of every sort, most of them not in the vocabulary."""
  ranges = [(32, 127), (0xA0, 0x250), (0x4E00, 0x9FFF), (0x1F300, 0x1F6FF)]
  chars = [chr(rng.integers(*ranges[rng.integers(4)])) for _ in range(length)]
  return ''.join(c for c in chars if c != '▁')


def texts(seed: int) -> list[str]:
  rng = np.random.default_rng(seed)
  texts = [''.join(words(rng, 12)) for _ in range(300)]
  return (
      texts
      + [_noise(rng, 15) for _ in range(100)]
      + ['', ' ', '\t\ta', 'x\r\n']
  )


def byte_level(
    pre_tokenizer: pre_tokenizers.PreTokenizer,
) -> tokenizers.Tokenizer:
  tokenizer = tokenizers.Tokenizer(models.BPE())
  tokenizer.pre_tokenizer = pre_tokenizer
  tokenizer.decoder = decoders.ByteLevel()
  trainer = trainers.BpeTrainer(
      vocab_size=460,
      special_tokens=['<|end|>', '<|im_start|>'],
      initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
      show_progress=False,
  )
  rng = np.random.default_rng(7)
  corpus = (''.join(words(rng, 20)) for _ in range(400))
  tokenizer.train_from_iterator(corpus, trainer)
  return tokenizer


def pieces_of(tokenizer: tokenizers.Tokenizer) -> list[str]:
  return [tokenizer.id_to_token(i) for i in range(tokenizer.get_vocab_size())]


def byte_level_metadata(
    tokenizer: tokenizers.Tokenizer, pre: str, **keys: Any
) -> dict[str, Any]:
  pieces = pieces_of(tokenizer)
  merges = json.loads(tokenizer.to_str())['model']['merges']
  keys = {
      'model': 'gpt2',
      'pre': pre,
      'tokens': pieces,
      'token_type': [3, 3] + [1] * (len(pieces) - 2),
      'merges': [' '.join(merge) for merge in merges],
      'add_bos_token': False,
  } | keys
  return {PRE + k: v for k, v in keys.items() if v is not None}


def sentencepiece() -> tokenizers.Tokenizer:
  """A tokenizer of Gemma's style."""
  tokenizer = tokenizers.Tokenizer(
      models.BPE(unk_token='<unk>', fuse_unk=True, byte_fallback=True)
  )
  tokenizer.normalizer = normalizers.Replace(' ', '▁')
  # SentencePiece learns within words; it encodes without cutting into words.
  tokenizer.pre_tokenizer = pre_tokenizers.Split('▁', 'merged_with_next')
  trainer = trainers.BpeTrainer(
      vocab_size=256 + 4 + 160,
      special_tokens=[*SPECIAL, *BYTES],
      limit_alphabet=30,
      show_progress=False,
  )
  rng = np.random.default_rng(5)
  learnt = (w for w in words(rng, 8000) if w.startswith(' ') and w.strip())
  tokenizer.train_from_iterator(learnt, trainer)
  tokenizer.pre_tokenizer = None
  return tokenizer


def sentencepiece_metadata(pieces: list[str], **keys: Any) -> dict[str, Any]:
  kinds = [3, 3, 3, 2] + [6] * 256 + [1] * (len(pieces) - 260)
  keys = {
      'model': 'llama',
      'pre': 'default',
      'tokens': pieces,
      'token_type': np.array(kinds, np.int32),
      'scores': -np.arange(len(pieces), dtype=np.float32),
      'bos_token_id': 2,
      'eos_token_id': 1,
      'add_space_prefix': False,
  } | keys
  return {PRE + k: v for k, v in keys.items() if v is not None}


def sentencepiece_encode(
    text: str, scores: dict[str, float], ids: dict[str, int]
) -> list[int]:
  """SentencePiece's BPE from its definition: the best-scored pair, leftmost."""
  symbols = list(text.replace(' ', '▁'))
  while True:
    pairs = [a + b for a, b in zip(symbols, symbols[1:], strict=False)]
    found = [(-scores[p], i) for i, p in enumerate(pairs) if p in scores]
    if not found:
      break
    i = min(found)[1]
    symbols[i : i + 2] = [pairs[i]]
  out = []
  for s in symbols:
    fallback = [ids[BYTES[b]] for b in s.encode()]
    out += [ids[s]] if s in scores else fallback
  return out
