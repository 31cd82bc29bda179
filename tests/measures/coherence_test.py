"""The three measures together, on a vocabulary with planted features."""

import dataclasses
import pathlib
import types

from absl.testing import absltest
import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec
import numpy as np

import ooc_jax
from ooc_jax import measures
from ooc_jax._errors import InputError
from tests import tiny

# Forms of one word; one meaning in other words; neither.
_FORMS = ['walk', 'walks', 'walked', 'walker', 'walking']
_MEANING = ['red', 'blue', 'green', 'pink', 'ochre']
_NEITHER = ['sun', 'jury', 'often', 'lamp', 'eight']


def _planted():
  rng = np.random.default_rng(0)
  strings = _FORMS + _MEANING + _NEITHER
  strings += [f'{chr(97 + i % 26)}{i}' for i in range(400)]
  table = rng.normal(size=(len(strings), 41))
  # Forms of a word lie together too, as they do in real unembeddings.
  for first in (0, 5):
    table[first : first + 5] += 2.0 * rng.normal(size=41)
  space = measures.token_space(
      jnp.asarray(table, jnp.float32), np.ones(len(strings), bool)
  )
  lens = types.SimpleNamespace(
      top_ids=jnp.arange(15).reshape(3, 5),
      entropy=jnp.array([2.5, 7.25, 9.0]),
  )
  return lens, strings, space


class LensCoherenceTest(absltest.TestCase):

  def test_each_measure_finds_what_it_is_for(self):
    scores = measures.lens_coherence(*_planted())
    forms, meaning, neither = scores.levenshtein
    self.assertLess(forms, 0.4)
    self.assertGreater(min(meaning, neither), 0.7)
    forms, meaning, neither = scores.cosine
    self.assertGreater(min(forms, meaning), 0.5)
    self.assertLess(neither, 0.1)
    np.testing.assert_array_equal(scores.entropy, [2.5, 7.25, 9.0])

  def test_fields_are_the_measures_themselves(self):
    lens, strings, space = _planted()
    scores = measures.lens_coherence(lens, strings, space)
    np.testing.assert_allclose(
        scores.levenshtein,
        measures.mean_pairwise_edit_distance(lens.top_ids, strings),
        rtol=1e-7,
    )
    np.testing.assert_array_equal(
        scores.cosine, measures.mean_pairwise_cosine(lens.top_ids, space)
    )

  def test_is_a_pytree_of_float32_on_the_host(self):
    scores = measures.lens_coherence(*_planted())
    leaves = jax.tree.leaves(scores)
    self.assertLen(leaves, len(measures.MEASURES))
    for leaf in leaves:
      self.assertIsInstance(leaf, np.ndarray)
      self.assertEqual(leaf.dtype, np.float32)
    halves = jax.tree.map(lambda x: x[:2], scores)
    self.assertIsInstance(halves, measures.Coherence)
    self.assertEqual(halves.cosine.shape, (2,))
    shapes = jax.tree.map(np.shape, scores)
    self.assertEqual(shapes.entropy, (3,))

  def test_sharded_lens_and_space(self):
    lens, strings, space = _planted()
    mesh = jax.make_mesh(
        (3, 1),
        ('feature', 'vocab'),
        axis_types=(jax.sharding.AxisType.Auto,) * 2,
        devices=jax.devices()[:3],
    )
    rows = NamedSharding(mesh, PartitionSpec('feature'))
    sharded = types.SimpleNamespace(
        top_ids=jax.device_put(lens.top_ids, rows),
        entropy=jax.device_put(lens.entropy, rows),
    )
    table = jax.device_put(
        space.table, NamedSharding(mesh, PartitionSpec('vocab'))
    )
    got = measures.lens_coherence(sharded, strings, space.replace(table=table))
    want = measures.lens_coherence(lens, strings, space)
    for measure in (m.name for m in measures.MEASURES):
      self.assertIsInstance(getattr(got, measure), np.ndarray)
      np.testing.assert_allclose(
          getattr(got, measure), getattr(want, measure), atol=1e-6
      )

  def test_several_numbers_of_tokens_at_once(self):
    lens, strings, space = _planted()
    turned = types.SimpleNamespace(
        top_ids=lens.top_ids[::-1], entropy=lens.entropy[::-1]
    )
    lens.turned = lambda: turned
    every = measures.measures_at('both')
    # The last measure knows nothing of sizes.
    own = dataclasses.replace(
        every[0], name='own', compute_sizes=None, compute=every[0].compute
    )
    lens.cut = lambda k: types.SimpleNamespace(top_ids=lens.top_ids[:, :k])
    every = (*every, own)
    # As few strings that all pairs are known beforehand, and as many that not.
    for words in (strings, strings + ['x'] * 4000):
      more = len(words) - len(strings)
      wide = space.replace(
          table=jnp.pad(space.table, ((0, more), (0, 0))),
          norms=jnp.pad(space.norms, (0, more)),
      )
      got = measures.lens_coherences(
          lens, words, wide, (3, 5, 2), measures=every
      )
      self.assertSequenceEqual(list(got), [3, 5, 2])
      for k, scores in got.items():
        few = types.SimpleNamespace(
            top_ids=lens.top_ids[:, :k], entropy=lens.entropy
        )
        few.turned = lambda k=k: types.SimpleNamespace(
            top_ids=turned.top_ids[:, :k], entropy=turned.entropy
        )
        want = measures.lens_coherence(few, words, wide, measures=every)
        for name in want:
          np.testing.assert_allclose(scores[name], want[name], atol=1e-7)

  def test_space_of_another_model(self):
    lens, strings, space = _planted()
    small = space.replace(table=space.table[:9], norms=space.norms[:9])
    with self.assertRaisesRegex(InputError, '9 rows in the space'):
      measures.lens_coherence(lens, strings, small)

  def test_strings_of_another_model(self):
    lens, strings, space = _planted()
    with self.assertRaisesRegex(InputError, '9 token strings'):
      measures.lens_coherence(lens, strings[:9], space)


class CoherenceTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    folder = pathlib.Path(self.create_tempdir().full_path)
    self.model = ooc_jax.load_model(str(tiny.make_checkpoint(folder / 'm')))
    dictionary = ooc_jax.load_dictionary('mlp', model=self.model, layer=1)
    self.lens = ooc_jax.output_lens(
        self.model, dictionary, k=4, precision='exact'
    )

  def test_is_that_of_the_models_own_strings_and_space(self):
    got = ooc_jax.coherence(self.model, self.lens)
    want = measures.lens_coherence(
        self.lens,
        self.model.tokenizer.canonical_strings(),
        measures.model_token_space(self.model),
    )
    again = ooc_jax.coherence(
        self.model,
        self.lens,
        space=measures.model_token_space(self.model),
        strings=measures.model_strings(self.model),
    )
    for measure in (m.name for m in measures.MEASURES):
      self.assertGreater(np.std(getattr(got, measure)), 0.0)
      for other in (want, again):
        np.testing.assert_array_equal(
            getattr(got, measure), getattr(other, measure)
        )

  def test_the_given_space_and_strings_are_used(self):
    scores = ooc_jax.coherence(
        self.model,
        self.lens,
        space=measures.model_token_space(self.model, 'centred'),
        strings=['same'] * len(self.model.tokenizer.canonical_strings()),
    )
    np.testing.assert_array_equal(scores.levenshtein, 0.0)
    default = ooc_jax.coherence(self.model, self.lens)
    self.assertGreater(np.abs(scores.cosine - default.cosine).max(), 0.01)

  def test_without_a_tokenizer(self):
    model = dataclasses.replace(self.model, tokenizer=None)
    with self.assertRaisesRegex(InputError, 'no tokenizer'):
      ooc_jax.coherence(model, self.lens)


if __name__ == '__main__':
  absltest.main()
