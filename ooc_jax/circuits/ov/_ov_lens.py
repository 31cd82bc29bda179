"""What a head writes when it attends to a feature, read at the vocabulary.

The low-rank order: a direction becomes a value of width H, and the rest of the
path, W_O through the final norm's gain and the unembedding, is one table
[V, H]. It costs F·V·H products, where a write of width D would cost F·V·D.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float

from ooc_jax._errors import InputError
from ooc_jax.circuits.lens import CONVENTIONS
from ooc_jax.circuits.lens import Lens
from ooc_jax.circuits.lens import final_gain
from ooc_jax.circuits.lens import readable_mask
from ooc_jax.circuits.lens import unembedding_lens
from ooc_jax.circuits.lens import unembedding_table
from ooc_jax.circuits.numerics import RowBlocks
from ooc_jax.circuits.numerics import divide
from ooc_jax.circuits.qk import check_attention_input
from ooc_jax.circuits.qk import check_head
from ooc_jax.circuits.qk import head_values
from ooc_jax.dictionaries import Dictionary
from ooc_jax.model import Model
from ooc_jax.model import norm_gain
from ooc_jax.model import parameter

_HIGHEST = jax.lax.Precision.HIGHEST
# Rows that are cast to float32 at a time.
_ROWS = 2048


def head_output(model: Model, layer: int, head: int) -> Float[Array, 'H D']:
  """W_O of one head, float32; in Gemma times the post-attention gain.

  The RMS that the post-attention norm divides by depends on all heads and on
  the text; it is left out, so in Gemma only directions and ratios within one
  layer have a meaning.

  Raises:
    InputError: There is no such layer or head, or a part was not loaded.
  """
  check_head(model, layer, head)
  prefix = f'layer_{layer}'
  weight = parameter(model, f'{prefix}/attention/output')[head]
  weight = weight.astype(jnp.float32)
  if model.config.post_norms:
    weight = weight * norm_gain(model, f'{prefix}/post_attention_norm')[None, :]
  return weight


def ov_lens(
    model: Model,
    dictionary: Dictionary,
    layer: int,
    head: int,
    k: int = 20,
    convention: str = 'normed',
    centered: bool = False,
    precision: str = 'auto',
    *,
    mask: Bool[Array, 'V'] | None = None,
    mesh: Mesh | None = None,
) -> Lens:
  """What a head says about the next token where it attends to a feature.

  The head reads v = (√D d/‖d‖ ⊙ g) W_V[n // G] and writes w = v W_O[n], in
  Gemma ⊙ the post-attention gain (its RMS is left out). `convention` says how
  w is read, as in `output_lens`: 'raw' w·W_U, 'folded' (w ⊙ g_final)·W_U,
  'normed' (√D w/‖w‖ ⊙ g_final)·W_U, 'cosine' between w ⊙ g_final and the rows
  of W_U. So under 'normed' every write counts the same, however small: under
  'raw' and 'folded' its size counts.

  Args:
    model: With its attention, norms and unembedding.
    dictionary: At the layer's input, see `attention_statistics`.
    layer: From 0.
    head: Query head, from 0.
    k: How many tokens to keep at either end.
    convention: See above.
    centered: Whether the mean kept row of W_U is subtracted first.
    precision: See `unembedding_lens`.
    mask: Tokens that count; None is `readable_mask(model)`.
    mesh: See `unembedding_lens`.

  Returns:
    The lens. A write of zero has zero logits.

  Raises:
    InputError: A setting is unknown, or model and dictionary do not fit.
  """
  check_attention_input(model, dictionary, layer)
  if convention not in CONVENTIONS:
    raise InputError(
        f'convention {convention!r} is unknown; choose from {CONVENTIONS}.'
    )
  mask = readable_mask(model) if mask is None else mask
  values = head_values(model, dictionary.decoder, layer, head)
  output = head_output(model, layer, head)
  gain = final_gain(model)
  if model.config.layer_norm and convention != 'raw':
    output = less_mean(output)
  if convention == 'normed':
    values = values * _inverse_norms(values, output) * math.sqrt(len(gain))
  elif convention == 'cosine':
    values = values * _inverse_norms(values, output * gain[None, :])
  read = output if convention == 'raw' else output * gain[None, :]
  table = read_output(
      unembedding_table(model), read, unit_rows=convention == 'cosine'
  )
  if centered:
    table = _centred(table, mask)
  return unembedding_lens(
      values,
      jnp.ones(values.shape[1], jnp.float32),
      table,
      mask,
      k=k,
      precision=precision,
      softcap=None if convention == 'cosine' else model.config.final_softcap,
      mesh=mesh,
  )


def less_mean(output: Float[Array, 'H D']) -> Float[Array, 'H D']:
  """Such that what is written has mean 0, as a LayerNorm reads it."""
  return output - output.mean(axis=1, keepdims=True)


def read_output(
    rows: Float[Array, 'V D'],
    output: Float[Array, 'H D'],
    *,
    unit_rows: bool = False,
) -> Float[Array, 'V H']:
  """rows · outputᵀ in float32, without a float32 copy of the rows.

  Args:
    rows: Of any float dtype; may be sharded over its rows.
    output: What a head writes from each of its H coordinates.
    unit_rows: Whether rows are divided by their norms; one of zeros stays.
  """
  if rows.dtype == jnp.float32 or isinstance(rows, jax.core.Tracer):
    return _whole(rows, output, unit_rows=unit_rows)
  blocks = RowBlocks.of(rows, _ROWS)
  return _by_blocks(rows, output, unit_rows=unit_rows, blocks=blocks)


@jax.jit
def _inverse_norms(
    values: Float[Array, 'F H'], output: Float[Array, 'H D']
) -> Float[Array, 'F 1']:
  """1 / ‖v W_O‖, and 0 where that is 0."""
  # W_Oᵀ = Q R with orthonormal Q, so ‖v W_O‖ = ‖v Rᵀ‖: no writes [F, D].
  small = jnp.linalg.qr(output.T, mode='r')
  writes = jnp.einsum('fh,ih->fi', values, small, precision=_HIGHEST)
  norm = jnp.linalg.norm(writes, axis=1, keepdims=True)
  return divide(1.0, norm)


@jax.jit
def _centred(
    table: Float[Array, 'V H'], mask: Bool[Array, 'V']
) -> Float[Array, 'V H']:
  """The table less the mean of the rows that count."""
  kept = jnp.where(mask[:, None], table, 0.0).sum(axis=0, keepdims=True)
  return table - kept / jnp.maximum(mask.sum(), 1).astype(jnp.float32)


def _product(rows: Array, output: Array, unit_rows: bool) -> Array:
  rows = rows.astype(jnp.float32)
  out = jnp.einsum(
      '...d,hd->...h', rows, output, precision=jax.lax.Precision.HIGHEST
  )
  if unit_rows:
    norm = jnp.linalg.norm(rows, axis=-1, keepdims=True)
    out = divide(out, norm)
  return out


_whole = functools.partial(jax.jit, static_argnames='unit_rows')(_product)


@functools.partial(jax.jit, static_argnames=('unit_rows', 'blocks'))
def _by_blocks(rows, output, *, unit_rows: bool, blocks: RowBlocks):

  def step(out, block, start, fresh):
    del fresh  # A row that is met again has the product that it had.
    return blocks.write(out, _product(block, output, unit_rows), start)

  none = jnp.zeros((rows.shape[0], output.shape[0]), jnp.float32)
  return blocks.each(step, rows, none)
