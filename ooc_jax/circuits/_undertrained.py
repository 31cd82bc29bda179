"""Tokens that training hardly touched, found from the unembedding alone."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float
import numpy as np

from ooc_jax._errors import InputError
from ooc_jax.circuits._row_blocks import RowBlocks
from ooc_jax.circuits._row_blocks import jit_step
from ooc_jax.circuits._row_blocks import mean_row


@jit_step
def _mark_near(near_V, x_VD, mean_D, direction_D, cosine, start, *, blocks):
  """Marks the rows of a block whose cosine to the direction is over a level."""
  rows_SBD = blocks.read(x_VD, start).astype(jnp.float32) - mean_D[None, None]
  dot_SB = jnp.einsum('SBD,D->SB', rows_SBD, direction_D, precision='highest')
  squares_SB = jnp.sum(jnp.square(rows_SBD), axis=2)
  norms_SB = jnp.sqrt(squares_SB * jnp.sum(jnp.square(direction_D)))
  # Not divided, so that a zero row or direction is near nothing.
  return blocks.write(near_V, dot_SB > cosine * norms_SB, start)


def undertrained_tokens(
    unembedding: Float[Array, 'V D'],
    seeds: Bool[Array | np.ndarray, 'V'],
    *,
    cosine: float = 0.6,
    block_size: int = 4096,
) -> Bool[Array, 'V']:
  """Flags the tokens whose unembedding row looks like that of an unseen token.

  After Land and Bartolo (2024, arXiv 2405.05417): rows of tokens that were
  never a target all moved alike, away from every output. With rows centred on
  the mean over all V, r is the mean row of the seeds, refined once as the mean
  of the rows whose cosine to it is over `cosine`; flagged are the rows whose
  cosine to the refined r is over `cosine`.

  Args:
    unembedding: One row per token, of any float type; may be sharded.
    seeds: Tokens that no text holds: reserved, unused, control characters.
      Without any, nothing is flagged. A seed is not flagged for being one;
      where most seeds are trained after all, they share no direction and
      nothing is flagged either.
    cosine: The setting above, in [0, 1).
    block_size: Rows at a time, on each device; [block_size, D] is held.

  Returns:
    True where a token is under-trained.

  Raises:
    InputError: `cosine` is out of range, or a row is not finite.
  """
  if not 0.0 <= cosine < 1.0:
    raise InputError(
        f'The cosine over which a token counts as under-trained is {cosine}:'
        ' give a number from 0 to below 1 (0.6 by default).'
    )
  blocks = RowBlocks.of(unembedding, block_size)
  near_V = jnp.asarray(seeds)
  mean_D = mean_row(unembedding, jnp.ones_like(near_V), blocks)
  if not np.isfinite(mean_D).all():
    raise InputError(
        'The unembedding has rows that are not finite: load the weights again.'
    )
  level = jnp.float32(cosine)
  for _ in range(2):  # Once from the seeds, once refined.
    # Without rows there is no direction, rather than that of minus the mean.
    direction_D = jnp.where(
        near_V.any(), mean_row(unembedding, near_V, blocks) - mean_D, 0.0
    )
    near_V = jnp.zeros_like(near_V)
    for start, _ in blocks.starts():
      near_V = _mark_near(
          near_V, unembedding, mean_D, direction_D, level, start, blocks=blocks
      )
  return near_V
