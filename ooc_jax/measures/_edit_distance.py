"""How alike the top tokens of a feature are as strings."""

from collections.abc import Sequence
from typing import Any

from jaxtyping import Array, Float, Int
import numpy as np
from rapidfuzz import process
from rapidfuzz.distance import Levenshtein

from ooc_jax.measures import _checks

# Any: its overloads are not those that the stubs of `cdist` ask for.
_SCORER: Any = Levenshtein.normalized_distance


def mean_pairwise_edit_distance(
    top_ids: Int[Array | np.ndarray, 'F k'], strings: Sequence[str]
) -> Float[np.ndarray, 'F']:
  """Mean over pairs of top tokens of edit distance over the longer length.

  The distance is Levenshtein's (insert, delete, substitute, each 1) between
  code points; a pair of empty strings has distance 0. 0 says that all strings
  are equal, 1 that no pair shares a letter in place.

  Args:
    top_ids: The top tokens of each feature, in any order.
    strings: The canonical string of every token, by id.

  Returns:
    A number in [0, 1] per feature, float64.

  Raises:
    InputError: There is no pair (k < 2), or an id without a string.
  """
  ids = np.asarray(top_ids)
  _checks.check_top_ids(ids, len(strings), 'token strings')
  num_top = ids.shape[1]
  totals = np.empty(ids.shape[0])
  for feature, row in enumerate(ids.tolist()):
    words = [strings[token] for token in row]
    # One small matrix a feature: faster than all pairs in one list, because
    # each string is prepared once, and nothing larger than k x k is held.
    # Passing the same list twice lets rapidfuzz compute one triangle only.
    totals[feature] = process.cdist(
        words, words, scorer=_SCORER, dtype=np.float64
    ).sum()
  return totals / (num_top * (num_top - 1))
