"""An interpolated Kneser-Ney trigram: what a small model has to beat.

Modified, with three discounts an order (Chen and Goodman 1999, "An empirical
study of smoothing techniques for language modeling", section 3). Counts are
sorted arrays, so millions of tokens take seconds.
"""

from typing import NamedTuple

from jaxtyping import Float, Int
import numpy as np


class _Order(NamedTuple):
  """One order: discounted counts of n-grams and what their contexts keep."""

  grams: Int[np.ndarray, 'n']  # Sorted; (context · V) + last token.
  discounted: Float[np.ndarray, 'n']
  contexts: Int[np.ndarray, 'c']
  totals: Float[np.ndarray, 'c']
  kept_back: Float[np.ndarray, 'c']


class Trigram:
  """Probabilities of a token after the two before it."""

  def __init__(self, tokens: Int[np.ndarray, 'n'], vocab_size: int):
    """Counts the stream `tokens`, of ids below `vocab_size`."""
    t = np.asarray(tokens, np.int64)
    self._V = vocab_size
    triples, counts = np.unique(
        self._key(t[:-2], t[1:-1], t[2:]), return_counts=True
    )
    # Lower orders count in how many contexts a gram occurs, not how often.
    pairs, pair_counts = np.unique(triples % self._V**2, return_counts=True)
    singles, single_counts = np.unique(pairs % self._V, return_counts=True)
    self._orders = [
        _order(singles, single_counts, vocab_size),
        _order(pairs, pair_counts, vocab_size),
        _order(triples, counts, vocab_size),
    ]

  def _key(self, *ids: Int[np.ndarray, 'n']) -> Int[np.ndarray, 'n']:
    key = np.zeros_like(ids[0])
    for x in ids:
      key = key * self._V + x
    return key

  def probability(
      self,
      first: Int[np.ndarray, 'n'],
      second: Int[np.ndarray, 'n'],
      third: Int[np.ndarray, 'n'],
  ) -> Float[np.ndarray, 'n']:
    """P(third | first second), for each of n triples."""
    ids = [np.asarray(x, np.int64) for x in (first, second, third)]
    p = np.full(ids[0].shape, 1.0 / self._V)
    for n, order in enumerate(self._orders):
      gram = self._key(*ids[2 - n :])
      found, at = _find(order.grams, gram)
      counted = np.where(found, order.discounted[at], 0.0)
      known, at = _find(order.contexts, gram // self._V)
      total = order.totals[at]
      p = np.where(known, (counted + order.kept_back[at] * p) / total, p)
    return p

  def loss(self, tokens: Int[np.ndarray, 'n']) -> float:
    """Mean cross-entropy, in nats, of a stream from its third token on."""
    t = np.asarray(tokens)
    return float(-np.log(self.probability(t[:-2], t[1:-1], t[2:])).mean())


def _order(
    grams: Int[np.ndarray, 'n'], counts: Int[np.ndarray, 'n'], V: int
) -> _Order:
  n = np.bincount(np.minimum(counts, 5), minlength=5)[1:5].astype(np.float64)
  # Too little text has no counts of 3 or 4: the next estimate then is zero.
  ratio = np.divide(n[1:], n[:-1], out=np.zeros(3), where=n[:-1] > 0)
  y = 1 / (1 + 2 * ratio[0])
  discounts = np.clip(np.arange(1, 4) - np.arange(2, 5) * y * ratio, 0, None)
  taken = discounts[np.minimum(counts, 3) - 1]
  contexts, start = np.unique(grams // V, return_index=True)
  return _Order(
      grams,
      counts - taken,
      contexts,
      np.add.reduceat(counts, start).astype(np.float64),
      np.add.reduceat(taken, start),
  )


def _find(
    values: Int[np.ndarray, 'n'], wanted: Int[np.ndarray, 'm']
) -> tuple[np.ndarray, Int[np.ndarray, 'm']]:
  """Which of `wanted` are among the sorted `values`, and where."""
  at = np.minimum(np.searchsorted(values, wanted), len(values) - 1)
  return values[at] == wanted, at
