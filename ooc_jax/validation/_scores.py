"""How far a list of tokens says what a feature does.

A readout names tokens for each feature; what is found on text or under
steering names tokens, too. Scores are shares of one list in the other, and
their null gives every feature the lists of the other features.
"""

from jaxtyping import Float, Int
import numpy as np

NO_TOKEN = -1  # Fills up a list.


def share_in(
    lists: Int[np.ndarray, 'F n'], readout: Int[np.ndarray, 'F k']
) -> Float[np.ndarray, 'F']:
  """Input score: share of a list, with its repeats, that a readout names.

  Args:
    lists: Of each feature the tokens at which it is largest (A).
    readout: The tokens (T) that are read from weights.

  Returns:
    I(T) = |{t in A: t in T}| / |A|; NaN of an empty list.
  """
  named = (lists[:, :, None] == readout[:, None, :]).any(axis=2)
  return _ratio((named & (lists != NO_TOKEN)).sum(axis=1), lists)


def share_of(
    raised: Int[np.ndarray, 'F k'], readout: Int[np.ndarray, 'F n']
) -> Float[np.ndarray, 'F']:
  """Output score: how many of k tokens that rose a readout names, over k.

  Args:
    raised: The tokens whose rank rises most (S), without repeats.
    readout: The tokens (T); repeats count once.

  Returns:
    O(T) = |S ∩ T| / k; NaN where nothing is known to rise, or T is empty.
  """
  scores = share_in(raised, readout)
  return np.where((readout != NO_TOKEN).any(axis=1), scores, np.nan)


def permuted(
    lists: Int[np.ndarray, 'F n'], readout: Int[np.ndarray, 'F k']
) -> Float[np.ndarray, 'F']:
  """The same score with the readouts of all other features: its exact mean.

  A permutation gives a feature any other's tokens, so the mean over all
  permutations without fixed points is the mean over the other features.

  Args:
    lists: As A or S above.
    readout: As T above; a feature without tokens is no other feature.

  Returns:
    [F] means; NaN of an empty list, or without another feature.
  """
  has = (readout != NO_TOKEN).any(axis=1)
  # In how many readouts a token is, at its place; the last place is of -1.
  size = int(max(lists.max(initial=0), readout.max(initial=0))) + 2
  counts = np.zeros(size, np.int64)
  for row in readout:
    counts[np.unique(row)] += 1
  counts[NO_TOKEN] = 0
  others = has.sum() - has
  named = counts[lists].sum(axis=1).astype(np.float64)
  length = (lists != NO_TOKEN).sum(axis=1)
  own = np.where(has, np.nan_to_num(share_in(lists, readout)) * length, 0.0)
  scores = np.full(len(lists), np.nan)
  known = (others > 0) & (length > 0)
  np.divide(named - own, others * length, out=scores, where=known)
  return scores


def steering_scores(
    logits: Float[np.ndarray, 'V'], readouts: Int[np.ndarray, 'G k']
) -> Float[np.ndarray, 'G']:
  """(1 - min rank / V) · max p over the tokens of each lens, after steering.

  Of Arad et al. (2025, arXiv 2505.20063); a rank is the number of tokens with
  a larger logit.

  Args:
    logits: Of the next token.
    readouts: Tokens of each of G lenses.
  """
  best = logits[readouts].max(axis=1)
  order = np.sort(logits)
  ranks = logits.size - np.searchsorted(order, best, side='right')
  total = np.exp(logits - order[-1]).sum(dtype=np.float64)
  p = np.exp((best - order[-1]).astype(np.float64)) / total
  return (1 - ranks / logits.size) * p


def _ratio(
    counts: Int[np.ndarray, 'F'], lists: Int[np.ndarray, 'F n']
) -> Float[np.ndarray, 'F']:
  length = (lists != NO_TOKEN).sum(axis=1)
  scores = np.full(len(lists), np.nan)
  np.divide(counts, length, out=scores, where=length > 0)
  return scores
