"""Populations joined and compared, and the paper's statements judged."""

import dataclasses

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import pytest
from scipy import stats

import ooc_jax
from ooc_jax import experiments
from ooc_jax import measures
from ooc_jax.experiments import attention_participation
from ooc_jax.experiments.semantic_attention._populations import LABELLINGS
from ooc_jax.experiments.semantic_attention._populations import effect_rows
from ooc_jax.experiments.semantic_attention._populations import layer_of
from ooc_jax.experiments.semantic_attention._populations import population_rows
from ooc_jax.experiments.semantic_attention._statements import statements
from ooc_jax.experiments.semantic_attention._statements import verdict_sweep
from ooc_jax.results import tables


class PlantedTest(parameterized.TestCase):
  """Layers in which we know how the populations differ."""

  def setUp(self):
    super().setUp()
    self.rng = np.random.default_rng(7)

  def _layers(self, shifts, size=160, heads=3):
    """`shifts`: labelling -> (of semantic, of other) at each layer."""
    number = len(next(iter(shifts.values()))[0])
    layers = []
    for layer in range(number):
      labels = {x: self.rng.random(size) < 0.4 for x in shifts}
      statistics = {}
      for context in measures.CONTEXTS:
        values = self.rng.normal(size=(heads, size))
        for name, (semantic, other) in shifts.items():
          values += np.where(labels[name], semantic[layer], other[layer])
        statistics[context] = values
      layers.append(layer_of(layer + 1, statistics, labels, 'mean'))
    return layers

  def _verdicts(self, shifts, tied=False, **sizes):
    return statements(self._layers(shifts, **sizes), tied, 10)

  @parameterized.parameters(1, -1)
  def test_courses_that_go_apart(self, sign):
    t = sign * np.linspace(0, 1.0, 9)
    found = self._verdicts({'output': (t, -t)})
    self.assertEqual(found['inverse']['verdict'], 'supported')
    for test in found['inverse']['tests'].values():
      self.assertEqual(test['sign'], sign)
      self.assertGreater(abs(test['change']), test['least_change'])
    self.assertEqual(found['reversed']['verdict'], 'not decided')
    self.assertIn('no labels', found['reversed']['why'])

  def test_what_a_layer_shares_says_nothing(self):
    """Both populations rise, one a little over the other everywhere."""
    t = np.linspace(0, 9, 9)
    found = self._verdicts({'output': (t, t + 0.3)})['inverse']
    self.assertEqual(found['verdict'], 'not decided')
    self.assertIsNone(found['why'])
    layers = self._layers({'output': (t / 9, t * 0)})
    scaled = [
        dataclasses.replace(
            x, statistics={c: 9 + 2**i * v for c, v in x.statistics.items()}
        )
        for i, x in enumerate(layers)
    ]
    self.assertEqual(
        statements(layers, False, 10), statements(scaled, False, 10)
    )

  def test_reversed_for_input_labels(self):
    # Labels are drawn apart, so each labelling sees its own shift.
    t, none = np.linspace(-1, 1, 9), np.zeros(9)
    opposite = {'output': (t, -t), 'input': (-t, t)}
    found = self._verdicts(opposite)['reversed']
    self.assertEqual(found['verdict'], 'supported')
    for test in found['tests'].values():
      self.assertEqual(test['sign'], -1)
      self.assertAlmostEqual(
          test['change'],
          test['input_change'] - test['output_change'],
          delta=0.1,
      )
    same = self._verdicts({'output': (t, -t), 'input': (t, -t)})['reversed']
    self.assertEqual(same['verdict'], 'not supported')
    tied = self._verdicts(opposite, tied=True)['reversed']
    self.assertEqual(tied['verdict'], 'not decided')
    self.assertIn('tied', tied['why'])
    # A difference alone is no reversal.
    one = self._verdicts({'output': (t, -t), 'input': (none, none)})
    tests = one['reversed']['tests'].values()
    self.assertLess(max(x['difference_p_value'] for x in tests), 0.05)
    self.assertEqual(one['reversed']['verdict'], 'not decided')

  def test_verdicts_under_other_labels(self):
    t = np.linspace(-1, 1, 9)
    layers = [
        dataclasses.replace(
            x,
            choices={
                'semantic': x.labels,
                'none': {'output': np.zeros(160, bool)},
            },
        )
        for x in self._layers({'output': (t, -t)})
    ]
    rows = verdict_sweep({'mean': layers, 'largest': layers}, False, 10)
    self.assertLen(rows, 4)
    self.assertEqual(
        [(x['labels'], x['over_heads'], x['inverse']) for x in rows[:3]],
        [
            ('semantic', 'mean', 'supported'),
            ('none', 'mean', 'not decided'),
            ('semantic', 'largest', 'supported'),
        ],
    )

  @parameterized.parameters((5, '5 layers have'), (1, '1 layer has'))
  def test_few_layers_decide_nothing_and_say_so(self, layers, count):
    t = np.linspace(0, 3, layers)
    found = self._verdicts({'output': (t, -t)})['inverse']
    self.assertEqual(found['verdict'], 'not decided')
    self.assertStartsWith(found['why'], count)

  def test_effects_are_those_of_the_definitions(self):
    t = np.linspace(0, 1, 6)
    layers = self._layers({'output': (t, 0 * t)}, size=50)
    rows = effect_rows(layers, 'output', least=10)
    self.assertLen(rows, 6 * len(measures.CONTEXTS))
    for row in rows:
      one = layers[row['layer'] - 1]
      values, labels = one.statistics[row['context']], one.labels['output']
      first, second = values[labels], values[~labels]
      delta = np.sign(first[:, None] - second[None]).mean()
      self.assertAlmostEqual(row['delta'], delta)
      test = stats.mannwhitneyu(first, second, method='asymptotic')
      self.assertAlmostEqual(row['p_value'], test.pvalue)
      self.assertEqual(row['semantic'], labels.sum())
      n, m = first.size, second.size
      # Mann and Whitney's, as no values are equal.
      variance = (n + m + 1) / (3 * n * m)
      self.assertAlmostEqual(row['permuted'], np.sqrt(variance))
    for context in measures.CONTEXTS:
      own = [row for row in rows if row['context'] == context]
      q = stats.false_discovery_control([row['p_value'] for row in own])
      np.testing.assert_allclose([row['q_value'] for row in own], q)
    table = tables.EFFECTS.build_rows(rows)
    self.assertEqual(table.num_rows, len(rows))
    self.assertEqual(table['delta'][0].as_py(), rows[0]['delta'])

  def test_small_populations_are_not_compared(self):
    layers = self._layers({'output': (np.ones(6), np.ones(6))}, size=12)
    rows = effect_rows(layers, 'output', least=10)
    self.assertTrue(all('delta' not in row for row in rows))
    self.assertEqual(
        tables.EFFECTS.build_rows(rows)['delta'].null_count, len(rows)
    )
    found = statements(layers, False, 10)['inverse']
    self.assertEqual((found['verdict'], found['why'][:8]), (
        'not decided', '0 layers'
    ))  # fmt: skip

  def test_populations_and_histograms(self):
    layers = self._layers({'output': (np.ones(2), np.zeros(2))}, size=30)
    rows = population_rows(layers, 'output')
    self.assertLen(rows, 2 * 2 * len(measures.CONTEXTS))
    for row in rows:
      one = layers[row['layer'] - 1]
      mine = one.labels['output'] == (row['population'] == 'semantic')
      values = one.statistics[row['context']][mine]
      self.assertEqual(row['size'], values.size)
      self.assertAlmostEqual(row['median'], np.median(values))
      self.assertAlmostEqual(row['p75'], np.quantile(values, 0.75))
      # Everyone is in it, on the edges that all share.
      self.assertEqual(sum(row['counts']), values.size)
    edges = {tuple(r['edges']) for r in rows if r['context'] == 'query_pre'}
    self.assertLen(edges, 1)
    self.assertEqual(tables.POPULATIONS.build_rows(rows).num_rows, len(rows))

  def test_over_heads(self):
    values = {'query_pre': np.asarray([[1.0, 5.0], [2.0, 1.0]])}
    labels = {'output': np.asarray([True, False])}
    mean = layer_of(1, values, labels, 'mean').statistics['query_pre']
    np.testing.assert_array_equal(mean, [1.5, 3.0])
    largest = layer_of(1, values, labels, 'largest').statistics['query_pre']
    np.testing.assert_array_equal(largest, [2.0, 5.0])
    with self.assertRaisesRegex(ooc_jax.InputError, 'Layer 4.*2, 3'):
      layer_of(4, values, {'output': np.ones(3, bool)}, 'mean')
    self.assertEqual(list(LABELLINGS), ['output', 'input'])


@pytest.mark.slow
class RealNumbersTest(parameterized.TestCase):
  """Labels that are drawn, on the attention of the bundled model."""

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    model = ooc_jax.load_model('tiny-gemma2')
    saes = {
        x: ooc_jax.load_dictionary(f'tiny-gemma2-res/layer_{x}', model=model)
        for x in range(7)
    }
    found = attention_participation.compute(
        model, saes, experiments.AttentionParticipation(nulls='none')
    )
    cls.layers = [
        layer_of(
            layer,
            {
                name: tables.ATTENTION_FEATURES.array(features, column)
                for name, column in tables.STATISTIC.items()
            },
            {},
            'mean',
        )
        for layer, features in found.features.items()
    ]

  def _found(self, repeats, share_of):
    """Statement -> how often something was found."""
    found = dict.fromkeys(('inverse', 'reversed'), 0)
    for _ in range(repeats):
      layers = [
          dataclasses.replace(x, labels=share_of(i, x))
          for i, x in enumerate(self.layers)
      ]
      for name, own in statements(layers, False, 10).items():
        found[name] += own['verdict'] != 'not decided'
    return found

  @parameterized.parameters(0.03, 0.25)
  def test_random_labels_are_seldom_called(self, share):
    rng = np.random.default_rng(1)

    def labels(_, one):
      size = one.statistics['query_pre'].size
      return {x: rng.random(size) < share for x in LABELLINGS}

    found = self._found(300, labels)
    # 5 of 100, and three standard errors.
    self.assertLessEqual(max(found.values()), 26)

  def test_planted_relations_are_found(self):
    """Labels go with the score, ever less, and turn (input: the other way)."""
    rng = np.random.default_rng(2)

    def labels(i, one):
      score = one.statistics['query_pre']
      rank = score.argsort().argsort() / score.size - 0.5
      course = 0.6 * (1 - i / 3)
      return {
          x: rng.random(score.size) < 0.3 * (1 + sign * course * rank)
          for x, sign in zip(LABELLINGS, (1, -1), strict=True)
      }

    found = self._found(40, labels)
    self.assertGreaterEqual(found['inverse'], 37)
    self.assertGreaterEqual(found['reversed'], 30)


if __name__ == '__main__':
  absltest.main()
