"""Do two courses over depth go together or apart: tested."""

import dataclasses

from jaxtyping import Float, Shaped
import numpy as np
from scipy import special

from ooc_jax.measures._depth_shape import depth_shapes

_LEAST_LAYERS = 6  # As of `depth_shape`.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Relation:
  """What the tests said of two courses; see `relation_over_depth`.

  Attributes:
    sign: -1 where they go apart, 1 where they go together, by the smaller p.
    p_value: Two-sided, that they have nothing to do with each other; 1 for
      fewer than 6 layers.
    correlation: Pearson's, over the layers; None where a course is constant.
    effective_layers: How many independent layers these would be.
    correlation_p_value: With so many.
    trends: Change of each course from the first layer to the last, by a line.
    trend_p_value: The larger p of the two trends.
  """

  sign: int = 0
  p_value: float = 1.0
  correlation: float | None = None
  effective_layers: float | None = None
  correlation_p_value: float | None = None
  trends: tuple[float, float] | None = None
  trend_p_value: float | None = None


def relation_over_depth(
    layers: Shaped[np.ndarray, 'L'],
    first: Float[np.ndarray, 'L'],
    second: Float[np.ndarray, 'L'],
    first_errors: Float[np.ndarray, 'L'],
    second_errors: Float[np.ndarray, 'L'],
) -> Relation:
  """Whether two numbers a layer are inversely related over depth.

  P is twice the smaller of two p values (Bonferroni):
    of the correlation over the layers, by Student's t, with as many layers as
      independent ones would say as much: L / (1 + 2 sum_k (1 - k/L) a_k b_k)
      over k up to L/4, from the autocorrelations of both (Bartlett 1946, J. R.
      Stat. Soc. Suppl. 8:27; Pyper and Peterman 1998, Can. J. Fish. Aquat. Sci.
      55:2127), never more than L;
    of the trends, the larger p of the two (`depth_shape`): both must be there,
      and the sign is whether they agree. It keeps its power where smooth
      courses leave few independent layers.

  Args:
    layers: Their numbers, rising.
    first: One number a layer.
    second: Another.
    first_errors: Standard errors, above 0.
    second_errors: Those of the second number.

  Raises:
    InputError: As `depth_shape`.
  """
  shapes = depth_shapes(
      layers, np.stack([first, second]), np.stack([first_errors, second_errors])
  )
  if layers.size < _LEAST_LAYERS:
    return Relation()
  r, size, p = _correlation(first.astype(np.float64), second.astype(np.float64))
  changes = (_number(shapes[0].change), _number(shapes[1].change))
  trend_p = max(_number(x.trend_p_value) for x in shapes)
  trend_sign = int(np.sign(changes[0] * changes[1]))
  by_trend = trend_p < p
  sign = trend_sign if by_trend else int(np.sign(r or 0.0))
  return Relation(
      sign=sign,
      p_value=min(1.0, 2 * min(p, trend_p)) if sign else 1.0,
      correlation=r,
      effective_layers=size,
      correlation_p_value=p,
      trends=changes,
      trend_p_value=trend_p,
  )


def _number(value: float | None) -> float:
  assert value is not None  # There are layers enough.
  return float(value)


def _correlation(
    first: np.ndarray, second: np.ndarray
) -> tuple[float | None, float, float]:
  """Pearson's r, independent layers, two-sided p."""
  n = first.size
  a, b = first - first.mean(), second - second.mean()
  scale = float(np.sqrt((a @ a) * (b @ b)))
  if not scale:
    return None, float(n), 1.0
  r = float(np.clip(a @ b / scale, -1.0, 1.0))
  total = sum(
      (1 - k / n) * _lagged(a, k) * _lagged(b, k) for k in range(1, n // 4 + 1)
  )
  size = n / max(1 + 2 * total, 1.0)
  dof = size - 2
  if dof <= 0:
    return r, size, 1.0
  if abs(r) == 1:
    return r, size, 0.0
  t = r * np.sqrt(dof / (1 - r * r))
  return r, size, float(2 * special.stdtr(dof, -abs(t)))


def _lagged(x: np.ndarray, lag: int) -> float:
  """Autocorrelation of centred numbers, with the small-sample factor n/(n-k).

  The plain estimate is too small in short courses, and would make too many
  layers independent.
  """
  n = x.size
  return float(x[:-lag] @ x[lag:] / (x @ x)) * n / (n - lag)
