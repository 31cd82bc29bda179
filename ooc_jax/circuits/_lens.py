"""The logit lens of a dictionary, and its mirror at the embedding.

`unembedding_lens` is the array-level core; `output_lens` and `input_lens` take
a model and a dictionary.
"""

import dataclasses
import math
from typing import Any

import flax
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int
import numpy as np

from ooc_jax._errors import InputError
from ooc_jax.circuits._stream import Reading
from ooc_jax.circuits._stream import mean_kept_row
from ooc_jax.circuits._stream import stream
from ooc_jax.circuits._tables import embedding_table
from ooc_jax.circuits._tables import final_gain
from ooc_jax.circuits._tables import readable_mask
from ooc_jax.circuits._tables import unembedding_table
from ooc_jax.dictionaries import Dictionary
from ooc_jax.model import Model
from ooc_jax.model import softcap as apply_softcap

CONVENTIONS = ('raw', 'folded', 'normed', 'cosine')
PRECISIONS = ('exact',)


@flax.struct.dataclass
class Lens:
  """What each feature does to (or reads from) the vocabulary.

  Logits are before any final softcap; statistics are over the kept tokens.

  Attributes:
    top_ids: [F, k] token ids of the largest logits, largest first; equal
      logits by rising id.
    top_logits: [F, k] their logits.
    bottom_ids: [F, k] token ids of the smallest logits, smallest first.
    bottom_logits: [F, k] their logits.
    mean: [F] of the logits.
    std: [F] population standard deviation.
    skewness: [F] third standardised moment; 0 where std is 0.
    kurtosis: [F] fourth standardised moment less 3; 0 where std is 0.
    entropy: [F] nats, of the softmax over the kept tokens, with the final
      softcap where the model has one.
    top_mass: [F] probability of the top k in that softmax.
    top_entropy: [F] nats, of the top k renormalised.
    active_share: [F] share of kept tokens over the feature's threshold, or
      None where that has no meaning.
    mask: [V] the tokens that count.
  """

  # Any: JAX also fills its pytrees with shapes, shardings and batches.
  top_ids: Int[Array, 'F k'] | Any
  top_logits: Float[Array, 'F k'] | Any
  bottom_ids: Int[Array, 'F k'] | Any
  bottom_logits: Float[Array, 'F k'] | Any
  mean: Float[Array, 'F'] | Any
  std: Float[Array, 'F'] | Any
  skewness: Float[Array, 'F'] | Any
  kurtosis: Float[Array, 'F'] | Any
  entropy: Float[Array, 'F'] | Any
  top_mass: Float[Array, 'F'] | Any
  top_entropy: Float[Array, 'F'] | Any
  active_share: Float[Array, 'F'] | Any
  mask: Bool[Array, 'V'] | Any


def unembedding_lens(
    directions: Float[Array | np.ndarray, 'F D'],
    gain: Float[Array | np.ndarray, 'D'],
    unembedding: Float[Array | np.ndarray, 'V D'],
    mask: Bool[Array | np.ndarray, 'V'],
    *,
    k: int,
    precision: str = 'exact',
    softcap: float | None = None,
) -> Lens:
  """Logits (directions ⊙ gain) · unembeddingᵀ, reduced as they are made.

  Rows of `directions` are used as given, times `gain`; the caller normalises.
  May be called under `jit`.

  Args:
    directions: What each feature writes; any float dtype.
    gain: True gain of the final norm (1 + weight in Gemma).
    unembedding: One row a token; any float dtype.
    mask: True where a token counts.
    k: How many tokens to keep at either end; at most the tokens that count.
    precision: 'exact': float32 at highest precision.
    softcap: Final softcap c of c·tanh(x/c), applied inside the softmax only.

  Raises:
    InputError: Shapes do not fit, `k` is out of range, or `precision` unknown.
  """
  directions, gain, unembedding, mask = map(
      jnp.asarray, (directions, gain, unembedding, mask)
  )
  _check(directions, unembedding, mask, k, precision)
  if gain.shape != (directions.shape[1],):
    raise InputError(
        f'gain has shape {gain.shape}, directions {directions.shape}; the gain'
        ' needs one number for each column of directions.'
    )
  rows = directions.astype(jnp.float32) * gain.astype(jnp.float32)[None, :]
  zero = jnp.zeros(rows.shape[0], jnp.float32)
  reading = Reading(shift=zero, threshold=zero)
  lens = _lens(rows, unembedding, None, mask, reading, k, softcap)
  return dataclasses.replace(lens, active_share=None)


def output_lens(
    model: Model,
    dictionary: Dictionary,
    k: int = 20,
    convention: str = 'normed',
    centered: bool = False,
    precision: str = 'exact',
    *,
    mask: Bool[Array, 'V'] | None = None,
) -> Lens:
  """What each feature predicts: its decoder through norm and unembedding.

  Args:
    model: With its unembedding and norms.
    dictionary: Its decoder must write to the residual stream.
    k: How many tokens to keep at either end.
    convention: How a direction is read (√D is over the width D, g is the
      final gain): 'raw' d·W_U, 'folded' (d⊙g)·W_U, 'normed'
      (√D d/‖d‖ ⊙ g)·W_U, 'cosine' between d⊙g and the rows of W_U.
    centered: Whether the mean kept row of W_U is subtracted first.
    precision: See `unembedding_lens`.
    mask: Tokens that count; None is `readable_mask(model)`.

  Returns:
    The lens. A zero direction has zero logits.

  Raises:
    InputError: A setting is unknown, or model and dictionary do not fit.
  """
  return _model_lens(
      dictionary.decoder,
      final_gain(model),
      unembedding_table(model),
      readable_mask(model) if mask is None else mask,
      k=k,
      convention=convention,
      centered=centered,
      precision=precision,
      softcap=None if convention == 'cosine' else model.config.final_softcap,
  )


def input_lens(
    model: Model,
    dictionary: Dictionary,
    k: int = 20,
    convention: str = 'normed',
    centered: bool = False,
    precision: str = 'exact',
    *,
    mask: Bool[Array, 'V'] | None = None,
) -> Lens:
  """Which tokens make each feature fire: the embedding through its encoder.

  Logits are encoder · (s · W_E), s = √D in Gemma and 1 in Llama. No norm
  stands between the embedding and the encoder, so the gain is 1 ('folded' is
  'raw') and there is no softcap. `active_share` is the share of tokens whose
  pre-activation, encoder · (s · W_E) + bias, is strictly above the feature's
  threshold, whatever the convention; it is None under 'cosine', which drops
  the norms it depends on, and for transcoders, which divide by an RMS first.

  Args:
    model: With its embedding; the default mask needs its unembedding too.
    dictionary: Its encoder must read the residual stream.
    k: How many tokens to keep at either end.
    convention: As in `output_lens`.
    centered: Whether the mean kept row of s · W_E is subtracted first.
    precision: See `unembedding_lens`.
    mask: Tokens that count; None is `readable_mask(model)`.

  Raises:
    InputError: A setting is unknown, or model and dictionary do not fit.
  """
  site = dictionary.site
  if not site.reads_stream:
    raise InputError(
        f'{dictionary.name} reads {site.hook} of layer {site.layer}, which is'
        ' not the residual stream, so its encoder cannot be contracted with'
        ' the embedding; use output_lens, which reads its decoder.'
    )
  threshold = dictionary.threshold - dictionary.encoder_bias
  if site.reads_normed and site.hook != 'mlp_neuron':
    # It divides by an RMS that is not known here; a neuron opens at 0, which
    # no division moves.
    threshold = None
  return _model_lens(
      dictionary.encoder,
      jnp.ones(model.config.embed_dim, jnp.float32),
      embedding_table(model),
      readable_mask(model) if mask is None else mask,
      k=k,
      convention=convention,
      centered=centered,
      precision=precision,
      softcap=None,
      scale=model.config.embedding_scale,
      threshold=threshold,
  )


def _model_lens(
    directions: Float[Array, 'F D'],
    gain: Float[Array, 'D'],
    table: Float[Array, 'V D'],
    mask: Bool[Array, 'V'],
    *,
    k: int,
    convention: str,
    centered: bool,
    precision: str,
    softcap: float | None,
    scale: float = 1.0,
    threshold: Float[Array, 'F'] | None = None,
) -> Lens:
  """The lens under a named convention; `scale` belongs to the table's rows."""
  if convention not in CONVENTIONS:
    raise InputError(
        f'convention {convention!r} is unknown; choose from {CONVENTIONS}.'
    )
  _check(directions, table, mask, k, precision)
  d = directions.astype(jnp.float32)
  g = gain[None, :]
  norm = jnp.linalg.norm(d, axis=-1)
  length = math.sqrt(d.shape[1])
  row_scale, factor = None, jnp.ones_like(norm)
  if convention == 'raw':
    rows = d * scale
  elif convention == 'folded':
    rows = d * g * scale
  elif convention == 'normed':
    factor = _divide(length, norm)
    rows = d * factor[:, None] * g * scale
  else:
    rows = d * g
    rows *= _divide(1.0, jnp.linalg.norm(rows, axis=-1))[:, None]
    row_scale = _inverse_row_norms(table)
  zero = jnp.zeros_like(norm)
  reading = Reading(
      shift=(rows @ mean_kept_row(table, row_scale, mask))
      if centered
      else zero,
      threshold=zero if threshold is None else threshold * factor,
  )
  lens = _lens(rows, table, row_scale, mask, reading, k, softcap)
  if threshold is None or row_scale is not None:
    lens = dataclasses.replace(lens, active_share=None)
  return lens


def _lens(
    rows: Float[Array, 'F D'],
    table: Float[Array, 'V D'],
    row_scale: Float[Array, 'V'] | None,
    mask: Bool[Array, 'V'],
    reading: Reading,
    k: int,
    softcap: float | None,
) -> Lens:
  """Turns the totals of a pass into statistics."""
  totals, centre, weight = stream(
      rows, table, row_scale, mask, reading, k=k, softcap=softcap
  )
  n = mask.sum().astype(jnp.float32)
  m1, m2, m3, m4 = totals.power_sums / n
  variance = jnp.maximum(m2 - m1**2, 0.0)
  third = m3 - 3 * m1 * m2 + 2 * m1**3
  fourth = m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4
  shifted = apply_softcap(totals.top[0], softcap) - totals.peak[:, None]
  terms = jnp.exp(shifted)
  top_sum = terms.sum(axis=-1)
  return Lens(
      top_ids=totals.top[1],
      top_logits=totals.top[0],
      bottom_ids=totals.bottom[1],
      bottom_logits=totals.bottom[0],
      mean=centre + m1 / weight - reading.shift,
      std=jnp.sqrt(variance) / weight,
      skewness=_divide(third, variance**1.5),
      kurtosis=jnp.where(variance > 0, _divide(fourth, variance**2) - 3, 0.0),
      # -Σ p log p with p = exp(y - peak) / partition.
      entropy=jnp.log(totals.partition) - totals.weighted / totals.partition,
      top_mass=top_sum / totals.partition,
      top_entropy=jnp.log(top_sum) - (terms * shifted).sum(axis=-1) / top_sum,
      active_share=totals.active.astype(jnp.float32) / n,
      mask=mask,
  )


def _divide(x, y: Float[Array, 'F']) -> Float[Array, 'F']:
  """x / y, and 0 where y is 0."""
  return jnp.where(y > 0, x / jnp.where(y > 0, y, 1.0), 0.0)


@jax.jit
def _inverse_row_norms(table: Float[Array, 'V D']) -> Float[Array, 'V']:
  squares = jnp.square(table.astype(jnp.float32)).sum(axis=-1)
  return _divide(1.0, jnp.sqrt(squares))


def _check(directions, table, mask, k: int, precision: str) -> None:
  """Refuses what would give a wrong answer instead of an error."""
  if precision not in PRECISIONS:
    raise InputError(
        f'precision {precision!r} is unknown; choose from {PRECISIONS}.'
    )
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
  if isinstance(mask, jax.core.Tracer):
    return
  kept = int(np.asarray(mask).sum())
  if not 1 <= k <= kept:
    raise InputError(
        f'k={k} tokens were asked for, and {kept} of {mask.size} tokens count'
        ' (True in the mask); choose k between 1 and that.'
    )
