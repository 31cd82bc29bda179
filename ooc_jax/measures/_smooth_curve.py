"""A smooth curve through a number over depth."""

import dataclasses

from jaxtyping import Float
import numpy as np

from ooc_jax.measures._meta_regression import Fit
from ooc_jax.measures._meta_regression import Profile

# In fewer layers there is no telling whether neighbours are alike.
_NEIGHBOURS = 16
_MOST_ALIKE = 0.8


def natural_spline(
    x: Float[np.ndarray, 'n'], knots: Float[np.ndarray, 'K']
) -> Float[np.ndarray, 'n K']:
  """Basis of cubic splines that are straight past the outer knots.

  1, x and K - 2 truncated cubics; Hastie, Tibshirani and Friedman, The
  Elements of Statistical Learning, equation 5.4. Scaled to [0, 1].
  """
  low, high = knots[0], knots[-1]
  x, knots = (x - low) / (high - low), (knots - low) / (high - low)

  def d(k):
    cubes = np.maximum(x - knots[k], 0) ** 3 - np.maximum(x - 1, 0) ** 3
    return cubes / (1 - knots[k])

  last = d(len(knots) - 2)
  curves = [d(k) - last for k in range(len(knots) - 2)]
  return np.stack([np.ones_like(x), x, *curves], axis=1)


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
