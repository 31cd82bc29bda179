"""What the summaries of all experiments share: files, and shapes over depth."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

import numpy as np
import pyarrow as pa

from ooc_jax import measures
from ooc_jax import results
from ooc_jax._text import p_text


@dataclasses.dataclass(frozen=True)
class Summary:
  """What a run leaves once all its layers are there.

  Attributes:
    tables: Name of the file, without its ending -> table.
    summary: `summary.json`.
  """

  tables: Mapping[str, pa.Table]
  summary: Mapping[str, Any]

  def write(self, folder: results.ResultsFolder) -> dict[str, Any]:
    """Writes all of it, and returns the summary as it is read back."""
    for name, table in self.tables.items():
      folder.write_table(name, table)
    folder.write_summary(self.summary)
    return folder.read_summary()


def share_shape(
    layers: Sequence[int], shares: Sequence[float], counts: Sequence[int]
) -> dict[str, Any]:
  """Of a share of so many features at each layer."""
  values, sizes = np.asarray(shares), np.asarray(counts)
  return number_shape(layers, values, measures.share_errors(values, sizes))


def number_shape(
    layers: Sequence[int], values: np.ndarray, errors: np.ndarray
) -> dict[str, Any]:
  """Of any number with its standard errors."""
  shape = measures.depth_shape(np.asarray(layers), values, errors)
  return dataclasses.asdict(shape)


_UNDECIDED = {
    'curve': 'a curve of no such shape',
    'layers differ': 'layers differ without a shape',
    'power': 'no shape, but one might be missed',
}


def shape_text(shape: Mapping[str, Any]) -> str:
  """What was found and, once there were tests, what could have been.

  'inverted U (p = 0.012, turns at 4.0); found if of this height: U 91%, ...':
  how often shapes as high as this course would be named with as much noise.
  """
  p, name = shape['p_value'], shape['name']
  if p is None:
    return name
  words = [p_text(p)]
  if reason := shape.get('reason'):
    words.insert(0, _UNDECIDED[reason])
  if shape['turning_point'] is not None:
    words.append(f'turns at {shape["turning_point"]:.1f}')
  power = ', '.join(f'{x} {share:.0%}' for x, share in shape['power'].items())
  return f'{name} ({", ".join(words)}); found if of this height: {power}'
