"""Thresholds, counts and shares of participation, against plain loops."""

from absl.testing import absltest
from absl.testing import parameterized
import jax.numpy as jnp
import numpy as np

import ooc_jax
from ooc_jax import circuits
from ooc_jax import measures


def _softmax(x):
  e = np.exp(x - x.max(axis=1, keepdims=True))
  return e / e.sum(axis=1, keepdims=True)


class ParticipationTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.rng = np.random.default_rng(0)

  def test_statistics_are_those_of_the_score_matrix(self):
    """From [F, F] in float64, which the library never holds."""
    q, k = self.rng.normal(size=(2, 23, 6)).astype(np.float32)
    found = measures.participation_statistics(
        circuits.qk_statistics(jnp.asarray(q), jnp.asarray(k), scale=0.7, k=2)
    )
    scores = 0.7 * q.astype(np.float64) @ k.astype(np.float64).T
    weights = _softmax(scores)
    expected = {
        'query_pre': scores.max(axis=1),
        'query_post': weights.max(axis=1),
        'key_pre': scores.max(axis=0),
        'key_post': weights.max(axis=0),
    }
    self.assertEqual(tuple(found), measures.CONTEXTS)
    for name, values in expected.items():
      np.testing.assert_allclose(found[name], values, rtol=1e-5, err_msg=name)

  @parameterized.parameters(0.75, 0.95, 0.99, 0.5, 0.123)
  def test_quantile_pools_layers_of_any_size(self, quantile):
    layers = [
        self.rng.normal(size=(n, f)).astype(np.float32)
        for n, f in ((3, 17), (3, 41), (2, 5))
    ]
    pooled = np.concatenate([x.ravel() for x in layers]).astype(np.float64)
    self.assertAlmostEqual(
        measures.pooled_quantile(layers, quantile),
        float(np.quantile(pooled, quantile)),
        places=12,
    )

  def test_a_quarter_of_all_pairs_of_head_and_feature_pass(self):
    layers = {i: self.rng.normal(size=(5, 40)) + i for i in range(4)}
    cut = measures.pooled_quantile(layers.values())
    passed = [measures.participates(x, cut) for x in layers.values()]
    self.assertEqual(np.concatenate(passed).mean(), 0.25)
    # But not at each layer: later ones are larger.
    self.assertGreater(passed[3].mean(), 2 * passed[0].mean())

  def test_null_cutoffs_let_at_most_alpha_through(self):
    null = self.rng.normal(size=(3, 200))
    null[1] = np.round(null[1])  # Many ties.
    for alpha in (0.005, 0.07, 0.4):
      cuts = measures.null_cutoffs(null, alpha)
      passed = measures.participates(null, cuts)
      self.assertTrue((passed.mean(axis=1) <= alpha + 1e-12).all(), alpha)
      # Without ties the level is met.
      self.assertEqual(passed[0].sum(), int(alpha * 200 + 1e-9))
      self.assertEqual(passed[2].sum(), int(alpha * 200 + 1e-9))

  def test_null_has_the_level_that_it_says(self):
    """Features that are no more than the null participate as often as it."""
    null = self.rng.normal(size=(4, 5000))
    features = self.rng.normal(size=(4, 5000))
    cuts = measures.null_cutoffs(null, 0.02)
    share = measures.participates(features, cuts).mean()
    # Three standard errors of 20,000 draws, and of the 5,000 of the cut-offs.
    self.assertAlmostEqual(share, 0.02, delta=3 * 0.0014 * np.sqrt(1 + 1))

  def test_a_feature_at_the_threshold_does_not_participate(self):
    statistic = np.asarray([[1.0, 2.0, 3.0], [2.0, 2.0, 1.0]])
    one = measures.participates(statistic, 2.0)
    np.testing.assert_array_equal(one, [[0, 0, 1], [0, 0, 0]])
    each = measures.participates(statistic, np.asarray([2.5, 1.5]))
    np.testing.assert_array_equal(each, [[0, 0, 1], [1, 1, 0]])
    np.testing.assert_array_equal(measures.head_counts(each), [1, 1, 1])

  def test_errors_of_the_mean_number_of_heads(self):
    counts = {3: self.rng.integers(0, 5, 400), 4: np.full(37, 2)}
    first, second = measures.heads_errors(counts)
    plain = counts[3].std() / np.sqrt(400)
    self.assertAlmostEqual(first, plain, delta=0.01 * plain)
    self.assertGreater(second, 0)
    self.assertLess(second, 0.03)

  @parameterized.parameters('query_pre', 'key_post')
  def test_a_planted_inverted_u_is_named(self, context):
    del context  # Any statistic will do.
    layers = np.arange(12)
    lift = 2.0 * np.sin(np.pi * (layers + 0.5) / 12)
    own = {x: self.rng.normal(size=(4, 300)) + lift[x] for x in layers.tolist()}
    cut = measures.pooled_quantile(own.values())
    counts = {
        x: measures.head_counts(measures.participates(s, cut))
        for x, s in own.items()
    }
    shares = np.asarray([(c >= 1).mean() for c in counts.values()])
    shape = measures.depth_shape(
        layers, shares, measures.share_errors(shares, np.full(12, 300))
    )
    self.assertEqual(shape.name, 'inverted U')
    self.assertBetween(shape.turning_point, 4.0, 7.0)
    mean = np.asarray([c.mean() for c in counts.values()])
    shape = measures.depth_shape(layers, mean, measures.heads_errors(counts))
    self.assertEqual(shape.name, 'inverted U')

  @parameterized.parameters(
      (lambda x: measures.pooled_quantile([x], 1.0), 'quantile'),
      (lambda x: measures.pooled_quantile([], 0.5), 'no statistic'),
      (lambda x: measures.pooled_quantile([x / 0], 0.5), 'not finite'),
      (lambda x: measures.null_cutoffs(x, 0.0), 'alpha'),
      (lambda x: measures.null_cutoffs(x, 0.01), 'less than one'),
      (lambda x: measures.participates(x, np.ones(3)), 'thresholds'),
  )
  def test_refusals(self, call, message):
    with np.errstate(divide='ignore'):
      with self.assertRaisesRegex(ooc_jax.InputError, message):
        call(np.ones((2, 7)))


class SweepTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    rng = np.random.default_rng(1)
    self.layers = {x: rng.normal(size=(3, 50 + x)) for x in (2, 5)}
    self.nulls = {
        'random': {x: rng.normal(size=(3, 60)) for x in (2, 5)},
        'tokens': {x: rng.normal(size=(3, 20)) - 1 for x in (2, 5)},
    }

  def test_every_row_is_its_own_decision(self):
    rows = measures.participation_sweep(
        self.layers, self.nulls, quantiles=(0.75, 0.9), alphas=(0.01, 0.1)
    )
    kinds = {(r['thresholds'], r['level'], r['at_least']) for r in rows}
    # 1 % of 60 or 20 directions is less than one.
    self.assertEqual(
        {(k, x) for k, x, _ in kinds},
        {
            ('quantile', 0.75),
            ('quantile', 0.9),
            ('null:random', 0.1),
            ('null:tokens', 0.1),
        },
    )
    self.assertEqual({m for *_, m in kinds}, {1, 2, 3})
    self.assertLen(rows, len(kinds) * 3)
    pooled = np.concatenate([x.ravel() for x in self.layers.values()])
    for row in rows:
      name = row['null']
      if row['thresholds'] == 'quantile':
        self.assertEqual(name, 'random')
        cuts = dict.fromkeys((2, 5), np.quantile(pooled, row['level']))
      else:
        cuts = {
            x: measures.null_cutoffs(self.nulls[name][x], row['level'])[:, None]
            for x in (2, 5)
        }
      which = (2, 5) if row['layer'] == measures.WHOLE_MODEL else [row['layer']]
      for column, source in (
          ('share', self.layers),
          ('null_share', self.nulls[name]),
      ):
        heads = np.concatenate(
            [(source[x] > cuts[x]).sum(axis=0) for x in which]
        )
        self.assertAlmostEqual(row[column], np.mean(heads >= row['at_least']))
      heads = np.concatenate(
          [(self.layers[x] > cuts[x]).sum(axis=0) for x in which]
      )
      self.assertAlmostEqual(row['mean_heads'], heads.mean())

  def test_without_a_null(self):
    rows = measures.participation_sweep(self.layers, at_least=(2,))
    self.assertEqual({r['thresholds'] for r in rows}, {'quantile'})
    self.assertEqual({r['null_share'] for r in rows}, {None})

  def test_a_null_without_a_layer_is_refused(self):
    del self.nulls['tokens'][5]
    with self.assertRaisesRegex(ooc_jax.InputError, "'tokens'.*layer 5"):
      measures.participation_sweep(self.layers, self.nulls)


if __name__ == '__main__':
  absltest.main()
