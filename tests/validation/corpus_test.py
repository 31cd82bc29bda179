"""A corpus is read whole and in order, or refused in one sentence."""

import gzip
import hashlib
import json
import lzma
import pathlib
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import ooc_jax
from ooc_jax import validation
from ooc_jax.validation import _corpus
from tests import tiny
from tests.loopback_hub import LoopbackHub

_PACKAGE = pathlib.Path(ooc_jax.__file__).parent
_TEXTS = (
    'The king of the north walked to the river.\nIt was cold.',
    'A small house by the sea, naïve and old — “so they say”.',
    'She walks, he walks, they walk; the kingdom talks of nothing else.',
)


class CorpusTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    path = _PACKAGE / 'bundled/tiny_llama3/tokenizer.json'
    cls.tokenizer = ooc_jax.model.Tokenizer.from_file(path)

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path)

  def windows(self, corpus, length=8, **settings):
    return validation.read_windows(
        corpus, self.tokenizer, length=length, **settings
    )

  def error(self, corpus, **settings):
    with self.assertRaises(ooc_jax.InputError) as caught:
      self.windows(corpus, **settings)
    message = str(caught.exception)
    self.assertNotRegex(message, r'[\n\r]')
    self.assertEndsWith(message, '.')
    return message

  def write(self, kind, texts=_TEXTS, field='text'):
    path = self.folder / f'corpus{kind}'
    rows = [{'id': i, field: text} for i, text in enumerate(texts)]
    lines = ''.join(json.dumps(row) + '\n' for row in rows)
    if kind == '.txt':
      path.write_text('\n'.join(texts), encoding='utf-8')
    elif kind == '.jsonl':
      path.write_text(lines + '\n')
    elif kind == '.jsonl.gz':
      path.write_bytes(gzip.compress(lines.encode()))
    else:
      pq.write_table(pa.Table.from_pylist(rows), path)
    return path

  @parameterized.parameters('.txt', '.jsonl', '.jsonl.gz', '.parquet')
  def test_every_format_gives_the_same_windows(self, kind):
    windows = self.windows(self.write(kind))
    bos, *ids = self.tokenizer.encode('\n'.join(_TEXTS) + '\n')
    self.assertEqual(windows.dtype, np.int32)
    np.testing.assert_array_equal(windows[:, 0], bos)
    self.assertEqual(windows.shape, (len(ids) // 7, 8))
    self.assertEqual(windows[:, 1:].ravel().tolist(), ids[: len(ids) // 7 * 7])

  def test_a_folder_is_its_files_in_order_of_name(self):
    (self.folder / 'b').mkdir()
    (self.folder / 'a.txt').write_text(_TEXTS[0])
    (self.folder / 'b/c.txt').write_text(_TEXTS[1])
    (self.folder / 'picture.png').write_bytes(b'\x89PNG')
    (self.folder / 'd.txt').write_text(_TEXTS[2])
    expected = self.windows(self.write('.jsonl'))
    (self.folder / 'corpus.jsonl').unlink()
    np.testing.assert_array_equal(self.windows(self.folder), expected)

  def test_a_file_of_a_hub_dataset(self):
    content = self.write('.jsonl').read_bytes()
    with LoopbackHub() as hub, hub.client(self.folder / 'cache'):
      hub.publish('datasets/owner/prose', {'data/train.jsonl': content})
      windows = self.windows('hub:owner/prose/data/train.jsonl')
      self.assertIn('no file', self.error('hub:owner/prose/test.jsonl'))
      self.assertIn('owner/none', self.error('hub:owner/none/train.jsonl'))
    np.testing.assert_array_equal(windows, self.windows(self.write('.jsonl')))
    self.assertIn('hub:OWNER/NAME/FILE', self.error('hub:owner'))

  def test_a_limit_stops_the_reading(self):
    path = self.write('.jsonl', [*_TEXTS, *_TEXTS])
    # What comes after the limit is not even looked at.
    with path.open('a') as file:
      file.write('no JSON\n')
    windows = self.windows(path, limit=3)
    self.assertEqual(windows.shape, (3, 8))
    np.testing.assert_array_equal(windows, self.windows(self.write('.txt'))[:3])

  def test_long_texts_are_encoded_in_blocks(self):
    path = self.write('.txt', _TEXTS * 20)
    whole = self.windows(path)
    with mock.patch.object(_corpus, '_BLOCK_CHARACTERS', 100):
      np.testing.assert_array_equal(self.windows(path), whole)

  def test_without_bos_a_window_is_text_alone(self):
    path = self.folder / 'tokenizer.json'
    tiny.make_tokenizer().save(str(path))
    tokenizer = ooc_jax.model.Tokenizer.from_file(path)
    windows = validation.read_windows(
        self.write('.txt'), tokenizer, length=8, limit=1
    )
    self.assertIn(tokenizer.decode(windows[0]), _TEXTS[0])

  def test_windows_and_other_line_ends(self):
    path = self.folder / 'a.txt'
    path.write_bytes(b'\xef\xbb\xbf' + '\r\n'.join(_TEXTS).encode())
    np.testing.assert_array_equal(
        self.windows(path), self.windows(self.write('.txt'))
    )

  @parameterized.named_parameters(
      ('empty_file', '.txt', b'', 'holds no text'),
      ('only_spaces', '.txt', b' \n\n \t\n', 'holds no text'),
      ('no_rows', '.jsonl', b'', 'holds no text'),
      ('short', '.txt', b'Two words', 'fewer than one window of 8'),
      ('utf_16', '.txt', 'Words and words'.encode('utf-16'), 'not UTF-8'),
      ('latin_1', '.jsonl', '{"text": "é"}'.encode('latin-1'), 'not UTF-8'),
      ('field', '.jsonl', b'{"body": "x"}', "no field 'text' in line 1"),
      ('number', '.jsonl', b'{"text": 3}', 'is no text'),
      ('no_json', '.jsonl', b'{"text": "a"}\nb\n', 'JSON object in line 2'),
      ('list', '.jsonl', b'["text"]', 'no JSON object in line 1'),
      ('deep', '.jsonl', b'[' * 100_000, 'no JSON object in line 1'),
      ('gzip', '.jsonl.gz', b'{"text": "a"}', 'cannot be read'),
      ('cut_gzip', '.jsonl.gz', gzip.compress(b'a' * 999)[:-9], 'damaged'),
      ('parquet', '.parquet', b'PAR1 no', 'cannot be read'),
      ('kind', '.pdf', b'%PDF', 'is of no known kind'),
  )
  def test_refuses(self, suffix, content, expected):
    path = self.folder / f'bad{suffix}'
    path.write_bytes(content)
    self.assertIn(expected, self.error(path))

  def test_refuses_what_is_not_there(self):
    self.assertIn('No such file', self.error(self.folder / 'none.txt'))
    self.assertIn('is a folder without', self.error(self.folder))
    other = self.write('.parquet', field='body')
    self.assertIn('which has id, body', self.error(other))
    self.assertIn("no field 'a'", self.error(self.write('.jsonl'), field='a'))
    self.assertIn('is no text', self.error(other, field='id'))
    self.assertIn('hold no text', self.error(other, length=1))
    self.assertIn('hold no text', self.error(other, limit=0))

  def test_the_default_is_what_its_card_says(self):
    folder = _PACKAGE / 'validation/default_corpus'
    card = (folder / 'README.md').read_text()
    packed = (folder / 'prose.txt.xz').read_bytes()
    text = lzma.decompress(packed)
    self.assertIn(f'{len(text):,} bytes', card)
    self.assertIn(f'{len(packed):,} packed', card)
    self.assertIn(hashlib.sha256(text).hexdigest(), card)
    # Plain prose, one paragraph a line.
    self.assertTrue(text.isascii())
    self.assertNotIn(b'\n\n', text)
    windows = self.windows('default', length=128, limit=40)
    self.assertEqual(windows.shape, (40, 128))
    start = self.tokenizer.decode(windows[0][1:])
    self.assertStartsWith(start.strip(), 'CHAPTER I\nAmong the many fatalities')


if __name__ == '__main__':
  absltest.main()
