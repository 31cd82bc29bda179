"""Populations joined and compared, and the paper's statements judged."""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
from scipy import stats

import ooc_jax
from ooc_jax import measures
from ooc_jax.experiments.semantic_attention._populations import LABELLINGS
from ooc_jax.experiments.semantic_attention._populations import effect_rows
from ooc_jax.experiments.semantic_attention._populations import layer_of
from ooc_jax.experiments.semantic_attention._populations import population_rows
from ooc_jax.experiments.semantic_attention._statements import statements
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

  def _verdicts(self, shifts, tied=False):
    layers = self._layers(shifts)
    rows = []
    for name in shifts:
      rows += effect_rows(layers, name, least=10, draws=100, seed=0)
    return statements(rows, tied)

  def test_courses_that_go_apart(self):
    t = np.linspace(0, 3, 9)
    found = self._verdicts({'output': (t, -t)})
    self.assertEqual(found['inverse']['verdict'], 'supported')
    # Semantic features are ahead nearly everywhere.
    sides = found['inverse']['readings']['sides']
    self.assertNotEqual(sides['verdict'], 'supported')
    self.assertEqual(found['reversed']['verdict'], 'not decided')
    self.assertIn('no labels', found['reversed']['why'])

  def test_courses_that_go_together(self):
    t = np.linspace(0, 3, 9)
    found = self._verdicts({'output': (t, t + 0.3)})
    self.assertEqual(found['inverse']['verdict'], 'not supported')

  def test_over_chance_takes_out_what_the_layer_shares(self):
    """The layers' scale rises for all; under it the populations part."""
    t = np.linspace(-1, 1, 9)
    scale = np.exp(np.linspace(0, 2, 9))
    layers = []
    for one, factor in zip(
        self._layers({'output': (t, -t)}), scale, strict=True
    ):
      null = {x: self.rng.normal(size=(3, 400)) for x in measures.CONTEXTS}
      # Far from 0, as largest scores are.
      layers.append(
          layer_of(
              one.layer,
              {x: factor * (v[None] + 9) for x, v in one.statistics.items()},
              one.labels,
              'mean',
              {x: factor * (v + 9) for x, v in null.items()},
          )
      )
    rows = effect_rows(layers, 'output', least=10, draws=50, seed=0)
    for row in rows:
      null = layers[row['layer'] - 1].chance[row['context']]
      self.assertAlmostEqual(row['chance_median'], np.median(null))
    found = statements(rows, tied=False)['inverse']
    self.assertEqual(found['verdict'], 'not supported')
    readings = found['readings']
    self.assertEqual(readings['over_chance']['verdict'], 'supported')
    for row in rows:
      del row['chance_spread']
    readings = statements(rows, tied=False)['inverse']['readings']
    self.assertNotIn('over_chance', readings)

  def test_sides_that_change(self):
    t = np.linspace(-2, 2, 9)
    found = self._verdicts({'output': (t, -t)})['inverse']
    self.assertEqual(found['readings']['sides']['verdict'], 'supported')
    for test in found['readings']['sides']['tests'].values():
      self.assertEqual(test['sign'], -1)

  def test_no_relation_is_not_decided(self):
    flat = np.zeros(9)
    found = self._verdicts({'output': (flat, flat)})['inverse']
    self.assertEqual(found['verdict'], 'not decided')
    self.assertIsNone(found['why'])

  def test_reversed_for_input_labels(self):
    # Labels are drawn apart, so each labelling sees its own shift.
    t, none = np.linspace(-2, 2, 24), np.zeros(24)
    shifts = {'output': (t, -t), 'input': (-t, t)}
    found = self._verdicts(shifts)['reversed']
    self.assertEqual(found['readings']['sides']['verdict'], 'supported')
    same = self._verdicts({'output': (t, -t), 'input': (t, -t)})['reversed']
    self.assertEqual(same['readings']['sides']['verdict'], 'not supported')
    together = self._verdicts({'output': (none, none), 'input': (t, t)})
    self.assertEqual(together['reversed']['verdict'], 'supported')
    tied = self._verdicts({'output': (none, none), 'input': (t, t)}, tied=True)
    self.assertEqual(tied['reversed']['verdict'], 'not decided')
    self.assertIn('tied', tied['reversed']['why'])

  @parameterized.parameters((5, '5 layers have'), (1, '1 layer has'))
  def test_few_layers_decide_nothing_and_say_so(self, layers, count):
    t = np.linspace(0, 3, layers)
    found = self._verdicts({'output': (t, -t)})['inverse']
    self.assertEqual(found['verdict'], 'not decided')
    self.assertStartsWith(found['why'], count)

  def test_effects_are_those_of_the_definitions(self):
    t = np.linspace(0, 1, 6)
    layers = self._layers({'output': (t, 0 * t)}, size=50)
    rows = effect_rows(layers, 'output', least=10, draws=50, seed=0)
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
    for context in measures.CONTEXTS:
      own = [row for row in rows if row['context'] == context]
      q = stats.false_discovery_control([row['p_value'] for row in own])
      np.testing.assert_allclose([row['q_value'] for row in own], q)
    table = tables.EFFECTS.build_rows(rows)
    self.assertEqual(table.num_rows, len(rows))
    self.assertEqual(table['delta'][0].as_py(), rows[0]['delta'])

  def test_small_populations_are_not_compared(self):
    layers = self._layers({'output': (np.ones(6), np.ones(6))}, size=12)
    rows = effect_rows(layers, 'output', least=10, draws=10, seed=0)
    self.assertTrue(all('delta' not in row for row in rows))
    self.assertEqual(
        tables.EFFECTS.build_rows(rows)['delta'].null_count, len(rows)
    )
    found = statements(rows, tied=False)['inverse']
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


if __name__ == '__main__':
  absltest.main()
