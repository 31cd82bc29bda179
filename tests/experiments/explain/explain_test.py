"""One feature on a screen: numbers beside oracles, and what is known of it."""

import json
import pathlib
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
from huggingface_hub import constants
import jax.numpy as jnp
import numpy as np

import ooc_jax
from ooc_jax import InputError
from ooc_jax import circuits
from ooc_jax import experiments
from ooc_jax import export
from ooc_jax._text import display_width
from ooc_jax.experiments import explain
from ooc_jax.experiments.output_prediction import OutputPrediction
from tests.experiments import scripts

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

  def test_chance_is_chance(self):
    # A random direction among the random: p is no smaller than it should be.
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((4, self.model.config.embed_dim))
    random = ooc_jax.dictionaries.from_arrays(
        rows.astype(np.float32), layer=_LAYER
    )
    p = []
    for feature in range(4):
      found = explain.compute(
          self.model, random, feature, self.config, heads=0, directions=64
      )
      self.assertLen(found.sides, 1)  # There is no encoder.
      self.assertEqual(found.writers, [])
      p += [x.p for x in found.sides[0].values]
    self.assertBetween(np.mean(p), 0.25, 0.75)
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


class NameTest(parameterized.TestCase):

  @parameterized.parameters(
      'https://www.neuronpedia.org/gemma-2-2b/0-gemmascope-res-16k/123',
      'neuronpedia.org/gemma-2-2b/0-gemmascope-res-16k/123?embed=true#x',
      'gemma-2-2b/0-gemmascope-res-16k/123',
  )
  def test_an_address(self, text):
    name = explain.parse_feature(text)
    self.assertEqual((name.layer, name.feature), (0, 123))
    self.assertEqual(name.model, 'google/gemma-2-2b')
    self.assertStartsWith(name.dictionary, 'gemma-scope-2b-pt-res')
    self.assertEqual(
        name.page,
        'https://www.neuronpedia.org/gemma-2-2b/0-gemmascope-res-16k/123',
    )

  def test_a_place(self):
    self.assertEqual(
        explain.parse_feature('3/538'), explain.FeatureName(3, 538)
    )

  @parameterized.parameters(
      (None, 'Say which feature'),
      ('3', 'is no feature; write LAYER/NUMBER'),
      ('3/x', 'is no feature'),
      ('https://neuronpedia.org/gemma-2-2b', 'is no feature'),
      ('no-model/0-res/1', 'No dictionary here is no-model/0-res'),
  )
  def test_what_is_no_feature(self, text, message):
    with self.assertRaisesRegex(InputError, message):
      explain.parse_feature(text)

  @mock.patch.object(constants, 'HF_HUB_OFFLINE', True)
  def test_without_the_weights_it_says_so(self):
    done = scripts.run_here(
        'explain', '--feature=https://www.neuronpedia.org/gemma-2-2b'
        '/0-gemmascope-res-16k/123', '--revision=none',
    )  # fmt: skip
    self.assertEqual(done.returncode, 2)
    self.assertRegex(done.stderr, 'error: .*google/gemma-2-2b.*local copy')
    self.assertEqual(done.stderr.count('\n'), 1)


class CommandTest(absltest.TestCase):

  def _run(self, *flags):
    return scripts.run_here('explain', f'--feature={_LAYER}/{_FEATURE}', *flags)

  def test_with_and_without_results(self):
    root = pathlib.Path(self.create_tempdir().full_path)
    config = experiments.load_config(
        'tiny_gemma2',
        {'layers': str(_LAYER), 'null_size': 100, 'layer_null_size': 100},
        OutputPrediction,
    )
    run = experiments.output_prediction.run(
        config, out=root / 'out', mesh=None, figures=False
    )
    alone = self._run()
    self.assertEqual(alone.returncode, 0, alone.stderr)
    lines = alone.stdout.splitlines()
    self.assertLess(len(lines), 34)
    self.assertLessEqual(max(map(display_width, lines)), 100)
    self.assertNotIn('limit', alone.stdout)
    done = self._run(f'--results={root}')
    text = done.stdout
    self.assertIn('; with what is in out.', text)
    limit = run.summary['layers'][0]['thresholds']['entropy']
    self.assertIn(f'limit {limit:.2f}', text)
    chosen = export.run(
        [root / 'out'],
        export.Export(
            to='jsonl',
            features=(f'{_LAYER}/{_FEATURE}',),
            out=str(root / 'rows'),
        ),
    )
    labels = json.loads(
        (chosen.folder / 'output_prediction/labels.jsonl').read_text()
    )
    word = 'coherent' if labels['coherent'] else 'not coherent'
    self.assertIn(f'Output side: {word}, ', text)
    for name in ('levenshtein', 'cosine', 'entropy'):
      passes = 'passes' if labels[f'{name}_passes'] else 'does not pass'
      self.assertIn(passes, text)
    # The two agree in what both know.
    row = json.loads(
        (chosen.folder / 'output_prediction/features.jsonl').read_text()
    )
    self.assertIn(f'{row["entropy"]:6.2f}  random', text)
    self.assertIn(f'{row["cosine"]:6.2f}  random', text)

  def test_results_of_something_else(self):
    root = self.create_tempdir().full_path
    done = self._run(f'--results={root}')
    self.assertEqual(done.returncode, 2)
    self.assertIn(
        'has no results of tiny-gemma2-res/layer_{layer} of', done.stderr
    )

  def test_neurons_have_both_ends(self):
    done = scripts.run_here(
        'explain', '--feature=3/7', '--dictionary=mlp', '--heads=1'
    )
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertIn('edit distance at the bottom', done.stdout)

  def test_the_last_layer_is_read_by_no_attention(self):
    done = scripts.run_here('explain', '--feature=7/0')
    self.assertIn('Attention: no layer reads it.', done.stdout)
    self.assertIn('Heads that can write it', done.stdout)

  def test_a_feature_that_is_not_there(self):
    done = scripts.run_here('explain', '--feature=3/5000')
    self.assertEqual(done.returncode, 2)
    self.assertIn('error: There is no feature 5000', done.stderr)


if __name__ == '__main__':
  absltest.main()
