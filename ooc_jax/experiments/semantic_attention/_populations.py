"""Experiment 3: the numbers of both populations at every layer."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

import numpy as np

from ooc_jax import measures
from ooc_jax._errors import InputError

# The readouts by whose labels features are split.
LABELLINGS = ('output', 'input')
POPULATIONS = ('semantic', 'other')
OVER_HEADS = {'mean': np.mean, 'largest': np.max}
_BINS = 40


@dataclasses.dataclass(frozen=True)
class Layer:
  """The features of a layer.

  Attributes:
    layer: Whose attention.
    statistics: Context of participation -> a number a feature, [F].
    labels: Labelling -> which features are semantic, [F].
    chance: Context -> the number of each null direction, [n]; empty where
      experiment 2 had no null.
    choices: Other labels that could be chosen: name -> labelling -> [F].
  """

  layer: int
  statistics: Mapping[str, np.ndarray]
  labels: Mapping[str, np.ndarray]
  chance: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
  choices: Mapping[str, Mapping[str, np.ndarray]] = dataclasses.field(
      default_factory=dict
  )

  def compared(self, labellings: Sequence[str], least: int) -> bool:
    """Whether both populations of each labelling have so many features."""
    return all(
        name in self.labels
        and least <= self.labels[name].sum() <= self.labels[name].size - least
        for name in labellings
    )


def layer_of(
    layer: int,
    statistics: Mapping[str, np.ndarray],
    labels: Mapping[str, np.ndarray],
    over_heads: str,
    chance: Mapping[str, np.ndarray] | None = None,
    choices: Mapping[str, Mapping[str, np.ndarray]] | None = None,
) -> Layer:
  """Joins both experiments.

  Args:
    layer: Whose attention.
    statistics: Context -> [N, F].
    labels: Labelling -> [F].
    over_heads: How N numbers of a feature become one; see `OVER_HEADS`.
    chance: Context -> [N, n] of a null.
    choices: Other labels: name -> labelling -> [F].

  Raises:
    InputError: The numbers of features differ.
  """
  reduce = OVER_HEADS[over_heads]
  values, null = (
      {name: reduce(x.astype(np.float64), axis=0) for name, x in own.items()}
      for own in (statistics, chance or {})
  )
  sizes = {x.size for x in (*values.values(), *labels.values())}
  if len(sizes) > 1:
    raise InputError(
        f'Layer {layer}: attention and labels are of {sorted(sizes)} features;'
        ' take both from one dictionary.'
    )
  return Layer(layer, values, labels, null, choices or {})


def population_rows(
    layers: Sequence[Layer], labelling: str
) -> list[dict[str, Any]]:
  """A row for each context, layer and population.

  With `size`, `mean`, `median`, `p75`, and a histogram: `counts` between
  `edges`, which are one set for a context, so that layers and populations can
  be laid over each other. Of weights the edges are even in their logarithm.
  """
  rows = []
  for context in measures.CONTEXTS:
    edges = _edges(context, [x.statistics[context] for x in layers])
    for one in layers:
      both = measures.split_by_label(
          one.statistics[context], one.labels[labelling]
      )
      for name, values in zip(POPULATIONS, both, strict=True):
        rows.append({
            'labelling': labelling,
            'context': context,
            'layer': one.layer,
            'population': name,
            **measures.population(values)._asdict(),
            'counts': np.histogram(values, edges)[0].tolist(),
            'edges': edges.tolist(),
        })
  return rows


def effect_rows(
    layers: Sequence[Layer],
    labelling: str,
    *,
    least: int,
) -> list[dict[str, Any]]:
  """A row for each context and layer: the two populations compared.

  Cliff's delta is above 0 where semantic features have the larger numbers.
  `q` is Benjamini and Hochberg's over the layers of a context. All are None
  where a population has fewer than `least` features.
  """
  rows = []
  for context in measures.CONTEXTS:
    mine = []
    for one in layers:
      semantic, other = measures.split_by_label(
          one.statistics[context], one.labels[labelling]
      )
      row = {
          'labelling': labelling,
          'context': context,
          'layer': one.layer,
          'semantic': semantic.size,
          'other': other.size,
      }
      if one.compared((labelling,), least):
        effect = measures.cliffs_delta(semantic, other)
        test = measures.mann_whitney(semantic, other)
        row |= effect._asdict() | test._asdict()
        row |= {
            'permuted': _permuted(one, context, labelling),
            'semantic_median': float(np.median(semantic)),
            'semantic_error': measures.median_error(semantic),
            'other_median': float(np.median(other)),
            'other_error': measures.median_error(other),
        }
        if context in one.chance:
          low, middle, high = np.quantile(
              one.chance[context], (0.25, 0.5, 0.75)
          )
          row |= {
              'chance_median': float(middle),
              'chance_spread': float(high - low),
          }
      mine.append(row)
    tested = [row for row in mine if 'delta' in row]
    q = measures.q_values(np.asarray([row['p_value'] for row in tested]))
    for row, value in zip(tested, q.tolist(), strict=True):
      row['q_value'] = value
    rows += mine
  return rows


def _permuted(one: Layer, context: str, labelling: str) -> float:
  """Standard deviation of delta under permuted labels."""
  found = measures.permuted_deltas(
      one.statistics[context][None], one.labels[labelling][None]
  )
  return float(np.sqrt(found.covariance.item()))


def _edges(context: str, values: Sequence[np.ndarray]) -> np.ndarray:
  pooled = np.concatenate(values)
  low, high = float(pooled.min()), float(pooled.max())
  if context.endswith('post') and low > 0:
    edges = np.geomspace(low, high, _BINS + 1)
  else:
    edges = np.linspace(low, high, _BINS + 1)
  # Rounding must not leave out the ends; equal values need some width.
  edges[0], edges[-1] = low, high
  return edges if high > low else low + np.linspace(-0.5, 0.5, _BINS + 1)
