"""Planted profiles are named for what they are, flat ones seldom at all."""

import collections
import dataclasses
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import pytest
from scipy import interpolate

from ooc_jax import measures
from ooc_jax._errors import InputError
from ooc_jax.measures import _depth_shape
from ooc_jax.measures import _shape_tests

# Shares over depth from 0 to 1; what rises or falls does so by 20 points.
_PROFILES = {
    'U': lambda x: 0.15 + 0.2 * (2 * x - 1) ** 2,
    'early U': lambda x: 0.15 + 0.2 * _bowl(x, 0.3),
    'inverted U': lambda x: 0.35 - 0.2 * (2 * x - 1) ** 2,
    'late inverted U': lambda x: 0.35 - 0.2 * _bowl(x, 0.7),
    'inverted U, a plateau': lambda x: 0.35 - 0.2 * (np.abs(2 * x - 1) > 0.5),
    'bifurcated': lambda x: 0.15 + 0.2 * (np.abs(2 * x - 1) > 0.5),
    'rising': lambda x: 0.15 + 0.2 * x,
    'rising early': lambda x: 0.15 + 0.2 * (1 - np.exp(-5 * x)),
    'rising at once': lambda x: 0.15 + 0.2 * (x > 0.4),
    'falling': lambda x: 0.35 - 0.2 * x,
    'falling late': lambda x: 0.35 - 0.2 * x**4,
    'flat': lambda x: 0.25 + 0.0 * x,
    'flat and low': lambda x: 0.03 + 0.0 * x,
    'undecided': lambda x: 0.25 + 0.1 * np.cos(4 * np.pi * x),
}


def _bowl(x, low):
  return np.where(x < low, (low - x) / low, (x - low) / (1 - low)) ** 1.5


def _kind(profile):
  """The name that a profile should be given."""
  longest_first = sorted(measures.SHAPES, key=len, reverse=True)
  return next(name for name in longest_first if name in profile)


def _rough(rng, layers, draws, correlation):
  """[draws, L] of unit variance, neighbours as alike as that."""
  rough = rng.normal(size=(draws, layers))
  for i in range(1, layers):
    rough[:, i] *= np.sqrt(1 - correlation**2)
    rough[:, i] += correlation * rough[:, i - 1]
  return rough


def _draw(
    rng, profile, layers, num_features, *, draws=1, rough=0.0, correlation=0.0
):
  """Profiles with the noise of their features, and a roughness of layers."""
  depth = layers / layers[-1]
  truth = _PROFILES[profile](depth)
  truth = truth + rough * _rough(rng, layers.size, draws, correlation)
  shares = rng.binomial(num_features, np.clip(truth, 0, 1)) / num_features
  counts = np.full(layers.size, num_features)
  errors = [measures.share_errors(x, counts) for x in shares]
  return layers, shares, np.asarray(errors)


def names_of(profile, layers, num_features, *, draws=100, seed=0, **noise):
  """Name -> how many profiles have it, were the power always enough."""
  rng = np.random.default_rng(seed)
  drawn = _draw(rng, profile, layers, num_features, draws=draws, **noise)
  # To find the power of every flat one takes longer than all else.
  with mock.patch.object(
      _depth_shape._Planted, 'may_be_missed', lambda _: False
  ):
    return collections.Counter(x.name for x in measures.depth_shapes(*drawn))


def false_rate(num_layers, correlation, draws, seed, features=16_384):
  """How often a flat truth is given a shape, or called a curve."""
  names = names_of(
      'flat',
      np.arange(num_layers),
      features,
      draws=draws,
      seed=seed,
      rough=0.02,
      correlation=correlation,
  )
  return 1 - names['flat'] / draws


class NamesTest(parameterized.TestCase):

  @parameterized.parameters(
      ('U', 8, 90),
      ('U', 26, 99),
      ('inverted U', 8, 90),
      ('inverted U', 42, 99),
      ('inverted U, a plateau', 26, 99),
      ('bifurcated', 8, 95),
      ('bifurcated', 26, 95),
      ('early U', 26, 95),
      ('late inverted U', 30, 95),
      # Of few layers that are much alike, nobody knows whether they rise.
      ('rising', 8, 60),
      ('rising', 26, 95),
      ('rising early', 26, 80),
      ('rising at once', 30, 95),
      ('falling', 26, 95),
      ('falling late', 42, 90),
      ('undecided', 26, 90),
      ('flat', 8, 97),
      ('flat', 26, 97),
      ('flat and low', 32, 97),
  )
  def test_planted_shapes(self, profile, num_layers, least):
    names = names_of(profile, np.arange(num_layers), 1024)
    self.assertGreaterEqual(names[_kind(profile)], least, names)

  @parameterized.parameters(
      ('U', 85), ('inverted U', 95), ('bifurcated', 95), ('rising', 60)
  )
  def test_layers_that_differ_for_no_reason(self, profile, least):
    """A roughness of 2 points, six times the noise of 16384 features."""
    names = names_of(profile, np.arange(32), 16_384, rough=0.02, seed=1)
    self.assertGreaterEqual(names[profile], least, names)

  @parameterized.parameters('U', 'inverted U', 'rising', 'flat')
  def test_some_layers_only(self, profile):
    layers = np.array([0, 1, 2, 5, 8, 9, 12, 15, 18, 20, 21, 25])
    names = names_of(profile, layers, 1024)
    self.assertGreaterEqual(names[profile], 80, names)

  @parameterized.product(value=(0.0, 1.0), num_layers=(6, 26))
  def test_the_same_everywhere(self, value, num_layers):
    shares = np.full(num_layers, value)
    errors = measures.share_errors(shares, np.full(num_layers, 1024))
    shape = measures.depth_shape(np.arange(num_layers), shares, errors)
    self.assertEqual(shape.name, 'flat')
    self.assertIsNone(shape.turning_point)
    for field in ('p_value', 'change', 'trend_p_value', 'spread'):
      self.assertTrue(np.isfinite(getattr(shape, field)))

  def test_fewer_than_six_layers(self):
    rng = np.random.default_rng(0)
    (found,) = measures.depth_shapes(*_draw(rng, 'U', np.arange(5), 1024))
    self.assertEqual(found, measures.DepthShape(name='undecided'))
    (found,) = measures.depth_shapes(*_draw(rng, 'U', np.arange(6), 1024))
    self.assertIsNotNone(found.change)

  def test_flat_spread_is_a_setting(self):
    rng = np.random.default_rng(8)
    profile = _draw(rng, 'flat', np.arange(42), 4096, rough=0.03)
    (found,) = measures.depth_shapes(*profile)
    self.assertNotEqual(found.reason, 'layers differ')
    (found,) = measures.depth_shapes(*profile, flat_spread=0.01)
    self.assertEqual((found.name, found.reason), ('undecided', 'layers differ'))

  @parameterized.parameters(
      (26, 16_384, 0.0, 'flat'),
      (26, 16_384, 0.02, 'undecided'),
      (26, 512, 0.0, 'undecided'),
      (8, 1024, 0.0, 'undecided'),
  )
  @pytest.mark.slow
  def test_flat_is_what_would_not_be_missed(
      self, layers, features, rough, name
  ):
    rng = np.random.default_rng(4)
    drawn = _draw(
        rng, 'flat', np.arange(layers), features, draws=6, rough=rough
    )
    alone = measures.depth_shapes(*drawn)
    for shape, own in zip(
        measures.depth_shapes(*drawn, power=True), alone, strict=True
    ):
      self.assertEqual((shape.name, own.name), (name, name))
      self.assertGreater(shape.p_value, 0.05)
      least = min(shape.power.values())
      if name == 'flat':
        self.assertGreaterEqual(least, 0.8)
      else:
        self.assertEqual(shape.reason, 'power')
        self.assertLess(least, 0.8)


class FalseRateTest(parameterized.TestCase):
  """How often a flat truth is given a shape."""

  @parameterized.product(num_layers=(8, 26), correlation=(0.0, 0.5, 0.8))
  def test_neighbours_that_are_alike(self, num_layers, correlation):
    false = false_rate(num_layers, correlation, 400, 5)
    self.assertLessEqual(false, 0.07 + 2 * np.sqrt(0.07 * 0.93 / 400))

  @parameterized.parameters(
      (8, 0.8, 2048), (32, 0.8, 2048), (32, 0.5, 16_384), (32, 0.8, 16_384)
  )
  @pytest.mark.slow
  def test_neighbours_that_are_alike_at_length(
      self, num_layers, correlation, features
  ):
    """`python -m benchmarks.calibration` has 3,000 draws, and more cases."""
    false = false_rate(num_layers, correlation, 1000, 6, features)
    self.assertLessEqual(false, 0.07 + 2 * np.sqrt(0.07 * 0.93 / 1000))

  def test_a_covariance_without_neighbours_errs(self):
    """The fault that the correlation mends."""
    with mock.patch.object(_shape_tests, '_CORRELATIONS', (0.0,)):
      rough = 0.02 * _rough(np.random.default_rng(7), 26, 300, 0.8)
      tests = _shape_tests.ShapeTests(np.arange(26.0), np.full(26, 0.0035))
      p = tests.read(rough.T).p_values.min(axis=0)
    self.assertGreater((p <= 0.05).mean(), 0.3)

  @parameterized.parameters(8, 26)
  @pytest.mark.slow
  def test_the_power_printed_is_the_power_there_is(self, num_layers):
    """Of shapes as high as flat profiles go, in the noise of those."""
    layers, noise = np.arange(num_layers), {'rough': 0.03, 'draws': 100}
    rng = np.random.default_rng(9)
    _, flat, errors = _draw(rng, 'flat', layers, 4096, **noise)
    flat, errors = flat[:20], errors[:20]
    shapes = measures.depth_shapes(layers, flat, errors, power=True)
    height = np.ptp(flat, axis=1).mean()
    for name, profile in (
        ('U', 'U'),
        ('inverted U', 'inverted U'),
        ('bifurcated', 'bifurcated'),
        ('monotone', 'rising'),
    ):
      printed = np.mean([shape.power[name] for shape in shapes])
      lower = _PROFILES[profile]
      with mock.patch.dict(
          _PROFILES,
          {profile: lambda x, lower=lower: 0.1 + height / 0.2 * lower(x)},
      ):
        names = names_of(profile, layers, 4096, seed=10, **noise)
      self.assertAlmostEqual(printed, names[profile] / 100, delta=0.15)


class NumbersTest(parameterized.TestCase):

  @parameterized.parameters(
      ('early U', 0.3), ('late inverted U', 0.7), ('bifurcated', 0.5)
  )
  def test_turning_point(self, profile, where):
    rng = np.random.default_rng(0)
    drawn = _draw(rng, profile, np.arange(41), 16_384, draws=20)
    found = [x.turning_point for x in measures.depth_shapes(*drawn)]
    self.assertBetween(np.mean(found), 40 * where - 2, 40 * where + 2)
    self.assertLess(np.std(found), 1.5)

  def test_mirrored_in_height(self):
    rng = np.random.default_rng(2)
    layers, shares, errors = _draw(
        rng, 'early U', np.arange(26), 1024, rough=0.01
    )
    shape = measures.depth_shape(layers, shares[0], errors[0])
    turned = measures.depth_shape(layers, 1 - shares[0], errors[0])
    self.assertEqual((shape.name, turned.name), ('U', 'inverted U'))
    self.assertEqual(turned.p_value, shape.p_value)
    self.assertEqual(turned.turning_point, shape.turning_point)
    self.assertAlmostEqual(turned.change, -shape.change)
    self.assertEqual(turned.trend_p_value, shape.trend_p_value)

  def test_units(self):
    """Numbers three times as large, layers twice as far: nothing changes."""
    rng = np.random.default_rng(3)
    layers, shares, errors = _draw(rng, 'U', np.arange(26), 1024)
    shape = measures.depth_shape(layers, shares[0], errors[0])
    double = measures.depth_shape(2 * layers, 3 * shares[0], 3 * errors[0])
    self.assertEqual(double.turning_point, 2 * shape.turning_point)
    self.assertAlmostEqual(double.change, 3 * shape.change)
    self.assertAlmostEqual(double.spread, 3 * shape.spread)
    same = {'turning_point': None, 'change': None, 'spread': None}
    self.assertEqual(
        dataclasses.replace(shape, **same), dataclasses.replace(double, **same)
    )

  def test_many_are_each_alone(self):
    rng = np.random.default_rng(11)
    layers, shares, errors = _draw(rng, 'rising', np.arange(9), 512, draws=5)
    errors[1:3] *= np.linspace(1, 2, 9)  # Of another kind.
    many = measures.depth_shapes(layers, shares, errors)
    for shape, own, error in zip(many, shares, errors, strict=True):
      alone = measures.depth_shape(layers, own, error)
      self.assertEqual(
          list(alone.power), ['U', 'inverted U', 'bifurcated', 'monotone']
      )
      self.assertIsNone(shape.power)
      self.assertEqual(dataclasses.replace(alone, power=None), shape)

  def test_spread_is_what_the_known_errors_leave(self):
    rng = np.random.default_rng(7)
    drawn = _draw(rng, 'flat', np.arange(42), 4096, draws=30, rough=0.03)
    spread = [x.spread for x in measures.depth_shapes(*drawn)]
    self.assertBetween(np.mean(spread), 0.027, 0.033)

  def test_share_errors(self):
    got = measures.share_errors(np.array([0.0, 0.25]), np.array([400, 1600]))
    q = 400.5 / 2001
    np.testing.assert_allclose(
        got, np.sqrt(q * (1 - q) / np.array([400, 1600]))
    )
    none = measures.share_errors(np.zeros(3), np.full(3, 100))
    self.assertGreater(none.min(), 0)


class FitsTest(parameterized.TestCase):

  def test_t_values_are_those_of_least_squares(self):
    rng = np.random.default_rng(0)
    designs = rng.normal(size=(3, 12, 2))
    y = rng.normal(size=(12, 4))
    t, squares = _shape_tests._fits(designs, y, 0.0)
    for i, design in enumerate(designs):
      b, residual, _, _ = np.linalg.lstsq(design, y)
      np.testing.assert_allclose(squares[i], residual)
      inverse = np.diag(np.linalg.inv(design.T @ design))
      error = np.sqrt(inverse[:, None] * residual / 10)
      np.testing.assert_allclose(t[i], b / error)

  def test_natural_spline(self):
    rng = np.random.default_rng(1)
    knots = np.sort(rng.uniform(0, 30, 6))
    heights = rng.normal(size=6)
    basis = _shape_tests.natural_spline(knots, knots)
    x = np.linspace(knots[0], knots[-1], 50)
    got = _shape_tests.natural_spline(x, knots) @ np.linalg.solve(
        basis, heights
    )
    want = interpolate.CubicSpline(knots, heights, bc_type='natural')(x)
    np.testing.assert_allclose(got, want, atol=1e-9)


class RefusalsTest(parameterized.TestCase):

  def _refused(self, message, layers=None, values=None, errors=None, **kwargs):
    layers = np.arange(7) if layers is None else layers
    values = np.linspace(0, 1, 7) if values is None else values
    errors = np.full(7, 0.1) if errors is None else errors
    with self.assertRaisesRegex(InputError, message):
      measures.depth_shape(layers, values, errors, **kwargs)

  def test_layers_out_of_order_or_twice(self):
    self._refused('do not rise', layers=np.array([0, 1, 2, 2, 4, 5, 6]))
    self._refused('do not rise', layers=np.arange(7)[::-1])

  @parameterized.parameters(np.nan, np.inf)
  def test_value_that_is_not_finite(self, value):
    values = np.where(np.arange(7) == 3, value, 0.5)
    self._refused('Layer 3 has the value', values=values)

  @parameterized.parameters(0.0, -1.0, np.nan, np.inf)
  def test_error_that_is_none(self, error):
    errors = np.where(np.arange(7) == 5, error, 0.5)
    self._refused('Layer 5 has the value', errors=errors)

  @parameterized.parameters(0.0, 1.0, -0.1, 5.0, np.nan)
  def test_alpha(self, alpha):
    self._refused('between 0 and 1', alpha=alpha)


if __name__ == '__main__':
  absltest.main()
