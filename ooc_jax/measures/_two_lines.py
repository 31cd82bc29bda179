"""Simonsohn's two-lines test of a U, on few points of known error."""

import dataclasses

import numpy as np

from ooc_jax.measures._meta_regression import Fit
from ooc_jax.measures._meta_regression import Profile
from ooc_jax.measures._smooth_curve import Curve

# A line through fewer layers says nothing of its own error.
LINE = 3
# The columns of two lines: two levels, then two slopes.
_BEFORE = np.array([0.0, 0.0, 1.0, 0.0])
_AFTER = np.array([0.0, 0.0, 0.0, 1.0])


@dataclasses.dataclass(frozen=True, kw_only=True)
class TwoLines:
  """Two lines and where they part.

  Attributes:
    slopes: Of the line before the break and of that after it.
    p_values: Two-sided, that a slope is 0.
    break_point: Chosen for the power of the test; not where the curve turns.
    turning_point: Where the smooth curve is lowest (highest, where it first
      rises) away from the ends.
    turning_range: First and last x at which the curve is within one standard
      error of that.
  """

  slopes: tuple[float, float]
  p_values: tuple[float, float]
  break_point: float
  turning_point: float
  turning_range: tuple[float, float]


def two_lines(profile: Profile, curve: Curve) -> TwoLines:
  """The interrupted regression with the break of the "Robin Hood" procedure.

  Simonsohn (2018, Adv. Methods Pract. Psychol. Sci. 1:538). A break is put in
  the middle of where the smooth curve is within one standard error of its
  extreme in the middle 80 % of x, then moved within that range so that the
  weaker line is given points of the stronger. Each line is tested in a fit
  that gives it the point at the break. Here the fits are random-effects
  regressions (see `meta_regression`; his have HC3 errors, which need more
  points), and each line has at least three layers.

  Args:
    profile: Of at least 6 layers.
    curve: The `smooth_curve` through it.
  """
  x, y = profile.x, profile.y
  # The slope of a parabola at the first layer says which way it turns.
  square, slope, _ = np.polyfit(x, y, 2)
  sign = 1.0 if slope + 2 * square * x[0] > 0 else -1.0
  low, high = np.quantile(x, [0.1, 0.9])
  inner = x[(x >= max(low, x[LINE - 1])) & (x <= min(high, x[-LINE]))]

  def near_extreme(grid):
    height, error = curve.at(grid)
    height *= sign
    top = int(height.argmax())
    return grid[top], grid[height + error >= height[top]]

  _, level = near_extreme(inner)
  point = np.median(level)
  before, after = _lines(profile, point)
  strength = np.abs([before.t_value(_BEFORE), after.t_value(_AFTER)])
  if strength.sum() > 0:
    point = np.quantile(level, strength[1] / strength.sum())
    before, after = _lines(profile, point)
  turn, around = near_extreme(np.linspace(inner[0], inner[-1], 1001))
  return TwoLines(
      slopes=(float(before.coefficients[2]), float(after.coefficients[3])),
      p_values=(before.p_value(_BEFORE), after.p_value(_AFTER)),
      break_point=float(point),
      turning_point=float(turn),
      turning_range=(float(around[0]), float(around[-1])),
  )


def _lines(profile: Profile, point: float) -> tuple[Fit, Fit]:
  """Two fits of two lines: the break in the first line, and in the second."""
  x = profile.x
  fits = []
  for first in (x <= point, x < point):
    sides = np.stack([first, ~first], axis=1).astype(np.float64)
    design = np.concatenate([sides, sides * (x - point)[:, None]], axis=1)
    fits.append(profile.fit(design))
  return fits[0], fits[1]
