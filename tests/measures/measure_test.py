"""A measure that the package does not know, from a lens to its threshold."""

import types

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from ooc_jax import measures
from ooc_jax._errors import InputError

_WORDS = ('the', 'of', '1999', '42', 'über', '日本', 'end', '7')
# The share of top tokens that are numbers: 0, 1/2 or 1 at a top-k of 2.
_NUMBERS = measures.Measure(
    name='numbers',
    description='share of the top tokens that are numbers',
    low_is_coherent=False,
    compute=lambda lens, strings, space: np.mean(
        [[strings[i].isdigit() for i in row] for row in lens.top_ids.tolist()],
        axis=1,
    ),
    label='numbers',
    short_label='num',
    unit='of 1',
)
_THREE = measures.MEASURES[:3]
_FOUR = (*_THREE, _NUMBERS)


def _scores(seed, size, found=_FOUR):
  """A lens of random tokens, and its measures."""
  rng = np.random.default_rng(seed)
  lens = types.SimpleNamespace(
      top_ids=jnp.asarray(rng.integers(0, len(_WORDS), (size, 2))),
      entropy=jnp.asarray(rng.gamma(4.0, 1.0, size), jnp.float32),
  )
  table = jax.random.normal(jax.random.key(0), (len(_WORDS), 5))
  space = measures.token_space(table, np.ones(len(_WORDS), bool))
  return lens, measures.lens_coherence(lens, _WORDS, space, measures=found)


class FourthMeasureTest(parameterized.TestCase):

  def test_is_computed_beside_the_others(self):
    lens, scores = _scores(0, 31)
    self.assertSequenceEqual(
        list(scores), ['levenshtein', 'cosine', 'entropy', 'numbers']
    )
    want = np.isin(lens.top_ids, [2, 3, 7]).mean(axis=1)
    np.testing.assert_array_equal(scores.numbers, want.astype(np.float32))
    self.assertEqual(scores['numbers'].dtype, np.float32)
    _, three = _scores(0, 31, _THREE)
    for name in three:
      np.testing.assert_array_equal(scores[name], three[name])

  @parameterized.parameters(('any', 1), ('majority', 3), ('all', 4))
  def test_votes_are_of_four(self, rule, needed):
    _, scores = _scores(0, 31)
    cuts = measures.fixed_thresholds(
        {'levenshtein': 0.8, 'cosine': 0.0, 'entropy': 4.0, 'numbers': 0.25},
        _FOUR,
    )
    votes = sum(
        np.asarray(x, int)
        for x in (
            scores.levenshtein < 0.8,
            scores.cosine > 0,
            scores.entropy < 4,
            scores.numbers > 0.25,
        )
    )
    self.assertLen(set(votes), 5)
    np.testing.assert_array_equal(
        measures.is_semantic(scores, cuts, rule), votes >= needed
    )

  def test_thresholds_and_p_values_against_a_null(self):
    _, features = _scores(0, 31)
    _, null = _scores(1, 1_000)
    cuts = measures.null_thresholds(null, 0.25, 'numbers')
    # All of two tokens are numbers in 9 of 64; one of them in 39 of 64.
    self.assertEqual(cuts.numbers, 0.5)
    self.assertEqual(cuts.null_share, (null.numbers == 1).mean())
    self.assertEqual((cuts.cosine, cuts.entropy), (np.inf, -np.inf))
    p = measures.null_p_values(features, null)['numbers']
    for x in (0.0, 0.5, 1.0):
      want = (1 + (null.numbers >= x).sum()) / 1_001
      self.assertEqual(set(p[features.numbers == x]), {want})
    shared = measures.null_thresholds(null, 0.25, 'all')
    passed = measures.passes_by_measure(null, shared)
    self.assertEqual(
        np.all(list(passed.values()), axis=0).mean(), shared.null_share
    )

  def test_quantiles(self):
    _, scores = _scores(0, 31)
    cuts = measures.quantile_thresholds([scores], 0.75)
    self.assertEqual(cuts.numbers, np.quantile(scores.numbers, 0.75))

  def test_sweep(self):
    _, features = _scores(0, 31)
    _, null = _scores(1, 1_000)
    rows = measures.sweep({5: features}, {5: null}, alphas=(0.25,))
    decisions = {(row['rule'], row['measure']) for row in rows}
    self.assertLen(decisions, 3 + 4)
    (row,) = [
        row
        for row in rows
        if row['measure'] == 'numbers'
        and row['kind'] == 'null'
        and row['layer'] == 5
    ]
    self.assertEqual(row['share'], (features.numbers == 1).mean())

  def test_labels(self):
    self.assertEqual(_NUMBERS.title, 'Numbers (of 1)')
    self.assertEqual(_NUMBERS.shown(0.5, 2), '0.50 of 1')
    self.assertEqual(_NUMBERS.condition(0.5), 'numbers > 0.500 of 1')
    self.assertEqual(
        [m.condition(0.25) for m in _THREE],
        ['edit distance < 0.250', 'cosine > 0.250', 'entropy < 0.250 nats'],
    )
    self.assertEqual(
        [m.title for m in _THREE],
        ['Edit distance', 'Cosine', 'Entropy (nats)'],
    )


class RecordsTest(absltest.TestCase):

  def test_a_pytree_with_a_leaf_a_measure(self):
    _, scores = _scores(0, 31)
    halves = jax.tree.map(lambda x: x[:2], scores)
    self.assertEqual(halves.measures, _FOUR)
    np.testing.assert_array_equal(halves.numbers, scores.numbers[:2])
    paths = [
        jax.tree_util.keystr(path)
        for path, _ in jax.tree_util.tree_leaves_with_path(scores)
    ]
    self.assertEqual(paths, ['.levenshtein', '.cosine', '.entropy', '.numbers'])

  def test_replaced_and_joined(self):
    _, scores = _scores(0, 31)
    other = scores.replace(numbers=1 - scores.numbers)
    both = measures.Coherence.concatenate([scores, other])
    self.assertEqual((both.size, both.measures), (62, _FOUR))
    np.testing.assert_array_equal(both.cosine[31:], scores.cosine)
    np.testing.assert_array_equal(both.numbers[31:], 1 - scores.numbers)

  def test_some_measures_only(self):
    x = np.arange(3.0)
    for made in (
        measures.Coherence(entropy=x, levenshtein=-x),
        measures.Coherence(-x, entropy=x),
    ):
      self.assertEqual(list(made), ['levenshtein', 'entropy'])
      self.assertEqual(made.measures, (_THREE[0], _THREE[2]))
      np.testing.assert_array_equal(made.entropy, x)
      cuts = measures.quantile_thresholds([made], 0.5)
      # Low is coherent in both: 0 by entropy, 2 by edit distance.
      np.testing.assert_array_equal(
          measures.is_semantic(made, cuts), [True, False, True]
      )

  def test_thresholds_in_one_level(self):
    cuts = measures.fixed_thresholds(
        {'cosine': 0.5, 'entropy': 3.0, 'levenshtein': 0.25}, _THREE
    )
    self.assertEqual(
        list(cuts.as_dict().items()),
        [
            ('levenshtein', 0.25),
            ('cosine', 0.5),
            ('entropy', 3.0),
            ('kind', 'fixed'),
            ('level', None),
            ('null_share', None),
        ],
    )

  def test_refusals(self):
    x = np.zeros(3)
    with self.assertRaisesRegex(InputError, '0 arrays'):
      measures.Coherence()
    with self.assertRaisesRegex(InputError, "did you mean 'cosine'"):
      measures.Coherence(x, cosin=x, entropy=x)
    with self.assertRaisesRegex(InputError, '4 arrays'):
      measures.Coherence(x, x, x, x, measures=_THREE)
    with self.assertRaisesRegex(InputError, '4 arrays'):
      measures.Coherence(x, x, x, cosine=x)
    with self.assertRaisesRegex(AttributeError, "no measure 'cosin'"):
      _ = measures.Coherence(x, x, x).cosin
    with self.assertRaisesRegex(InputError, 'no number for numbers'):
      measures.fixed_thresholds({m.name: 0.5 for m in _THREE}, _FOUR)


if __name__ == '__main__':
  absltest.main()
