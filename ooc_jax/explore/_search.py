"""The features whose lists have the tokens of a text, or those of another."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import re
from typing import Any

import numpy as np

from ooc_jax.explore import _index
from ooc_jax.explore._library import Study

MATCHES = {'exact': 'Whole token', 'prefix': 'Begins with'}
_MOST_TOKENS = 64  # That one search is for; a prefix of one letter has more.
_MOST_FEATURES = 20  # Of each list.
_FEW = 6  # Up to so many ids are compared one by one, which is faster.
_FEATURE = re.compile(r'(?:L|layer\s*)?(\d{1,4})\s*[/.:\s]\s*(\d{1,9})', re.I)
_PAGE = re.compile(r'.*/(\d{1,4})-[\w.-]+/(\d{1,9})/?')  # Of Neuronpedia.


@dataclasses.dataclass(frozen=True)
class Hit:
  """A feature whose list has a token that was asked for.

  Attributes:
    layer: Of the dictionary.
    feature: Its row.
    count: How many of the tokens are in the list.
    place: Of the first of them, from 1.
    token: That one.
    tokens: The first of its list.
  """

  layer: int
  feature: int
  count: int
  place: int
  token: str
  tokens: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Found:
  """What a search gives.

  Attributes:
    tokens: That it was for.
    more: How many others match and are left out.
    pieces: What the words were read as, where they are no tokens.
    lists: List -> the number of features, and the first of them.
    missing: Layers that are not read yet.
  """

  tokens: Sequence[str]
  more: int
  pieces: Sequence[str]
  lists: Mapping[str, tuple[int, Sequence[Hit]]]
  missing: Sequence[int]


def feature_of(query: str) -> tuple[int, int] | None:
  """Layer and feature of an id: '3/17', 'layer 3 17', Neuronpedia's address."""
  query = query.strip()
  match = _FEATURE.fullmatch(query) or _PAGE.fullmatch(query)
  return (int(match[1]), int(match[2])) if match else None


def search(study: Study, query: str, match: str, fold: bool) -> Found:
  """The features in whose lists the tokens of a text are.

  Args:
    study: To search in.
    query: A token, or several with spaces between; a word that is no token is
      read as the longest tokens that it begins with.
    match: One of `MATCHES`.
    fold: Whether capitals do not matter.
  """
  ready = _index.ready(study)
  words = ready.words
  pieces: list[str] = []
  chosen: list[int] = []
  for word in query.split() or [query]:
    ids = words.matching(word, match, fold)
    if not ids:
      parts = words.pieces(word)
      pieces += parts
      ids = [x for part in parts for x in words.matching(part, 'exact', fold)]
    chosen += ids
  ids = list(dict.fromkeys(chosen))
  # The shorter a token, the nearer to what was asked for.
  ids.sort(key=lambda x: len(words.text(x)))
  more, ids = max(len(ids) - _MOST_TOKENS, 0), ids[:_MOST_TOKENS]
  shown = [words.text(x) for x in ids]
  lists = {x: _with_tokens(ready, x, ids, None) for x in _index.LISTS}
  return Found(shown, more, pieces, lists, ready.missing)


def alike(
    study: Study, layer: int, feature: int, stem: str = 'top'
) -> tuple[int, Sequence[Hit]]:
  """The features that share most tokens of a list with one, and how many."""
  ready = _index.ready(study, first=layer)
  for own, ids in ready.lists(stem):
    if own == layer and 0 <= feature < len(ids):
      return _with_tokens(ready, stem, ids[feature].tolist(), (layer, feature))
  return 0, []


def _with_tokens(
    ready: _index.Ready,
    stem: str,
    ids: Sequence[int],
    but: tuple[int, int] | None,
) -> tuple[int, list[Hit]]:
  """How many features have some of the ids in a list, and the best of them."""
  if not len(ids):
    return 0, []
  words = ready.words
  is_wanted = _matcher(words.size, ids)
  layers, features, counts, places = [], [], [], []
  sources = dict(ready.lists(stem))
  for layer, own in sources.items():
    at = np.flatnonzero(is_wanted(own.ravel()))
    rows, place = np.divmod(at, own.shape[1])
    first = np.flatnonzero(np.diff(rows, prepend=-1))  # Rows rise.
    layers.append(np.full(len(first), layer))
    features.append(rows[first])
    counts.append(np.diff(first, append=len(rows)))
    places.append(place[first])
  if not layers:
    return 0, []
  layer, feature, count, place = map(
      np.concatenate, (layers, features, counts, places)
  )
  if but is not None:
    others = np.flatnonzero((layer != but[0]) | (feature != but[1]))
    layer, feature, count, place = (
        x[others] for x in (layer, feature, count, place)
    )
  best = _first(count, place)
  hits = []
  for i in best:
    own = sources[int(layer[i])][feature[i]].tolist()
    texts = [words.text(x) for x in own]
    hits.append(
        Hit(
            int(layer[i]),
            int(feature[i]),
            int(count[i]),
            int(place[i]) + 1,
            texts[place[i]],
            texts,
        )
    )
  return len(count), hits


def _first(count: np.ndarray, place: np.ndarray) -> np.ndarray:
  """The first of features by count, falling, then place, then their order."""
  n = len(count)
  if not n:
    return np.zeros(0, np.int64)
  # One number each, of which the least are found without sorting all.
  key = (count.max() - count) * (place.max() + 1) + place
  key = key.astype(np.int64) * n + np.arange(n)
  most = min(_MOST_FEATURES, n)
  return np.sort(np.partition(key, most - 1)[:most]) % n


def _matcher(
    size: int, ids: Sequence[int]
) -> Callable[[np.ndarray], np.ndarray]:
  """Whether each of many ids is one of a few."""
  if len(ids) <= _FEW:
    return lambda own: np.logical_or.reduce([own == x for x in ids])
  table = np.zeros(size, bool)
  table[np.asarray(ids)] = True
  return lambda own: np.take(table, own, mode='clip')


def writing_heads(
    heads: Sequence[Mapping[str, Any]], tokens: Sequence[str]
) -> list[tuple[Mapping[str, Any], int, Sequence[str]]]:
  """Heads that write a token: the head, its key feature, what it writes."""
  wanted, found = set(tokens), []
  for head in heads:
    lists = zip(
        head.get('write_features') or (),
        head.get('write_tokens') or (),
        strict=False,
    )
    found += [(head, f, own) for f, own in lists if wanted & set(own or ())]
  return found
