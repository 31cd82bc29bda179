"""The tested course of a number over depth, as a summary keeps it."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

import numpy as np

from ooc_jax import measures


def share_shape(
    layers: Sequence[int], shares: Sequence[float], counts: Sequence[int]
) -> dict[str, Any]:
  """Of a share of so many features at each layer."""
  values, sizes = np.asarray(shares), np.asarray(counts)
  return number_shape(layers, values, measures.share_errors(values, sizes))


def number_shape(
    layers: Sequence[int], values: np.ndarray, errors: np.ndarray
) -> dict[str, Any]:
  """Of any number with its standard errors; with the p its name rests on."""
  shape = measures.depth_shape(np.asarray(layers), values, errors)
  return dataclasses.asdict(shape) | {'p_value': _p_value(shape)}


def _p_value(shape: measures.DepthShape) -> float | None:
  if shape.slope_p_values is None or shape.ends_p_values is None:
    return None
  if shape.name in ('U', 'inverted U'):
    return max(shape.slope_p_values)
  if shape.name == 'bifurcated':
    return max(shape.ends_p_values)
  if shape.name == 'undecided':
    return shape.curve_p_value
  return shape.trend_p_value


def shape_text(shape: Mapping[str, Any]) -> str:
  """'inverted U (p = 0.012, turns at 4.0)'."""
  p, name = shape['p_value'], shape['name']
  words = [] if p is None else [f'p = {p:.2g}']
  if name in ('U', 'inverted U', 'bifurcated'):
    words.append(f'turns at {shape["turning_point"]:.1f}')
  return f'{name} ({", ".join(words)})' if words else name
