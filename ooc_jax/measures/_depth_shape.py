"""The shape of a number over depth: tested, not eyeballed."""

from collections.abc import Mapping
import dataclasses
import functools

from jaxtyping import Float, Int, Shaped
import numpy as np
from scipy import special

from ooc_jax._errors import InputError
from ooc_jax.measures._shape_tests import LINE
from ooc_jax.measures._shape_tests import Reading
from ooc_jax.measures._shape_tests import ShapeTests

SHAPES = (
    'U',
    'inverted U',
    'bifurcated',
    'rising',
    'falling',
    'flat',
    'undecided',
)
# A height of 1 over depth from 0 to 1, by the names they should be given.
_PLANTED = {
    'U': lambda x: (2 * x - 1) ** 2,
    'inverted U': lambda x: -((2 * x - 1) ** 2),
    'bifurcated': lambda x: np.abs(2 * x - 1) > 0.5,
    'rising': lambda x: x,
}
_DRAWS = 100  # Of each planted shape: their share is good to 5 points.
_BLOCK = 25  # Of them.
_ENOUGH = 0.8  # Of the power for every shape, for 'flat'.
_REST_SHARE = 0.1  # Of alpha, for layers that differ without a shape.
_FLAT_SPREAD = 0.25  # Of the mean.
_DIGITS = 4  # Of errors, relative to each other.


@dataclasses.dataclass(frozen=True, kw_only=True)
class DepthShape:
  """What the tests said of a profile; see `depth_shape`.

  All but the name are None where there are fewer than 6 layers.

  Attributes:
    name: One of `SHAPES`.
    p_value: Of the test that the name rests on; of 'flat', and of a profile
      that is undecided for lack of power, that of the shape it is nearest to.
      Of shapes never under 0.001, the resolution of what was drawn.
    reason: Of 'undecided': 'curve', 'layers differ' or 'power' (see there).
    turning_point: The layer at which the best two-armed model turns, or the
      middle of the middle plateau; None where the name is of no such shape.
    change: From the first layer to the last, by a straight line.
    trend_p_value: That nothing rises or falls.
    spread: Standard deviation between layers past the known errors.
    correlation: Of the roughness of neighbouring layers that was reckoned
      with: of those on a grid up to 0.8 that the layers do not speak against,
      the one that makes shapes most likely by chance.
    power: 'U', 'inverted U', 'bifurcated', 'monotone' -> how often such one,
      as high as this profile goes from its lowest layer to its highest, or as
      `flat_spread` where that is more, would be given its name with these
      layers, errors and roughness.
  """

  name: str
  p_value: float | None = None
  reason: str | None = None
  turning_point: float | None = None
  change: float | None = None
  trend_p_value: float | None = None
  spread: float | None = None
  correlation: float | None = None
  power: Mapping[str, float] | None = None


def share_errors(
    shares: Float[np.ndarray, 'L'], counts: Int[np.ndarray, 'L']
) -> Float[np.ndarray, 'L']:
  """Standard errors of shares of so many features each, were they one share.

  The root of q (1 - q) / n with q the share of all layers together, (sum n
  share + 1/2) / (sum n + 1): so that none of all, or all, is not without error,
  and so that what a shape is tested against, one share, has one error.
  """
  q = (counts @ shares + 0.5) / (counts.sum() + 1)
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

    U, inverted U, bifurcated: from one level both ends go up (or both down),
      the weaker end with p <= alpha; over all places of the turn, as straight
      and bent arms and as plateaus. Bifurcated where both go up and plateaus
      fit best.
    rising, falling: a line, a line that begins or ends level, or a step has
      p <= alpha.
    undecided: a smooth curve that is not a constant (p <= alpha); or layers
      that differ by more than `flat_spread`, and not by chance (Cochran's Q,
      p <= alpha / 10); or too little `power`, under 80 % for one of the shapes.
    flat: none of these, so a shape that matters would most likely have been
      found; and a profile that is the same everywhere.

  Layers may differ for no reason of depth, and neighbours may be alike in
  that: `_shape_tests` says how that is reckoned with, and one level, alpha,
  holds for all shapes together. Of flat profiles with a correlation of
  neighbours from 0 to 0.8, at most 7 of 100 are given a shape.

  Args:
    layers: Their numbers, rising; some may be missing.
    values: One a layer.
    errors: Their standard errors; of shares, `share_errors`.
    alpha: See above.
    flat_spread: The standard deviation between layers up to which they are
      called flat, and the least height of a shape that matters; a quarter of
      the mean size of the values if None.

  Returns:
    The shape; `undecided`, without numbers, for fewer than 6 layers.

  Raises:
    InputError: The arrays do not fit, the layers do not rise, a value is not
      finite, an error is not above 0, or alpha is not between 0 and 1.
  """
  (shape,) = depth_shapes(
      layers,
      values[None],
      errors[None],
      alpha=alpha,
      flat_spread=flat_spread,
      power=True,
  )
  return shape


def depth_shapes(
    layers: Shaped[np.ndarray, 'L'],
    values: Float[np.ndarray, 'n L'],
    errors: Float[np.ndarray, 'n L'],
    *,
    alpha: float = 0.05,
    flat_spread: float | None = None,
    power: bool = False,
) -> list[DepthShape]:
  """`depth_shape` of many numbers over the same layers.

  Numbers whose errors differ by a factor alone are tested together.

  Args:
    layers: As of `depth_shape`.
    values: A row for each number.
    errors: Of all.
    alpha: As of `depth_shape`.
    flat_spread: As of `depth_shape`.
    power: Whether to give it, which takes longer than the tests.

  Raises:
    InputError: As `depth_shape`.
  """
  for own, own_errors in zip(values, errors, strict=True):
    _check(layers, own, own_errors, alpha)
  if layers.size < 2 * LINE:
    return [DepthShape(name='undecided') for _ in values]
  x, y = layers.astype(np.float64), values.astype(np.float64)
  units = np.sqrt((errors.astype(np.float64) ** 2).mean(axis=1))
  relative = (errors / units[:, None]).round(_DIGITS)
  shapes: dict[int, DepthShape] = {}
  for pattern in np.unique(relative, axis=0):
    tests = _tests(tuple(x.tolist()), tuple(pattern.tolist()))
    rows = np.flatnonzero((relative == pattern).all(axis=1))
    reading = tests.read((y[rows] / units[rows, None]).T)
    for i, row in enumerate(rows.tolist()):
      own, spread = y[row], flat_spread
      if spread is None:
        spread = _FLAT_SPREAD * float(np.abs(own).mean())
      shape = _shape(x, own, errors[row], reading.of(i), alpha, spread)
      if power or (shape.name == 'flat' and np.ptp(own)):
        planted = _Planted(
            tests,
            tests.root(reading, i),
            x,
            max(float(np.ptp(own)), spread) / units[row],
            alpha,
        )
        if shape.name == 'flat' and np.ptp(own) and planted.may_be_missed():
          shape = dataclasses.replace(shape, name='undecided', reason='power')
        if power:
          shape = dataclasses.replace(shape, power=planted.power())
      shapes[row] = shape
  return [shapes[i] for i in range(len(values))]


@functools.lru_cache(maxsize=16)
def _tests(layers: tuple[float, ...], errors: tuple[float, ...]) -> ShapeTests:
  return ShapeTests(np.asarray(layers), np.asarray(errors))


def _shape(x, y, errors, reading: Reading, alpha, flat_spread) -> DepthShape:
  """Of the one profile y, without its power."""
  (name,) = _names(reading, alpha)
  two_armed, monotone, curved = (float(p) for p in reading.p_values[:, 0])
  spread = np.sqrt(max(y.var(ddof=1) - (errors**2).mean(), 0.0))
  p_value = {'rising': monotone, 'falling': monotone, 'undecided': curved}.get(
      name, two_armed
  )
  reason = 'curve' if name == 'undecided' else None
  if name == 'flat':
    p_value = min(two_armed, monotone, curved)
    differ = _differ_p_value(y, errors)
    if spread > flat_spread and differ <= _REST_SHARE * alpha:
      name, p_value, reason = 'undecided', differ, 'layers differ'
  turns = name in ('U', 'inverted U', 'bifurcated')
  slope, _ = np.polyfit(x, y, 1)
  return DepthShape(
      name=name,
      p_value=p_value,
      reason=reason,
      turning_point=float(reading.turn[0]) if turns else None,
      change=float(slope * (x[-1] - x[0])),
      trend_p_value=monotone,
      spread=float(spread),
      correlation=float(reading.correlation[0]),
  )


def _names(reading: Reading, alpha: float) -> list[str]:
  """The name of each of n profiles by the tests of shapes."""
  two_armed, monotone, curved = reading.p_values <= alpha
  bowl = np.where(reading.plateaus, 'bifurcated', 'U')
  return np.select(
      [two_armed & reading.up, two_armed, monotone & reading.rising, monotone],
      [bowl, 'inverted U', 'rising', 'falling'],
      np.where(curved, 'undecided', 'flat'),
  ).tolist()


class _Planted:
  """Shapes of one height in noise, and how often they are given their name.

  Args:
    tests: Of these layers and errors.
    root: [L, L] of the covariance of the noise.
    x: Layers.
    height: In the unit of the tests, as is the noise.
    alpha: Level of the names.
  """

  def __init__(
      self,
      tests: ShapeTests,
      root: np.ndarray,
      x: np.ndarray,
      height: float,
      alpha: float,
  ):
    rng = np.random.default_rng(1)
    self._noise = root @ rng.normal(size=(x.size, _DRAWS))
    depth = (x - x[0]) / (x[-1] - x[0])
    self._courses = {
        shape: height * way(depth)[:, None] for shape, way in _PLANTED.items()
    }
    self._tests, self._alpha = tests, alpha

  def _found(self, shape: str, draws: slice) -> int:
    drawn = self._courses[shape] + self._noise[:, draws]
    return _names(self._tests.read(drawn), self._alpha).count(shape)

  def power(self) -> dict[str, float]:
    """Shape -> the share that is found."""
    every = slice(None)
    return {
        'monotone' if x == 'rising' else x: self._found(x, every) / _DRAWS
        for x in self._courses
    }

  def may_be_missed(self) -> bool:
    """Whether a power is under `_ENOUGH`: no more is drawn than shows it."""
    for shape in reversed(self._courses):  # A slope is found least often.
      missed = 0
      for start in range(0, _DRAWS, _BLOCK):
        missed += _BLOCK - self._found(shape, slice(start, start + _BLOCK))
        if missed > round((1 - _ENOUGH) * _DRAWS):
          return True
    return False


def _differ_p_value(y: np.ndarray, errors: np.ndarray) -> float:
  """P that layers differ by their known errors only: Cochran's Q."""
  weight = 1 / errors**2
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
