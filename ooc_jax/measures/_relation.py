"""Do two courses over depth go together or apart: tested, with a verdict."""

from collections.abc import Sequence
import dataclasses

from jaxtyping import Float, Shaped
import numpy as np
from scipy import special

from ooc_jax._errors import InputError
from ooc_jax.measures._depth_shape import depth_shape
from ooc_jax.measures._null import q_values

VERDICTS = ('supported', 'not supported', 'not decided')
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
  shapes = [
      depth_shape(layers, first, first_errors),
      depth_shape(layers, second, second_errors),
  ]
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


def verdict(
    signs: Sequence[int],
    p_values: Sequence[float],
    expected: int,
    *,
    alpha: float = 0.05,
) -> str:
  """What tests of one statement say of it together.

  supported: at least one test finds the expected sign with q <= alpha
    (Benjamini and Hochberg over all of them), and none the opposite.
  not supported: at least one finds the opposite sign with q <= alpha; also
    where others find the expected one, as the statement is then not general.
  not decided: none finds either.

  Args:
    signs: Of each test, -1, 0 or 1.
    p_values: Of each, two-sided.
    expected: -1 or 1.
    alpha: Level of the q values.

  Raises:
    InputError: There are more or fewer signs than p values.
  """
  if len(signs) != len(p_values):
    raise InputError(
        f'There are {len(signs)} signs and {len(p_values)} p values: give one'
        ' of each a test.'
    )
  if not len(signs):
    return 'not decided'
  q = q_values(np.asarray(p_values, np.float64))
  found = {s for s, x in zip(signs, q, strict=True) if s and x <= alpha}
  if -expected in found:
    return 'not supported'
  return 'supported' if expected in found else 'not decided'


def crossing(
    deltas: Float[np.ndarray, 'L'], p_values: Float[np.ndarray, 'L']
) -> tuple[int, float]:
  """Whether an effect changes sides over depth, or stays on one.

  Changes (-1): above 0 at some layer and below at some other. P is the larger
  of two, each the smallest one-sided p of the layers times their number
  (Bonferroni). Stays (1): on one side at every layer; p is the largest
  one-sided p of the layers (Berger 1982, Technometrics 24:295, as all must
  hold), times 2 for the two sides.

  Args:
    deltas: An effect for each layer.
    p_values: Two-sided, that it is 0.

  Returns:
    -1 or 1, whichever has the smaller p, and that p; 0 and 1 without a layer.
  """
  if not deltas.size:
    return 0, 1.0
  above = np.where(deltas > 0, p_values / 2, 1 - p_values / 2)
  below = np.where(deltas < 0, p_values / 2, 1 - p_values / 2)
  changes = min(1.0, deltas.size * max(above.min(), below.min()))
  stays = min(1.0, 2 * min(above.max(), below.max()))
  return (-1, float(changes)) if changes < stays else (1, float(stays))


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
