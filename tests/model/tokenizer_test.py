"""What the rows of a vocabulary say, on vocabularies written by hand."""

import json
import os
from typing import Any
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tokenizers
from tokenizers import decoders
from tokenizers import models
from tokenizers import normalizers
from tokenizers import pre_tokenizers

from ooc_jax._errors import InputError
from ooc_jax.model import _tokenizer_gguf
from ooc_jax.model._tokenizer import Tokenizer

# piece, added as (None: not, False: plain, True: special), text, canonical,
# readable alone, held by no text.
_SENTENCEPIECE = (
    ('<pad>', True, '<pad>', '<pad>', False, True),
    ('<bos>', True, '<bos>', '<bos>', False, True),
    ('<▁end>', True, '<▁end>', '<▁end>', False, True),
    ('<unused12>', False, '<unused12>', '<unused12>', False, True),
    ('[multimodal]', False, '[multimodal]', '[multimodal]', False, True),
    ('<2mass>', False, '<2mass>', '<2mass>', False, True),
    ('[@BOS@]', False, '[@BOS@]', '[@bos@]', False, True),
    ('<b>', False, '<b>', '<b>', True, False),
    ('<s>', False, '<s>', '<s>', True, False),
    ('\n\n', False, '\n\n', '\n\n', True, False),
    ('<0x00>', None, '\x00', '\x00', False, True),
    ('<0x0D>', None, '\r', '\r', False, False),
    ('<0x20>', None, ' ', '', False, True),
    ('<0x41>', None, 'A', 'a', False, False),
    ('<0x61>', None, 'a', 'a', False, True),
    ('<0xC0>', None, '\ufffd', '\ufffd', False, True),
    ('<0xE2>', None, '\ufffd', '\ufffd', False, False),
    ('<0xFF>', None, '\ufffd', '\ufffd', False, True),
    ('a', None, 'a', 'a', True, False),
    ('▁', None, ' ', '', True, False),
    ('▁▁a', None, '  a', ' a', True, False),
    ('▁The', None, ' The', 'the', True, False),
    ('Straße', None, 'Straße', 'strasse', True, False),
    ('▁ﬁＮ', None, ' ﬁＮ', 'fin', True, False),
    ('Ġthe', None, 'Ġthe', 'ġthe', True, False),
    ('\t', None, '\t', '\t', True, False),
    ('\x0c', None, '\x0c', '\x0c', False, True),
    ('-\x0c', None, '-\x0c', '-\x0c', False, False),
    ('\x92', None, '\x92', '\x92', False, False),
    ('▁\u200b', None, ' \u200b', '\u200b', False, False),
    ('a\u200b', None, 'a\u200b', 'a\u200b', True, False),
    ('\ufffd', None, '\ufffd', '\ufffd', False, False),
    ('ö', None, 'ö', 'ö', True, False),
    ('[]', None, '[]', '[]', True, False),
)
_BYTE_LEVEL = (
    ('<|end|>', True, '<|end|>', '<|end|>', False, True),
    (
        '<|reserved_special_token_3|>', False, '<|reserved_special_token_3|>',
        '<|reserved_special_token_3|>', False, True,
    ),
    ('a', None, 'a', 'a', True, False),
    ('Ġ', None, ' ', '', True, False),
    ('Ġthe', None, ' the', 'the', True, False),
    ('Ã©', None, 'é', 'é', True, False),
    ('ĠÃī', None, ' É', 'é', True, False),
    ('âĢ', None, '\ufffd', '\ufffd', False, False),
    ('âĢĻs', None, '’s', '’s', True, False),
    ('aâĢ', None, 'a\ufffd', 'a\ufffd', False, False),
    ('âĸģa', None, '▁a', '▁a', True, False),
    ('ÄłA', None, 'ĠA', 'ġa', True, False),
    ('ĊĊ', None, '\n\n', '\n\n', True, False),
    ('Č', None, '\x0c', '\x0c', False, True),
    ('ö', None, '\ufffd', '\ufffd', False, True),
    ('é', None, '\ufffd', '\ufffd', False, False),
    ('<0x41>', None, '<0x41>', '<0x41>', True, False),
)  # fmt: skip


def _by_hand(rows: Any, model: str, strip: bool = False) -> dict[str, Any]:
  """The content of a tokenizer.json with these pieces and no merges."""
  vocabulary = {row[0]: i for i, row in enumerate(rows)}
  tokenizer = tokenizers.Tokenizer(models.BPE(vocabulary, []))
  if model == 'gpt2':
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
  else:
    tokenizer.normalizer = normalizers.Replace(' ', '▁')
    parts = [
        decoders.Replace('▁', ' '),
        decoders.ByteFallback(),
        decoders.Fuse(),
    ]
    if strip:
      parts.append(decoders.Strip(' ', left=1))
    tokenizer.decoder = decoders.Sequence(parts)
  for piece, special, *_ in rows:
    if special is not None:
      tokenizer.add_tokens(
          [tokenizers.AddedToken(piece, normalized=False, special=special)]
      )
  return json.loads(tokenizer.to_str())


class TokenizerTest(parameterized.TestCase):

  def _write(self, content: Any) -> str:
    text = content if isinstance(content, str) else json.dumps(content)
    return self.create_tempfile(content=text).full_path

  def _small(self, **keys: Any) -> str:
    content = _by_hand([('a', None), ('▁b', None), ('<x>', True)], 'llama')
    return self._write(content | keys)

  @parameterized.named_parameters(
      ('sentencepiece', _SENTENCEPIECE, 'llama', False),
      ('stripping', _SENTENCEPIECE, 'llama', True),
      ('byte_level', _BYTE_LEVEL, 'gpt2', False),
  )
  def test_each_row(self, rows, model, strip):
    tokenizer = Tokenizer.from_file(
        self._write(_by_hand(rows, model, strip)), vocab_size=len(rows) + 2
    )
    n = len(rows)
    self.assertEqual((tokenizer.vocabulary_size, tokenizer.size), (n, n + 2))
    paddings = (f'<padding {n}>', f'<padding {n + 1}>')
    columns = tuple(zip(*rows, strict=True))
    self.assertEqual(tokenizer.token_strings(), columns[2] + paddings)
    self.assertEqual(tokenizer.canonical_strings(), columns[3] + paddings)
    self.assertEqual(tuple(tokenizer.mask()), columns[4] + (False, False))
    self.assertEqual(tuple(tokenizer.unreachable()), columns[5] + (True, True))
    self.assertFalse((tokenizer.mask() & tokenizer.unreachable()).any())

  @parameterized.parameters((_SENTENCEPIECE, 'llama'), (_BYTE_LEVEL, 'gpt2'))
  def test_string_replacement_would_say_something_else(self, rows, model):
    """The decoder is used: replacing the space markers gets these wrong."""
    tokenizer = Tokenizer.from_file(self._write(_by_hand(rows, model)))
    replaced = [row[0].replace('▁', ' ').replace('Ġ', ' ') for row in rows]
    strings = tokenizer.token_strings()
    wrong = [
        r[0] for r, a, b in zip(rows, replaced, strings, strict=True) if a != b
    ]
    expected = {
        'llama': {'<▁end>', 'Ġthe', '<0x41>', '<0xE2>'},
        'gpt2': {'Ã©', 'ĠÃī', 'âĢ', 'âĢĻs', 'ÄłA', 'ĊĊ', 'Č'},
    }
    self.assertContainsSubset(expected[model], wrong)

  def test_rows_without_a_letter_still_keep_their_space(self):
    """The anchor need not be a letter; a byte may not serve as one."""
    rows = [(p, None) for p in ('<0x42>', '<0xE2>', '▁', '▁12', '7')]
    tokenizer = Tokenizer.from_file(self._write(_by_hand(rows, 'llama', True)))
    self.assertEqual(
        tokenizer.token_strings(), ('B', '\ufffd', ' ', ' 12', '7')
    )

  def test_without_a_decoder_tokens_are_shown_as_they_are(self):
    content = _by_hand([('a', None), ('▁b', None)], 'llama') | {'decoder': None}
    tokenizer = Tokenizer.from_file(self._write(content))
    self.assertEqual(tokenizer.token_strings(), ('a', '▁b'))

  def test_arrays_are_read_only_and_made_once(self):
    tokenizer = Tokenizer.from_file(self._small())
    for get in (tokenizer.mask, tokenizer.unreachable):
      self.assertIs(get(), get())
      with self.assertRaises(ValueError):
        get()[0] = True
    self.assertIs(tokenizer.token_strings(), tokenizer.token_strings())
    self.assertEqual(hash(tokenizer), hash(tokenizer))

  def test_encode_and_decode(self):
    tokenizer = Tokenizer.from_file(self._small())
    self.assertEqual(tokenizer.encode('a<x>a'), [0, 2, 0])
    ids = np.array([2, 0, 1])
    self.assertEqual(tokenizer.decode(ids), '<x>a b')
    self.assertEqual(tokenizer.decode(ids, skip_special_tokens=True), 'a b')
    self.assertEqual(tokenizer.decode([]), '')

  def test_truncation_and_padding_of_the_file_are_off(self):
    path = self._small(
        truncation={
            'direction': 'Right',
            'max_length': 1,
            'strategy': 'LongestFirst',
            'stride': 0,
        },
        padding={
            'strategy': {'Fixed': 9},
            'direction': 'Right',
            'pad_to_multiple_of': None,
            'pad_id': 0,
            'pad_type_id': 0,
            'pad_token': 'a',
        },
    )
    self.assertLen(Tokenizer.from_file(path).encode('aaa'), 3)

  @parameterized.parameters(-1, 3, 4)
  def test_decode_refuses_ids_without_a_token(self, i):
    tokenizer = Tokenizer.from_file(self._small(), vocab_size=4)
    with self.assertRaisesRegex(InputError, f'Id {i} has no text'):
      tokenizer.decode([0, i])

  def test_a_hole_in_the_ids_is_a_padding_row(self):
    content = _by_hand([('a', None), ('▁b', None)], 'llama')
    content['model']['vocab']['c'] = 4
    tokenizer = Tokenizer.from_file(self._write(content))
    self.assertEqual(
        tokenizer.token_strings(),
        ('a', ' b', '<padding 2>', '<padding 3>', 'c'),
    )
    np.testing.assert_array_equal(tokenizer.unreachable(), [0, 0, 1, 1, 0])
    with self.assertRaisesRegex(InputError, 'Id 3 has no text'):
      tokenizer.decode([3])

  def test_special_tokens_past_the_last_row_are_let_go(self):
    tokenizer = Tokenizer.from_file(self._small(), vocab_size=2)
    self.assertEqual((tokenizer.size, tokenizer.vocabulary_size), (2, 2))
    self.assertEqual(tokenizer.token_strings(), ('a', ' b'))
    self.assertLen(tokenizer.mask(), 2)
    self.assertEqual(tokenizer.encode('aa'), [0, 0])
    with self.assertRaisesRegex(InputError, "holds '<x>'.* 2 rows"):
      tokenizer.encode('a<x>')

  @parameterized.parameters(1, 0, -5)
  def test_too_few_rows_are_refused(self, rows):
    with self.assertRaisesRegex(InputError, f'3 tokens .* only {rows} rows'):
      Tokenizer.from_file(self._small(), vocab_size=rows)

  @parameterized.named_parameters(
      ('html', '<!DOCTYPE html>\n<html>', 'it is an HTML page'),
      ('lfs', 'version https://git-lfs.github.com/spec/v1\n', 'Git LFS'),
      ('empty', '', 'it is not JSON'),
      ('cut', '{"version": "1.0", "mod', 'it is not JSON'),
      ('list', '[1, 2]', 'the tokenizers library says'),
      ('other', '{"model_type": "llama"}', 'the tokenizers library says'),
  )
  def test_other_files_are_refused(self, content, message):
    with self.assertRaisesRegex(InputError, f'not a tokenizer.json.*{message}'):
      Tokenizer.from_file(self._write(content))

  def test_missing_and_binary_files_are_refused(self):
    folder = self.create_tempdir()
    binary = folder.create_file('b.json', content=b'\xff\xfe\x00', mode='wb')
    missing = os.path.join(folder.full_path, 'tokenizer.json')
    with self.assertRaisesRegex(InputError, 'No such file'):
      Tokenizer.from_file(missing)
    with self.assertRaisesRegex(InputError, 'directory'):
      Tokenizer.from_file(folder.full_path)
    with self.assertRaisesRegex(InputError, 'not UTF-8'):
      Tokenizer.from_file(binary.full_path)

  def test_ids_that_clash_are_refused(self):
    content = _by_hand([('a', None), ('b', None), ('<x>', True)], 'llama')
    content['model']['vocab']['c'] = 1
    with self.assertRaisesRegex(InputError, 'one id to two tokens'):
      Tokenizer.from_file(self._write(content))
    del content['model']['vocab']['c']
    del content['model']['vocab']['<x>']
    content['added_tokens'][0]['id'] = 7  # The library would make it 2.
    with self.assertRaisesRegex(InputError, "'<x>' the id 7"):
      Tokenizer.from_file(self._write(content))

  def _gguf(self, rows: Any, model: str) -> dict[str, Any]:
    kinds = []
    for piece, special, *_ in rows:
      byte = model == 'llama' and piece.startswith('<0x')
      kinds.append({None: 6 if byte else 1, False: 4, True: 3}[special])
    return {
        'tokenizer.ggml.model': model,
        'tokenizer.ggml.pre': 'smollm',
        'tokenizer.ggml.tokens': [row[0] for row in rows],
        'tokenizer.ggml.token_type': kinds,
        'tokenizer.ggml.scores': np.linspace(0, -1, len(rows)),
        'tokenizer.ggml.merges': [],
        'tokenizer.ggml.unknown_token_id': 0,
        'tokenizer.ggml.bos_token_id': 1,
        'tokenizer.ggml.add_bos_token': True,
    }

  @parameterized.parameters((_SENTENCEPIECE, 'llama'), (_BYTE_LEVEL, 'gpt2'))
  def test_gguf_says_the_same_and_so_does_what_it_saves(self, rows, model):
    n = len(rows)
    metadata = self._gguf(rows, model)
    unused = ('hidden', '<unused7>', '[PAD9]', '')
    metadata['tokenizer.ggml.tokens'] += unused
    metadata['tokenizer.ggml.token_type'] += [5, 5, 5, 1]
    metadata['tokenizer.ggml.scores'] = np.linspace(0, -1, n + 4)
    gguf = Tokenizer.from_gguf(metadata, vocab_size=n + 6)
    texts = ('a The<b>\n\n hidden', 'é’s ▁ö\x00', '<bos>a<unused12>', '')
    before = [gguf.encode(text) for text in texts]
    path = os.path.join(self.create_tempdir().full_path, 'tokenizer.json')
    gguf.save(path)
    saved = Tokenizer.from_file(path, vocab_size=n + 6)
    for tokenizer in (gguf, saved):
      self.assertEqual(
          tokenizer.token_strings()[:n], tuple(row[2] for row in rows)
      )
      self.assertEqual(tuple(tokenizer.mask()[:n]), tuple(r[4] for r in rows))
      self.assertEqual(
          tuple(tokenizer.unreachable()[:n]), tuple(r[5] for r in rows)
      )
      self.assertFalse(tokenizer.mask()[n:].any())
      self.assertTrue(tokenizer.unreachable()[n:].all())
      self.assertEqual([tokenizer.encode(text) for text in texts], before)
      self.assertEqual(tokenizer.vocabulary_size, n + 4)
    self.assertEqual(gguf.token_strings(), saved.token_strings())
    for ids in before:
      self.assertEqual(ids[0], 1)
      self.assertEqual(gguf.decode(ids), saved.decode(ids))

  def test_the_encoder_is_built_at_the_first_encode_only(self):
    tokenizer = Tokenizer.from_gguf(self._gguf(_SENTENCEPIECE, 'llama'))
    with mock.patch.object(
        _tokenizer_gguf, 'rebuild_merges', side_effect=AssertionError('built')
    ):
      tokenizer.token_strings()
      tokenizer.canonical_strings()
      tokenizer.mask()
      tokenizer.unreachable()
      tokenizer.decode([1, 18])
      with self.assertRaisesRegex(AssertionError, 'built'):
        tokenizer.encode('a')
    self.assertEqual(tokenizer.encode('a')[0], 1)


if __name__ == '__main__':
  absltest.main()
