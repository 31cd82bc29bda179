"""How many features participate, and how sure that is.

Features are taken as draws, and so are the directions of a null. A threshold is
made of such draws too: of all features together, or of a null in each head. To
first order, if by chance too many of them lie over the true threshold, it moves
up until the rate is right again, and every share falls by its slope, the change
of the share with that rate. So a share varies as the mean of
  1[feature participates] - slope · (share of its heads over the threshold)
does over the features, with the second term over the null's directions where
the threshold is theirs. The slope is the share of features between a looser and
a tighter threshold for which that head decides.

The variance gives an effective number of features, and that the mid-P interval:
for a share of all layers over a quantile of the same features it is many times
F, where one threshold for few directions makes it small.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
from typing import NamedTuple

from jaxtyping import Float
import numpy as np
from scipy import special

from ooc_jax._errors import InputError
from ooc_jax.measures._bootstrap import ShareInterval
from ooc_jax.measures._bootstrap import effective_size
from ooc_jax.measures._bootstrap import mid_p
from ooc_jax.measures._bootstrap import newcombe
from ooc_jax.measures._null import allowed_of_null
from ooc_jax.measures._participation import head_counts
from ooc_jax.measures._participation import null_cutoffs
from ooc_jax.measures._participation import participates
from ooc_jax.measures._participation import pooled_quantile

# How far the looser and the tighter threshold are, as parts of the rate over
# it; for a quantile, where all features say where it is, at most 0.02.
_NEAR_NULL, _NEAR, _MOST = 0.5, 0.1, 0.02
_Layers = Mapping[int, Float[np.ndarray, '_ _']]
_Value = Callable[[np.ndarray], np.ndarray]


class HeadsInterval(NamedTuple):
  """A mean number of heads and the ends of its interval, from 0 to N."""

  mean: float
  low: float
  high: float


class LayerShares(NamedTuple):
  """Of one layer, or of all together.

  Attributes:
    at_least: m -> share of features in at least m heads.
    mean_heads: In how many heads a feature is.
    excess: m -> that share less that of the first null; empty without one.
  """

  at_least: dict[int, ShareInterval]
  mean_heads: HeadsInterval
  excess: dict[int, ShareInterval]


@dataclasses.dataclass(frozen=True, eq=False)
class Cutoffs:
  """Thresholds of each head, and what they would be at other rates.

  Attributes:
    at: Layer -> [N].
    looser: Layer -> [N], at a rate above.
    tighter: Layer -> [N], at a rate below.
    width: Between these rates.
    null: Layer -> [N, n] of the null whose thresholds they are; None where all
      features together give one.
  """

  at: Mapping[int, np.ndarray]
  looser: Mapping[int, np.ndarray]
  tighter: Mapping[int, np.ndarray]
  width: float
  null: _Layers | None = None


def quantile_cutoffs(statistics: _Layers, quantile: float) -> Cutoffs:
  """One threshold for the model, see `pooled_quantile`."""
  step = min(_NEAR * (1 - quantile), _NEAR * quantile, _MOST)
  levels = (quantile, quantile - step, quantile + step)
  cuts = (pooled_quantile(statistics.values(), level) for level in levels)
  one = (
      {x: np.full(len(s), cut) for x, s in statistics.items()} for cut in cuts
  )
  return Cutoffs(*one, width=2 * step)


def head_cutoffs(null: _Layers, alpha: float) -> Cutoffs:
  """A threshold for each head, see `null_cutoffs`."""
  size = min(x.shape[1] for x in null.values())
  allowed = allowed_of_null(alpha, size)
  step = max(round(_NEAR_NULL * allowed), 1) / size
  at = {x: null_cutoffs(own, alpha) for x, own in null.items()}
  ends = [
      {x: _order_statistic(own, alpha + sign * step) for x, own in null.items()}
      for sign in (1, -1)
  ]
  return Cutoffs(at, *ends, width=2 * step, null=null)


def participation_shares(
    statistics: _Layers,
    cutoffs: Cutoffs,
    at_least: Sequence[int] = (1,),
    chance: _Layers | None = None,
    *,
    whole: int,
    level: float = 0.95,
) -> dict[int, LayerShares]:
  """Shares with intervals, of every layer and of all.

  Args:
    statistics: Layer -> [N, F].
    cutoffs: Of them.
    at_least: Numbers of heads m, each from 1 to N.
    chance: Layer -> [N, n] of the null that the excess is over.
    whole: The key of all layers together in what is returned.
    level: How often an interval should cover the truth.

  Raises:
    InputError: There is no feature, or an m is out of range.
  """
  heads = max(len(x) for x in statistics.values())
  if wrong := [m for m in at_least if not 1 <= m <= heads]:
    raise InputError(
        f'At least {wrong[0]} of {heads} heads was asked for: choose from 1 to'
        f' {heads}.'
    )
  if not all(x.size for x in statistics.values()):
    raise InputError(
        'A layer has no feature, and no share of them: leave it out.'
    )
  ours, theirs = (
      None if x is None else _compared(x, cutoffs) for x in (statistics, chance)
  )
  assert ours is not None
  # Covariance [N, N] of being over the thresholds, for the null they are of.
  spread = {
      x: np.atleast_2d(np.cov(participates(own, cutoffs.at[x]), bias=True))
      for x, own in (cutoffs.null or {}).items()
  }
  values: dict[int, _Value] = {m: _at_least(m) for m in at_least}
  places = {x: (x,) for x in statistics} | {whole: tuple(statistics)}
  z = float(-special.ndtri((1 - level) / 2))
  found = {x: LayerShares({}, HeadsInterval(0, 0, 0), {}) for x in places}
  for m, value in (values | {0: _as_is}).items():
    own = {x: _part(c, value, cutoffs.width) for x, c in ours.items()}
    null = {
        x: _part(c, value, cutoffs.width) for x, c in (theirs or {}).items()
    }
    for place, layers in places.items():
      size = sum(own[x].size for x in layers)
      mean, variance, moved = _variances(own, {}, layers, cutoffs, spread)
      variance += moved
      if not m:
        # As if one more feature were half a head off the mean.
        half = z * np.sqrt(variance + 0.25 / size**2)
        ends = max(mean - half, 0.0), min(mean + half, heads)
        found[place] = found[place]._replace(
            mean_heads=HeadsInterval(mean, *map(float, ends))
        )
        continue
      found[place].at_least[m] = _interval(mean, variance, size, level)
      if not null:
        continue
      _, variance, moved = _variances(own, null, layers, cutoffs, spread)
      by_chance, apart, joint = _of_chance(null, own, layers, cutoffs)
      # The same directions are the null and give the thresholds, or others do.
      moved = moved + (joint if chance is cutoffs.null else 0.0)
      found[place].excess[m] = newcombe(
          _interval(mean, variance, size, level),
          _interval(
              by_chance,
              apart + moved,
              sum(null[x].size for x in layers),
              level,
          ),
      )
  return found


def _interval(
    share: float, variance: float, size: int, level: float
) -> ShareInterval:
  own = effective_size(share, variance, size)
  return ShareInterval(share, *mid_p(share, own, level))


class _Compared(NamedTuple):
  """Numbers of a layer, [N, F], compared with the thresholds of its heads."""

  over: np.ndarray
  near: np.ndarray  # Between the looser and the tighter one.


def _compared(statistics: _Layers, cutoffs: Cutoffs) -> dict[int, _Compared]:
  return {
      x: _Compared(
          participates(s, cutoffs.at[x]),
          participates(s, cutoffs.looser[x])
          & ~participates(s, cutoffs.tighter[x]),
      )
      for x, s in statistics.items()
  }


class _Part(NamedTuple):
  """Moments of a value of the number of heads, over the features of a layer."""

  size: int
  mean: float
  variance: float
  with_heads: float  # Covariance with the number of heads.
  heads: float  # Variance of that.
  with_over: np.ndarray  # [N] covariance with being over each threshold.
  slopes: np.ndarray  # [N] change of the mean with the rate over a threshold.


def _part(found: _Compared, value: _Value, width: float) -> _Part:
  counts = head_counts(found.over)
  rest = counts[None] - found.over
  decides = value(rest + 1) - value(rest)
  values = value(counts)
  away = values - values.mean()
  return _Part(
      size=counts.size,
      mean=float(values.mean()),
      variance=float((away * away).mean()),
      with_heads=float((away * counts).mean()),
      heads=float(counts.var()),
      with_over=found.over @ away / counts.size,
      slopes=(decides * found.near).mean(axis=1) / width,
  )


def _slopes(
    own: Mapping[int, _Part], null: Mapping[int, _Part], layers: Sequence[int]
) -> dict[int, np.ndarray]:
  """Those of a mean over layers, less those of the null."""
  size = sum(own[x].size for x in layers)
  slopes = {x: own[x].size / size * own[x].slopes for x in layers}
  if null:
    size = sum(null[x].size for x in layers)
    for x in layers:
      slopes[x] = slopes[x] - null[x].size / size * null[x].slopes
  return slopes


def _variances(
    own: Mapping[int, _Part],
    null: Mapping[int, _Part],
    layers: Sequence[int],
    cutoffs: Cutoffs,
    spread: Mapping[int, np.ndarray],
) -> tuple[float, float, float]:
  """A mean over layers, its variance by the features, and by the null.

  Where there is a `null`, of the mean less that of the null, whose own variance
  is left out: only what thresholds do to both is in it.
  """
  size = sum(own[x].size for x in layers)
  mean = sum(own[x].size * own[x].mean for x in layers) / size
  variance = sum(own[x].size * own[x].variance for x in layers) / size**2
  slopes = _slopes(own, null, layers)
  if cutoffs.null is not None:
    moved = sum(
        float(slopes[x] @ spread[x] @ slopes[x]) / cutoffs.null[x].shape[1]
        for x in layers
    )
    return mean, variance, moved
  scores = sum(x.size * x.slopes.size for x in own.values())
  slope = sum(float(x.sum()) for x in slopes.values()) / scores
  joint = sum(own[x].size * own[x].with_heads for x in layers) / size
  every = sum(x.size * x.heads for x in own.values())
  return mean, max(variance - 2 * slope * joint + slope**2 * every, 0.0), 0.0


def _of_chance(
    null: Mapping[int, _Part],
    own: Mapping[int, _Part],
    layers: Sequence[int],
    cutoffs: Cutoffs,
) -> tuple[float, float, float]:
  """The mean of the null, its variance, and what it has with its thresholds."""
  size = sum(null[x].size for x in layers)
  mean = sum(null[x].size * null[x].mean for x in layers) / size
  variance = sum(null[x].size * null[x].variance for x in layers) / size**2
  if cutoffs.null is None:
    return mean, variance, 0.0
  slopes = _slopes(own, null, layers)
  joint = sum(2 * float(slopes[x] @ null[x].with_over) for x in layers) / size
  return mean, variance, joint


def _at_least(m: int) -> _Value:
  return lambda counts: (counts >= m).astype(np.float64)


def _as_is(counts: np.ndarray) -> np.ndarray:
  return counts.astype(np.float64)


def _order_statistic(
    null: Float[np.ndarray, 'N n'], rate: float
) -> Float[np.ndarray, 'N']:
  """For each head what a share `rate` of the null exceeds."""
  size = null.shape[1]
  place = min(max(size - 1 - round(rate * size), 0), size - 1)
  return np.partition(null, place, axis=1)[:, place].astype(np.float64)
