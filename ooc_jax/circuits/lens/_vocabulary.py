"""The model's vocabulary tables, and which of their rows count.

A row counts where its token can be read alone and training touched it; which
tokens training hardly touched is found from the unembedding alone.
"""

from collections.abc import Sequence
import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float
import numpy as np

from ooc_jax._errors import InputError
from ooc_jax.circuits.numerics import RowBlocks
from ooc_jax.circuits.numerics import to_host
from ooc_jax.model import Model
from ooc_jax.model import norm_gain
from ooc_jax.model import parameter

UNDERTRAINED_COSINE = 0.6


def embedding_table(model: Model) -> Float[Array, 'V D']:
  """W_E, one row a token, without Gemma's scale √D.

  Raises:
    InputError: It was not loaded.
  """
  return parameter(model, 'embedding')


def unembedding_table(model: Model) -> Float[Array, 'V D']:
  """W_U, one row a token; the embedding where the model is tied.

  Raises:
    InputError: It was not loaded.
  """
  return parameter(model, 'embedding' if model.config.tied else 'unembedding')


def final_gain(model: Model) -> Float[Array, 'D']:
  """True gain of the final norm: 1 + weight in Gemma, weight in Llama.

  Raises:
    InputError: It was not loaded.
  """
  return norm_gain(model, 'final_norm')


def readable_mask(
    model: Model, *, undertrained_cosine: float | None = UNDERTRAINED_COSINE
) -> Bool[Array, 'V']:
  """True where a token counts: readable alone, and touched by training.

  Args:
    model: With its unembedding. Without a tokenizer every token counts.
    undertrained_cosine: The level of `undertrained_tokens`; None keeps
      under-trained tokens.

  Raises:
    InputError: The unembedding was not loaded.
  """
  if model.tokenizer is None:
    return jnp.ones(model.config.vocab_size, bool)
  readable = np.asarray(model.tokenizer.mask())
  if undertrained_cosine is None:
    return jnp.asarray(readable)
  flagged = undertrained_tokens(
      unembedding_table(model),
      jnp.asarray(model.tokenizer.unreachable()),
      cosine=undertrained_cosine,
  )
  return jnp.asarray(readable & ~to_host(flagged))


def undertrained_tokens(
    unembedding: Float[Array, 'V D'],
    seeds: Bool[Array | np.ndarray, 'V'],
    *,
    cosine: float = UNDERTRAINED_COSINE,
    block_size: int = 512,
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
  return undertrained_at(unembedding, seeds, (cosine,), block_size=block_size)[
      :, 0
  ]


def undertrained_at(
    unembedding: Float[Array, 'V D'],
    seeds: Bool[Array | np.ndarray, 'V'],
    cosines: Sequence[float],
    *,
    block_size: int = 512,
) -> Bool[Array, 'V n']:
  """`undertrained_tokens` at several levels, in the passes of one: three.

  Args:
    unembedding: See there.
    seeds: See there.
    cosines: The levels.
    block_size: See there.

  Returns:
    True where a token is under-trained at a level.

  Raises:
    InputError: See there.
  """
  for cosine in cosines:
    if not 0.0 <= cosine < 1.0:
      raise InputError(
          f'The cosine over which a token counts as under-trained is {cosine}:'
          ' give a number from 0 to below 1 (0.6 by default).'
      )
  blocks = RowBlocks.of(unembedding, block_size)
  near = jnp.tile(jnp.asarray(seeds)[:, None], len(cosines))
  every = jnp.ones((len(near), 1), bool)
  means = _mean_rows(unembedding, jnp.hstack([every, near]), blocks=blocks)
  mean, seen = means[0], means[1:]
  if not np.isfinite(mean).all():
    raise InputError(
        'The unembedding has rows that are not finite: load the weights again.'
    )
  levels = jnp.asarray(cosines, jnp.float32)
  for _ in range(2):  # Once from the seeds, once refined.
    # Without rows there is no direction, rather than that of minus the mean.
    directions = jnp.where(near.any(axis=0)[:, None], seen - mean[None], 0.0)
    near, seen = _near(unembedding, mean, directions, levels, blocks=blocks)
  return near


@functools.partial(jax.jit, static_argnames='blocks')
def _mean_rows(
    table: Float[Array, 'V D'], masks: Bool[Array, 'V n'], *, blocks: RowBlocks
) -> Float[Array, 'n D']:
  """Mean of the rows in each mask; zeros where there is none."""

  def step(totals, rows, start, fresh):
    chosen = blocks.read(masks, start) & fresh[None, :, None]
    return totals + _sums(chosen, rows.astype(jnp.float32))

  none = jnp.zeros((masks.shape[1], table.shape[1]), jnp.float32)
  return _over_counts(blocks.each(step, table, none), masks)


@functools.partial(jax.jit, static_argnames='blocks')
def _near(
    table: Float[Array, 'V D'],
    mean: Float[Array, 'D'],
    directions: Float[Array, 'n D'],
    cosines: Float[Array, 'n'],
    *,
    blocks: RowBlocks,
) -> tuple[Bool[Array, 'V n'], Float[Array, 'n D']]:
  """Rows whose cosine to a direction is over its level, and their mean."""
  lengths = jnp.sum(jnp.square(directions), axis=1)

  def step(carry, rows, start, fresh):
    near, totals = carry
    rows = rows.astype(jnp.float32)
    away = rows - mean[None, None]
    dots = jnp.einsum('SBD,nD->SBn', away, directions, precision='highest')
    squares = jnp.einsum('SBD,SBD->SB', away, away, precision='highest')
    norms = jnp.sqrt(squares[:, :, None] * lengths[None, None])
    # Not divided, so that a zero row or direction is near nothing.
    found = dots > cosines[None, None] * norms
    totals += _sums(found & fresh[None, :, None], rows)
    return blocks.write(near, found, start), totals

  start = jnp.zeros((len(table), len(directions)), bool), jnp.zeros_like(
      directions
  )
  near, totals = blocks.each(step, table, start)
  return near, _over_counts(totals, near)


def _sums(
    chosen: Bool[Array, 'S B n'], rows: Float[Array, 'S B D']
) -> Float[Array, 'n D']:
  chosen = chosen.astype(jnp.float32)
  return jnp.einsum('SBn,SBD->nD', chosen, rows, precision='highest')


def _over_counts(
    totals: Float[Array, 'n D'], masks: Bool[Array, 'V n']
) -> Float[Array, 'n D']:
  return totals / jnp.maximum(masks.sum(axis=0), 1).astype(jnp.float32)[:, None]
