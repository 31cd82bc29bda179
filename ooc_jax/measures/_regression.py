"""Lines and curves through numbers of known error, that also vary by layer.

The share of a layer has two kinds of noise: that of its features, which is
known, and how layers differ for no reason of depth, which is not. With many
features the second is the larger, and a test that leaves it out finds a shape
in any profile. Random-effects meta-regression holds both.
"""

import dataclasses
from typing import NamedTuple

from jaxtyping import Bool, Float
import numpy as np
from scipy import special

# In fewer layers there is no telling whether neighbours are alike.
_NEIGHBOURS = 16
_MOST_ALIKE = 0.8
# A line through fewer layers says nothing of its own error.
LINE = 3
# The columns of two lines: two levels, then two slopes.
_BEFORE = np.array([0.0, 0.0, 1.0, 0.0])
_AFTER = np.array([0.0, 0.0, 0.0, 1.0])


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Fit:
  """A weighted least-squares fit.

  Attributes:
    coefficients: One a column of the design.
    covariance: Of the coefficients.
    dof: Degrees of freedom of the residuals.
    variance: Between layers, past the known errors (tau squared).
    scale: What `covariance` was multiplied by.
  """

  coefficients: Float[np.ndarray, 'p']
  covariance: Float[np.ndarray, 'p p']
  dof: int
  variance: float
  scale: float

  def t_value(self, contrast: Float[np.ndarray, 'p']) -> float:
    """A combination of the coefficients over its standard error."""
    error = np.sqrt(contrast @ self.covariance @ contrast)
    return float(contrast @ self.coefficients / error)

  def p_value(self, contrast: Float[np.ndarray, 'p']) -> float:
    """Two-sided p that the combination is 0, by Student's t."""
    return float(2 * special.stdtr(self.dof, -abs(self.t_value(contrast))))

  def joint_p_value(self, tested: Bool[np.ndarray, 'p']) -> float:
    """P that all tested coefficients are 0, by the F of Wald."""
    count = int(tested.sum())
    b = self.coefficients[tested]
    inverse = np.linalg.inv(self.covariance[np.ix_(tested, tested)])
    return float(special.fdtrc(count, self.dof, b @ inverse @ b / count))


def meta_regression(
    design: Float[np.ndarray, 'L p'],
    y: Float[np.ndarray, 'L'],
    errors: Float[np.ndarray, 'L'],
    inflation: float = 1.0,
) -> Fit:
  """Random-effects regression of numbers with known errors.

  y = X b + layer effect + error, weights 1 / (errors^2 + tau^2). The variance
  tau^2 of the layer effects is Paule and Mandel's (1982, J. Res. NBS 87:377):
  that at which the weighted squares of the residuals equal their degrees of
  freedom, or 0 where they are fewer already. Tests use Student's t and the
  scale of Knapp and Hartung (2003, Stat. Med. 22:2693), never under 1 (Röver,
  Knapp and Friede 2015, BMC Med. Res. Methodol. 15:99): tau^2 from few layers
  is itself uncertain.

  Args:
    design: X, of full rank, with more rows than columns.
    y: One number a layer.
    errors: Their standard errors, above 0.
    inflation: Of the covariance, where neighbours are alike.
  """
  dof = y.size - design.shape[1]
  variance = 0.0
  b, r, residual, slope = _least_squares(design, y, errors, variance)
  # Newton's steps from below never pass the root: the sum of squares falls
  # ever more slowly as the variance grows.
  while residual > dof * (1 + 1e-9):
    variance += (residual - dof) / slope
    b, r, residual, slope = _least_squares(design, y, errors, variance)
  scale = inflation * max(1.0, residual / dof)
  inverse = np.linalg.inv(r)
  return Fit(
      coefficients=b,
      covariance=scale * inverse @ inverse.T,
      dof=dof,
      variance=float(variance),
      scale=float(scale),
  )


def _least_squares(design, y, errors, variance):
  """Coefficients, R of QR, and the squares with minus their slope."""
  root = 1 / np.sqrt(errors**2 + variance)
  q, r = np.linalg.qr(design * root[:, None])
  b = np.linalg.solve(r, q.T @ (y * root))
  squares = ((y - design @ b) * root) ** 2
  return b, r, squares.sum(), (squares * root**2).sum()


class Profile(NamedTuple):
  """A number over depth.

  Attributes:
    x: Layers, rising.
    y: A number for each.
    errors: Their standard errors.
    inflation: See `meta_regression`.
  """

  x: Float[np.ndarray, 'L']
  y: Float[np.ndarray, 'L']
  errors: Float[np.ndarray, 'L']
  inflation: float = 1.0

  def fit(self, design: Float[np.ndarray, 'L p']) -> Fit:
    return meta_regression(design, self.y, self.errors, self.inflation)


def natural_spline(
    x: Float[np.ndarray, 'n'], knots: Float[np.ndarray, 'K']
) -> Float[np.ndarray, 'n K']:
  """Basis of cubic splines that are straight past the outer knots.

  1, x and K - 2 truncated cubics; Hastie, Tibshirani and Friedman, The
  Elements of Statistical Learning, equation 5.4. Scaled to [0, 1].
  """
  low, high = knots[0], knots[-1]
  x, knots = (x - low) / (high - low), (knots - low) / (high - low)
  past_end = np.maximum(x - 1, 0) ** 3
  cubes = np.maximum(x[:, None] - knots[:-1], 0) ** 3 - past_end[:, None]
  d = cubes / (1 - knots[:-1])
  return np.column_stack([np.ones_like(x), x, d[:, :-1] - d[:, -1:]])


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
  """A smooth curve through the layers.

  Attributes:
    fit: Its coefficients in the basis of `natural_spline`.
    knots: Of that basis, from the first layer to the last.
  """

  fit: Fit
  knots: Float[np.ndarray, 'K']

  def at(self, x: Float[np.ndarray, 'n']) -> tuple[np.ndarray, np.ndarray]:
    """Its height at every x, and the standard error of that."""
    basis = natural_spline(x, self.knots)
    variance = np.einsum('nj,jk,nk->n', basis, self.fit.covariance, basis)
    return basis @ self.fit.coefficients, np.sqrt(variance)

  def p_value(self) -> float:
    """P that it is a constant."""
    return self.fit.joint_p_value(np.arange(len(self.knots)) > 0)

  def contrast(
      self, x: Float[np.ndarray, 'n'], weights: Float[np.ndarray, 'n']
  ) -> tuple[float, float]:
    """A weighted sum of its heights, and the two-sided p that it is 0."""
    combined = weights @ natural_spline(x, self.knots)
    return float(combined @ self.fit.coefficients), self.fit.p_value(combined)


def smooth_curve(profile: Profile) -> Curve:
  """A natural cubic spline with a knot for five layers, four knots to six."""
  count = min(6, max(4, profile.x.size // 5))
  knots = np.quantile(profile.x, np.linspace(0, 1, count))
  return Curve(fit=profile.fit(natural_spline(profile.x, knots)), knots=knots)


def neighbour_inflation(profile: Profile, curve: Curve) -> float:
  """How much less L layers say where neighbours are alike.

  Slow contrasts of an AR(1) series have (1 + r) / (1 - r) times the variance
  that independent numbers would give (Weatherhead et al. 1998, J. Geophys. Res.
  103:17149). r is the correlation of neighbours about the smooth curve, plus
  K / L, about what fitting its K coefficients takes away; from 0 to 0.8.

  Returns:
    The factor, at least 1; 1 for fewer than 16 layers, in which r is not to be
    had.
  """
  if profile.x.size < _NEIGHBOURS:
    return 1.0
  height, _ = curve.at(profile.x)
  root = np.sqrt(profile.errors**2 + curve.fit.variance)
  residual = (profile.y - height) / root
  squares = residual @ residual
  alike = residual[1:] @ residual[:-1] / squares if squares > 0 else 0.0
  alike += len(curve.knots) / profile.x.size
  alike = min(max(alike, 0.0), _MOST_ALIKE)
  return float((1 + alike) / (1 - alike))


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
  _, level = _near_extreme(curve, sign, inner)
  point = np.median(level)
  before, after = _lines(profile, point)
  strength = np.abs([before.t_value(_BEFORE), after.t_value(_AFTER)])
  if strength.sum() > 0:
    point = np.quantile(level, strength[1] / strength.sum())
    before, after = _lines(profile, point)
  grid = np.linspace(inner[0], inner[-1], 1001)
  turn, around = _near_extreme(curve, sign, grid)
  return TwoLines(
      slopes=(float(before.coefficients[2]), float(after.coefficients[3])),
      p_values=(before.p_value(_BEFORE), after.p_value(_AFTER)),
      break_point=float(point),
      turning_point=float(turn),
      turning_range=(float(around[0]), float(around[-1])),
  )


def _near_extreme(curve, sign, grid):
  """Where the curve is highest, and where within an error of that."""
  height, error = curve.at(grid)
  height *= sign
  top = int(height.argmax())
  return grid[top], grid[height + error >= height[top]]


def _lines(profile: Profile, point: float) -> tuple[Fit, Fit]:
  """Two fits of two lines: the break in the first line, and in the second."""
  x = profile.x
  fits = []
  for first in (x <= point, x < point):
    sides = np.stack([first, ~first], axis=1).astype(np.float64)
    design = np.concatenate([sides, sides * (x - point)[:, None]], axis=1)
    fits.append(profile.fit(design))
  return fits[0], fits[1]
