"""Thresholds, rules and labels, by hand."""

import dataclasses
import itertools

from absl.testing import absltest
from absl.testing import parameterized
import jax.numpy as jnp
import numpy as np

from ooc_jax import measures
from ooc_jax._errors import InputError

_LEVELS = {'levenshtein': 0.5, 'cosine': 0.25, 'entropy': 4.0}
# Per measure: a value that passes and one that does not.
_GOOD = {'levenshtein': 0.25, 'cosine': 0.75, 'entropy': 3.0}
_BAD = {'levenshtein': 0.75, 'cosine': 0.125, 'entropy': 5.0}
_MEASURES = tuple(_LEVELS)
_THREE = measures.MEASURES[:3]


def _coherence(columns):
  return measures.Coherence(
      **{m: np.asarray(columns[m], np.float32) for m in _MEASURES}
  )


def _every_combination():
  """Eight features: every way for three measures to pass or not."""
  combinations = list(itertools.product((False, True), repeat=3))
  columns = {
      m: [(_GOOD if c[i] else _BAD)[m] for c in combinations]
      for i, m in enumerate(_MEASURES)
  }
  return np.array(combinations), _coherence(columns)


def _random(seed, size):
  rng = np.random.default_rng(seed)
  return _coherence({m: rng.random(size) for m in _MEASURES})


class RulesTest(parameterized.TestCase):

  def test_directions(self):
    table, scores = _every_combination()
    got = measures.passes_by_measure(
        scores, measures.fixed_thresholds(_LEVELS, _THREE)
    )
    self.assertSequenceEqual(list(got), _MEASURES)
    np.testing.assert_array_equal(np.stack(list(got.values()), 1), table)

  @parameterized.parameters(
      # Passed measures, in binary:  0  1  2  3  4  5  6  7
      ('any', [0, 1, 1, 1, 1, 1, 1, 1]),
      ('majority', [0, 0, 0, 1, 0, 1, 1, 1]),
      ('all', [0, 0, 0, 0, 0, 0, 0, 1]),
  )
  def test_rules(self, rule, want):
    _, scores = _every_combination()
    thresholds = measures.fixed_thresholds(_LEVELS, _THREE)
    got = measures.is_semantic(scores, thresholds, rule)
    self.assertEqual(got.dtype, bool)
    np.testing.assert_array_equal(got, np.array(want, bool))

  def test_any_is_the_default(self):
    _, scores = _every_combination()
    thresholds = measures.fixed_thresholds(_LEVELS, _THREE)
    np.testing.assert_array_equal(
        measures.is_semantic(scores, thresholds),
        measures.is_semantic(scores, thresholds, 'any'),
    )

  def test_exactly_at_the_threshold_does_not_pass(self):
    scores = _coherence({m: [x] for m, x in _LEVELS.items()})
    got = measures.passes_by_measure(
        scores, measures.fixed_thresholds(_LEVELS, _THREE)
    )
    for labels in got.values():
      np.testing.assert_array_equal(labels, [False])

  def test_jax_arrays_are_taken(self):
    _, scores = _every_combination()
    on_device = measures.Coherence(
        *(jnp.asarray(getattr(scores, m)) for m in _MEASURES)
    )
    thresholds = measures.fixed_thresholds(_LEVELS, _THREE)
    np.testing.assert_array_equal(
        measures.is_semantic(on_device, thresholds, 'majority'),
        measures.is_semantic(scores, thresholds, 'majority'),
    )

  def test_unknown_rule(self):
    _, scores = _every_combination()
    thresholds = measures.fixed_thresholds(_LEVELS, _THREE)
    with self.assertRaisesRegex(InputError, "did you mean 'majority'"):
      measures.is_semantic(scores, thresholds, 'most-majority')

  @parameterized.product(
      measure=_MEASURES, value=(np.nan, np.inf, -np.inf), layer=(0, 1)
  )
  def test_a_measure_that_is_not_finite_is_refused(self, measure, value, layer):
    layers = [_random(0, 5), _random(1, 7)]
    broken = np.array(getattr(layers[layer], measure))
    broken[3] = value
    layers[layer] = layers[layer].replace(**{measure: broken})
    message = f'{measure} is not finite for 1 of .* feature 3'
    thresholds = measures.fixed_thresholds(_LEVELS, _THREE)
    with self.assertRaisesRegex(InputError, message):
      measures.passes_by_measure(layers[layer], thresholds)
    with self.assertRaisesRegex(InputError, message):
      measures.is_semantic(layers[layer], thresholds, 'any')
    with self.assertRaisesRegex(InputError, message):
      measures.quantile_thresholds(layers)


class ThresholdsTest(parameterized.TestCase):

  def test_fixed(self):
    got = measures.fixed_thresholds(_LEVELS, _THREE)
    want = measures.Thresholds(
        {'levenshtein': 0.5, 'cosine': 0.25, 'entropy': 4.0}, kind='fixed'
    )
    self.assertEqual(got, want)

  @parameterized.parameters(*_MEASURES)
  def test_an_infinite_threshold_leaves_a_measure_out(self, measure):
    (out,) = (m.never for m in _THREE if m.name == measure)
    thresholds = measures.fixed_thresholds({**_LEVELS, measure: out}, _THREE)
    table, scores = _every_combination()
    table[:, _MEASURES.index(measure)] = False
    np.testing.assert_array_equal(
        measures.is_semantic(scores, thresholds), table.any(1)
    )

  def test_quantile_by_hand(self):
    """Two layers, five features: quartiles fall on features."""
    layers = [
        _coherence({
            'levenshtein': [0.5, 0.1],
            'cosine': [0.2, 0.9],
            'entropy': [8.0, 2.0],
        }),
        _coherence({
            'levenshtein': [0.4, 0.2, 0.3],
            'cosine': [0.7, 0.5, 0.3],
            'entropy': [4.0, 16.0, 1.0],
        }),
    ]
    got = measures.quantile_thresholds(layers)
    self.assertEqual((got.kind, got.level), ('quantile', 0.75))
    self.assertAlmostEqual(got.levenshtein, 0.2, places=6)
    self.assertAlmostEqual(got.cosine, 0.7, places=6)
    self.assertAlmostEqual(got.entropy, 2.0, places=6)
    # Strict: the features at the quartiles themselves do not pass.
    np.testing.assert_array_equal(
        measures.passes_by_measure(layers[0], got)['cosine'], [False, True]
    )
    np.testing.assert_array_equal(
        measures.passes_by_measure(layers[1], got)['levenshtein'],
        [False, False, False],
    )

  @parameterized.parameters(0.75, 0.9, 0.5)
  def test_the_same_share_passes_every_measure(self, quantile):
    layers = [_random(2, 331), _random(3, 670)]
    thresholds = measures.quantile_thresholds(layers, quantile)
    passed = [measures.passes_by_measure(x, thresholds) for x in layers]
    for measure in _MEASURES:
      count = sum(int(p[measure].sum()) for p in passed)
      # Of 1001 distinct values the quantile is one or lies between two.
      self.assertEqual(count, round(1000 * (1 - quantile)))

  def test_layers_are_pooled_not_averaged(self):
    layers = [_random(2, 11), _random(3, 907)]
    pooled = measures.Coherence(
        *(np.concatenate([getattr(x, m) for x in layers]) for m in _MEASURES)
    )
    self.assertEqual(
        measures.quantile_thresholds(layers),
        measures.quantile_thresholds([pooled]),
    )

  @parameterized.parameters(0.0, 1.0, -0.5, 75.0, float('nan'))
  def test_quantile_out_of_range(self, quantile):
    with self.assertRaisesRegex(InputError, 'between 0 and 1'):
      measures.quantile_thresholds([_random(0, 5)], quantile)

  def test_no_features(self):
    with self.assertRaisesRegex(InputError, 'no feature'):
      measures.quantile_thresholds([])

  def test_missing_measures(self):
    with self.assertRaisesRegex(InputError, 'levenshtein and entropy'):
      measures.fixed_thresholds({'cosine': 0.5}, _THREE)

  def test_unknown_measure(self):
    with self.assertRaisesRegex(InputError, "did you mean 'levenshtein'"):
      measures.fixed_thresholds({**_LEVELS, 'levenstein': 0.5}, _THREE)

  def test_threshold_that_is_not_a_number(self):
    with self.assertRaisesRegex(InputError, 'threshold of cosine'):
      measures.fixed_thresholds({**_LEVELS, 'cosine': float('nan')}, _THREE)

  def test_unknown_kind(self):
    with self.assertRaisesRegex(InputError, "did you mean 'quantile'"):
      measures.Thresholds(_LEVELS, kind='quantiles')

  def test_frozen(self):
    thresholds = measures.fixed_thresholds(_LEVELS, _THREE)
    with self.assertRaises(dataclasses.FrozenInstanceError):
      thresholds.cosine = 0.0


if __name__ == '__main__':
  absltest.main()
