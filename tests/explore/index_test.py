"""The index of tokens: against a plain reading of the files."""

import pathlib
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ooc_jax.explore import _index
from ooc_jax.explore import _library
from ooc_jax.explore import _search
from ooc_jax.explore import _tables
from tests.explore import folders

# Ids 3 and 4 are both the replacement character, as bytes of many tokenizers.
_WORDS = [' the', 'The', 'THE', '\ufffd', '\ufffd', 'ab', 'a', '']


def _study(folder):
  return next(iter(_library.Library([folder]).studies().values()))


def _write(path, ids, words, **options):
  path.parent.mkdir(parents=True, exist_ok=True)
  flat = pa.array(ids.reshape(-1).astype(np.int32))
  columns = {
      'feature': np.arange(len(ids), dtype=np.int32),
      'top_ids': pa.FixedSizeListArray.from_arrays(flat, ids.shape[1]),
      'top_tokens': [[words[x] for x in row] for row in ids],
  }
  pq.write_table(pa.table(columns), path, **options)


class IndexTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path) / 'out'
    folders.output(self.folder)

  def _replace(self, words=_WORDS, **options):
    """Lists of random tokens, as a file may have them."""
    found = {}
    for layer in range(3):
      rng = np.random.default_rng(layer)
      ids = rng.integers(0, len(words), (50, 4))
      path = self.folder / f'features/layer={layer:02d}.parquet'
      _write(path, ids, words, **options)
      found[layer] = ids
    return found

  @parameterized.parameters(
      {},
      {'row_group_size': 7},
      {'use_dictionary': False},
      {'compression': 'zstd', 'data_page_size': 64},
      {'use_compliant_nested_type': False},
  )
  def test_as_the_files_say(self, **options):
    expected = self._replace(**options)
    ready = _index.ready(_study(self.folder), patience=None)
    self.assertEmpty(ready.missing)
    for layer, ids in ready.lists('top'):
      np.testing.assert_array_equal(ids, expected[layer])
    for i, word in enumerate(_WORDS):
      self.assertEqual(ready.words.text(i), word)
    self.assertEqual(ready.words.text(99), '')
    self.assertCountEqual(ready.words.matching('the', 'exact', True), [0, 1, 2])
    self.assertCountEqual(ready.words.matching('The', 'exact', False), [1])
    self.assertCountEqual(ready.words.matching('\ufffd', 'exact', True), [3, 4])
    self.assertCountEqual(ready.words.matching('a', 'prefix', True), [5, 6])
    self.assertEqual(ready.words.pieces('abba'), ['ab'])
    self.assertEqual(ready.words.pieces('aba'), ['ab', 'a'])

  def test_a_search_answers_from_what_is_read(self):
    expected = self._replace()
    study = _study(self.folder)
    with mock.patch.object(_index, '_AT_ONCE', 60):
      with mock.patch.object(_index, '_PATIENCE', 0.0):
        ready = _index.ready(study, first=2, patience=0.0)
    self.assertEqual(list(ready.files), [0, 2])
    self.assertEqual(ready.missing, [1])
    _index.warm(study)
    found = _search.search(study, 'ab', 'exact', True)
    self.assertEmpty(found.missing)
    count = sum((x == 5).any(axis=1).sum() for x in expected.values())
    self.assertEqual(found.lists['top'][0], count)

  def test_a_file_that_changed_is_read_again(self):
    self._replace()
    study = _study(self.folder)
    _index.ready(study, patience=None)
    self._replace(['x', 'y', 'z'] + _WORDS)
    words = _index.ready(study, patience=None).words
    self.assertEqual(words.text(0), 'x')
    self.assertEqual(words.text(3), ' the')

  def test_lists_that_were_let_go_are_read_again(self):
    expected = self._replace()
    study = _study(self.folder)
    with mock.patch.object(_index, '_MOST_BYTES', 900):  # Of one file.
      for _ in range(2):
        ready = _index.ready(study, patience=None)
        for layer, ids in ready.lists('top'):
          np.testing.assert_array_equal(ids, expected[layer])

  def test_hits_are_those_of_a_plain_search(self):
    expected = self._replace()
    study = _study(self.folder)
    for wanted in ([5], [5, 6, 0], list(range(8))):
      ready = _index.ready(study, patience=None)
      total, hits = _search._with_tokens(ready, 'top', wanted, (1, 3))
      rows = [
          (-int(has.sum()), int(has.argmax()), layer, feature)
          for layer, ids in expected.items()
          for feature, has in enumerate(np.isin(ids, wanted))
          if has.any() and (layer, feature) != (1, 3)
      ]
      self.assertEqual(total, len(rows))
      own = [(-x.count, x.place - 1, x.layer, x.feature) for x in hits]
      self.assertEqual(own, sorted(rows)[: len(own)])

  def test_a_damaged_file_is_said_to_be(self):
    self._replace()
    path = self.folder / 'features/layer=01.parquet'
    data = bytearray(path.read_bytes())
    data[4 : len(data) // 3] = bytes(len(data) // 3 - 4)
    path.write_bytes(data)
    with self.assertRaisesRegex(_tables.Damaged, 'layer=01.parquet is damaged'):
      _index.ready(_study(self.folder), patience=None)


if __name__ == '__main__':
  absltest.main()
