"""Neutral beginnings of texts, each a few words, to be read at their ends."""

from collections.abc import Sequence
from typing import NamedTuple

from jaxtyping import Int
import numpy as np

from ooc_jax.model import Tokenizer

# Twenty beginnings that could go on in many ways.
SENTENCES = (
    'The people in the house were',
    'She said that it was very',
    'There is no reason to believe',
    'He went back to the old',
    'In the end they had all',
    'It was a long time before',
    'When the day was over we',
    'My friend and I have been',
    'Some of them did not know',
    'This is one of the most',
    'They came to a small place',
    'You can see that he has',
    'After that she began to look',
    'We do not want any more',
    'At first I thought it might',
    'Many of these are still here',
    'If you ask me about that',
    'His name was known to every',
    'For a while nothing could be',
    'Our plan is to start with',
)
_WORDS = range(2, 7)


class Prefixes(NamedTuple):
  """Beginnings of texts; those that begin others share a row with them.

  Attributes:
    tokens: [R, T] ids, whatever they are after the end of a row.
    rows: [n] where each prefix is.
    positions: [n] of its last token.
  """

  tokens: Int[np.ndarray, 'R T']
  rows: Int[np.ndarray, 'n']
  positions: Int[np.ndarray, 'n']


def make_prefixes(
    tokenizer: Tokenizer,
    sentences: Sequence[str] = SENTENCES,
    words: Sequence[int] = _WORDS,
) -> Prefixes:
  """Each sentence read after so many words."""
  texts = [
      tuple(tokenizer.encode(' '.join(sentence.split()[:n])))
      for sentence in sentences
      for n in words
  ]
  whole = [
      x
      for x in dict.fromkeys(texts)
      if not any(len(y) > len(x) and y[: len(x)] == x for y in texts)
  ]
  tokens = np.zeros((len(whole), max(map(len, whole))), np.int32)
  for row, ids in zip(tokens, whole, strict=True):
    row[: len(ids)] = ids
  rows = [
      next(i for i, y in enumerate(whole) if y[: len(x)] == x) for x in texts
  ]
  positions = [len(x) - 1 for x in texts]
  return Prefixes(tokens, np.asarray(rows), np.asarray(positions))
