"""Planted profiles are named for what they are, rough or smooth."""

import collections
import dataclasses

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
from scipy import stats

from ooc_jax import measures
from ooc_jax._errors import InputError
from ooc_jax.measures import _regression

# Shares over depth from 0 to 1; what rises or falls does so by 20 points.
_PROFILES = {
    'U': lambda x: 0.15 + 0.2 * (2 * x - 1) ** 2,
    'early U': lambda x: 0.15 + 0.2 * _bowl(x, 0.3),
    'inverted U': lambda x: 0.35 - 0.2 * (2 * x - 1) ** 2,
    'late inverted U': lambda x: 0.35 - 0.2 * _bowl(x, 0.7),
    'rising': lambda x: 0.15 + 0.2 * x,
    'rising early': lambda x: 0.15 + 0.2 * (1 - np.exp(-5 * x)),
    'rising at once': lambda x: 0.15 + 0.2 / (1 + np.exp(-15 * (x - 0.5))),
    'falling': lambda x: 0.35 - 0.2 * x,
    'falling late': lambda x: 0.35 - 0.2 * x**4,
    'flat': lambda x: 0.25 + 0.0 * x,
    'flat and low': lambda x: 0.03 + 0.0 * x,
    'bifurcated': lambda x: 0.15 + 0.2 * ((x < 0.2) | (x > 0.8)),
    'undecided': lambda x: 0.25 + 0.1 * np.cos(4 * np.pi * x),
    'slight undecided': lambda x: 0.25 + 0.05 * np.cos(4 * np.pi * x),
}


def _bowl(x, low):
  return np.where(x < low, (low - x) / low, (x - low) / (1 - low)) ** 1.5


def _kind(profile):
  """The name that a profile should be given."""
  longest_first = sorted(measures.SHAPES, key=len, reverse=True)
  return next(name for name in longest_first if name in profile)


def _draw(rng, profile, layers, num_features, rough=0.0):
  """A profile with the noise of its features, and a roughness of layers."""
  depth = layers / (layers[-1] or 1)
  truth = _PROFILES[profile](depth) + rough * rng.normal(size=layers.size)
  shares = rng.binomial(num_features, np.clip(truth, 0, 1)) / num_features
  counts = np.full(layers.size, num_features)
  return layers, shares, measures.share_errors(shares, counts)


def _names(profile, layers, num_features, *, rough=0.0, draws=100, seed=0):
  rng = np.random.default_rng(seed)
  return collections.Counter(
      measures.depth_shape(
          *_draw(rng, profile, layers, num_features, rough)
      ).name
      for _ in range(draws)
  )


class NamesTest(parameterized.TestCase):

  @parameterized.product(
      profile=('U', 'inverted U', 'rising', 'flat'), num_layers=(8, 26, 42)
  )
  def test_planted_shapes(self, profile, num_layers):
    names = _names(profile, np.arange(num_layers), 1024)
    self.assertGreaterEqual(names[profile], 95, names)

  @parameterized.parameters(
      ('early U', 26),
      ('late inverted U', 30),
      ('rising early', 26),
      ('rising at once', 30),
      ('falling', 8),
      ('falling late', 42),
      ('flat and low', 32),
      ('rising early', 8),
      ('slight undecided', 42),
      ('undecided', 26),
      ('undecided', 8),
  )
  def test_shapes_that_no_parabola_or_line_is(self, profile, num_layers):
    num_features = 16_384 if num_layers == 8 else 1024
    names = _names(profile, np.arange(num_layers), num_features, draws=40)
    self.assertGreaterEqual(names[_kind(profile)], 38, names)

  @parameterized.product(
      profile=('U', 'inverted U', 'rising', 'rising early', 'flat'),
      num_features=(512, 16_384),
  )
  def test_layers_that_differ_for_no_reason(self, profile, num_features):
    """A roughness of 2 points, six times the noise of 16384 features."""
    names = _names(
        profile, np.arange(32), num_features, rough=0.02, draws=60, seed=1
    )
    self.assertGreaterEqual(names[_kind(profile)], 57, names)

  def test_neighbours_that_are_alike(self):
    """Roughness with a correlation of 0.5 between neighbours."""
    rng = np.random.default_rng(2)
    flat = 0
    for _ in range(60):
      rough = rng.normal(size=42)
      for i in range(1, 42):
        rough[i] = 0.5 * rough[i - 1] + np.sqrt(0.75) * rough[i]
      shares = rng.binomial(16_384, 0.25 + 0.02 * rough) / 16_384
      errors = measures.share_errors(shares, np.full(42, 16_384))
      flat += measures.depth_shape(np.arange(42), shares, errors).name == 'flat'
    self.assertGreaterEqual(flat, 46)  # 41 of 60 without the inflation.

  def test_known_errors_alone_would_find_shapes_in_roughness(self):
    """The guard of the test above: it fails without the variance of layers."""
    rng = np.random.default_rng(1)
    significant = 0
    for _ in range(40):
      layers, shares, errors = _draw(rng, 'flat', np.arange(32), 16_384, 0.02)
      weight = 1 / errors**2
      x = layers - weight @ layers / weight.sum()
      z = (weight * x) @ shares / np.sqrt(weight @ x**2)
      significant += abs(z) > 2.58
    self.assertGreater(significant, 20)

  @parameterized.parameters('U', 'inverted U', 'rising', 'flat')
  def test_some_layers_only(self, profile):
    layers = np.array([0, 1, 2, 5, 8, 9, 12, 15, 18, 20, 21, 25])
    names = _names(profile, layers, 1024, draws=60)
    self.assertGreaterEqual(names[profile], 57, names)

  def test_two_plateaus(self):
    """In few layers no line runs down a cliff; yet the ends are high."""
    names = _names('bifurcated', np.arange(8), 1024, draws=40)
    self.assertEqual(names['bifurcated'] + names['U'], 40, names)
    self.assertGreater(names['bifurcated'], 10)
    rng = np.random.default_rng(0)
    for profile, want in (('bifurcated', True), ('U', True), ('rising', False)):
      shape = measures.depth_shape(*_draw(rng, profile, np.arange(26), 1024))
      self.assertEqual(shape.bifurcated, want)

  @parameterized.product(value=(0.0, 1.0), num_layers=(6, 26))
  def test_the_same_everywhere(self, value, num_layers):
    shares = np.full(num_layers, value)
    errors = measures.share_errors(shares, np.full(num_layers, 1024))
    shape = measures.depth_shape(np.arange(num_layers), shares, errors)
    self.assertEqual(shape.name, 'flat')
    for field in dataclasses.astuple(shape)[1:]:
      self.assertTrue(np.isfinite(field).all())

  def test_fewer_than_six_layers(self):
    rng = np.random.default_rng(0)
    shape = measures.depth_shape(*_draw(rng, 'U', np.arange(5), 1024))
    self.assertEqual(shape, measures.DepthShape(name='undecided'))
    shape = measures.depth_shape(*_draw(rng, 'U', np.arange(6), 1024))
    self.assertIsNotNone(shape.change)


class NumbersTest(parameterized.TestCase):

  @parameterized.parameters(('early U', 0.3), ('late inverted U', 0.7))
  def test_turning_point(self, profile, where):
    rng = np.random.default_rng(0)
    found = []
    for _ in range(20):
      shape = measures.depth_shape(*_draw(rng, profile, np.arange(41), 16_384))
      low, high = shape.turning_range
      self.assertBetween(shape.turning_point, low, high)
      found.append(shape.turning_point)
    # Four knots or six bend less sharply than the truth; within two layers.
    self.assertBetween(np.mean(found), 40 * where - 2, 40 * where + 2)
    self.assertLess(np.std(found), 1.0)

  def test_mirrored_in_depth_and_in_height(self):
    rng = np.random.default_rng(2)
    layers, shares, errors = _draw(rng, 'early U', np.arange(26), 1024, 0.01)
    shape = measures.depth_shape(layers, shares, errors)
    turned = measures.depth_shape(layers, 1 - shares, errors)
    self.assertEqual((shape.name, turned.name), ('U', 'inverted U'))
    np.testing.assert_allclose(turned.slopes, np.negative(shape.slopes))
    np.testing.assert_allclose(turned.slope_p_values, shape.slope_p_values)
    np.testing.assert_allclose(turned.turning_point, shape.turning_point)
    np.testing.assert_allclose(turned.change, -shape.change)
    back = measures.depth_shape(layers, shares[::-1], errors[::-1])
    self.assertEqual(back.name, 'U')
    np.testing.assert_allclose(back.slopes, np.negative(shape.slopes[::-1]))
    np.testing.assert_allclose(back.slope_p_values, shape.slope_p_values[::-1])
    np.testing.assert_allclose(
        back.turning_point, 25 - shape.turning_point, atol=1e-6
    )

  def test_units(self):
    """Twice the numbers, twice the slopes; half the layers, too."""
    rng = np.random.default_rng(3)
    layers, shares, errors = _draw(rng, 'U', np.arange(26), 1024)
    shape = measures.depth_shape(layers, shares, errors)
    double = measures.depth_shape(2 * layers, 6 * shares, 6 * errors)
    np.testing.assert_allclose(double.slopes, 3 * np.array(shape.slopes))
    np.testing.assert_allclose(double.slope_p_values, shape.slope_p_values)
    np.testing.assert_allclose(double.break_point, 2 * shape.break_point)
    np.testing.assert_allclose(double.change, 6 * shape.change)
    np.testing.assert_allclose(double.spread, 6 * shape.spread)
    np.testing.assert_allclose(double.curve_p_value, shape.curve_p_value)

  def test_lines_are_those_of_the_two_halves(self):
    """With equal errors: ordinary lines, the break in each line's own fit."""
    rng = np.random.default_rng(4)
    layers = np.arange(26)
    y = _PROFILES['U'](layers / 25) + 0.03 * rng.normal(size=26)
    shape = measures.depth_shape(layers, y, np.full(26, 1e-6))
    at = shape.break_point
    for i, (own, other) in enumerate((
        (layers <= at, layers > at),
        (layers >= at, layers < at),
    )):
      line = np.polyfit(layers[own], y[own], 1)
      np.testing.assert_allclose(shape.slopes[i], line[0], rtol=1e-6)
      squares = sum(
          np.polyfit(layers[part], y[part], 1, full=True)[1][0]
          for part in (own, other)
      )
      x = layers[own] - layers[own].mean()
      t = line[0] / np.sqrt(squares / 22 / (x @ x))
      np.testing.assert_allclose(
          shape.slope_p_values[i],
          2 * stats.t.sf(abs(t) / np.sqrt(shape.inflation), 22),
          rtol=1e-4,
      )

  def test_the_layer_at_the_break_is_in_each_lines_own_fit(self):
    rng = np.random.default_rng(9)
    x, y = np.arange(12.0), rng.normal(size=12)
    profile = _regression.Profile(x, y, np.full(12, 1e-6))
    before, after = _regression._lines(profile, 5.0)
    for fit, first in ((before, x <= 5), (after, x < 5)):
      np.testing.assert_allclose(
          fit.coefficients[2:],
          [np.polyfit(x[part], y[part], 1)[0] for part in (first, ~first)],
          rtol=1e-9,
      )

  def test_the_weaker_line_is_given_points(self):
    """A plateau between a cliff and a gentle slope: it goes to the slope."""
    x = np.arange(30.0)
    y = np.interp(x, [0, 8, 18, 29], [0.0, 1.0, 1.0, 0.8])
    rng = np.random.default_rng(5)
    y += 0.02 * rng.normal(size=30)
    lines, mirrored = (
        _regression.two_lines(profile, _regression.smooth_curve(profile))
        for profile in (
            _regression.Profile(x, numbers, np.full(30, 0.01))
            for numbers in (y, y[::-1])
        )
    )
    middle = np.mean(lines.turning_range)
    self.assertLess(lines.break_point, middle)
    self.assertGreater(mirrored.break_point, 29 - middle)

  def test_a_straight_change_and_its_interval(self):
    rng = np.random.default_rng(6)
    inside = 0
    for _ in range(100):
      shape = measures.depth_shape(
          *_draw(rng, 'rising', np.arange(9), 1024, rough=0.02)
      )
      low, high = shape.change_interval
      inside += low <= 0.2 <= high
    self.assertBetween(inside, 87, 100)  # 95 %, less four errors.

  def test_spread_is_what_the_known_errors_leave(self):
    rng = np.random.default_rng(7)
    found = [
        measures.depth_shape(
            *_draw(rng, 'flat', np.arange(42), 4096, rough=0.03)
        ).spread
        for _ in range(30)
    ]
    self.assertBetween(np.mean(found), 0.027, 0.033)

  def test_flat_spread_is_a_setting(self):
    rng = np.random.default_rng(8)
    profile = _draw(rng, 'flat', np.arange(42), 4096, rough=0.03)
    self.assertEqual(measures.depth_shape(*profile).name, 'flat')
    shape = measures.depth_shape(*profile, flat_spread=0.01)
    self.assertEqual(shape.name, 'undecided')

  def test_share_errors(self):
    got = measures.share_errors(np.array([0.0, 0.25]), np.array([400, 1600]))
    q = 0.5 / 401
    want = [np.sqrt(q * (1 - q) / 400), np.sqrt(0.25 * 0.75 / 1600)]
    np.testing.assert_allclose(got, want, rtol=1e-3)


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
