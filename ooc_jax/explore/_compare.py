"""The same layer of two runs of experiment 1, side by side."""

from collections.abc import Mapping, Sequence
import pathlib
from typing import Any

import numpy as np

from ooc_jax.explore import _charts
from ooc_jax.explore import _feature
from ooc_jax.explore import _pages
from ooc_jax.explore import _tables
from ooc_jax.explore import _words
from ooc_jax.explore._library import Study


def compare(
    studies: Mapping[str, Study], given: _pages.Parameters
) -> _pages.Context:
  """The same layer of two studies."""
  able = {x: s for x, s in studies.items() if s.output is not None}
  names = list(able)
  a = given.get('a', names[0] if names else '')
  b = given.get('b', names[min(1, len(names) - 1)] if names else '')
  context: _pages.Context = {
      'able': able,
      'a': a,
      'b': b,
      'layers': [],
      'layer': None,
      'study': able.get(a),
  }
  if a not in able or b not in able:
    return context
  side = given.get('side', 'output')
  side = side if side in _words.READOUTS else 'output'
  prefix = '' if side == 'output' else f'{side}_'
  files = [_tables.whole(_files(able[x])) for x in (a, b)]
  layers = sorted(set(files[0]) & set(files[1]))
  wanted = _pages.integer(given.get('layer'))
  layer = wanted if wanted in layers else (layers[0] if layers else None)
  context |= {'layers': layers, 'layer': layer, 'side': side}
  if layer is None:
    return context
  charts = []
  for measure, (title, about) in _words.MEASURES.items():
    one, other = (
        _feature.layer_column(able[x], layer, prefix + measure) for x in (a, b)
    )
    if one.size and other.size:
      chart = _charts.histogram(one, other, None, width=420, height=150)
      medians = [float(np.nanmedian(x)) for x in (one, other)]
      charts.append((title, about, chart, medians))
  rows = [_layer_row(able[x], side, layer) for x in (a, b)]
  context |= {'charts': charts, 'numbers': _compared(rows)}
  return context


def _files(study: Study) -> dict[int, pathlib.Path]:
  return {} if study.output is None else study.output.layer_files()


def _layer_row(study: Study, side: str, layer: int) -> Mapping[str, Any]:
  assert study.output is not None
  summary = study.output.summary
  if side != 'output':
    summary = (summary.get('sides') or {}).get(side) or {}
  rows = summary.get('layers') or ()
  return next((x for x in rows if x.get('layer') == layer), {})


def _compared(
    rows: Sequence[Mapping[str, Any]],
) -> list[tuple[str, list[str]]]:
  """Name of a number, and the number in each run."""

  def both(title: str, *path: str, share: bool = True) -> None:
    values = []
    for row in rows:
      value: Any = row
      for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
      values.append(_words.percent(value) if share else _words.number(value))
    found.append((title, values))

  found: list[tuple[str, list[str]]] = []
  both('Features', 'features', share=False)
  both('Semantic', 'semantic', 'share')
  both('95% interval, from', 'semantic', 'low')
  both('to', 'semantic', 'high')
  both('Coherent', 'found', 'coherent')
  both('Sharp', 'found', 'sharp')
  both('Random directions', 'null_share')
  both('Over chance', 'excess')
  for measure, (title, _) in _words.MEASURES.items():
    if any(measure in (row.get('median') or {}) for row in rows):
      both(f'Median {title.lower()}', 'median', measure, share=False)
  return found
