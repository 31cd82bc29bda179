"""The numbers of one run that its depth figure shows."""

from collections.abc import Mapping
import dataclasses
import math
import os
import types

from ooc_jax._errors import InputError
from ooc_jax.results import ResultsFolder
from ooc_jax.results import printable

MEASURES = ('levenshtein', 'cosine', 'entropy')


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

  def __post_init__(self):
    columns = {
        'share': self.share,
        'low': self.low,
        'high': self.high,
        **self.measures,
    }
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
    folder: str | os.PathLike[str], label: str | None = None
) -> DepthCurve:
  """Reads the curve of a finished run.

  Args:
    folder: A results folder.
    label: The name of the run; by default the model its config names, or the
      name of the folder.

  Returns:
    The curve.

  Raises:
    InputError: Not a results folder, not finished, or a damaged summary.
  """
  results = ResultsFolder.view(folder)
  summary = results.read_summary()
  try:
    if label is None:
      model = results.config['settings'].get('model')
      label = model if isinstance(model, str) else results.path.absolute().name
    rows = sorted(summary['layers'], key=lambda row: row['layer'])
    names = [n for n in MEASURES if all(n in row['measures'] for row in rows)]
    return DepthCurve(
        label=label,
        layers=tuple(int(row['layer']) for row in rows),
        num_layers=int(summary['num_layers']),
        share=tuple(_number(row['semantic']['share']) for row in rows),
        low=tuple(_number(row['semantic']['low']) for row in rows),
        high=tuple(_number(row['semantic']['high']) for row in rows),
        measures={
            name: tuple(_number(row['measures'][name]) for row in rows)
            for name in names
        },
    )
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    raise InputError(
        f'The results in {printable(str(folder))} lack what the figure needs'
        f' ({printable(repr(error))}): run again.'
    ) from error


def _number(value: float | int | None) -> float:
  return math.nan if value is None else float(value)
