"""Mean pairwise edit distance against a Levenshtein written out by hand."""

import itertools

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec
import numpy as np
from rapidfuzz.distance import Levenshtein

from ooc_jax import measures
from ooc_jax._errors import InputError


def _levenshtein(a, b):
  """The textbook recurrence, one cell at a time."""
  above = list(range(len(b) + 1))
  for i, x in enumerate(a, start=1):
    row = [i]
    for j, y in enumerate(b, start=1):
      row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (x != y)))
    above = row
  return above[-1]


def _mean_over_pairs(words, distance=_levenshtein):
  total, pairs = 0.0, 0
  for i, a in enumerate(words):
    for b in words[:i]:
      longer = max(len(a), len(b))
      total += distance(a, b) / longer if longer else 0.0
      pairs += 1
  return total / pairs


def _want(ids, words, distance=_levenshtein):
  return [_mean_over_pairs([words[i] for i in row], distance) for row in ids]


def _random_words(rng, count, longest=9, letters='abé日🙂\u0301'):
  """Strings over few letters (so that they overlap), and the empty one.

  The letters take one, two, three and four bytes in UTF-8, and one of them
  combines with the letter before it.
  """
  lengths = rng.integers(0, longest, count)
  return [''.join(rng.choice(list(letters), n)) for n in lengths]


class MeanPairwiseEditDistanceTest(parameterized.TestCase):

  @parameterized.parameters(2, 3, 6, 7)
  def test_equals_the_definition(self, num_top):
    rng = np.random.default_rng(num_top)
    words = _random_words(rng, 37)
    self.assertIn('', words)
    ids = rng.integers(0, len(words), (11, num_top))
    got = measures.mean_pairwise_edit_distance(ids, words)
    self.assertEqual(got.dtype, np.float32)
    # Float64 sums, rounded once.
    np.testing.assert_allclose(got, _want(ids, words), rtol=1e-7)
    self.assertGreater(np.std(got), 0.01)

  def test_every_pair_of_lengths_around_the_edges_of_words(self):
    """One pair a feature, so the distance itself can be read off."""
    rng = np.random.default_rng(0)
    lengths = [0, 1, 2, 15, 16, 17, 31, 32, 33, 47, 48, 49, 64, 65, 131]
    words = [''.join(rng.choice(list('abc'), n)) for n in lengths]
    # Near pairs too: their best paths keep to the diagonal of the table.
    words += [words[-1][:60] + 'x' + words[-1][64:], 'y' + words[-1]]
    ids = np.array(list(itertools.product(range(len(words)), repeat=2)))
    got = np.asarray(measures.mean_pairwise_edit_distance(ids, words))
    longer = np.array([max(len(words[i]), len(words[j]), 1) for i, j in ids])
    want = [_levenshtein(words[i], words[j]) for i, j in ids]
    np.testing.assert_array_equal(np.rint(got * longer), want)
    np.testing.assert_allclose(got, want / longer, rtol=4e-7)

  @parameterized.parameters(
      (['kitten', 'sitting'], 3 / 7),
      (['', ''], 0.0),
      (['', 'abc'], 1.0),
      (['ab', 'ba'], 1.0),  # A swap is two edits.
      (['same', 'same', 'same'], 0.0),
      (['ab', 'abc', ''], (1 / 3 + 1 + 1) / 3),
      (['A', 'a'], 1.0),  # Canonical strings are given; nothing is folded.
  )
  def test_by_hand(self, words, want):
    ids = np.arange(len(words))[None]
    got = measures.mean_pairwise_edit_distance(ids, words)
    np.testing.assert_allclose(got, [want], rtol=2e-7)

  def test_thousands_of_words_of_many_lengths(self):
    """Rapidfuzz is quick enough to be the oracle of a whole vocabulary."""
    rng = np.random.default_rng(2)
    words = _random_words(rng, 3_000, 12)
    words += _random_words(rng, 40, 130)
    ids = rng.integers(0, len(words), (401, 9))
    got = measures.mean_pairwise_edit_distance(ids, words)
    want = _want(ids, words, Levenshtein.distance)
    np.testing.assert_allclose(got, want, rtol=4e-7)

  def test_an_alphabet_of_more_than_16_bits(self):
    letters = [chr(c) for c in range(0x20, 0x12000) if not 0xD7FF < c < 0xE000]
    self.assertGreater(len(letters), 2**16)
    # Their codes differ in the highest bit only: places 0 and 65536.
    pair = letters[0], letters[2**16]
    words = [''.join(letters), pair[0] * 3, pair[1] * 3, ''.join(pair)]
    ids = np.array([[1, 2, 3]])
    got = measures.mean_pairwise_edit_distance(ids, words[:1] + words[1:])
    np.testing.assert_allclose(got, [(1 + 2 / 3 + 2 / 3) / 3], rtol=2e-7)

  def test_half_of_a_character(self):
    """A byte-level token may hold a lone surrogate."""
    words = ['a\ud83d', 'a\ud83e', 'a\ud83d']
    got = measures.mean_pairwise_edit_distance(np.arange(3)[None], words)
    np.testing.assert_allclose(got, [1 / 3], rtol=2e-7)

  def test_neither_order_nor_form_matters(self):
    rng = np.random.default_rng(1)
    words = _random_words(rng, 23, 40)
    ids = rng.integers(0, 23, (13, 6), dtype=np.int32)
    want = measures.mean_pairwise_edit_distance(ids, words)
    for form in (ids[:, ::-1], jnp.asarray(ids), ids.astype(np.int64)):
      np.testing.assert_array_equal(
          measures.mean_pairwise_edit_distance(form, tuple(words)), want
      )

  def test_sharded_features(self):
    rng = np.random.default_rng(6)
    words = _random_words(rng, 67, 40)
    ids = rng.integers(0, 67, (4 * 9, 5), dtype=np.int32)
    mesh = jax.make_mesh(
        (4, 2),
        ('feature', 'vocab'),
        axis_types=(jax.sharding.AxisType.Auto,) * 2,
    )
    rows = NamedSharding(mesh, PartitionSpec('feature'))
    got = measures.mean_pairwise_edit_distance(jax.device_put(ids, rows), words)
    np.testing.assert_allclose(got, _want(ids, words), rtol=4e-7)

  def test_forms_of_one_word_are_near_and_other_words_are_not(self):
    words = ['walk', 'walks', 'walked', 'walker', 'sun', 'lamp', 'grey', 'jury']
    ids = np.array([[0, 1, 2, 3], [4, 5, 6, 7]])
    forms, others = measures.mean_pairwise_edit_distance(ids, words)
    self.assertLess(forms, 0.35)
    self.assertGreater(others, 0.85)

  def test_no_features(self):
    got = measures.mean_pairwise_edit_distance(np.empty((0, 3), int), ['a'])
    self.assertEqual(got.shape, (0,))

  def test_one_token_has_no_pair(self):
    with self.assertRaisesRegex(InputError, 'k of at least 2'):
      measures.mean_pairwise_edit_distance(np.zeros((3, 1), int), ['a'])

  @parameterized.parameters(-1, 2)
  def test_id_without_a_string(self, stranger):
    with self.assertRaisesRegex(InputError, '2 token strings'):
      measures.mean_pairwise_edit_distance(
          np.array([[0, stranger]]), ['a', 'b']
      )


if __name__ == '__main__':
  absltest.main()
