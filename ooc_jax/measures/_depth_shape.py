"""The shape of a number over depth: tested, not eyeballed."""

import dataclasses

from jaxtyping import Float, Int, Shaped
import numpy as np
from scipy import special

from ooc_jax._errors import InputError
from ooc_jax.measures._regression import LINE
from ooc_jax.measures._regression import Curve
from ooc_jax.measures._regression import Fit
from ooc_jax.measures._regression import Profile
from ooc_jax.measures._regression import neighbour_inflation
from ooc_jax.measures._regression import smooth_curve
from ooc_jax.measures._regression import two_lines

SHAPES = (
    'U',
    'inverted U',
    'bifurcated',
    'rising',
    'falling',
    'flat',
    'undecided',
)
# What the tests that part flat from not flat may take of alpha. They are
# stricter than the two lines, which must both pass: together they leave a flat
# profile flat in 98 of 100 cases at alpha = 0.05.
_ENDS_SHARE = 0.5
_TREND_SHARE = 0.2
_REST_SHARE = 0.1
_FLAT_SPREAD = 0.25  # Of the mean.


@dataclasses.dataclass(frozen=True, kw_only=True)
class DepthShape:
  """What the tests said of a profile; see `depth_shape`.

  All but the name are None where there are fewer than 6 layers.

  Attributes:
    name: One of `SHAPES`.
    slopes: Per layer, of the lines before and after the break.
    slope_p_values: Two-sided, of each slope.
    break_point: Where the lines part, a layer.
    turning_point: The layer at which the smooth curve is lowest or highest
      away from the ends; it means something only where the name is U,
      inverted U or bifurcated.
    turning_range: The layers between which that could be, within one standard
      error of the curve.
    change: From the first layer to the last, by a straight line.
    change_interval: Its 95 % interval: how large a trend `flat` could hide.
    trend_p_value: That there is no trend.
    ends_over_middle: Mean of the first third less that of the middle, and of
      the last third less that of the middle.
    ends_p_values: Two-sided, of each.
    bifurcated: Both ends are over the middle by more than chance; so is many a
      U, where the name says the stronger thing.
    curve_p_value: That the smooth curve is a constant.
    spread: Standard deviation between layers past the known errors.
    inflation: Of all variances, for neighbours that are alike.
  """

  name: str
  slopes: tuple[float, float] | None = None
  slope_p_values: tuple[float, float] | None = None
  break_point: float | None = None
  turning_point: float | None = None
  turning_range: tuple[float, float] | None = None
  change: float | None = None
  change_interval: tuple[float, float] | None = None
  trend_p_value: float | None = None
  ends_over_middle: tuple[float, float] | None = None
  ends_p_values: tuple[float, float] | None = None
  bifurcated: bool | None = None
  curve_p_value: float | None = None
  spread: float | None = None
  inflation: float | None = None


def share_errors(
    shares: Float[np.ndarray, 'L'], counts: Int[np.ndarray, 'L']
) -> Float[np.ndarray, 'L']:
  """Standard errors of shares of so many features each.

  The root of q (1 - q) / n with q = (n share + 1/2) / (n + 1), so that a share
  of none or of all is not without error.
  """
  q = (counts * shares + 0.5) / (counts + 1)
  return np.sqrt(q * (1 - q) / counts)


def depth_shape(
    layers: Shaped[np.ndarray, 'L'],
    values: Float[np.ndarray, 'L'],
    errors: Float[np.ndarray, 'L'],
    *,
    alpha: float = 0.05,
    flat_spread: float | None = None,
) -> DepthShape:
  """Names the shape of a number over depth. The first that holds:

    U, inverted U: two lines, before and after a break, both with a slope of
      p <= alpha and of opposite signs (`two_lines`, Simonsohn 2018).
    bifurcated: the first and the last third of the layers both over the middle
      third, each with p <= alpha / 2. P is twice the smaller of two: of three
      levels, for plateaus, and of the means of the smooth curve, for slopes.
    rising, falling: on the whole, p <= alpha / 5. P is twice the smaller of
      two: of the slope of a straight line, and of the slope of the line
      through the smooth curve, which keeps its power where a monotone profile
      is bent.
    undecided: a smooth curve that is not a constant (p <= alpha / 10), or
      layers that differ by more than `flat_spread`, and not by chance
      (Cochran's Q, p <= alpha / 10).
    flat: none of these. Not a proof: `change_interval` says what may hide.

  In every test layers may differ for no reason of depth, by a variance that is
  estimated (`meta_regression`): otherwise the roughness of any real profile is
  significant once there are features enough. From 16 layers on, neighbours may
  be alike in that (`neighbour_inflation`). Roughness that runs over many layers
  still looks like a shape: with a correlation of neighbours of 0.5, about 15
  of 100 flat profiles are given one.

  Args:
    layers: Their numbers, rising; some may be missing.
    values: One a layer.
    errors: Their standard errors; of shares, `share_errors`.
    alpha: See above; at 0.05 about 98 of 100 flat profiles are called flat.
    flat_spread: The standard deviation between layers up to which they are
      called flat; a quarter of the mean size of the values if None.

  Returns:
    The shape; `undecided`, without numbers, for fewer than 6 layers.

  Raises:
    InputError: The arrays do not fit, the layers do not rise, a value is not
      finite, an error is not above 0, or alpha is not between 0 and 1.
  """
  _check(layers, values, errors, alpha)
  if layers.size < 2 * LINE:
    return DepthShape(name='undecided')
  profile = Profile(
      x=layers.astype(np.float64),
      y=values.astype(np.float64),
      errors=errors.astype(np.float64),
  )
  x, y = profile.x, profile.y
  alike = neighbour_inflation(profile, smooth_curve(profile))
  profile = profile._replace(inflation=alike)
  curve = smooth_curve(profile)
  lines = two_lines(profile, curve)
  line = profile.fit(np.stack([np.ones_like(x), x], axis=1))
  slope = np.array([0.0, 1.0])
  _, curved_p = curve.contrast(x, x - x.mean())
  trend_p = _either(line.p_value(slope), curved_p)
  ends, ends_p = _ends(profile, curve)
  level = profile.fit(np.ones((x.size, 1)))
  spread = float(np.sqrt(level.variance))
  bifurcated = min(ends) > 0 and max(ends_p) <= _ENDS_SHARE * alpha
  if flat_spread is None:
    flat_spread = _FLAT_SPREAD * float(np.abs(y).mean())
  before, after = lines.slopes
  if max(lines.p_values) <= alpha and before * after < 0:
    name = 'U' if before < 0 else 'inverted U'
  elif bifurcated:
    name = 'bifurcated'
  elif trend_p <= _TREND_SHARE * alpha:
    name = 'rising' if line.coefficients[1] > 0 else 'falling'
  elif curve.p_value() <= _REST_SHARE * alpha:
    name = 'undecided'
  elif spread > flat_spread and _differ_p_value(profile) <= _REST_SHARE * alpha:
    name = 'undecided'
  else:
    name = 'flat'
  change, interval = _change(line, x)
  return DepthShape(
      name=name,
      slopes=lines.slopes,
      slope_p_values=lines.p_values,
      break_point=lines.break_point,
      turning_point=lines.turning_point,
      turning_range=lines.turning_range,
      change=change,
      change_interval=interval,
      trend_p_value=trend_p,
      ends_over_middle=ends,
      ends_p_values=ends_p,
      bifurcated=bifurcated,
      curve_p_value=curve.p_value(),
      spread=spread,
      inflation=alike,
  )


def _ends(
    profile: Profile, curve: Curve
) -> tuple[tuple[float, float], tuple[float, float]]:
  """How far the outer thirds are over the middle one, and the p of each."""
  x = profile.x
  third, place = x.size // 3, np.arange(x.size)
  part = np.where(place < third, 0, np.where(place < x.size - third, 1, 2))
  member = np.eye(3)[part]
  fit = profile.fit(member)
  weights = member / member.sum(axis=0)
  over, p_values = [], []
  for end in (0, 2):
    contrast = np.eye(3)[end] - np.eye(3)[1]
    over.append(float(contrast @ fit.coefficients))
    _, curved_p = curve.contrast(x, weights @ contrast)
    p_values.append(_either(fit.p_value(contrast), curved_p))
  return (over[0], over[1]), (p_values[0], p_values[1])


def _either(p: float, q: float) -> float:
  """Bonferroni's p of two tests of one thing."""
  return min(1.0, 2 * min(p, q))


def _change(line: Fit, x) -> tuple[float, tuple[float, float]]:
  """From the first layer to the last, with its 95 % interval."""
  length = x[-1] - x[0]
  change = float(length * line.coefficients[1])
  half = length * np.sqrt(line.covariance[1, 1])
  half = float(half * special.stdtrit(line.dof, 0.975))
  return change, (change - half, change + half)


def _differ_p_value(profile: Profile) -> float:
  """P that layers differ by their known errors only: Cochran's Q."""
  y, weight = profile.y, 1 / profile.errors**2
  mean = weight @ y / weight.sum()
  return float(special.chdtrc(y.size - 1, weight @ (y - mean) ** 2))


def _check(layers, values, errors, alpha: float) -> None:
  """Refuses what no shape can be found in."""
  if not layers.shape == values.shape == errors.shape:
    raise InputError(
        f'There are {layers.size} layers, {values.size} values and'
        f' {errors.size} errors: give one of each a layer.'
    )
  if np.any(np.diff(layers) <= 0):
    raise InputError(
        'The layers of a depth shape do not rise: give each once, in order.'
    )
  for layer, value, error in zip(layers, values, errors, strict=True):
    if not (np.isfinite(value) and 0 < error < np.inf):
      raise InputError(
          f'Layer {layer} has the value {value} with an error of {error}: give'
          ' finite values with errors above 0, or leave the layer out.'
      )
  if not 0.0 < alpha < 1.0:
    raise InputError(
        f'The alpha of a depth shape is {alpha}: give a number between 0 and 1.'
    )
