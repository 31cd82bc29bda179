"""What a validation says of a run's predictions, under its curve over depth."""

from collections.abc import Mapping
import dataclasses
from typing import Any

from matplotlib.axes import Axes
import numpy as np

from ooc_jax._text import figure_text
from ooc_jax.report import _style
from ooc_jax.report._style import INK
from ooc_jax.report._style import number

_COLOR, _MARKER, _ = _style.look(2)
# Of the chances, in their order.
_DASHES: tuple[Any, ...] = ('-', (0, (4, 1.5)), (0, (1, 1.2)))
_SIZE = 7  # Points of the legend.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
  """A score of the predictions at some layers, beside chance.

  Attributes:
    subject: What the score is, for the axis.
    layers: Where it is known.
    mean: At each of `layers`; NaN is a gap.
    low: Lower end of its 95% interval.
    high: Its upper end.
    chances: Name -> the score of that by chance, at each of `layers`.
  """

  subject: str
  layers: tuple[int, ...]
  mean: tuple[float, ...]
  low: tuple[float, ...]
  high: tuple[float, ...]
  chances: Mapping[str, tuple[float, ...]]


def check_of(summary: Mapping[str, Any], name: str) -> Check | None:
  """One of the checks in a summary, or None where there is none."""
  own = (summary.get('validation') or {}).get('checks', {}).get(name)
  if own is None:
    return None

  def numbers(values: Any) -> tuple[float, ...]:
    return tuple(number(x) for x in values)

  return Check(
      subject=str(own['subject']),
      layers=tuple(int(x) for x in own['layers']),
      mean=numbers(own['mean']),
      low=numbers(own['low']),
      high=numbers(own['high']),
      chances={
          figure_text(name): numbers(values)
          for name, values in own['chances'].items()
      },
  )


def draw_check(axes: Axes, check: Check) -> None:
  """Draws it on axes whose x is the number of the layer."""
  x = np.asarray(check.layers, float)
  axes.fill_between(
      x, check.low, check.high, color=_COLOR, alpha=0.18, linewidth=0
  )
  axes.plot(
      x,
      check.mean,
      color=_COLOR,
      marker=_MARKER,
      markersize=3.4,
      markeredgecolor='white',
      markeredgewidth=0.5,
      linewidth=1.4,
      label='features',
  )
  for i, (name, values) in enumerate(check.chances.items()):
    axes.plot(
        x,
        values,
        color=INK,
        linewidth=0.8,
        linestyle=_DASHES[i % len(_DASHES)],
        marker='_' if len(x) == 1 else '',
        label=name,
    )
  axes.margins(y=0.12)
  _style.dress(axes, x='Layer', y=figure_text(check.subject), size=9, grid=0.7)
  axes.legend(
      loc='lower left',
      bbox_to_anchor=(0.0, 1.0),
      ncols=1 + len(check.chances),
      borderpad=0.1,
      fontsize=_SIZE,
      frameon=False,
      labelcolor=INK,
      handlelength=2.2,
  )
