"""A line or curve through numbers of known error, that also vary by layer.

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

  def solve(variance):
    root = 1 / np.sqrt(errors**2 + variance)
    q, r = np.linalg.qr(design * root[:, None])
    b = np.linalg.solve(r, q.T @ (y * root))
    squares = ((y - design @ b) * root) ** 2
    return b, r, squares.sum(), (squares * root**2).sum()

  variance = 0.0
  b, r, residual, slope = solve(variance)
  # Newton's steps from below never pass the root: the sum of squares falls
  # ever more slowly as the variance grows.
  while residual > dof * (1 + 1e-9):
    variance += (residual - dof) / slope
    b, r, residual, slope = solve(variance)
  scale = inflation * max(1.0, residual / dof)
  inverse = np.linalg.inv(r)
  return Fit(
      coefficients=b,
      covariance=scale * inverse @ inverse.T,
      dof=dof,
      variance=float(variance),
      scale=float(scale),
  )


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
