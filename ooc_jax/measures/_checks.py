"""What several measures refuse, said in one way."""

from collections.abc import Collection
import difflib

import jax
import numpy as np

from ooc_jax._errors import InputError


def check_known(name: str, known: Collection[str], what: str) -> None:
  """Refuses a name that is not one of `known`, and suggests the nearest."""
  if name in known:
    return
  # With a cutoff of 0 there is always a nearest name to offer.
  (near,) = difflib.get_close_matches(name, list(known), n=1, cutoff=0.0)
  raise InputError(
      f'The {what} {name!r} is unknown: use one of {", ".join(known)} (the'
      f' nearest is {near!r}).'
  )


def check_num_top(num_top: int) -> None:
  """Refuses a top-k in which there is no pair."""
  if num_top < 2:
    raise InputError(
        f'The lens holds {num_top} top token(s) a feature and a measure over'
        ' pairs needs two: compute it with k of at least 2.'
    )


def check_top_ids(
    top_ids: jax.Array | np.ndarray, num_tokens: int, what: str
) -> None:
  """Refuses ids outside [0, num_tokens): Python and JAX would wrap or clamp."""
  check_num_top(top_ids.shape[1])
  if not top_ids.size:
    return
  # Two numbers; the ids themselves stay where they are.
  low, high = int(top_ids.min()), int(top_ids.max())
  if low < 0 or high >= num_tokens:
    raise InputError(
        f'The top ids run from {low} to {high} but there are {num_tokens}'
        f' {what}: take the lens and these from one model.'
    )
