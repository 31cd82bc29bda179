"""The geometry of every chart; templates draw it as SVG.

A chart is numbers in a box of its own units, so that it fills any width. Each
has `width` and `height`, ticks as (position, text), and marks with the text
that the mouse shows.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import math
from typing import Any

import numpy as np

Tick = tuple[float, str]


@dataclasses.dataclass(frozen=True)
class Curve:
  """A line over layers.

  Attributes:
    name: For the legend and the mouse.
    points: 'x,y x,y ...' of the line.
    band: The same of its interval, or ''.
    dots: x, y and what the mouse shows.
    look: Which colour and dash, from 0; -1 is chance.
  """

  name: str
  points: str
  band: str
  dots: Sequence[tuple[float, float, str]]
  look: int


@dataclasses.dataclass(frozen=True)
class LineChart:
  """Curves over an axis of whole numbers."""

  width: int
  height: int
  left: int
  bottom: int
  top: int
  right: int
  x_ticks: Sequence[Tick]
  y_ticks: Sequence[Tick]
  x_title: str
  curves: Sequence[Curve]


def nice_ticks(low: float | int, high: float | int, most: int) -> list[float]:
  """Round numbers from `low` to `high`, at most about `most`."""
  if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
    return [float(low)]
  raw = (high - low) / most
  power = 10.0 ** math.floor(math.log10(raw))
  step = next(x * power for x in (1, 2, 5, 10) if x * power >= raw * 0.999)
  first = math.ceil(low / step - 1e-9)
  last = math.floor(high / step + 1e-9)
  return [i * step for i in range(first, last + 1)]


def line_chart(
    series: Sequence[Mapping[str, Any]],
    *,
    x_title: str,
    percent: bool = True,
    last: int | None = None,
    width: int = 560,
    height: int = 250,
) -> LineChart | None:
  """A chart of several series; None where there is nothing to draw.

  Args:
    series: Each with `name`, `x`, `y`, and perhaps `low`, `high` and `look`.
    x_title: Under the axis.
    percent: Whether y is a share.
    last: Where the axis ends; by default with the data.
    width: Of the box.
    height: Of the box.
  """
  values = [
      y
      for s in series
      for key in ('y', 'low', 'high')
      for y in s.get(key) or ()
      if y is not None and math.isfinite(y)
  ]
  xs = [x for s in series for x in s['x']]
  if not values or not xs:
    return None
  left, right, top, bottom = 46, 14, 12, 40
  low = min(0.0, *values) if len(values) > 1 else min(0.0, values[0])
  high = max(values) if max(values) > low else low + 1
  ticks = nice_ticks(low, high, 5)
  step = ticks[1] - ticks[0] if len(ticks) > 1 else 1
  low = math.floor(low / step + 1e-9) * step
  high = math.ceil(high / step - 1e-9) * step
  # Of layers, the axis is that of the whole model.
  first = min(xs) if last is None else min(0, *xs)
  end = max(xs) if last is None else max(last, *xs)

  def x_of(x: float | int) -> float:
    span = end - first or 1
    return round(left + (x - first) / span * (width - left - right), 1)

  def y_of(y: float | int) -> float:
    room = height - top - bottom
    return round(top + (high - y) / (high - low) * room, 1)

  def shown(y: float | int) -> str:
    return f'{100 * y:.1f}%' if percent else f'{y:.3g}'

  curves = []
  for i, s in enumerate(series):
    good = [
        (x, y)
        for x, y in zip(s['x'], s['y'], strict=True)
        if y is not None and math.isfinite(y)
    ]
    band = ''
    if s.get('low') and s.get('high'):
      edge = [
          (x, a, b)
          for x, a, b in zip(s['x'], s['low'], s['high'], strict=True)
          if a is not None and b is not None
      ]
      band = ' '.join(
          [f'{x_of(x)},{y_of(b)}' for x, _, b in edge]
          + [f'{x_of(x)},{y_of(a)}' for x, a, _ in reversed(edge)]
      )
    unit = x_title.casefold()
    curves.append(
        Curve(
            s['name'],
            ' '.join(f'{x_of(x)},{y_of(y)}' for x, y in good),
            band,
            [
                (x_of(x), y_of(y), f'{s["name"]}, {unit} {x}: {shown(y)}')
                for x, y in good
            ],
            s.get('look', i),
        )
    )
  y_ticks = nice_ticks(low, high, 5)
  x_ticks = [x for x in nice_ticks(first, end, 8) if x == int(x)]
  return LineChart(
      width,
      height,
      left,
      bottom,
      top,
      right,
      [(x_of(x), f'{x:g}') for x in x_ticks],
      [(y_of(y), f'{100 * y:g}%' if percent else f'{y:g}') for y in y_ticks],
      x_title,
      curves,
  )


@dataclasses.dataclass(frozen=True)
class Histogram:
  """Two distributions over one axis, with a value marked.

  Attributes:
    bars: Of chance: x, y, width, height and what the mouse shows.
    outline: Of the features of the layer, 'x,y ...', or ''.
    ticks: On the axis.
    mark: x of the value, or None.
    threshold: x of the threshold, or None.
    inside: Whether the value lies on the drawn part of the axis.
  """

  width: int
  height: int
  bars: Sequence[tuple[float, float, float, float, str]]
  outline: str
  ticks: Sequence[Tick]
  mark: float | None
  threshold: float | None
  base: float


def histogram(
    chance: np.ndarray,
    features: np.ndarray,
    value: float | int | None,
    threshold: float | int | None = None,
    *,
    width: int = 300,
    height: int = 110,
    bins: int = 40,
) -> Histogram | None:
  """A small histogram; None where there are no numbers."""
  chance = chance[np.isfinite(chance)]
  features = features[np.isfinite(features)]
  both = np.concatenate([chance, features])
  if not both.size:
    return None
  low, high = np.quantile(both, [0.001, 0.999]).tolist()
  extra = [x for x in (value, threshold) if x is not None and math.isfinite(x)]
  low, high = min([low, *extra]), max([high, *extra])
  if high <= low:
    low, high = low - 0.5, high + 0.5
  # Numbers of Python: those of NumPy take ten times as long to round.
  edges = np.linspace(low, high, bins + 1).tolist()
  base, top, side = height - 18.0, 4.0, 6.0

  def x_of(x: float | int) -> float:
    return round(side + (x - low) / (high - low) * (width - 2 * side), 1)

  def density(data: np.ndarray) -> list[float]:
    counts = np.histogram(np.clip(data, low, high), edges)[0]
    return (counts / max(len(data), 1)).tolist()

  first, second = density(chance), density(features)
  most = max(*first, *second) or 1

  def y_of(share: float | int) -> float:
    return round(base - share / most * (base - top), 1)

  bars = [
      (
          x_of(a),
          y_of(share),
          round(x_of(b) - x_of(a), 1),
          round(base - y_of(share), 1),
          f'{a:.3g} to {b:.3g}: {share:.1%} of random directions',
      )
      for a, b, share in zip(edges[:-1], edges[1:], first, strict=True)
      if share > 0
  ]
  outline = ''
  if features.size:
    points = [(x_of(low), base)]
    for a, b, share in zip(edges[:-1], edges[1:], second, strict=True):
      points += [(x_of(a), y_of(share)), (x_of(b), y_of(share))]
    points.append((x_of(high), base))
    outline = ' '.join(f'{x},{y}' for x, y in points)
  good = value is not None and math.isfinite(value)
  return Histogram(
      width,
      height,
      bars,
      outline,
      [(x_of(x), f'{x:g}') for x in nice_ticks(low, high, 4)],
      x_of(value) if good and value is not None else None,
      x_of(threshold) if threshold is not None else None,
      base,
  )


@dataclasses.dataclass(frozen=True)
class Cell:
  """A head on the map: where, how strong from 0 to 1, and what is said."""

  x: float
  y: float
  strength: float
  text: str
  layer: int
  head: int


@dataclasses.dataclass(frozen=True)
class HeadMap:
  """Layers by heads; layer 0 is at the bottom."""

  width: float
  height: float
  size: float
  cells: Sequence[Cell]
  rows: Sequence[Tick]
  columns: Sequence[Tick]
  low: float
  high: float


def head_map(
    heads: Sequence[Mapping[str, Any]],
    key: str,
    shown: Callable[[float], str],
) -> HeadMap | None:
  """A map of one number of every head; None where no head has it."""
  known = [x for x in heads if x.get(key) is not None]
  values = [float(x[key]) for x in known if math.isfinite(float(x[key]))]
  if not values:
    return None
  low, high = min(values), max(values)
  scaled = math.log1p if low >= 0 and high > 50 else float
  bottom, top = scaled(low), scaled(high)
  size, left, under = 24.0, 34.0, 30.0
  layers = sorted({int(x['layer']) for x in heads})
  width = left + size * (max(int(x['head']) for x in heads) + 1)
  row = {layer: i for i, layer in enumerate(reversed(layers))}
  cells = [
      Cell(
          left + size * x['head'],
          size * row[x['layer']],
          round((scaled(float(x[key])) - bottom) / (top - bottom or 1), 3),
          f'Layer {x["layer"]}, head {x["head"]}: {shown(float(x[key]))}',
          x['layer'],
          x['head'],
      )
      for x in known
  ]
  every = max(1, math.ceil(len(layers) / 28))
  most = round((width - left) / size)
  step = max(1, math.ceil(most / 24))
  return HeadMap(
      width,
      size * len(layers) + under,
      size,
      cells,
      [(size * (row[x] + 0.5), str(x)) for x in layers[::every]],
      [(left + size * (i + 0.5), str(i)) for i in range(0, most, step)],
      low,
      high,
  )
