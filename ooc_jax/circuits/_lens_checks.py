"""What a lens refuses."""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ooc_jax._errors import InputError
from ooc_jax.circuits._moments import TableMoments


def check_shapes(directions: Array, table: Array, mask: Array) -> None:
  """Refuses arrays that do not belong together."""
  if directions.ndim != 2 or directions.shape[1] != table.shape[1]:
    raise InputError(
        f'Directions of shape {directions.shape} do not fit a vocabulary table'
        f' of shape {table.shape}: both need the width of one residual stream.'
    )
  if mask.shape != (table.shape[0],) or mask.dtype != bool:
    raise InputError(
        f'The mask is {mask.dtype} {mask.shape}, not bool ({table.shape[0]},):'
        ' it says for every token whether it counts.'
    )


def check_count(k: int, mask: Array) -> None:
  """Refuses to look for more tokens than count; not under `jit`."""
  if isinstance(mask, jax.core.Tracer):
    return
  kept = int(mask.sum())
  if not 1 <= k <= kept:
    raise InputError(
        f'k={k} tokens were asked for, and {kept} of {mask.size} tokens count'
        ' (True in the mask); choose k between 1 and that.'
    )


def check_finite(
    moments: TableMoments, mask: Array, rows: Array | None = None
) -> None:
  """Refuses what has no largest logit; under `jit` there is nothing to see."""
  if any(isinstance(x, jax.core.Tracer) for x in (moments.norms, mask, rows)):
    return
  norms = moments.norms
  if not bool(jnp.isfinite(norms).all()):
    raise InputError(
        f'{int((~jnp.isfinite(norms)).sum())} rows of the vocabulary table are'
        ' not finite: load the weights again.'
    )
  if rows is None:
    return
  sizes = jnp.linalg.norm(rows, axis=1)
  largest = jnp.where(mask, norms, 0.0).max()
  bad = ~jnp.isfinite(sizes * largest)
  if bool(bad.any()):
    raise InputError(
        f'{int(bad.sum())} directions, the first of them'
        f' {int(jnp.argmax(bad))}, are not finite or so long that their logits'
        ' overflow float32: load them again, or scale them down.'
    )
