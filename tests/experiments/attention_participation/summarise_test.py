"""Shapes over depth under every threshold, from planted courses."""

from absl.testing import absltest
import numpy as np

from ooc_jax import measures
from ooc_jax.experiments import attention_participation
from ooc_jax.experiments.attention_participation import _summarise

_LAYERS = range(2, 14)


class SummaryTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    rng = np.random.default_rng(2)
    lift = np.sin(np.pi * (np.arange(12) + 0.5) / 12)
    self.own = {
        x: rng.normal(size=(4, 250)) + 2 * lift[i]
        for i, x in enumerate(_LAYERS)
    }
    self.nulls = {
        'random': {x: rng.normal(size=(4, 250)) + 0.5 for x in _LAYERS}
    }

  def _summary(self, **settings):
    config = attention_participation.AttentionParticipation(
        nulls='random', **settings
    )
    context = _summarise.context_of('query_pre', self.own, self.nulls, config)
    weights = {x: {} for x in _LAYERS}
    return _summarise.context_summary(context, weights, config)

  def test_a_planted_inverted_u_is_named(self):
    found = self._summary()
    self.assertEqual(found['shape']['name'], 'inverted U')
    self.assertBetween(found['shape']['turning_point'], 6.0, 9.0)
    self.assertEqual(found['shape_of_mean_heads']['name'], 'inverted U')
    self.assertLess(found['shape']['p_value'], 0.05)

  def test_the_null_has_its_level(self):
    found = self._summary(participation='null:random', alpha=0.02, at_least=1)
    cuts = measures.null_cutoffs(self.nulls['random'][5], 0.02)
    row = found['layers'][3]
    self.assertEqual(row['layer'], 5)
    np.testing.assert_array_equal(row['thresholds'], cuts)
    # At most 2 % in each of four heads, and here nearly that in some head.
    self.assertBetween(found['total']['null_share'], 0.06, 0.08)
    shares = (self.own[5] > cuts[:, None]).any(axis=0)
    self.assertAlmostEqual(row['participating']['share'], shares.mean())
    null = (self.nulls['random'][5] > cuts[:, None]).any(axis=0)
    self.assertAlmostEqual(row['excess'], shares.mean() - null.mean())

  def test_every_threshold_has_its_shape(self):
    rows = [
        {'context': 'query_pre', **row}
        for row in measures.participation_sweep(
            self.own, self.nulls, quantiles=(0.75, 0.9), alphas=(0.05,)
        )
    ]
    sizes = dict.fromkeys(_LAYERS, 250)
    found = _summarise.sweep_shapes(rows, sizes)
    self.assertLen(found, 3 * 3)
    first = found[0]
    self.assertEqual(
        (first['thresholds'], first['level'], first['at_least']),
        ('quantile', 0.75, 1),
    )
    whole = self._summary()['shape']
    self.assertEqual(first['name'], 'inverted U')
    self.assertEqual(first['turning_point'], whole['turning_point'])

  def test_a_course_without_anyone_is_flat(self):
    rows = [
        {
            'context': 'key_pre',
            'thresholds': 'quantile',
            'level': 0.99,
            'at_least': 4,
            'layer': x,
            'share': 0.0,
        }
        for x in _LAYERS
    ]
    (found,) = _summarise.sweep_shapes(rows, dict.fromkeys(_LAYERS, 90))
    self.assertEqual(found['name'], 'flat')


if __name__ == '__main__':
  absltest.main()
