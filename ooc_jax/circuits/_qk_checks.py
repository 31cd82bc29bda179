"""Refuses queries and keys that would give a wrong answer, not an error.

Axis letters: Q queries, F keys, H head width.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np

from ooc_jax._errors import InputError

# Of a score: its square, summed over millions of partners, is a float32.
_LONGEST = 1e15


def check_settings(
    queries: Array,
    keys: Array,
    counts: Array | None,
    scale: float,
    softcap: float | None,
    k: int,
) -> None:
  """Refuses shapes and settings that do not fit."""
  shapes = f'queries {queries.shape} and keys {keys.shape}'
  if (
      queries.ndim != 2
      or keys.ndim != 2
      or queries.shape[1] != keys.shape[1]
      or 0 in queries.shape + keys.shape
  ):
    raise InputError(
        f'{shapes} do not fit; give the [F, H] vectors of one head for both.'
    )
  if not (np.isfinite(scale) and scale > 0):
    raise InputError(f'scale is {scale}, not above zero.')
  if softcap is not None and not (np.isfinite(softcap) and softcap > 0):
    raise InputError(f'softcap is {softcap}, neither None nor above zero.')
  kept = keys.shape[0]
  if counts is not None:
    if counts.shape != (kept,) or counts.dtype != bool:
      raise InputError(
          f'counts is {counts.dtype} {counts.shape}, not bool ({kept},): it'
          ' says for every key whether it counts.'
      )
    if not isinstance(counts, jax.core.Tracer):
      kept = int(np.asarray(counts).sum())
  if not 1 <= k <= min(kept, queries.shape[0]):
    raise InputError(
        f'k={k} partners were asked for, with {shapes} and {kept} keys that'
        ' count; choose k between 1 and the smaller of the numbers.'
    )


def check_finite(
    queries: Float[Array, 'Q H'], keys: Float[Array, 'F H']
) -> None:
  """Refuses what has no largest score; under `jit` there is nothing to see."""
  if isinstance(queries, jax.core.Tracer) or isinstance(keys, jax.core.Tracer):
    return
  longest = 1.0
  for name, x in (('queries', queries), ('keys', keys)):
    norms = jnp.linalg.norm(x, axis=1)
    longest *= float(norms.max())
    if not np.isfinite(longest):
      bad = ~jnp.isfinite(norms)
      raise InputError(
          f'{int(bad.sum())} {name}, the first of them {int(bad.argmax())}, are'
          ' not finite or so long that scores overflow float32: load'
          ' directions and weights again, or scale them down.'
      )
  if longest > _LONGEST:
    raise InputError(
        f'Scores could be as large as {longest:.1e}, and their squares overflow'
        ' float32: scale queries or keys down.'
    )
