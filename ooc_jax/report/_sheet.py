"""Features worth looking at, with their tokens."""

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
import functools
import math
import os

import numpy as np
import pyarrow as pa

from ooc_jax.report._reading import MEASURES
from ooc_jax.report._reading import OUTPUT
from ooc_jax.report._reading import column
from ooc_jax.report._reading import name_of
from ooc_jax.report._reading import reading
from ooc_jax.report._reading import side_of
from ooc_jax.results import ResultsFolder

_SIGN = {'levenshtein': 1.0, 'cosine': -1.0, 'entropy': 1.0}  # Low = coherent.


@dataclasses.dataclass(frozen=True, kw_only=True)
class SheetFeature:
  """One feature.

  Attributes:
    layer: Where it is.
    feature: Its row in the dictionary.
    measures: Measure -> value; entropy in nats.
    passes: The measures that call it coherent.
    semantic: Its label.
    q_value: After Benjamini and Hochberg; NaN where the run had no null.
    top_tokens: Raw text, highest logit first.
    bottom_tokens: Raw text, lowest logit first.
  """

  layer: int
  feature: int
  measures: Mapping[str, float]
  passes: frozenset[str]
  semantic: bool
  q_value: float = math.nan
  top_tokens: tuple[str, ...]
  bottom_tokens: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ContactSheet:
  """Features of one run.

  Attributes:
    label: The name of the run.
    features: How many there are to choose from.
    sections: 'coherent', 'random' and 'incoherent' -> its features, in the
      order to show them.
  """

  label: str
  features: int
  sections: Mapping[str, tuple[SheetFeature, ...]]


def contact_sheet(
    folder: str | os.PathLike[str],
    label: str | None = None,
    *,
    side: str = OUTPUT,
    each: int = 12,
    seed: int = 0,
) -> ContactSheet:
  """Chooses features of a finished run.

  Coherent are those of lowest mean rank in the three measures over all layers,
  one for each top token, since many features predict the same word; incoherent
  those of highest; random ones are drawn evenly, without replacement.

  Args:
    folder: A results folder.
    label: See `depth_curve`.
    side: Likewise.
    each: How many of each kind, at most.
    seed: Of the random ones.

  Returns:
    The features.

  Raises:
    InputError: Not a results folder, not finished, or a damaged file.
    ValueError: `each` is under 1.
  """
  if each < 1:
    raise ValueError(f'A contact sheet needs features, not {each}.')
  with reading(folder) as results:
    summary = side_of(results, side)
    layers = sorted(int(row['layer']) for row in summary['layers'])
    labels = _by_layer(results.read_table('labels'))
    # Only the numbers are held for all layers: the tokens of 26 layers of
    # 16,384 features are 17 million strings.
    values = {x: _measures(results.read_layer(x), side) for x in layers}
    starts = np.cumsum([0, *(x.shape[1] for x in values.values())])
    order = _coherent_first(np.concatenate(list(values.values()), axis=1))
    rng = np.random.default_rng(seed)
    drawn = rng.choice(order.size, min(each, order.size), replace=False)
    places = functools.partial(_places, layers, starts)
    # More than needed, because a top token is shown once.
    candidates = places(order[: 20 * each])
    chosen = {
        'random': places(drawn),
        'incoherent': places(order[::-1][:each]),
    }
    wanted = {*candidates, *chosen['random'], *chosen['incoherent']}
    cards = _cards(results, wanted, labels, side)
    return ContactSheet(
        label=name_of(results, label, side),
        features=order.size,
        sections={
            'coherent': _one_a_word([cards[w] for w in candidates], each),
            **{
                name: tuple(cards[w] for w in those)
                for name, those in chosen.items()
            },
        },
    )


def _places(
    layers: Sequence[int], starts: np.ndarray, indices: np.ndarray
) -> list[tuple[int, int]]:
  """Layer and feature, from indices into all layers joined."""
  which = np.searchsorted(starts, indices, side='right') - 1
  return [
      (layers[w], int(i - starts[w]))
      for w, i in zip(which, indices, strict=True)
  ]


def _measures(table: pa.Table, side: str) -> np.ndarray:
  """[measures, F], low is coherent in each."""
  return np.stack(
      [_SIGN[name] * table[column(side, name)].to_numpy() for name in MEASURES]
  )


def _coherent_first(values: np.ndarray) -> np.ndarray:
  """Indices by mean rank; ties by position, so the same in every run."""
  ranks = np.zeros(values.shape[1])
  for row in values:
    ranks[np.argsort(row, kind='stable')] += np.arange(row.size)
  return np.argsort(ranks, kind='stable')


def _by_layer(table: pa.Table) -> dict[int, pa.Table]:
  layers = table['layer'].to_numpy()
  return {
      int(x): table.filter(pa.array(layers == x)) for x in np.unique(layers)
  }


def _cards(
    results: ResultsFolder,
    places: Iterable[tuple[int, int]],
    labels: Mapping[int, pa.Table],
    side: str,
) -> dict[tuple[int, int], SheetFeature]:
  """Reads each layer once more, for the tokens of its features."""
  by_layer: dict[int, list[int]] = {}
  for layer, feature in places:
    by_layer.setdefault(layer, []).append(feature)
  cards = {}
  for layer, features in by_layer.items():
    rows = results.read_layer(layer).take(features).to_pylist()
    marks = labels[layer].take(features).to_pylist()
    for row, mark in zip(rows, marks, strict=True):
      if mark['feature'] != row['feature']:
        raise ValueError(f'labels of layer {layer} are not in order')
      q_value = mark.get(column(side, 'q_value'))
      cards[layer, row['feature']] = SheetFeature(
          layer=layer,
          feature=row['feature'],
          measures={name: row[column(side, name)] for name in MEASURES},
          passes=frozenset(
              n for n in MEASURES if mark[column(side, f'{n}_passes')]
          ),
          semantic=mark[column(side, 'semantic')],
          q_value=math.nan if q_value is None else q_value,
          top_tokens=tuple(row[column(side, 'top_tokens')]),
          bottom_tokens=tuple(row[column(side, 'bottom_tokens')]),
      )
  return cards


def _one_a_word(
    cards: Iterable[SheetFeature], count: int
) -> tuple[SheetFeature, ...]:
  words = set()
  kept = []
  for card in cards:
    word = card.top_tokens[0].strip().casefold()
    if word not in words and len(kept) < count:
      words.add(word)
      kept.append(card)
  return tuple(kept)
