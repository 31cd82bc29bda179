"""The numbers of one run that its depth figure shows."""

from collections.abc import Mapping
import dataclasses
import math
import os
import types
from typing import Any

import numpy as np
from scipy import special

from ooc_jax import measures
from ooc_jax.report._reading import OUTPUT
from ooc_jax.report._reading import reading
from ooc_jax.report._reading import share_of
from ooc_jax.report._style import number

# Shapes that turn; elsewhere a turning point means nothing.
_TURNING = frozenset({'U', 'inverted U', 'bifurcated'})


@dataclasses.dataclass(frozen=True, kw_only=True)
class DepthShape:
  """What the tests say of the course over depth.

  Attributes:
    name: One of `measures.SHAPES`.
    p_value: Of that shape; None where the test gives none.
    turning_point: The layer where the course turns, possibly between two; None
      where it does not.
  """

  name: str
  p_value: float | None = None
  turning_point: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class DepthCurve:
  """The share of semantic features of one run, layer by layer.

  Attributes:
    label: The name of the run.
    about: What was read and how it was decided.
    layers: Layer numbers, rising; not all layers need be there.
    num_layers: Layers of the model.
    share: Fraction of semantic features at each of `layers`; NaN is a gap.
    low: Lower end of its 95% interval.
    high: Its upper end.
    measures: Measure -> fraction that passes it alone, at each of `layers`.
    null: Fraction of random directions called semantic at each of `layers`; ()
      where the run had no null. NaN is a gap.
    null_low: Lower end of `null_band`.
    null_high: Its upper end.
    shape: What the tests say, if the run made them.
  """

  label: str
  about: str = ''
  layers: tuple[int, ...]
  num_layers: int
  share: tuple[float, ...]
  low: tuple[float, ...]
  high: tuple[float, ...]
  measures: Mapping[str, tuple[float, ...]] = dataclasses.field(
      default_factory=lambda: types.MappingProxyType({})
  )
  null: tuple[float, ...] = ()
  null_low: tuple[float, ...] = ()
  null_high: tuple[float, ...] = ()
  shape: DepthShape | None = None

  @property
  def is_chance(self) -> bool:
    """Whether the intervals miss random directions as often as by chance."""
    if not self.null:
      return False
    rows = zip(self.low, self.null, self.high, strict=True)
    missed = sum(not low <= x <= high for low, x, high in rows)
    # One in 20 of them does, so a few of many layers may: as many as are in
    # 95 % of binomial draws.
    fewer = special.bdtr(missed - 1, len(self.layers), 0.05) if missed else 0.0
    return bool(fewer < 0.95)

  def over_chance(self) -> 'DepthCurve':
    """The share less that of random directions, at every layer."""

    def less(values: tuple[float, ...]) -> tuple[float, ...]:
      return tuple(x - y for x, y in zip(values, self.null, strict=True))

    return dataclasses.replace(
        self,
        share=less(self.share),
        low=less(self.low),
        high=less(self.high),
        measures={},
        null=less(self.null),
        null_low=less(self.null_low),
        null_high=less(self.null_high),
    )

  def __post_init__(self):
    columns = {'share': self.share, 'low': self.low, 'high': self.high}
    columns |= self.measures
    nulls = {
        name: getattr(self, name) for name in ('null', 'null_low', 'null_high')
    }
    columns |= nulls if any(nulls.values()) else {}
    known = {measure.name for measure in measures.ALL_MEASURES}
    problems = [f'{x} is no measure' for x in self.measures if x not in known]
    problems += [
        f'{name} has {len(values)} numbers for {len(self.layers)} layers'
        for name, values in columns.items()
        if len(values) != len(self.layers)
    ]
    if not self.layers:
      problems.append('no layer')
    elif list(self.layers) != sorted(set(self.layers)):
      problems.append(f'layers {self.layers} do not rise')
    elif self.layers[0] < 0 or self.layers[-1] >= self.num_layers:
      problems.append(f'layers {self.layers} of a model of {self.num_layers}')
    if problems:
      raise ValueError(f'Bad depth curve: {"; ".join(problems)}.')


def depth_curve(
    folder: str | os.PathLike[str],
    label: str | None = None,
    *,
    readout: str = OUTPUT,
) -> DepthCurve:
  """Reads the curve of a finished run.

  Args:
    folder: A results folder of experiment 1 or 2.
    label: The name of the run; by default the model its config names, or the
      name of the folder.
    readout: 'output', or another of the run; of experiment 2 a context of
      attention.

  Returns:
    The curve; its null is () and its shape None where the run had none.

  Raises:
    InputError: Not a results folder, not finished, without that readout, or a
      damaged summary.
  """
  with reading(folder, readout, label) as run:
    rows = run.rows
    shares = np.array([share_of(row) for row in rows]).reshape(-1, 3)
    passing = [row.get('measures', {}) for row in rows]
    null = [number(row.get('null_share')) for row in rows]
    if all(map(math.isnan, null)):
      null, bands = [], []
    else:
      bands = [
          null_band(x, int(row['features']), row.get('null_directions'))
          for x, row in zip(null, rows, strict=True)
      ]
    return DepthCurve(
        label=run.label,
        about=run.about,
        layers=tuple(int(row['layer']) for row in rows),
        num_layers=int(run.summary['num_layers']),
        share=tuple(shares[:, 0].tolist()),
        low=tuple(shares[:, 1].tolist()),
        high=tuple(shares[:, 2].tolist()),
        measures={
            measure.name: tuple(number(x[measure.name]) for x in passing)
            for measure in measures.ALL_MEASURES
            if all(measure.name in x for x in passing)
        },
        null=tuple(null),
        null_low=tuple(low for low, _ in bands),
        null_high=tuple(high for _, high in bands),
        shape=depth_shape(run.summary),
    )


def depth_shape(summary: Mapping[str, Any]) -> DepthShape | None:
  """What a `summary.json` says of the shape; None where it says nothing.

  Args:
    summary: A `Summary`. Of its `shape`, `name` is read, `p_value` where there
      is one, and `turning_point` (a layer) where the shape has one.

  Raises:
    TypeError: `shape` is something else.
    ValueError: A number of it is none.
  """
  shape = summary.get('shape')
  if shape is None:
    return None
  name, p_value = str(shape['name']), shape.get('p_value')
  turning = shape.get('turning_point') if name in _TURNING else None
  return DepthShape(
      name=name,
      p_value=None if p_value is None else float(p_value),
      turning_point=None if turning is None else float(turning),
  )


def null_band(
    share: float,
    features: int,
    directions: int | None = None,
    *,
    level: float = 0.95,
) -> tuple[float, float]:
  """The central interval of the share in a dictionary of random directions.

  With the chance of one random direction known, the number of semantic ones
  among F is Binomial(F, share). It is known from `directions` of them only:
  under Jeffreys' prior Beta(1/2, 1/2) the number among F more is beta-binomial,
  which is wider.

  Args:
    share: Of the random directions that the rule calls semantic, 0 to 1.
    features: F, of the dictionary.
    directions: How many random directions `share` is of; None: so many that
      its own error does not count.
    level: How much of the distribution the band holds.

  Returns:
    Lower and upper end, 0 to 1; NaN where share is NaN or there is no feature.

  Raises:
    ValueError: The share is no share.
  """
  if np.isnan(share) or features < 1:
    return float('nan'), float('nan')
  if not 0.0 <= share <= 1.0:
    raise ValueError(f'A null share of {share} is not between 0 and 1.')
  if directions is None and share in (0.0, 1.0):
    return share, share
  # Ratios of neighbouring probabilities need no gamma function, and their sum
  # of logarithms does not underflow.
  k = np.arange(features, dtype=np.float64)
  if directions is None:
    ratio = np.log(features - k) - np.log1p(k) + np.log(share / (1 - share))
  else:
    a, b = share * directions + 0.5, (1 - share) * directions + 0.5
    ratio = np.log(features - k) - np.log1p(k)
    ratio += np.log(k + a) - np.log(features - k - 1 + b)
  logs = np.concatenate([[0.0], np.cumsum(ratio)])
  cumulated = np.cumsum(np.exp(logs - logs.max()))
  tail = (1 - level) / 2
  ends = np.searchsorted(cumulated / cumulated[-1], [tail, 1 - tail])
  return float(ends[0] / features), float(ends[1] / features)
