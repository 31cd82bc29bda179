"""How alike the top tokens of a feature are as strings."""

from collections.abc import Sequence
import functools
from typing import Any

from jaxtyping import Array, Float, Int
import numpy as np
from rapidfuzz import process
from rapidfuzz.distance import Levenshtein

from ooc_jax._errors import InputError
from ooc_jax.circuits import to_host
from ooc_jax.measures import _measure
from ooc_jax.model import Model

_FEW = 4096  # Strings of which every pair is held: 64 MB.
_BLOCK = 1024  # Features whose pairs are looked up at a time.
_OVER_LONGER: Any = Levenshtein.normalized_distance


def model_strings(model: Model) -> Sequence[str]:
  """The canonical string of every token of a model, by id.

  Raises:
    InputError: The model has no tokenizer.
  """
  if model.tokenizer is None:
    raise InputError(
        'The model has no tokenizer and its top tokens no strings: load it from'
        ' a checkpoint with one, or use measures.lens_coherence.'
    )
  return model.tokenizer.canonical_strings()


def mean_pairwise_edit_distance(
    top_ids: Int[Array | np.ndarray, 'F k'], strings: Sequence[str]
) -> Float[np.ndarray, 'F']:
  """Mean over pairs of top tokens of edit distance over the longer length.

  The distance is Levenshtein's (insert, delete, substitute, each 1) between
  code points; a pair of empty strings has distance 0. 0 says that all strings
  are equal, 1 that no pair shares a letter in place. Computed on the host, in
  float64.

  Args:
    top_ids: The top tokens of each feature, in any order.
    strings: The canonical string of every token, by id.

  Returns:
    A number in [0, 1] per feature, float32.

  Raises:
    InputError: There is no pair (k < 2), or an id without a string.
  """
  return mean_pairwise_edit_distances(top_ids, strings, top_ids.shape[1:])[0]


def mean_pairwise_edit_distances(
    top_ids: Int[Array | np.ndarray, 'F k'],
    strings: Sequence[str],
    sizes: Sequence[int],
) -> Float[np.ndarray, 'sizes F']:
  """`mean_pairwise_edit_distance` of the first top tokens, at each size.

  Args:
    top_ids: The top tokens of each feature.
    strings: The canonical string of every token, by id.
    sizes: How many of the top tokens, at most k.

  Raises:
    InputError: There is no pair (a size under 2), or an id without a string.
  """
  _measure.check_top_ids(top_ids, len(strings), 'token strings')
  _measure.check_num_top(min(sizes))
  num_features, num_top = len(top_ids), max(sizes)
  ids_Fk = to_host(top_ids)[:, :num_top]
  means_SF = np.empty((len(sizes), num_features), np.float32)
  if len(strings) <= _FEW and num_features * num_top > len(strings):
    distances = _all_distances(tuple(strings)).ravel()
    # By the later token: the pairs of fewer tokens come first.
    later, earlier = np.tril_indices(num_top, -1)
    rising = sorted(set(sizes))
    counts = np.array([k * (k - 1) // 2 for k in rising])
    rows = [rising.index(k) for k in sizes]
    for f in range(0, num_features, _BLOCK):
      some = ids_Fk[f : f + _BLOCK].astype(np.intp)
      first = (some * len(strings)).take(later, axis=1)
      pairs = distances.take(first + some.take(earlier, axis=1))
      parts = np.add.reduceat(
          pairs, [0, *counts[:-1]], axis=1, dtype=np.float64
      )
      means = np.cumsum(parts, axis=1) / counts
      means_SF[:, f : f + _BLOCK] = means.T[rows]
    return means_SF
  for f, row in enumerate(ids_Fk.tolist()):
    words = [strings[i] for i in row]
    distances_kk = process.cdist(
        words,
        list(words),  # A copy, see `_all_distances`.
        scorer=_OVER_LONGER,
        dtype=np.float64,
    )
    for s, k in enumerate(sizes):
      means_SF[s, f] = distances_kk[:k, :k].sum() / (k * (k - 1))
  return means_SF


@functools.lru_cache(maxsize=1)
def _all_distances(strings: tuple[str, ...]) -> Float[np.ndarray, 'V V']:
  """Of every pair of strings: fewer than the pairs of many features."""
  return process.cdist(
      strings,
      # A copy: of a list with itself rapidfuzz computes each pair once, but one
      # by one, and else many words against one side by side.
      list(strings),
      scorer=_OVER_LONGER,
      dtype=np.float32,
      workers=-1,
  )


LEVENSHTEIN = _measure.Measure(
    name='levenshtein',
    description='mean pairwise edit distance over the longer length',
    low_is_coherent=True,
    compute=lambda lens, strings, space: mean_pairwise_edit_distance(
        lens.top_ids, strings
    ),
    compute_sizes=lambda lens, strings, space, sizes: (
        mean_pairwise_edit_distances(lens.top_ids, strings, sizes)
    ),
    label='edit distance',
    short_label='lev',
    limits=(0.0, 1.0),
)
