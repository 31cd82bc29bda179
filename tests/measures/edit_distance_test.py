"""Mean pairwise edit distance against a Levenshtein written out by hand."""

from absl.testing import absltest
from absl.testing import parameterized
import jax.numpy as jnp
import numpy as np

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


def _mean_over_pairs(words):
  total, pairs = 0.0, 0
  for i, a in enumerate(words):
    for b in words[:i]:
      longer = max(len(a), len(b))
      total += _levenshtein(a, b) / longer if longer else 0.0
      pairs += 1
  return total / pairs


def _random_words(rng, count):
  """Short strings over few letters (so that they overlap), and the empty one.

  The letters take one, two, three and four bytes in UTF-8, and one of them
  combines with the letter before it.
  """
  letters = list('abé日🙂\u0301')
  lengths = rng.integers(0, 9, count)
  return [''.join(rng.choice(letters, n)) for n in lengths]


class MeanPairwiseEditDistanceTest(parameterized.TestCase):

  @parameterized.parameters(2, 3, 7)
  def test_equals_the_definition(self, num_top):
    rng = np.random.default_rng(num_top)
    words = _random_words(rng, 37)
    self.assertIn('', words)
    ids = rng.integers(0, len(words), (11, num_top))
    got = measures.mean_pairwise_edit_distance(ids, words)
    want = [_mean_over_pairs([words[i] for i in row]) for row in ids]
    # Both are float64 sums of the same quotients in another order.
    np.testing.assert_allclose(got, want, rtol=1e-14)
    self.assertGreater(np.std(want), 0.01)

  def test_words_longer_than_a_machine_word(self):
    """Past 64 letters the engine takes another path."""
    rng = np.random.default_rng(0)
    words = [''.join(rng.choice(list('abc'), n)) for n in (63, 64, 65, 131, 0)]
    got = measures.mean_pairwise_edit_distance(np.arange(5)[None], words)
    np.testing.assert_allclose(got, [_mean_over_pairs(words)], rtol=1e-14)

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
    np.testing.assert_allclose(got, [want], rtol=1e-15)

  def test_order_does_not_matter_and_jax_ids_are_taken(self):
    rng = np.random.default_rng(1)
    words = _random_words(rng, 23)
    ids = rng.integers(0, 23, (5, 6), dtype=np.int32)
    np.testing.assert_allclose(
        measures.mean_pairwise_edit_distance(jnp.asarray(ids[:, ::-1]), words),
        measures.mean_pairwise_edit_distance(ids, words),
        rtol=1e-14,
    )

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
