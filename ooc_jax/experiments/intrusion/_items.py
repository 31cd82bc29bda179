"""Word-intrusion items: four top tokens of a feature, and one of another."""

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
from typing import Any
import unicodedata

import numpy as np

from ooc_jax._text import printable

CHOICES = 5  # Tokens shown, one of which is the intruder.
_OWN = CHOICES - 1
_MOST = 80  # Characters of a token.
_TRIES = 200  # Features in which an intruder is looked for.


@dataclasses.dataclass(frozen=True)
class TokenList:
  """The tokens that one way of reading gives a feature, the first one best.

  Attributes:
    feature: Row of the dictionary, or number of a random direction.
    semantic: Its label by weights; None of what has none.
    tokens: Their text.
  """

  feature: int
  semantic: bool | None
  tokens: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Item:
  """A question, and its answer.

  Attributes:
    kind: How the list was made: 'weights', 'activations' or 'random'.
    layer: Of the dictionary; None of random directions.
    feature: Whose list it is.
    semantic: Its label.
    tokens: In the order that is shown.
    intruder: Which of them is of another feature.
    other: That feature.
  """

  kind: str
  layer: int | None
  feature: int
  semantic: bool | None
  tokens: tuple[str, ...]
  intruder: int
  other: int


def canonical(token: str) -> str:
  """What of a token a reader tells apart: no case, no space about it."""
  return unicodedata.normalize('NFKC', token).strip().casefold()


def shown(token: str) -> str:
  """As it is on the page; a space at its front would give an intruder away."""
  return printable(token.strip() or token, _MOST)


def draw_items(
    lists: Mapping[str, Mapping[int | None, Sequence[TokenList]]],
    count: int,
    seed: int = 0,
) -> list[Item]:
  """Items of every kind, over the layers alike, in random order.

  Of the features of a layer half are semantic, where there are so many, and
  all kinds that have a list of a feature ask for the same ones. A list counts
  where four of its tokens differ in more than case and spaces; the intruder is
  a top token of another feature of the layer and kind, and in no place of the
  list.

  Args:
    lists: Kind -> layer -> lists.
    count: Items of each kind, where there are enough features.
    seed: Of all choices.
  """
  rng = np.random.default_rng(seed)
  items: list[Item] = []
  for kind, layers in lists.items():
    # The same order of features in each kind: seeded by the layer alone.
    queues = {}
    for i, (layer, own) in enumerate(layers.items()):
      usable = [x for x in own if len(_own_tokens(x)) == _OWN]
      number = -1 if layer is None else layer
      order = np.random.default_rng((seed, number + 1))
      queues[layer] = _alternating(usable, order, first=i % 2 == 0)
    items += _round_robin(kind, layers, queues, count, rng)
  return [items[i] for i in rng.permutation(len(items))]


def _round_robin(
    kind: str,
    layers: Mapping[int | None, Sequence[TokenList]],
    queues: dict[int | None, list[TokenList]],
    count: int,
    rng: np.random.Generator,
) -> list[Item]:
  """One feature of each layer in turn, until there are enough."""
  items: list[Item] = []
  while len(items) < count and any(queues.values()):
    for layer, queue in queues.items():
      if not queue or len(items) == count:
        continue
      item = _item(kind, layer, queue.pop(0), layers[layer], rng)
      if item is not None:
        items.append(item)
  return items


def _alternating(
    lists: Sequence[TokenList], rng: np.random.Generator, *, first: bool
) -> list[TokenList]:
  """In random order, semantic ones and others by turns; `first` is which."""
  # A place for every feature, whichever of them have a list.
  size = max((x.feature for x in lists), default=0) + 1
  place = rng.random(size)
  ordered = sorted(lists, key=lambda x: place[x.feature])
  one = [x for x in ordered if bool(x.semantic) == first]
  two = [x for x in ordered if bool(x.semantic) != first]
  mixed = [x for pair in zip(one, two, strict=False) for x in pair]
  return mixed + one[len(two) :] + two[len(one) :]


def _own_tokens(one: TokenList) -> list[str]:
  """The first four that a reader tells apart."""
  found: dict[str, str] = {}
  for token in one.tokens:
    if (name := canonical(token)) and len(found) < _OWN:
      found.setdefault(name, token)
  return list(found.values())


def _item(
    kind: str,
    layer: int | None,
    one: TokenList,
    pool: Sequence[TokenList],
    rng: np.random.Generator,
) -> Item | None:
  """None where every other feature has its tokens only."""
  own = _own_tokens(one)
  known = {canonical(token) for token in one.tokens}
  for i in rng.integers(len(pool), size=_TRIES):
    other = pool[i]
    strange = [x for x in _own_tokens(other) if canonical(x) not in known]
    if other.feature == one.feature or not strange:
      continue
    tokens = [*own, strange[0]]
    order = rng.permutation(CHOICES)
    return Item(
        kind=kind,
        layer=layer,
        feature=one.feature,
        semantic=one.semantic,
        tokens=tuple(shown(tokens[j]) for j in order),
        intruder=int(np.flatnonzero(order == _OWN)[0]),
        other=other.feature,
    )
  return None


def by_frequency(tokens: Iterable[str]) -> tuple[str, ...]:
  """Each token once, the most frequent first, of equals the earlier."""
  counts: dict[str, int] = {}
  for token in tokens:
    counts[token] = counts.get(token, 0) + 1
  return tuple(sorted(counts, key=lambda x: -counts[x]))


def to_json(items: Sequence[Item]) -> list[dict[str, Any]]:
  """The key: every item with its answer."""
  return [dataclasses.asdict(item) for item in items]
