"""Tokens of the vocabulary, and the features whose lists have them.

The ids of the top and bottom tokens are kept in memory once they were read, as
arrays and up to a bound, because a search goes over all of them.
"""

import bisect
from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import functools
import pathlib
import re
import threading
from typing import Any

import numpy as np

from ooc_jax.explore import _tables
from ooc_jax.explore._library import Study

MATCHES = {'exact': 'Whole token', 'prefix': 'Begins with'}
# List of a feature -> what it means that a token is in it.
LISTS = {
    'top': 'Promote it',
    'bottom': 'Suppress it',
    'input_top': 'Read it',
    'input_bottom': 'Read against it',
}
_MOST_TOKENS = 64  # That one search is for; a prefix of one letter has more.
_MOST_FEATURES = 20  # Of each list.
_FEW = 6  # Up to so many ids are compared one by one, which is faster.
_LAST = '\U0010ffff'  # Comes after every character.
_MOST_BYTES = 160 << 20  # Of the arrays of ids.
_FEATURE = re.compile(r'(?:L|layer\s*)?(\d{1,4})\s*[/.:\s]\s*(\d{1,9})', re.I)
_PAGE = re.compile(r'.*/(\d{1,4})-[\w.-]+/(\d{1,9})/?')  # Of Neuronpedia.
_lock = threading.Lock()
_arrays: dict[tuple[Any, ...], np.ndarray] = {}


@dataclasses.dataclass(frozen=True)
class Vocabulary:
  """The tokens that are in some list of a study.

  Attributes:
    ids: [tokens], in the order of `folded`.
    texts: Of each.
    folded: Of each without the spaces it begins with and in one case, rising.
  """

  ids: np.ndarray
  texts: list[str]
  folded: list[str]

  def matching(self, text: str, match: str, fold: bool) -> list[int]:
    """Ids of the tokens that are, or begin with, a text."""
    wanted = text.lstrip(' ')
    key = wanted.casefold()
    first = bisect.bisect_left(self.folded, key)
    last = bisect.bisect_right(
        self.folded, key if match == 'exact' else key + _LAST
    )
    found = range(first, last)
    if not fold:
      found = [
          i for i in found if self._is(self.texts[i].lstrip(' '), wanted, match)
      ]
    return [int(self.ids[i]) for i in found]

  def _is(self, token: str, wanted: str, match: str) -> bool:
    return token == wanted if match == 'exact' else token.startswith(wanted)

  @functools.cached_property
  def position(self) -> Mapping[int, int]:
    """Id -> its place here."""
    return {int(x): i for i, x in enumerate(self.ids)}

  def pieces(self, word: str) -> list[str]:
    """A word as the longest tokens that it can be read as."""
    found = []
    while word:
      sizes = range(len(word), 0, -1)
      size = next(
          (n for n in sizes if self.matching(word[:n], 'exact', True)), None
      )
      if size is None:
        return found
      found.append(word[:size])
      word = word[size:]
    return found


def vocabulary(study: Study) -> Vocabulary:
  """The tokens of a study; empty where it has no lists of them."""
  files = {} if study.output is None else study.output.layer_files()
  files = _tables.whole(files)
  return _vocabulary(tuple(_signature(x) for x in files.values()))


@functools.lru_cache(4)
def _vocabulary(signatures: tuple[tuple[Any, ...], ...]) -> Vocabulary:
  found: dict[int, str] = {}
  for stem in LISTS:  # One at a time takes a quarter of the memory.
    pairs = [
        f'SELECT unnest({stem}_ids) AS i, unnest({stem}_tokens) AS t'
        f' FROM {_tables.source(path)}'
        for path, *_ in signatures
        if {f'{stem}_ids', f'{stem}_tokens'} <= set(_tables.columns(path))
    ]
    if pairs:
      own = _tables.arrays(
          'SELECT i, any_value(t) AS t FROM'
          f' ({" UNION ALL ".join(pairs)}) GROUP BY i'
      )
      found.update(zip(own['i'].tolist(), own['t'].tolist(), strict=True))
  words = sorted(
      (str(text).lstrip(' ').casefold(), i, str(text))
      for i, text in found.items()
  )
  return Vocabulary(
      np.array([x for _, x, _ in words], np.int64),
      [x for *_, x in words],
      [x for x, *_ in words],
  )


def _signature(path: pathlib.Path) -> tuple[pathlib.Path, int, int]:
  about = path.stat()
  return path, about.st_mtime_ns, about.st_size


def _ids(path: pathlib.Path, stem: str) -> np.ndarray:
  """[F, k] ids of a list of the features of a file."""
  key = (*_signature(path), stem)
  with _lock:
    if key in _arrays:
      _arrays[key] = _arrays.pop(key)  # The last used come last.
      return _arrays[key]
  flat = _tables.arrays(
      f'SELECT unnest({stem}_ids) AS i FROM {_tables.source(path)}'
  )['i']
  rows = _tables.counts({0: path})[0]
  found = np.ascontiguousarray(flat, np.int32).reshape(rows, -1)
  with _lock:
    _arrays[key] = found
    while sum(x.nbytes for x in _arrays.values()) > _MOST_BYTES:
      _arrays.pop(next(iter(_arrays)))
  return found


def _lists(
    study: Study, stem: str
) -> Iterator[tuple[int, pathlib.Path, np.ndarray]]:
  """Layer, file and ids of a list of every feature."""
  if study.output is None:
    return
  for layer, path in _tables.whole(study.output.layer_files()).items():
    if f'{stem}_ids' in _tables.columns(path):
      yield layer, path, _ids(path, stem)


def warm(study: Study) -> None:
  """Reads what the first search would have to wait for."""
  vocabulary(study)
  for stem in LISTS:
    for _ in _lists(study, stem):
      pass


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
  """

  tokens: Sequence[str]
  more: int
  pieces: Sequence[str]
  lists: Mapping[str, tuple[int, Sequence[Hit]]]


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
  words = vocabulary(study)
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
  ids.sort(key=lambda x: len(words.texts[words.position[x]]))
  more, ids = max(len(ids) - _MOST_TOKENS, 0), ids[:_MOST_TOKENS]
  shown = [words.texts[words.position[x]] for x in ids]
  lists = {stem: _with_tokens(study, words, stem, ids, None) for stem in LISTS}
  return Found(shown, more, pieces, lists)


def alike(
    study: Study, layer: int, feature: int, stem: str = 'top'
) -> tuple[int, Sequence[Hit]]:
  """The features that share most tokens of a list with one, and how many."""
  words = vocabulary(study)
  for own, _, ids in _lists(study, stem):
    if own == layer and 0 <= feature < len(ids):
      wanted = ids[feature].tolist()
      return _with_tokens(study, words, stem, wanted, (layer, feature))
  return 0, []


def _with_tokens(
    study: Study,
    words: Vocabulary,
    stem: str,
    ids: Sequence[int],
    but: tuple[int, int] | None,
) -> tuple[int, list[Hit]]:
  """How many features have some of the ids in a list, and the best of them."""
  if not len(ids):
    return 0, []
  is_wanted = _matcher(words, ids)
  layers, features, counts, places = [], [], [], []
  for layer, _, own in _lists(study, stem):
    at = np.flatnonzero(is_wanted(own.ravel()))
    rows, place = np.divmod(at, own.shape[1])
    unique, first, count = np.unique(
        rows, return_index=True, return_counts=True
    )
    layers.append(np.full(len(unique), layer))
    features.append(unique)
    counts.append(count)
    places.append(place[first])
  if not layers:
    return 0, []
  layer, feature, count, place = map(
      np.concatenate, (layers, features, counts, places)
  )
  order = np.lexsort((feature, layer, place, -count))
  if but is not None:
    keep = (layer[order] != but[0]) | (feature[order] != but[1])
    order = order[keep]
  hits = []
  sources = {x: own for x, _, own in _lists(study, stem)}
  for i in order[:_MOST_FEATURES]:
    own = sources[int(layer[i])][feature[i]].tolist()
    texts = [words.texts[words.position[x]] for x in own if x in words.position]
    token = own[place[i]]
    hits.append(
        Hit(
            int(layer[i]),
            int(feature[i]),
            int(count[i]),
            int(place[i]) + 1,
            words.texts[words.position[token]],
            texts,
        )
    )
  return len(order), hits


def _matcher(
    words: Vocabulary, ids: Sequence[int]
) -> Callable[[np.ndarray], np.ndarray]:
  """Whether each of many ids is one of a few."""
  if len(ids) <= _FEW:
    return lambda own: np.logical_or.reduce([own == x for x in ids])
  table = np.zeros(int(words.ids.max()) + 1, bool)
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
