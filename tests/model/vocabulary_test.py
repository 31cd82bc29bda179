"""What is kept of a tokenizer is what it would find again."""

import json
import pathlib
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import safetensors.numpy
import tokenizers
from tokenizers import decoders
from tokenizers import models

import ooc_jax
from ooc_jax import InputError
from ooc_jax import _cache
from ooc_jax.model import Tokenizer
from ooc_jax.model import _tokenizer
from ooc_jax.model import _vocabulary
from tests.model import gguf_tokenizers

_PIECES = (
    '<pad>', '<unused1>', '<0x0A>', '<0xE2>', '▁the', 'Straße', '\x07', 'ﬁ',
    '▁\u200b', '\U0001f600', 'a', '▁', '',
)  # fmt: skip

_SIZE = len(_PIECES) + 2  # Two rows of the model have no token.


def _write(path, pieces=_PIECES):
  model = models.BPE({x: i for i, x in enumerate(pieces)}, [])
  made = tokenizers.Tokenizer(model)
  made.decoder = decoders.Sequence([
      decoders.Replace('▁', ' '),
      decoders.ByteFallback(),
      decoders.Fuse(),
  ])
  made.add_special_tokens(['<pad>'])
  made.save(str(path))


def _facts(tokenizer):
  return (
      tokenizer.size,
      tokenizer.vocabulary_size,
      tokenizer.token_strings(),
      tokenizer.canonical_strings(),
      tokenizer.mask().tolist(),
      tokenizer.unreachable().tolist(),
  )


class VocabularyTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir().full_path)
    self.path = self.root / 'tokenizer.json'
    _write(self.path)
    self.addCleanup(ooc_jax.set_cache_dir, None)
    self.parsed = self.enter_context(
        mock.patch.object(_tokenizer, '_parse', wraps=_tokenizer._parse)
    )

  def _load(self, parsed, size=_SIZE, path=None):
    """Facts of the tokenizer of a file, and whether that was parsed for it."""
    before = self.parsed.call_count
    found = Tokenizer.from_file(path or self.path, vocab_size=size)
    facts = _facts(found)
    self.assertEqual(self.parsed.call_count > before, parsed)
    return facts

  def _kept(self):
    return sorted((self.root / 'cache' / 'prepared').iterdir())

  @parameterized.parameters(len(_PIECES), len(_PIECES) + 2, None)
  def test_is_the_same_a_second_time(self, size):
    want = self._load(True, size)
    self._load(True, size)  # Nothing is kept unless a program asks for it.
    ooc_jax.set_cache_dir(self.root / 'cache')
    self.assertEqual(self._load(True, size), want)
    self.assertLen(self._kept(), 1)
    self.assertEqual(self._load(False, size), want)

  def test_what_it_needs_a_file_for_is_of_the_content_that_was_read(self):
    whole = Tokenizer.from_file(self.path)
    ooc_jax.set_cache_dir(self.root / 'cache')
    Tokenizer.from_file(self.path)
    found = Tokenizer.from_file(self.path)
    _write(self.path, _PIECES[::-1])
    self.assertEqual(found.encode('a the'), whole.encode('a the'))
    self.assertEqual(found.decode([4, 5, 9]), whole.decode([4, 5, 9]))
    self.assertEqual(found.decode([2]), '\n')
    with self.assertRaisesRegex(InputError, 'Id 13 has no text'):
      found.decode([13])
    found.save(self.root / 'saved.json')
    whole.save(self.root / 'whole.json')
    self.assertEqual(
        (self.root / 'saved.json').read_bytes(),
        (self.root / 'whole.json').read_bytes(),
    )
    with self.assertRaises(ValueError):
      found.mask()[0] = True

  def test_what_it_hangs_on_is_found_anew(self):
    ooc_jax.set_cache_dir(self.root / 'cache')
    self._load(True)
    other = self.root / 'other.json'
    _write(other, (*_PIECES[:4], '▁they', *_PIECES[5:]))
    self.assertEqual(self._load(True, path=other)[2][4], ' they')
    self._load(True, len(_PIECES))
    for what, name in (
        (_vocabulary, '_VERSION'),
        (tokenizers, '__version__'),
        (_vocabulary.unicodedata, 'unidata_version'),
    ):
      with mock.patch.object(what, name, 'another'):
        self._load(True)
    self._load(False)
    self._load(False, path=other)

  def test_a_stale_key_would_be_seen(self):
    """The test above can fail: a key that does not hold the content."""
    other = self.root / 'other.json'
    _write(other, (*_PIECES[:4], '▁they', *_PIECES[5:]))
    right = self._load(True, path=other)
    ooc_jax.set_cache_dir(self.root / 'cache')
    same = mock.Mock()
    same.return_value.hexdigest.return_value = 'the same of all'
    hashes = mock.Mock(sha256=same)
    with mock.patch.object(_vocabulary, 'hashlib', hashes):
      self._load(True)
      self.assertNotEqual(self._load(False, path=other), right)

  def test_damaged_and_forged_files_are_made_anew(self):
    want = self._load(True)
    ooc_jax.set_cache_dir(self.root / 'cache')
    self._load(True)
    (path,) = self._kept()
    whole = path.read_bytes()
    arrays = safetensors.numpy.load(whole)
    arrays.pop('checksum')
    for forged in (
        {'text': np.full_like(arrays['text'], 0xFF)},
        {'text': arrays['text'][:-1]},
        {'lengths': arrays['lengths'] + np.uint32(1)},
        {'lengths': np.full_like(arrays['lengths'], 2**32 - 1)},
        {'readable': arrays['readable'][:-1]},
        {'text': arrays['text'].astype(np.int8)},
    ):
      new = arrays | forged
      new['checksum'] = _cache._checksum(path, new)
      path.write_bytes(safetensors.numpy.save(new))
      self.assertEqual(self._load(True), want)
      self.assertEqual(path.read_bytes(), whole)
    path.write_bytes(whole[:-1])
    self.assertEqual(self._load(True), want)
    self.assertEqual(self._load(False), want)

  def test_what_is_refused_is_not_kept(self):
    ooc_jax.set_cache_dir(self.root / 'cache')
    for _ in range(2):
      with self.assertRaisesRegex(InputError, 'only 5 rows'):
        Tokenizer.from_file(self.path, vocab_size=5)
    self.path.write_text(json.dumps({'model': 'none'}))
    for _ in range(2):
      with self.assertRaisesRegex(InputError, 'is not a tokenizer.json'):
        Tokenizer.from_file(self.path, vocab_size=5)
    self.assertFalse((self.root / 'cache').exists())

  def test_gguf(self):
    original = gguf_tokenizers.sentencepiece()
    pieces = gguf_tokenizers.pieces_of(original)
    metadata = gguf_tokenizers.sentencepiece_metadata(pieces)
    want = Tokenizer.from_gguf(metadata, vocab_size=len(pieces) + 1)
    ooc_jax.set_cache_dir(self.root / 'cache')
    found = [
        Tokenizer.from_gguf(
            metadata | {'general.name': name, 'x': np.zeros(2)},
            vocab_size=len(pieces) + 1,
        )
        for name in ('first', 'second')
    ]
    self.assertLen(self._kept(), 1)
    for own in found:
      self.assertEqual(_facts(own), _facts(want))
      self.assertEqual(own.encode('the sea'), want.encode('the sea'))
      self.assertEqual(own.decode([5, 6]), want.decode([5, 6]))
    metadata['tokenizer.ggml.scores'] = np.asarray(
        metadata['tokenizer.ggml.scores']
    ) - np.float32(1)
    Tokenizer.from_gguf(metadata, vocab_size=len(pieces) + 1)
    self.assertLen(self._kept(), 2)


if __name__ == '__main__':
  absltest.main()
