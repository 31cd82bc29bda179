"""Which shapes a number over depth has: tests for many profiles at once.

Letters: L layers, n profiles (columns), M models of a kind, p coefficients, S
profiles that are drawn.

A profile is a mean over depth, plus a roughness of the layers that is alike in
neighbours, plus errors that are known: its covariance is

    V = diag(errors^2) + t R,   R[i, j] = r^|i - j|  (AR(1)),

with t and r unknown. Under any (t, r) generalised least squares makes a test of
each shape, and profiles drawn from V tell how large it is by chance, the search
over breaks and cuts included. Of the (t, r) on a grid those count under which
the profile is not much less likely than under the best one, and the largest p
of those is the p of the shape (after Berger and Boos 1994, J. Am. Stat. Assoc.
89:1012). So few layers, which say nothing of r, are judged as if neighbours
were as alike as the grid goes, and many layers as they are.
"""

from typing import NamedTuple

import numpy as np

# Correlations of neighbours, and variances of the roughness over the mean
# squared error.
_CORRELATIONS = (0.0, 0.2, 0.4, 0.6, 0.8)
_RATIOS = (0.0, 0.5, 2.0, 8.0, 32.0, 128.0)
# How much less likely, in nats: by simulation, for the false rate at 0.8.
_LESS_LIKELY = 2.6
_DRAWS = 999
# A line or a plateau through fewer layers says little.
LINE, _PLATEAU = 3, 2
FAMILIES = ('two_armed', 'monotone', 'curved')


class Reading(NamedTuple):
  """What the tests say of n profiles.

  Attributes:
    p_values: [3, n] of `FAMILIES`, each corrected for the others.
    correlation: [n] r of the roughness under which `two_armed` has its p.
    up: [n] whether both ends are over the middle, and not under it.
    plateaus: [n] whether three plateaus fit better than two arms.
    turn: [n] where the best two-armed model turns.
    rising: [n] of the best monotone model.
    likeliest: [n] index of the likeliest covariance about a smooth curve.
    scale: [n] what that covariance is to be multiplied by.
  """

  p_values: np.ndarray
  correlation: np.ndarray
  up: np.ndarray
  plateaus: np.ndarray
  turn: np.ndarray
  rising: np.ndarray
  likeliest: np.ndarray
  scale: np.ndarray

  def of(self, column: int) -> 'Reading':
    """The same of one profile alone."""
    return Reading(*(x[..., column : column + 1] for x in self))


class _Covariance(NamedTuple):
  """V at one point of the grid, and what chance does under it."""

  correlation: float
  root: np.ndarray  # [L, L] Cholesky's.
  whitener: np.ndarray  # [L, L] its inverse.
  floor: float  # Of a residual variance: what the known errors alone give.
  penalty: float  # Of the likelihood about the smooth curve.
  null: list[np.ndarray]  # [S] of each family, rising.
  least_p: np.ndarray  # [S] smallest p of the families, rising.


class ShapeTests:
  """The tests for profiles over the same layers with the same errors.

  Args:
    layers: [L] rising, L at least 6.
    errors: [L] standard errors.
  """

  def __init__(self, layers: np.ndarray, errors: np.ndarray):
    x = (layers - layers[0]) / (layers[-1] - layers[0])
    self._layers = layers
    arms, breaks = _arms(x)
    plateaus, middles = _plateaus(x)
    self._two_armed = np.concatenate([arms, plateaus])
    self._is_plateau = np.arange(len(self._two_armed)) >= len(arms)
    self._turns = np.concatenate([breaks, middles])
    self._monotone = _monotone(x)
    count = min(6, max(4, x.size // 5))
    self._curve = natural_spline(x, np.quantile(x, np.linspace(0, 1, count)))
    draws = np.random.default_rng(0).normal(size=(x.size, _DRAWS))
    gaps = np.abs(layers[:, None] - layers) / np.median(np.diff(layers))
    unit = np.mean(errors**2)
    self._grid = [
        self._covariance(np.diag(errors**2), ratio * unit, r, r**gaps, draws)
        for r in _CORRELATIONS
        for ratio in _RATIOS
        if ratio or not r
    ]

  def _covariance(self, known, extra, correlation, alike, draws):
    root = np.linalg.cholesky(known + extra * alike)
    whitener = np.linalg.inv(root)
    floor = float(np.trace(whitener @ known @ whitener.T) / len(root))
    found = self._statistics(whitener, floor, draws)[0]
    null = [np.sort(values) for values in found]
    r = np.linalg.qr(whitener @ self._curve)[1]
    return _Covariance(
        correlation=correlation,
        root=root,
        whitener=whitener,
        floor=floor,
        penalty=sum(float(np.log(np.abs(np.diag(x))).sum()) for x in (root, r)),
        null=null,
        least_p=np.sort(_p_values(null, found).min(axis=0)),
    )

  def root(self, reading: Reading, column: int) -> np.ndarray:
    """[L, L] whose square is the likeliest covariance of a profile."""
    scale = np.sqrt(reading.scale[column])
    return scale * self._grid[reading.likeliest[column]].root

  def read(self, profiles: np.ndarray) -> Reading:
    """Tests the columns of [L, n]."""
    dof = self._curve.shape[0] - self._curve.shape[1]
    p_values, details, likelihood, scales = [], [], [], []
    for one in self._grid:
      white = one.whitener @ profiles
      found, best, residual = self._statistics(one.whitener, one.floor, white)
      p = _p_values(one.null, found)
      # Single-step correction for three families (Westfall and Young 1993).
      at_most = np.searchsorted(one.least_p, p, side='right')
      p_values.append((1 + at_most) / (1 + _DRAWS))
      details.append(best)
      # Restricted likelihood: what the curve takes away is no roughness.
      scale = np.maximum(residual / dof, 1.0)
      fit = dof * np.log(scale) + residual / scale
      likelihood.append(-0.5 * fit - one.penalty)
      scales.append(scale)
    likelihood = np.asarray(likelihood)
    counts = likelihood >= likelihood.max(axis=0) - _LESS_LIKELY
    p_values = np.where(counts[:, None], np.asarray(p_values), 0.0)
    deciding = p_values.argmax(axis=0)
    column = np.arange(profiles.shape[1])
    details = np.asarray(details)
    up, plateaus, turn, rising = (
        details[deciding[family], i, column]
        for i, family in enumerate((0, 0, 0, 1))
    )
    likeliest = likelihood.argmax(axis=0)
    return Reading(
        p_values=p_values.max(axis=0),
        correlation=np.asarray([x.correlation for x in self._grid])[
            deciding[0]
        ],
        up=up > 0,
        plateaus=plateaus > 0,
        turn=self._layers[0] + turn * (self._layers[-1] - self._layers[0]),
        rising=rising > 0,
        likeliest=likeliest,
        scale=np.asarray(scales)[likeliest, column],
    )

  def _statistics(self, whitener, floor, white):
    """[3, n] of the families, [4, n] of the best models, [n] the residual."""
    t, squares = _fits(whitener @ self._two_armed, white, floor)
    # Both arms must be there: the weaker one counts.
    over, under = t[:, 1:].min(axis=1), -t[:, 1:].max(axis=1)
    up = over.max(axis=0) >= under.max(axis=0)
    arms = np.where(up, over, under)
    squares = np.where(arms > 0, squares, np.inf)
    best = squares.argmin(axis=0)
    monotone, _ = _fits(whitener @ self._monotone, white, floor)
    slopes = monotone[:, 1]
    column = np.arange(white.shape[1])
    steepest = slopes[np.abs(slopes).argmax(axis=0), column]
    _, (residual,) = _fits(whitener @ self._curve[None], white, floor)
    level = (whitener @ np.ones(len(white)))[None, :, None]
    _, (whole,) = _fits(level, white, floor)
    size, terms = self._curve.shape
    scale = np.maximum(residual / (size - terms), floor)
    statistics = np.stack([
        arms.max(axis=0),
        np.abs(steepest),
        (whole - residual) / (terms - 1) / scale,
    ])
    details = np.stack([
        up.astype(np.float64),
        self._is_plateau[best].astype(np.float64),
        self._turns[best],
        (steepest > 0).astype(np.float64),
    ])
    return statistics, details, residual


def _p_values(null, found) -> np.ndarray:
  larger = [
      _DRAWS - np.searchsorted(chance, values, side='left')
      for chance, values in zip(null, found, strict=True)
  ]
  return (1 + np.asarray(larger)) / (1 + _DRAWS)


def _fits(designs, white, floor) -> tuple[np.ndarray, np.ndarray]:
  """T values [M, p, n] and residual squares [M, n] of least squares."""
  q, r = np.linalg.qr(designs)
  inverse = np.linalg.inv(r)
  along = q.swapaxes(1, 2) @ white
  squares = (white**2).sum(axis=0) - (along**2).sum(axis=1)
  squares = np.maximum(squares, 1e-12)
  dof = designs.shape[1] - designs.shape[2]
  scale = np.sqrt(np.maximum(squares / dof, floor))
  error = np.sqrt((inverse**2).sum(axis=2))[:, :, None] * scale[:, None]
  return inverse @ along / error, squares


def _arms(x) -> tuple[np.ndarray, np.ndarray]:
  """[M, L, 3] level, left arm and right arm; [M] where they meet.

  Straight (two lines, after Simonsohn 2018, Adv. Methods Pract. Psychol. Sci.
  1:538, but joined) and bent (two half parabolas).
  """
  designs, breaks = [], []
  for at in x[LINE - 1 : x.size - LINE + 1]:
    for power in (1, 2):
      left, right = np.maximum(at - x, 0) ** power, np.maximum(x - at, 0)
      designs.append(np.stack([np.ones_like(x), left, right**power], axis=1))
      breaks.append(at)
  return np.asarray(designs), np.asarray(breaks)


def _plateaus(x) -> tuple[np.ndarray, np.ndarray]:
  """[M, L, 3] level, first and last plateau; [M] the middle of the middle."""
  place, longest = np.arange(x.size), x.size // 3 + 1
  designs, middles = [], []
  for first in range(_PLATEAU, longest + 1):
    for last in range(_PLATEAU, longest + 1):
      if first + last <= x.size - _PLATEAU:
        ends = [place < first, place >= x.size - last]
        designs.append(np.stack([np.ones_like(x), *ends], axis=1))
        middles.append((x[first] + x[-last - 1]) / 2)
  return np.asarray(designs), np.asarray(middles)


def _monotone(x) -> np.ndarray:
  """[M, L, 2] level and: a line, one that begins or ends level, a step."""
  ways = [x]
  for at in (0.25, 0.5, 0.75):
    ways += [np.minimum(x, at), np.maximum(x, at)]
  place = np.arange(x.size)
  ways += [place >= i for i in range(_PLATEAU, x.size - _PLATEAU + 1)]
  return np.stack([np.stack([np.ones_like(x), way], axis=1) for way in ways])


def natural_spline(x: np.ndarray, knots: np.ndarray) -> np.ndarray:
  """[n, K] basis of cubic splines that are straight past the outer knots.

  1, x and K - 2 truncated cubics; Hastie, Tibshirani and Friedman, The
  Elements of Statistical Learning, equation 5.4. Scaled to [0, 1].
  """
  low, high = knots[0], knots[-1]
  x, knots = (x - low) / (high - low), (knots - low) / (high - low)
  past_end = np.maximum(x - 1, 0) ** 3
  cubes = np.maximum(x[:, None] - knots[:-1], 0) ** 3 - past_end[:, None]
  d = cubes / (1 - knots[:-1])
  return np.column_stack([np.ones_like(x), x, d[:, :-1] - d[:, -1:]])
