"""The regression under the depth shapes, against its own definitions."""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
from scipy import interpolate
from scipy import stats

from ooc_jax.measures import _regression


def _data(seed, size=19, spread=0.0):
  rng = np.random.default_rng(seed)
  x = np.sort(rng.permutation(40)[:size]).astype(float)
  errors = rng.uniform(0.5, 2.0, size)
  y = 3.0 - 0.2 * x + errors * rng.normal(size=size)
  y += spread * rng.normal(size=size)
  return np.stack([np.ones(size), x], axis=1), y, errors


class MetaRegressionTest(parameterized.TestCase):

  @parameterized.parameters(0.0, 0.7, 3.0, 50.0)
  def test_solves_its_two_equations(self, spread):
    design, y, errors = _data(1, spread=spread)
    fit = _regression.meta_regression(design, y, errors)
    weight = np.diag(1 / (errors**2 + fit.variance))
    normal = design.T @ weight @ design
    np.testing.assert_allclose(
        fit.coefficients, np.linalg.solve(normal, design.T @ weight @ y)
    )
    residual = y - design @ fit.coefficients
    ratio = residual @ weight @ residual / 17
    if fit.variance > 0:
      np.testing.assert_allclose(ratio, 1.0, rtol=1e-6)
    else:
      self.assertLess(ratio, 1.0)
    np.testing.assert_allclose(fit.covariance, np.linalg.inv(normal), rtol=1e-6)
    self.assertEqual(fit.dof, 17)

  def test_variance_is_found_on_average(self):
    found = [
        _regression.meta_regression(*_data(s, spread=3.0)).variance
        for s in range(400)
    ]
    # Of one estimate the standard deviation is 9 sqrt(2/17) or more.
    self.assertBetween(np.mean(found), 8.2, 10.0)

  def test_is_least_squares_where_the_known_errors_are_small(self):
    design, y, errors = _data(2, spread=2.0)
    fit = _regression.meta_regression(design, y, 1e-6 * errors)
    line = stats.linregress(design[:, 1], y)
    slope = np.array([0.0, 1.0])
    np.testing.assert_allclose(fit.coefficients[1], line.slope, rtol=1e-6)
    np.testing.assert_allclose(fit.p_value(slope), line.pvalue, rtol=1e-5)
    np.testing.assert_allclose(
        fit.t_value(slope), line.slope / line.stderr, rtol=1e-5
    )
    # Of one coefficient, F is the square of t.
    joint = fit.joint_p_value(np.array([False, True]))
    np.testing.assert_allclose(joint, fit.p_value(slope), rtol=1e-9)

  @parameterized.product(spread=(0.0, 1.0, 20.0), size=(8, 19))
  def test_p_values_are_as_often_small_as_they_say(self, spread, size):
    small, joint = 0, 0
    for seed in range(400):
      design, y, errors = _data(seed, size, spread)
      y = y + 0.2 * design[:, 1]  # Now level.
      curve = np.column_stack([design, (design[:, 1] / 20 - 1) ** 2])
      fit = _regression.meta_regression(curve, y, errors)
      small += fit.p_value(np.array([0.0, 1.0, 0.0])) <= 0.05
      joint += fit.joint_p_value(np.array([False, True, True])) <= 0.05
    # 20 +- 4.4 of 400; fewer where there is no spread, as t is then cautious.
    fewest = 8 if spread == 20.0 else 0
    self.assertBetween(small, fewest, 36)
    self.assertBetween(joint, fewest, 36)

  def test_inflation_is_of_the_covariance(self):
    data = _data(4, spread=1.0)
    plain = _regression.meta_regression(*data)
    wide = _regression.meta_regression(*data, inflation=4.0)
    np.testing.assert_allclose(wide.covariance, 4 * plain.covariance)
    np.testing.assert_array_equal(wide.coefficients, plain.coefficients)

  def test_a_number_without_any_noise(self):
    design, _, errors = _data(3)
    fit = _regression.meta_regression(design, np.ones(19), errors)
    self.assertEqual(fit.variance, 0.0)
    self.assertGreater(fit.p_value(np.array([0.0, 1.0])), 0.99)


class NaturalSplineTest(absltest.TestCase):

  def test_spans_the_natural_cubic_splines(self):
    rng = np.random.default_rng(0)
    knots = np.array([2.0, 3.0, 7.0, 11.0, 12.5])
    x = np.linspace(2.0, 12.5, 57)
    for _ in range(3):
      heights = rng.normal(size=5)
      b = np.linalg.solve(_regression.natural_spline(knots, knots), heights)
      want = interpolate.CubicSpline(knots, heights, bc_type='natural')(x)
      got = _regression.natural_spline(x, knots) @ b
      np.testing.assert_allclose(got, want, atol=1e-10)


class NeighbourInflationTest(parameterized.TestCase):

  def _inflations(self, alike, size, repeats=60):
    rng = np.random.default_rng(0)
    for _ in range(repeats):
      y = rng.normal(size=size)
      for i in range(1, size):
        y[i] = alike * y[i - 1] + np.sqrt(1 - alike**2) * y[i]
      x = np.arange(float(size))
      y += np.sin(x / size)
      profile = _regression.Profile(x, y, np.full(size, 0.1))
      curve = _regression.smooth_curve(profile)
      yield _regression.neighbour_inflation(profile, curve)

  @parameterized.parameters((0.0, 1.1), (0.4, 2.3), (0.6, 3.7))
  def test_of_a_long_series(self, alike, want):
    # (1 + r) / (1 - r) is 1, 2.33, 4; of r = 0 the half under 1 is cut off.
    got = np.mean(list(self._inflations(alike, 400)))
    np.testing.assert_allclose(got, want, rtol=0.12)

  def test_of_a_model_it_is_between_1_and_9(self):
    for alike in (-0.9, 0.0, 0.95):
      got = list(self._inflations(alike, 26))
      self.assertBetween(min(got), 1.0, 9.0 + 1e-9)
      self.assertBetween(max(got), 1.0, 9.0 + 1e-9)
    self.assertGreater(np.mean(list(self._inflations(0.6, 26))), 1.8)

  def test_not_in_few_layers(self):
    self.assertEqual(set(self._inflations(0.9, 15)), {1.0})


if __name__ == '__main__':
  absltest.main()
