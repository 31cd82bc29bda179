"""What is trained on, and what is held out."""

import pathlib
from unittest import mock

from absl.testing import absltest
import numpy as np

import ooc_jax
from ooc_jax.dictionaries.training import _corpus


def _words(seed, n):
  rng = np.random.default_rng(seed)
  return ' '.join(''.join(rng.choice(list('abcdefg'), 4)) for _ in range(n))


class CorpusTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path)
    patch = mock.patch.object(_corpus, '_BLOCK_CHARACTERS', 300)
    patch.start()
    self.addCleanup(patch.stop)

  def _file(self, name, text):
    path = self.folder / name
    path.write_text(text, encoding='utf-8')
    return path

  def test_line_breaks_inside_a_paragraph_are_spaces(self):
    paragraphs = [_words(i, 60) for i in range(90)]
    broken = '\n \n'.join(p.replace(' ', '\n', 3) for p in paragraphs)
    corpus = _corpus.read_corpus([self._file('a.txt', broken)])
    lines = '\n'.join([*corpus.train, *corpus.held_out]).split('\n')
    self.assertCountEqual(lines, paragraphs)
    self.assertLen(corpus.held_out, 1)
    self.assertEqual(corpus.dropped, 0)

  def test_a_copy_of_what_is_held_out_is_not_trained_on(self):
    paragraphs = [_words(i, 61) for i in range(90)]
    first = self._file('a.txt', '\n\n'.join(paragraphs))
    held_out = _corpus.read_corpus([first]).held_out[0]
    # The same words, in other lines, in capitals, in another file.
    copy = self._file('b.txt', held_out.upper().replace(' ', '\n'))
    corpus = _corpus.read_corpus([first, copy])
    self.assertEqual(corpus.dropped, 1)
    self.assertEqual(corpus.held_out[0], held_out)
    self.assertNotIn(held_out.upper(), corpus.train)

  def test_a_long_paragraph_is_cut_between_sentences(self):
    text = '. '.join(_words(i, 9) for i in range(900)) + '.'
    corpus = _corpus.read_corpus([self._file('a.txt', text)])
    for block in (*corpus.train, *corpus.held_out):
      self.assertEndsWith(block, '.')
      self.assertLess(len(block), 700)
    size = sum(len(x.replace(' ', '').replace('\n', '')) for x in corpus.train)
    held = sum(
        len(x.replace(' ', '').replace('\n', '')) for x in corpus.held_out
    )
    self.assertEqual(size + held, len(text.replace(' ', '')))

  def test_too_little_and_unreadable(self):
    with self.assertRaisesRegex(ooc_jax.InputError, 'give more files'):
      _corpus.read_corpus([self._file('a.txt', 'a few words')])
    binary = self.folder / 'b.txt'
    binary.write_bytes(b'\xff\xfe\x80')
    for path in (binary, self.folder / 'none.txt'):
      with self.assertRaisesRegex(
          ooc_jax.InputError, 'cannot be read as UTF-8'
      ):
        _corpus.read_corpus([path])


class WindowsTest(absltest.TestCase):

  def test_an_epoch_sees_everything_once_after_bos(self):
    tokens = np.arange(100, 100 + 23 * 8, dtype=np.int32)
    windows = _corpus.Windows(tokens, 8, bos=5, seed=3)
    rows = np.concatenate([windows.batch(i, 2) for i in range(11)])
    np.testing.assert_array_equal(rows[:, 0], 5)
    self.assertEqual(rows.shape, (22, 9))
    starts = np.sort(rows[:, 1])
    np.testing.assert_array_equal(np.diff(starts), 8)
    self.assertEqual(rows.dtype, np.int32)
    np.testing.assert_array_equal(np.diff(rows[:, 1:], axis=1), 1)

  def test_another_epoch_is_in_another_order(self):
    tokens = np.arange(23 * 8, dtype=np.int32)
    windows = _corpus.Windows(tokens, 8, bos=5, seed=3)
    first, second = windows.batch(0, 22), windows.batch(1, 22)
    self.assertFalse(np.array_equal(first, second))
    np.testing.assert_array_equal(first, windows.batch(0, 22))

  def test_held_out_windows_are_in_order(self):
    rows = _corpus.held_out_windows(np.arange(21, dtype=np.int32), 8, bos=40)
    np.testing.assert_array_equal(rows[:, 0], 40)
    np.testing.assert_array_equal(rows[:, 1:].ravel(), np.arange(16))


if __name__ == '__main__':
  absltest.main()
