"""The trigram against its definition, one probability at a time."""

import collections
import itertools
import math

from absl.testing import absltest
import numpy as np

from tools.bundle._kneser_ney import Trigram

_V = 7


def _discounts(counts):
  n = collections.Counter(counts)
  # Seven single tokens have no counts of 1: nothing then is taken for it.
  ratio = {c: n[c + 1] / n[c] if n[c] else 0.0 for c in (1, 2, 3)}
  y = 1 / (1 + 2 * ratio[1])
  return [0.0] + [max(c - (c + 1) * y * ratio[c], 0.0) for c in (1, 2, 3)]


def _slow(tokens, first, second, third):
  """Chen and Goodman 1999, equations 13 to 17, with dictionaries."""
  grams = list(zip(tokens, tokens[1:], tokens[2:], strict=False))
  three = collections.Counter(grams)
  two = collections.Counter(gram[1:] for gram in three)
  one = collections.Counter(gram[1:] for gram in two)
  p = 1 / _V
  for counts, context in (
      (one, ()),
      (two, (second,)),
      (three, (first, second)),
  ):
    d = _discounts(counts.values())
    after = {g: c for g, c in counts.items() if g[:-1] == context}
    if not after:
      continue
    total = sum(after.values())
    count = after.get((*context, third), 0)
    taken = sum(d[min(c, 3)] for c in after.values())
    p = (count - d[min(count, 3)] * (count > 0) + taken * p) / total
  return p


def _text(n, V):
  """Ids below V - 1, each near the one before it, low ones more often."""
  rng = np.random.default_rng(3)
  steps = np.where(rng.random(n) < 0.8, 1, rng.zipf(1.5, n))
  return np.cumsum(steps) % (V - 1) * (rng.random(n) < 0.9)


class TrigramTest(absltest.TestCase):

  def test_matches_definition(self):
    tokens = _text(120, _V)
    model = Trigram(tokens, _V)
    triples = np.array(list(itertools.product(range(_V), repeat=3)))
    expected = [_slow(tokens.tolist(), *map(int, t)) for t in triples]
    np.testing.assert_allclose(
        model.probability(*triples.T), expected, rtol=1e-12
    )

  def test_probabilities_sum_to_one(self):
    V = 90
    model = Trigram(_text(700, V), V)
    for first, second in ((3, 4), (4, 3), (V - 1, 5), (0, V - 1), (80, 81)):
      p = model.probability(np.full(V, first), np.full(V, second), np.arange(V))
      self.assertAlmostEqual(p.sum(), 1.0, places=12)
      self.assertGreater(p.min(), 0.0)

  def test_beats_single_tokens_on_text_with_order(self):
    tokens = _text(4000, _V)
    loss = Trigram(tokens[:3000], _V).loss(tokens[3000:])
    shares = np.bincount(tokens[:3000], minlength=_V)[tokens[3000:]] / 3000
    self.assertLess(loss, -np.log(shares).mean() - 0.1)
    self.assertLess(loss, math.log(_V))


if __name__ == '__main__':
  absltest.main()
