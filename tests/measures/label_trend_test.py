"""Slopes of delta against permuted labels: exact, calibrated, with power."""

import itertools

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import pytest
from scipy import stats

import ooc_jax
from ooc_jax import measures

_AT_ONCE = 50  # Labellings: their covariances are all held.


def _delta(values, labels):
  """By all pairs."""
  return np.sign(values[labels][:, None] - values[~labels][None]).mean()


def layers_of(
    rng, *, num_layers=8, size=60, true=15, slope=0.0, level=0.0, ties=False
):
  """[L, 4, F] values of contexts that are alike, and labels [L, F].

  `slope` and `level` are of the shift of labelled features over depth.
  """
  depth = np.linspace(-0.5, 0.5, num_layers)
  labels = np.argsort(rng.random((num_layers, size)), axis=1) < true
  values = rng.normal(size=(num_layers, 4, size))
  values += rng.normal(size=(num_layers, 1, size))
  shift = level + slope * depth
  values += (shift[:, None] * labels)[:, None] * np.sqrt(2)
  if ties:
    values = np.round(values)
  return values, labels


def _trends(values, labels, layers=None):
  permuted = [
      measures.permuted_deltas(x, own[None])
      for x, own in zip(values, labels, strict=True)
  ]
  return measures.label_trends(
      np.arange(len(values)) if layers is None else layers,
      np.stack([x.deltas[0] for x in permuted]),
      np.stack([x.covariance[0, :, 0] for x in permuted]),
  )


def _found(rng, repeats, **planted):
  """How often any context has a slope, and how often each has."""
  p = np.stack(
      [_trends(*layers_of(rng, **planted)).p_value for _ in range(repeats)]
  )
  return (p.min(axis=1) <= 0.05).mean(), (p <= 0.05).mean()


def chance_found(values, true, repeats, seed):
  """How often a slope is found, `true` labels of [L, C, F] drawn in a layer.

  The values stay as they are, so that many labellings are ranked at once.
  """
  rng = np.random.default_rng(seed)
  layers, found = np.arange(len(values)), 0
  for start in range(0, repeats, _AT_ONCE):
    count = min(_AT_ONCE, repeats - start)
    permuted = []
    for own in values:
      labels = np.argsort(rng.random((count, own.shape[1])), axis=1) < true
      permuted.append(measures.permuted_deltas(own, labels))
    for i in range(count):
      trends = measures.label_trends(
          layers,
          np.stack([x.deltas[i] for x in permuted]),
          np.stack([x.covariance[i, :, i] for x in permuted]),
      )
      found += trends.p_value.min() <= 0.05
  return found / repeats


class PermutedDeltasTest(parameterized.TestCase):

  @parameterized.parameters(False, True)
  def test_deltas_are_those_of_all_pairs(self, ties):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(3, 20))
    values = np.round(values) if ties else values
    labels = rng.random((2, 20)) < 0.4
    found = measures.permuted_deltas(values, labels)
    for p, c in itertools.product(range(2), range(3)):
      self.assertAlmostEqual(found.deltas[p, c], _delta(values[c], labels[p]))

  def test_covariance_is_that_of_every_permutation(self):
    """All 720 of six features, two labellings and contexts, and ties."""
    rng = np.random.default_rng(1)
    values = np.round(rng.normal(size=(2, 6)), 1)
    values[1, 2] = values[1, 4]
    labels = np.asarray([[1, 1, 0, 0, 0, 0], [0, 1, 1, 0, 1, 0]], bool)
    found = measures.permuted_deltas(values, labels)
    every = np.stack([
        measures.permuted_deltas(values, labels[:, list(order)]).deltas.ravel()
        for order in itertools.permutations(range(6))
    ])
    np.testing.assert_allclose(every.mean(axis=0), 0, atol=1e-12)
    want = every.T @ every / len(every)
    np.testing.assert_allclose(found.covariance.reshape(4, 4), want, atol=1e-12)

  def test_what_all_features_share_does_not_matter(self):
    rng = np.random.default_rng(2)
    values, labels = layers_of(rng, slope=1.0)
    scale = np.exp(np.linspace(0, 3, 8))[:, None, None]
    own, scaled = _trends(values, labels), _trends(9 + scale * values, labels)
    np.testing.assert_array_equal(own.change, scaled.change)
    np.testing.assert_array_equal(own.p_value, scaled.p_value)

  @parameterized.parameters(
      (np.ones(6, bool), np.ones(6)),
      (np.zeros(6, bool), np.ones(6)),
      (np.arange(6) < 2, np.full(6, np.nan)),
  )
  def test_refusals(self, labels, values):
    with self.assertRaisesRegex(ooc_jax.InputError, 'leave the layer out'):
      measures.permuted_deltas(values[None], labels[None])


class LabelTrendsTest(parameterized.TestCase):

  def test_slope_and_error_are_those_of_weighted_least_squares(self):
    rng = np.random.default_rng(3)
    layers = np.asarray([0, 1, 4, 6, 7, 9])
    deltas = rng.normal(size=(6, 1))
    variances = rng.uniform(0.1, 1.0, 6)
    found = measures.label_trends(layers, deltas, variances[:, None, None])
    fit, covariance = np.polyfit(
        layers / 9, deltas[:, 0], 1, w=variances**-0.5, cov='unscaled'
    )
    self.assertAlmostEqual(found.change[0], fit[0])
    self.assertAlmostEqual(found.error[0], np.sqrt(covariance[0, 0]))
    z = abs(found.change[0] / found.error[0])
    self.assertAlmostEqual(found.p_value[0], 2 * stats.norm.sf(z), delta=0.01)

  def test_p_is_of_the_largest_of_all_contexts(self):
    """Of independent ones, 1 - (1 - p)^4; of equal ones, p itself."""
    layers, deltas = np.arange(6), np.linspace(0, 1.2, 6)[:, None]
    alone = measures.label_trends(layers, deltas, np.full((6, 1, 1), 0.2))
    equal = measures.label_trends(
        layers, np.repeat(deltas, 4, axis=1), np.full((6, 4, 4), 0.2)
    )
    apart = measures.label_trends(
        layers,
        np.repeat(deltas, 4, axis=1),
        np.repeat(0.2 * np.eye(4)[None], 6, axis=0),
    )
    p = alone.p_value[0]
    np.testing.assert_allclose(equal.p_value, p, atol=0.01)
    np.testing.assert_allclose(apart.p_value, 1 - (1 - p) ** 4, atol=0.01)

  def test_layers_that_say_nothing(self):
    rng = np.random.default_rng(4)
    values, labels = layers_of(rng, slope=1.0)
    values[3] = 2.0  # All features alike.
    others = np.arange(8) != 3
    found = _trends(values, labels)
    want = _trends(values[others], labels[others], np.arange(8)[others])
    np.testing.assert_allclose(found.change, want.change)
    np.testing.assert_allclose(found.error, want.error)
    none = _trends(np.ones_like(values), labels)
    np.testing.assert_array_equal(none.p_value, 1)
    self.assertTrue(np.isinf(none.least_change).all())

  @parameterized.parameters(
      (24, 10, 6, False), (24, 10, 6, True), (200, 10, 8, False)
  )
  def test_chance_is_seldom_found(self, size, true, num_layers, ties):
    values, _ = layers_of(
        np.random.default_rng(5), num_layers=num_layers, size=size, ties=ties
    )
    # 5 of 100, and 2.6 standard errors.
    self.assertLessEqual(chance_found(values, true, 150, 5), 0.1)

  @parameterized.product(
      sizes=((24, 10), (1024, 250)), num_layers=(6, 32), ties=(False, True)
  )
  @pytest.mark.slow
  def test_chance_is_seldom_found_at_length(self, sizes, num_layers, ties):
    """`python -m benchmarks.calibration` has 2,000 draws, and more cases."""
    values, _ = layers_of(
        np.random.default_rng(6),
        num_layers=num_layers,
        size=sizes[0],
        ties=ties,
    )
    found = chance_found(values, sizes[1], 400, 7)
    # 2.5 to 7 of 100, and 2.6 standard errors.
    self.assertBetween(found, 0.005, 0.103)

  @pytest.mark.slow
  def test_labels_that_matter_alike_everywhere_have_no_slope(self):
    any_context, _ = _found(
        np.random.default_rng(6), 400, size=200, true=50, level=0.5
    )
    self.assertLessEqual(any_context, 0.103)

  @parameterized.parameters(1.0, -1.0)
  def test_a_planted_slope_is_found(self, sign):
    """As often as `least_change` says: 80 of 100."""
    rng = np.random.default_rng(7)
    planted = {'size': 200, 'true': 60, 'num_layers': 6}
    least = _trends(*layers_of(rng, **planted)).least_change[0]
    # Normal numbers d apart have a delta of d / sqrt(pi), nearly.
    slope = sign * least * np.sqrt(np.pi)
    _, each = _found(rng, 30, slope=slope, **planted)
    self.assertBetween(each, 0.66, 0.94)

  def test_the_labels_that_are_permuted_are_both(self):
    """A difference of labellings that are nearly one has little chance."""
    rng = np.random.default_rng(8)
    values, labels = layers_of(rng)
    other = labels.copy()
    other[:, :2] ^= True
    ways = np.array([1.0, -1.0])
    errors = []
    for second in (other, rng.permuted(labels, axis=1)):
      permuted = [
          measures.permuted_deltas(x, np.stack(own))
          for x, own in zip(
              values, zip(labels, second, strict=True), strict=True
          )
      ]
      found = measures.label_trends(
          np.arange(8),
          np.stack([ways @ x.deltas for x in permuted]),
          np.stack([
              np.einsum('p,q,pcqd->cd', ways, ways, x.covariance)
              for x in permuted
          ]),
      )
      errors.append(found.error[0])
    self.assertLess(errors[0], 0.5 * errors[1])


class VerdictTest(parameterized.TestCase):

  @parameterized.parameters(
      ((-1, -1), (0.001, 0.4), -1, 'supported'),
      ((-1, -1), (0.001, 0.4), 1, 'not supported'),
      ((-1, 1), (0.001, 0.002), -1, 'not supported'),
      ((-1, 1), (0.2, 0.3), -1, 'not decided'),
      # 0.02 in one of four tests is no q of 0.05; in two of them it is.
      ((-1, 1, 1, 1), (0.02, 1.0, 1.0, 1.0), -1, 'not decided'),
      ((-1, -1, 1, 1), (0.02, 0.02, 1.0, 1.0), -1, 'supported'),
      ((0,), (0.0,), -1, 'not decided'),
      ((), (), -1, 'not decided'),
  )
  def test_verdict(self, signs, p_values, expected, verdict):
    self.assertIn(verdict, measures.VERDICTS)
    self.assertEqual(measures.verdict(signs, p_values, expected), verdict)

  def test_p_values_that_are_corrected(self):
    tests = (-1, 1, 1, 1), (0.02, 1.0, 1.0, 1.0), -1
    self.assertEqual(measures.verdict(*tests, corrected=True), 'supported')

  def test_one_p_each(self):
    with self.assertRaisesRegex(ooc_jax.InputError, '2 signs'):
      measures.verdict((1, 1), (0.5,), 1)


if __name__ == '__main__':
  absltest.main()
