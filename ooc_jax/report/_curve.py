"""The numbers of one run that its depth figure shows."""

from collections.abc import Mapping
import dataclasses
import math
import os
import types
from typing import Any

from ooc_jax.report._null_band import null_band
from ooc_jax.report._reading import MEASURES
from ooc_jax.report._reading import OUTPUT
from ooc_jax.report._reading import name_of
from ooc_jax.report._reading import reading
from ooc_jax.report._reading import share_of
from ooc_jax.report._reading import side_of
from ooc_jax.report._style import number

# Shapes that turn; elsewhere a turning point means nothing.
_TURNING = frozenset({'U', 'inverted U', 'bifurcated'})


@dataclasses.dataclass(frozen=True, kw_only=True)
class DepthShape:
  """What the tests say of the course over depth.

  Attributes:
    name: 'U', 'inverted U', 'bifurcated', 'rising', 'falling', 'flat' or
      'undecided'.
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
    layers: Layer numbers, rising; not all layers need be there.
    num_layers: Layers of the model.
    share: Fraction of semantic features at each of `layers`; NaN is a gap.
    low: Lower end of the bootstrap 95% interval.
    high: Its upper end.
    measures: Measure -> fraction that passes it alone, at each of `layers`.
    null: Fraction of random directions called semantic at each of `layers`; ()
      where the run had no null. NaN is a gap.
    null_low: Lower end of `null_band`.
    null_high: Its upper end.
    shape: What the tests say, if the run made them.
  """

  label: str
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

  def __post_init__(self):
    columns = {
        'share': self.share,
        'low': self.low,
        'high': self.high,
        **self.measures,
    }
    if self.null or self.null_low or self.null_high:
      columns['null'] = self.null
      columns['null_low'] = self.null_low
      columns['null_high'] = self.null_high
    problems = [
        f'{name} is no measure'
        for name in self.measures
        if name not in MEASURES
    ]
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
    side: str = OUTPUT,
) -> DepthCurve:
  """Reads the curve of a finished run.

  Args:
    folder: A results folder.
    label: The name of the run; by default the model its config names, or the
      name of the folder.
    side: Of the features: 'output', or another that the run read.

  Returns:
    The curve; its null is () and its shape None where the run had none.

  Raises:
    InputError: Not a results folder, not finished, without that side, or a
      damaged summary.
  """
  with reading(folder) as results:
    summary = side_of(results, side)
    rows = sorted(summary['layers'], key=lambda row: row['layer'])
    shares = [share_of(row) for row in rows]
    names = [
        n for n in MEASURES if all(n in row.get('measures', {}) for row in rows)
    ]
    null = tuple(number(row.get('null_share')) for row in rows)
    bands = []
    if all(map(math.isnan, null)):
      null = ()
    else:
      bands = [
          null_band(x, int(row['features']), row.get('null_directions'))
          for x, row in zip(null, rows, strict=True)
      ]
    return DepthCurve(
        label=name_of(results, label, side),
        layers=tuple(int(row['layer']) for row in rows),
        num_layers=int(summary['num_layers']),
        share=tuple(number(x['share']) for x in shares),
        low=tuple(number(x['low']) for x in shares),
        high=tuple(number(x['high']) for x in shares),
        measures={
            name: tuple(number(row['measures'][name]) for row in rows)
            for name in names
        },
        null=null,
        null_low=tuple(low for low, _ in bands),
        null_high=tuple(high for _, high in bands),
        shape=depth_shape(summary),
    )


def depth_shape(summary: Mapping[str, Any]) -> DepthShape | None:
  """What a `summary.json` says of the shape; None where it says nothing.

  Args:
    summary: A `Summary`. Of its `shape`, `name` is read, `p_value` where there
      is one, and `turning_point` (a layer) where the shape has one.

  Returns:
    The shape.

  Raises:
    TypeError: `shape` is something else.
    ValueError: Likewise.
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
