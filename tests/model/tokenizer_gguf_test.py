"""Small vocabularies in llama.cpp's terms against what they came from."""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
from tokenizers import normalizers

from ooc_jax._errors import InputError
from ooc_jax.model import _tokenizer_gguf
from ooc_jax.model._tokenizer import Tokenizer
from tests.model import gguf_tokenizers


class ByteLevelTest(parameterized.TestCase):

  @parameterized.named_parameters(
      ('gpt2', 'gpt-2', gguf_tokenizers.GPT2),
      ('smollm', 'smollm', gguf_tokenizers.SMOLLM),
      ('llama3', 'llama-bpe', gguf_tokenizers.split(gguf_tokenizers.LLAMA3)),
      ('qwen2', 'qwen2', gguf_tokenizers.split(gguf_tokenizers.QWEN2)),
  )
  def test_encodes_as_the_original(self, pre, pre_tokenizer):
    original = gguf_tokenizers.byte_level(pre_tokenizer)
    ours = Tokenizer.from_gguf(
        gguf_tokenizers.byte_level_metadata(original, pre)
    )
    if pre == 'qwen2':
      original.normalizer = normalizers.NFC()
    longest = 0
    for text in gguf_tokenizers.texts(1) + ['<|im_start|>user 1<|end|>']:
      ids = original.encode(text).ids
      self.assertEqual(ours.encode(text), ids, msg=repr(text))
      self.assertEqual(ours.decode(ids), text)
      longest = max(longest, len(text) - len(ids))
    self.assertGreater(longest, 20)  # Merges were made.

  def test_pre_tokenizers_are_not_the_same(self):
    """Or the test above could not tell them apart."""
    original = gguf_tokenizers.byte_level(gguf_tokenizers.GPT2)
    texts = gguf_tokenizers.texts(2)
    encodings = set()
    for pre in ('gpt-2', 'smollm', 'llama-bpe', 'qwen2'):
      ours = Tokenizer.from_gguf(
          gguf_tokenizers.byte_level_metadata(original, pre)
      )
      encodings.add(tuple(tuple(ours.encode(text)) for text in texts))
    self.assertLen(encodings, 4)

  def test_qwen2_composes_characters(self):
    ours = Tokenizer.from_gguf(
        gguf_tokenizers.byte_level_metadata(
            gguf_tokenizers.byte_level(gguf_tokenizers.GPT2), 'qwen2'
        )
    )
    self.assertEqual(ours.decode(ours.encode('ke\u0301')), 'k\u00e9')

  def test_a_whole_word_beats_its_merges_in_llama3(self):
    original = gguf_tokenizers.byte_level(gguf_tokenizers.GPT2)
    pieces = gguf_tokenizers.pieces_of(original) + ['Ġzjzjx']
    kinds = [3, 3] + [1] * (len(pieces) - 2)
    for pre, whole in (('llama-bpe', True), ('gpt-2', False)):
      ours = Tokenizer.from_gguf(
          gguf_tokenizers.byte_level_metadata(
              original, pre, tokens=pieces, token_type=kinds
          )
      )
      self.assertEqual(ours.encode(' zjzjx') == [len(pieces) - 1], whole)

  @parameterized.parameters(
      ('gpt-2', None, False), ('llama-bpe', None, True), ('gpt-2', True, True)
  )
  def test_bos_default_is_the_family_s(self, pre, flag, added):
    ours = Tokenizer.from_gguf(
        gguf_tokenizers.byte_level_metadata(
            gguf_tokenizers.byte_level(gguf_tokenizers.GPT2),
            pre,
            bos_token_id=1,
            add_bos_token=flag,
        )
    )
    self.assertEqual(ours.encode('ka')[0] == 1, added)


class SentencePieceTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.original = gguf_tokenizers.sentencepiece()
    cls.pieces = gguf_tokenizers.pieces_of(cls.original)

  def test_encodes_as_the_original_on_its_words(self):
    ours = Tokenizer.from_gguf(
        gguf_tokenizers.sentencepiece_metadata(self.pieces)
    )
    rng = np.random.default_rng(6)
    texts = [
        ''.join(w for w in gguf_tokenizers.words(rng, 3) if w.startswith(' '))
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
    metadata = gguf_tokenizers.sentencepiece_metadata(
        self.pieces, scores=scores, add_bos_token=False
    )
    ours = Tokenizer.from_gguf(metadata)
    ids = {piece: i for i, piece in enumerate(self.pieces)}
    known = {p: scores[i] for p, i in ids.items() if i >= 260}
    merged = fallen_back = 0
    for text in gguf_tokenizers.texts(4):
      expected = gguf_tokenizers.sentencepiece_encode(text, known, ids)
      self.assertEqual(ours.encode(text), expected, msg=repr(text))
      self.assertEqual(ours.decode(expected), text)
      merged += sum(len(self.pieces[i]) > 3 for i in expected if i >= 260)
      fallen_back += sum(4 <= i < 260 for i in expected)
    self.assertGreater(merged, 100)
    self.assertGreater(fallen_back, 100)

  def test_equal_scores_mean_the_order_of_the_ids(self):
    plain = Tokenizer.from_gguf(
        gguf_tokenizers.sentencepiece_metadata(self.pieces)
    )
    scores = np.full(len(self.pieces), -1000.0)
    flat = Tokenizer.from_gguf(
        gguf_tokenizers.sentencepiece_metadata(self.pieces, scores=scores)
    )
    for text in gguf_tokenizers.texts(8):
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
        gguf_tokenizers.sentencepiece_metadata(
            pieces, add_bos_token=bos, add_eos_token=eos
        )
    )
    ids = ours.encode('lomi')
    inner = ids[len(before) : len(ids) - len(after)]
    self.assertEqual(ids, before + inner + after)
    self.assertEqual(ours.decode(inner), 'lomi')

  @parameterized.parameters(True, None)
  def test_space_prefix(self, flag):
    ours = Tokenizer.from_gguf(
        gguf_tokenizers.sentencepiece_metadata(
            self.pieces, add_space_prefix=flag
        )
    )
    plain = Tokenizer.from_gguf(
        gguf_tokenizers.sentencepiece_metadata(self.pieces)
    )
    self.assertEqual(ours.encode('ka lo'), plain.encode(' ka lo'))
    self.assertEqual(ours.decode(ours.encode('ka lo')[1:]), 'ka lo')
    self.assertEqual(ours.token_strings(), plain.token_strings())

  @parameterized.parameters('▁▁', '  ')
  def test_user_defined_tokens_are_matched_whole(self, spaces):
    own = [spaces, '<b>', 'enka']
    kinds = [3, 3, 3, 2] + [6] * 256 + [1] * (len(self.pieces) - 260) + [4] * 3
    n = len(self.pieces)
    ours = Tokenizer.from_gguf(
        gguf_tokenizers.sentencepiece_metadata(
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
    metadata = gguf_tokenizers.sentencepiece_metadata(
        [*gguf_tokenizers.SPECIAL, *gguf_tokenizers.BYTES, *steps]
    )
    ours = Tokenizer.from_gguf(metadata)
    self.assertEqual(ours.encode('<0x41>'), [2, 269, 265])

  def test_no_text_becomes_an_unused_piece(self):
    kinds = [3, 3, 3, 2] + [6] * 256 + [1] * (len(self.pieces) - 260)
    plain = Tokenizer.from_gguf(
        gguf_tokenizers.sentencepiece_metadata(self.pieces)
    )
    word = plain.encode(' mi')[1]
    self.assertEqual(plain.token_strings()[word], ' mi')
    kinds[word] = 5
    ours = Tokenizer.from_gguf(
        gguf_tokenizers.sentencepiece_metadata(self.pieces, token_type=kinds)
    )
    self.assertNotIn(word, ours.encode(' mi'))
    self.assertEqual(ours.decode(ours.encode(' mi')[1:]), ' mi')
    self.assertFalse(ours.mask()[word])
    self.assertTrue(ours.unreachable()[word])


class LeftOutTest(parameterized.TestCase):
  """What files in the wild do not say."""

  @parameterized.parameters(None, 'sm0llm', 'hunyuan-dense')
  def test_how_words_are_cut(self, pre):
    original = gguf_tokenizers.byte_level(gguf_tokenizers.GPT2)
    metadata = gguf_tokenizers.byte_level_metadata(original, 'gpt-2')
    known = Tokenizer.from_gguf(metadata)
    metadata[gguf_tokenizers.PRE + 'pre'] = pre
    if pre is None:
      del metadata[gguf_tokenizers.PRE + 'pre']
    with self.assertLogs('absl', 'WARNING') as logs:
      ours = Tokenizer.from_gguf(metadata)
    self.assertIn('tokenizer.json', logs.output[0])
    text = 'kama jizo, kixi 12'
    self.assertEqual(ours.encode(text), known.encode(text))
    np.testing.assert_array_equal(ours.mask(), known.mask())

  def test_kinds_of_tokens(self):
    metadata = gguf_tokenizers.sentencepiece_metadata(
        [*gguf_tokenizers.SPECIAL, *gguf_tokenizers.BYTES, 'a', 'b']
    )
    said = Tokenizer.from_gguf(metadata)
    metadata[gguf_tokenizers.PRE + 'unknown_token_id'] = (
        gguf_tokenizers.SPECIAL.index('<unk>')
    )
    metadata[gguf_tokenizers.PRE + 'padding_token_id'] = (
        gguf_tokenizers.SPECIAL.index('<pad>')
    )
    metadata[gguf_tokenizers.PRE + 'eos_token_id'] = (
        gguf_tokenizers.SPECIAL.index('<eos>')
    )
    del metadata[gguf_tokenizers.PRE + 'token_type']
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
          {
              'tokens': [
                  *gguf_tokenizers.SPECIAL,
                  *gguf_tokenizers.BYTES,
                  'a',
                  'a',
              ]
          },
          "'a' twice, at 260 and 261",
      ),
  )
  def test_sentencepiece(self, keys, message):
    metadata = gguf_tokenizers.sentencepiece_metadata(
        [*gguf_tokenizers.SPECIAL, *gguf_tokenizers.BYTES, 'a', 'b']
    )
    for key, value in keys.items():
      metadata[gguf_tokenizers.PRE + key] = value
      if value is None:
        del metadata[gguf_tokenizers.PRE + key]
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
    metadata = {
        gguf_tokenizers.PRE + k: v for k, v in keys.items() if v is not None
    }
    with self.assertRaisesRegex(InputError, message):
      Tokenizer.from_gguf(metadata)


if __name__ == '__main__':
  absltest.main()
