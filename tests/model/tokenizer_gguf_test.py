"""Small vocabularies in llama.cpp's terms against what they came from."""

import json
from typing import Any

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tokenizers
from tokenizers import decoders
from tokenizers import models
from tokenizers import normalizers
from tokenizers import pre_tokenizers
from tokenizers import trainers

from ooc_jax._errors import InputError
from ooc_jax.model import _tokenizer_gguf
from ooc_jax.model._tokenizer import Tokenizer

_BYTES = tuple(f'<0x{b:02X}>' for b in range(256))
_SPECIAL = ('<pad>', '<eos>', '<bos>', '<unk>')
_PRE = 'tokenizer.ggml.'
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r'| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+'
)
_QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r'| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+'
)


def _split(regex: str) -> pre_tokenizers.PreTokenizer:
  return pre_tokenizers.Sequence([
      pre_tokenizers.Split(tokenizers.Regex(regex), 'isolated'),
      pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
  ])


_GPT2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
_SMOLLM = pre_tokenizers.Sequence(
    [pre_tokenizers.Digits(individual_digits=True), _GPT2]
)


def _words(rng: np.random.Generator, count: int) -> list[str]:
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


def _texts(seed: int) -> list[str]:
  rng = np.random.default_rng(seed)
  texts = [''.join(_words(rng, 12)) for _ in range(300)]
  return (
      texts
      + [_noise(rng, 15) for _ in range(100)]
      + ['', ' ', '\t\ta', 'x\r\n']
  )


def _byte_level(
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
  corpus = (''.join(_words(rng, 20)) for _ in range(400))
  tokenizer.train_from_iterator(corpus, trainer)
  return tokenizer


def _pieces_of(tokenizer: tokenizers.Tokenizer) -> list[str]:
  return [tokenizer.id_to_token(i) for i in range(tokenizer.get_vocab_size())]


def _byte_level_metadata(
    tokenizer: tokenizers.Tokenizer, pre: str, **keys: Any
) -> dict[str, Any]:
  pieces = _pieces_of(tokenizer)
  merges = json.loads(tokenizer.to_str())['model']['merges']
  keys = {
      'model': 'gpt2',
      'pre': pre,
      'tokens': pieces,
      'token_type': [3, 3] + [1] * (len(pieces) - 2),
      'merges': [' '.join(merge) for merge in merges],
      'add_bos_token': False,
  } | keys
  return {_PRE + k: v for k, v in keys.items() if v is not None}


def _sentencepiece() -> tokenizers.Tokenizer:
  """A tokenizer of Gemma's style."""
  tokenizer = tokenizers.Tokenizer(
      models.BPE(unk_token='<unk>', fuse_unk=True, byte_fallback=True)
  )
  tokenizer.normalizer = normalizers.Replace(' ', '▁')
  # SentencePiece learns within words; it encodes without cutting into words.
  tokenizer.pre_tokenizer = pre_tokenizers.Split('▁', 'merged_with_next')
  trainer = trainers.BpeTrainer(
      vocab_size=256 + 4 + 160,
      special_tokens=[*_SPECIAL, *_BYTES],
      limit_alphabet=30,
      show_progress=False,
  )
  rng = np.random.default_rng(5)
  words = (w for w in _words(rng, 8000) if w.startswith(' ') and w.strip())
  tokenizer.train_from_iterator(words, trainer)
  tokenizer.pre_tokenizer = None
  return tokenizer


def _sentencepiece_metadata(pieces: list[str], **keys: Any) -> dict[str, Any]:
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
  return {_PRE + k: v for k, v in keys.items() if v is not None}


def _sentencepiece_encode(
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
    fallback = [ids[_BYTES[b]] for b in s.encode()]
    out += [ids[s]] if s in scores else fallback
  return out


class ByteLevelTest(parameterized.TestCase):

  @parameterized.named_parameters(
      ('gpt2', 'gpt-2', _GPT2),
      ('smollm', 'smollm', _SMOLLM),
      ('llama3', 'llama-bpe', _split(_LLAMA3)),
      ('qwen2', 'qwen2', _split(_QWEN2)),
  )
  def test_encodes_as_the_original(self, pre, pre_tokenizer):
    original = _byte_level(pre_tokenizer)
    ours = Tokenizer.from_gguf(_byte_level_metadata(original, pre))
    if pre == 'qwen2':
      original.normalizer = normalizers.NFC()
    longest = 0
    for text in _texts(1) + ['<|im_start|>user 1<|end|>']:
      ids = original.encode(text).ids
      self.assertEqual(ours.encode(text), ids, msg=repr(text))
      self.assertEqual(ours.decode(ids), text)
      longest = max(longest, len(text) - len(ids))
    self.assertGreater(longest, 20)  # Merges were made.

  def test_pre_tokenizers_are_not_the_same(self):
    """Or the test above could not tell them apart."""
    original = _byte_level(_GPT2)
    texts = _texts(2)
    encodings = set()
    for pre in ('gpt-2', 'smollm', 'llama-bpe', 'qwen2'):
      ours = Tokenizer.from_gguf(_byte_level_metadata(original, pre))
      encodings.add(tuple(tuple(ours.encode(text)) for text in texts))
    self.assertLen(encodings, 4)

  def test_qwen2_composes_characters(self):
    ours = Tokenizer.from_gguf(
        _byte_level_metadata(_byte_level(_GPT2), 'qwen2')
    )
    self.assertEqual(ours.decode(ours.encode('ke\u0301')), 'k\u00e9')

  def test_a_whole_word_beats_its_merges_in_llama3(self):
    original = _byte_level(_GPT2)
    pieces = _pieces_of(original) + ['Ġzjzjx']
    kinds = [3, 3] + [1] * (len(pieces) - 2)
    for pre, whole in (('llama-bpe', True), ('gpt-2', False)):
      ours = Tokenizer.from_gguf(
          _byte_level_metadata(original, pre, tokens=pieces, token_type=kinds)
      )
      self.assertEqual(ours.encode(' zjzjx') == [len(pieces) - 1], whole)

  @parameterized.parameters(
      ('gpt-2', None, False), ('llama-bpe', None, True), ('gpt-2', True, True)
  )
  def test_bos_default_is_the_family_s(self, pre, flag, added):
    ours = Tokenizer.from_gguf(
        _byte_level_metadata(
            _byte_level(_GPT2), pre, bos_token_id=1, add_bos_token=flag
        )
    )
    self.assertEqual(ours.encode('ka')[0] == 1, added)


class SentencePieceTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.original = _sentencepiece()
    cls.pieces = _pieces_of(cls.original)

  def test_encodes_as_the_original_on_its_words(self):
    ours = Tokenizer.from_gguf(_sentencepiece_metadata(self.pieces))
    rng = np.random.default_rng(6)
    texts = [
        ''.join(w for w in _words(rng, 3) if w.startswith(' '))
        for _ in range(300)
    ]
    # The original knows one split of each piece, the rebuilt one every split;
    # on words like those it learnt from the two agree.
    for text in texts:
      self.assertEqual(
          ours.encode(text), [2] + self.original.encode(text).ids, msg=text
      )
    self.assertGreater(len(''.join(texts)), 2000)

  @parameterized.parameters(False, True)
  def test_encodes_by_the_definition(self, shuffled):
    scores = -np.arange(len(self.pieces), dtype=np.float64)
    if shuffled:  # The score counts, not the id.
      scores = np.random.default_rng(3).permutation(scores)
    metadata = _sentencepiece_metadata(
        self.pieces, scores=scores, add_bos_token=False
    )
    ours = Tokenizer.from_gguf(metadata)
    ids = {piece: i for i, piece in enumerate(self.pieces)}
    known = {p: scores[i] for p, i in ids.items() if i >= 260}
    merged = fallen_back = 0
    for text in _texts(4):
      expected = _sentencepiece_encode(text, known, ids)
      self.assertEqual(ours.encode(text), expected, msg=repr(text))
      self.assertEqual(ours.decode(expected), text)
      merged += sum(len(self.pieces[i]) > 3 for i in expected if i >= 260)
      fallen_back += sum(4 <= i < 260 for i in expected)
    self.assertGreater(merged, 100)
    self.assertGreater(fallen_back, 100)

  def test_equal_scores_mean_the_order_of_the_ids(self):
    plain = Tokenizer.from_gguf(_sentencepiece_metadata(self.pieces))
    scores = np.full(len(self.pieces), -1000.0)
    flat = Tokenizer.from_gguf(
        _sentencepiece_metadata(self.pieces, scores=scores)
    )
    for text in _texts(8):
      self.assertEqual(flat.encode(text), plain.encode(text))

  def test_merges_are_ordered_as_hugging_face_orders_them(self):
    pieces = ['a', 'b', 'ab', 'ba', 'aba', '<x>', 'b<x>']
    scores = np.array([-9.0, -8.0, -5.0, -6.0, -4.0, 0.0, -1.0])
    mergeable = np.array([True] * 5 + [False, True])
    self.assertEqual(
        _tokenizer_gguf.rebuild_merges(pieces, scores, mergeable),
        [('ab', 'a'), ('a', 'ba'), ('a', 'b'), ('b', 'a')],
    )

  @parameterized.parameters(
      (False, False, [], []),
      (True, False, [2], []),
      (None, False, [2], []),
      (True, True, [2], [1]),
  )
  def test_bos_and_eos(self, bos, eos, before, after):
    # Pieces that hold the separators of the library's templates.
    pieces = ['<pad>', '<e:1> $B', '<b:0> $A', *self.pieces[3:]]
    ours = Tokenizer.from_gguf(
        _sentencepiece_metadata(pieces, add_bos_token=bos, add_eos_token=eos)
    )
    ids = ours.encode('lomi')
    inner = ids[len(before) : len(ids) - len(after)]
    self.assertEqual(ids, before + inner + after)
    self.assertEqual(ours.decode(inner), 'lomi')

  @parameterized.parameters(True, None)
  def test_space_prefix(self, flag):
    ours = Tokenizer.from_gguf(
        _sentencepiece_metadata(self.pieces, add_space_prefix=flag)
    )
    plain = Tokenizer.from_gguf(_sentencepiece_metadata(self.pieces))
    self.assertEqual(ours.encode('ka lo'), plain.encode(' ka lo'))
    self.assertEqual(ours.decode(ours.encode('ka lo')[1:]), 'ka lo')
    self.assertEqual(ours.token_strings(), plain.token_strings())

  @parameterized.parameters('▁▁', '  ')
  def test_user_defined_tokens_are_matched_whole(self, spaces):
    own = [spaces, '<b>', 'enka']
    kinds = [3, 3, 3, 2] + [6] * 256 + [1] * (len(self.pieces) - 260) + [4] * 3
    n = len(self.pieces)
    ours = Tokenizer.from_gguf(
        _sentencepiece_metadata(
            self.pieces + own,
            token_type=kinds,
            scores=-np.arange(n + 3, dtype=np.float32),
            add_bos_token=False,
        )
    )
    text = 'ka  lo<b>renkan<bos><unk>'
    ids = ours.encode(text)
    self.assertEqual(
        [i for i in ids if i >= n or i < 4], [n, n + 1, n + 2, 2, 3]
    )
    self.assertEqual(ours.decode(ids), text)
    self.assertEqual(ours.token_strings()[n:], ('  ', '<b>', 'enka'))
    self.assertTrue(ours.mask()[n:].all())

  def test_no_text_becomes_a_byte_piece(self):
    """Though every step towards its spelling is a piece."""
    steps = ['<', '0', 'x', '4', '1', '>', '<0', '<0x', '<0x4', '<0x41']
    metadata = _sentencepiece_metadata([*_SPECIAL, *_BYTES, *steps])
    ours = Tokenizer.from_gguf(metadata)
    self.assertEqual(ours.encode('<0x41>'), [2, 269, 265])

  def test_no_text_becomes_an_unused_piece(self):
    kinds = [3, 3, 3, 2] + [6] * 256 + [1] * (len(self.pieces) - 260)
    plain = Tokenizer.from_gguf(_sentencepiece_metadata(self.pieces))
    word = plain.encode(' mi')[1]
    self.assertEqual(plain.token_strings()[word], ' mi')
    kinds[word] = 5
    ours = Tokenizer.from_gguf(
        _sentencepiece_metadata(self.pieces, token_type=kinds)
    )
    self.assertNotIn(word, ours.encode(' mi'))
    self.assertEqual(ours.decode(ours.encode(' mi')[1:]), ' mi')
    self.assertFalse(ours.mask()[word])
    self.assertTrue(ours.unreachable()[word])


class LeftOutTest(parameterized.TestCase):
  """What files in the wild do not say."""

  @parameterized.parameters(None, 'sm0llm', 'hunyuan-dense')
  def test_how_words_are_cut(self, pre):
    original = _byte_level(_GPT2)
    metadata = _byte_level_metadata(original, 'gpt-2')
    known = Tokenizer.from_gguf(metadata)
    metadata[_PRE + 'pre'] = pre
    if pre is None:
      del metadata[_PRE + 'pre']
    with self.assertLogs('absl', 'WARNING') as logs:
      ours = Tokenizer.from_gguf(metadata)
    self.assertIn('tokenizer.json', logs.output[0])
    text = 'kama jizo, kixi 12'
    self.assertEqual(ours.encode(text), known.encode(text))
    np.testing.assert_array_equal(ours.mask(), known.mask())

  def test_kinds_of_tokens(self):
    metadata = _sentencepiece_metadata([*_SPECIAL, *_BYTES, 'a', 'b'])
    said = Tokenizer.from_gguf(metadata)
    metadata[_PRE + 'unknown_token_id'] = _SPECIAL.index('<unk>')
    metadata[_PRE + 'padding_token_id'] = _SPECIAL.index('<pad>')
    metadata[_PRE + 'eos_token_id'] = _SPECIAL.index('<eos>')
    del metadata[_PRE + 'token_type']
    ours = Tokenizer.from_gguf(metadata)
    np.testing.assert_array_equal(ours.mask(), said.mask())
    self.assertEqual(ours.encode('ab'), said.encode('ab'))


class RefusalTest(parameterized.TestCase):

  @parameterized.named_parameters(
      ('no_model', {'model': None}, 'tokenizer.ggml.model.* is missing'),
      ('no_tokens', {'tokens': None}, 'tokens.* is missing'),
      ('no_scores', {'scores': None}, 'scores.* is missing'),
      ('no_bos', {'bos_token_id': None}, 'bos_token_id.* is missing'),
      ('no_eos', {'eos_token_id': 999, 'add_eos_token': True}, 'eos.* 999'),
      ('model', {'model': 'bert'}, "'bert' is not supported"),
      ('tokens', {'tokens': 'abc'}, 'tokens.* is not an array of str'),
      ('numbers', {'tokens': [1, 2]}, 'tokens.* is not an array of str'),
      ('types', {'token_type': [1, 1]}, 'tokens.* but 2 token types'),
      ('type', {'token_type': [7] * 262}, 'holds 7'),
      ('scores', {'scores': [1.0]}, 'scores.* 262 finite numbers'),
      ('nan', {'scores': [np.nan] * 262}, 'scores.* finite'),
      ('bos', {'bos_token_id': 262}, 'bos_token_id.* 262'),
      ('negative', {'bos_token_id': -1}, 'bos_token_id.* -1'),
      ('flag', {'add_bos_token': 'yes'}, "add_bos_token.* 'yes'"),
      ('byte', {'token_type': [6] * 262}, "'<pad>' of type byte at 0"),
      ('unknown', {'unknown_token_id': 300}, 'unknown_token_id.* 300'),
      ('text', {'token_type': [1] * 262}, 'unknown_token_id.* is missing'),
      (
          'twice',
          {'tokens': [*_SPECIAL, *_BYTES, 'a', 'a']},
          "'a' twice, at 260 and 261",
      ),
  )
  def test_sentencepiece(self, keys, message):
    metadata = _sentencepiece_metadata([*_SPECIAL, *_BYTES, 'a', 'b'])
    for key, value in keys.items():
      metadata[_PRE + key] = value
      if value is None:
        del metadata[_PRE + key]
    with self.assertRaisesRegex(InputError, message):
      Tokenizer.from_gguf(metadata)

  @parameterized.named_parameters(
      ('no_merges', {'merges': None}, 'merges.* is missing'),
      ('merge', {'merges': ['a b', 'a zz']}, "'a zz'"),
      ('one_part', {'merges': ['ab']}, "'ab'"),
  )
  def test_byte_level(self, keys, message):
    keys = {
        'model': 'gpt2',
        'pre': 'gpt-2',
        'tokens': ['a', 'b', 'ab'],
        'token_type': [1, 1, 1],
        'merges': ['a b'],
    } | keys
    metadata = {_PRE + k: v for k, v in keys.items() if v is not None}
    with self.assertRaisesRegex(InputError, message):
      Tokenizer.from_gguf(metadata)


if __name__ == '__main__':
  absltest.main()
