"""One feature from the weights: numbers beside oracles."""

from absl.testing import absltest
import jax.numpy as jnp
import numpy as np

import ooc_jax
from ooc_jax import InputError
from ooc_jax import circuits
from ooc_jax.experiments import explain
from ooc_jax.experiments.output_prediction import OutputPrediction

_LAYER, _FEATURE = 3, 538


class ComputeTest(absltest.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.model = ooc_jax.load_model(
        'tiny-gemma2', parts=('embedding', 'unembedding', 'attention', 'norms')
    )
    cls.dictionary = ooc_jax.load_dictionary(
        'tiny-gemma2-res', layer=_LAYER, model=cls.model
    )
    cls.config = OutputPrediction(model='tiny-gemma2')
    cls.found = explain.compute(cls.model, cls.dictionary, _FEATURE, cls.config)
    cls.strings = cls.model.tokenizer.token_strings()

  def _tokens(self, ids):
    return [self.strings[i] for i in np.asarray(ids).tolist()]

  def test_sides_are_those_of_the_lenses(self):
    mask = circuits.readable_mask(
        self.model, undertrained_cosine=self.config.undertrained_cosine
    )
    one = ooc_jax.dictionaries.from_arrays(
        self.dictionary.decoder[_FEATURE][None],
        self.dictionary.encoder[_FEATURE][None],
        threshold=self.dictionary.threshold[_FEATURE][None],
        encoder_bias=self.dictionary.encoder_bias[_FEATURE][None],
        layer=_LAYER,
    )
    self.assertEqual([x.name for x in self.found.sides], ['output', 'input'])
    for side, read in zip(
        self.found.sides,
        (ooc_jax.output_lens, ooc_jax.input_lens),
        strict=True,
    ):
      lens = read(self.model, one, k=20, spread=1.5, mask=mask)
      for end in ('top', 'bottom'):
        tokens, logits = zip(*getattr(side, end), strict=True)
        self.assertEqual(
            list(tokens), self._tokens(getattr(lens, f'{end}_ids')[0])
        )
        np.testing.assert_allclose(
            logits, getattr(lens, f'{end}_logits')[0], rtol=1e-5
        )
      scores = ooc_jax.coherence(self.model, lens)
      for x in side.values:
        if x.measure.name != 'cosine':  # Whose space has another mask here.
          self.assertAlmostEqual(x.value, float(scores[x.measure.name][0]), 4)
      np.testing.assert_allclose(side.top_mass, lens.top_mass[0], rtol=1e-4)
    self.assertIsNone(self.found.sides[0].active_share)
    np.testing.assert_allclose(
        self.found.sides[1].active_share, lens.active_share[0], atol=1e-6
    )

  def test_nearest_decoders_are_those_of_float64(self):
    decoder = np.asarray(self.dictionary.decoder, np.float64)
    unit = decoder / np.linalg.norm(decoder, axis=1, keepdims=True)
    cosines = unit @ unit[_FEATURE]
    ids = np.argsort(-cosines)[1:4]
    found, own = zip(*self.found.nearest, strict=True)
    self.assertEqual(list(found), ids.tolist())
    np.testing.assert_allclose(own, cosines[ids], atol=3e-7)
    self.assertLessEqual(set(found), self.found.partner_tokens.keys())

  def test_chance_is_chance(self):
    # A random direction among the random: p is no smaller than it should be.
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((2, self.model.config.embed_dim))
    random = ooc_jax.dictionaries.from_arrays(
        rows.astype(np.float32), layer=_LAYER
    )
    p = []
    for feature in range(2):
      found = explain.compute(
          self.model, random, feature, self.config, heads=0, directions=64
      )
      self.assertLen(found.sides, 1)  # There is no encoder.
      self.assertEqual(found.writers, [])
      p += [x.p for x in found.sides[0].values]
    self.assertBetween(np.mean(p), 0.2, 0.8)
    # Beside a feature that is none.
    self.assertLess(min(x.p for x in self.found.sides[0].values), 0.01)

  def test_partners_are_those_of_experiment_2(self):
    statistics = ooc_jax.attention_statistics(
        self.model, self.dictionary, _LAYER + 1, k=2
    )
    self.assertLen(self.found.heads, 4)
    weights = np.asarray(statistics.largest_weight)[:, _FEATURE]
    order = np.argsort(-weights).tolist()
    self.assertEqual([x.head for x in self.found.heads], order)
    for use in self.found.heads:
      self.assertAlmostEqual(use.weight, float(weights[use.head]), 5)
      for role in ('query', 'key'):
        own = getattr(statistics, role)
        ids, scores = zip(*use.partners[role], strict=True)
        at = use.head, _FEATURE
        np.testing.assert_array_equal(ids, np.asarray(own.top_ids)[at])
        np.testing.assert_allclose(
            scores, np.asarray(own.top_scores)[at], rtol=1e-4
        )
      lens = ooc_jax.ov_lens(
          self.model, self.dictionary, _LAYER + 1, use.head, k=4,
          mask=circuits.readable_mask(
              self.model, undertrained_cosine=self.config.undertrained_cosine
          ),
      )  # fmt: skip
      self.assertEqual(use.writes, self._tokens(lens.top_ids[_FEATURE]))
    lens = ooc_jax.output_lens(self.model, self.dictionary, k=4)
    for feature, tokens in self.found.partner_tokens.items():
      self.assertEqual(list(tokens), self._tokens(lens.top_ids[feature]))

  def test_writers_are_those_of_the_definition(self):
    # In float64, with W_V W_O as it stands.
    config = self.model.config
    encoder = np.asarray(self.dictionary.encoder[_FEATURE], np.float64)
    found = {}
    for layer in range(_LAYER + 1):
      prefix = f'layer_{layer}'

      def get(name, prefix=prefix):
        array = ooc_jax.model.parameter(self.model, f'{prefix}/{name}')
        return np.asarray(array, np.float64)

      gain = 1 + get('attention_norm/weight')
      after = 1 + get('post_attention_norm/weight')
      for head in range(config.num_heads):
        value = get('attention/value')[:, head // config.group_size]
        path = gain[:, None] * value @ get('attention/output')[head] * after
        path *= np.sqrt(config.embed_dim)
        chance = np.linalg.norm(path) * np.linalg.norm(encoder)
        r = path @ encoder
        strength = np.linalg.norm(r) / (chance / np.sqrt(config.embed_dim))
        found[layer, head] = strength, r
    best = sorted(found, key=lambda x: -found[x][0])[:3]
    self.assertEqual([(x.layer, x.head) for x in self.found.writers], best)
    table = np.asarray(circuits.embedding_table(self.model), np.float64)
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    mask = np.asarray(
        circuits.readable_mask(
            self.model, undertrained_cosine=self.config.undertrained_cosine
        )
    )
    for x in self.found.writers:
      strength, r = found[x.layer, x.head]
      self.assertAlmostEqual(x.strength, strength, 4)
      order = np.argsort(-np.where(mask, table @ r, -np.inf))[:4]
      self.assertEqual(x.sources, self._tokens(order))

  def test_a_direction_that_a_head_writes_is_found(self):
    # What head 2 of layer 1 writes best: its first right singular vector.
    output = np.asarray(circuits.head_output(self.model, 1, 2), np.float64)
    _, _, right = np.linalg.svd(output, full_matrices=False)
    planted = jnp.asarray(right[:1], jnp.float32)
    dictionary = ooc_jax.dictionaries.from_arrays(
        planted, planted, layer=_LAYER
    )
    found = explain.compute(self.model, dictionary, 0, self.config, heads=0)
    self.assertEqual((found.writers[0].layer, found.writers[0].head), (1, 2))
    self.assertGreater(found.writers[0].strength, 2)

  def test_a_feature_that_is_not_there(self):
    with self.assertRaisesRegex(InputError, 'no feature 1024 in .* has 1,024'):
      explain.compute(self.model, self.dictionary, 1024, self.config)


if __name__ == '__main__':
  absltest.main()
