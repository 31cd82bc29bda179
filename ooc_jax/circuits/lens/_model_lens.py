"""The logit lens of a dictionary, and its mirror at the embedding."""

import functools
import math

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float

from ooc_jax._errors import InputError
from ooc_jax.circuits.lens._lens import Lens
from ooc_jax.circuits.lens._lens import use_screen
from ooc_jax.circuits.lens._moments import TableMoments
from ooc_jax.circuits.lens._unembedding_lens import check_shapes
from ooc_jax.circuits.lens._unembedding_lens import lens_of_rows
from ooc_jax.circuits.lens._vocabulary import embedding_table
from ooc_jax.circuits.lens._vocabulary import final_gain
from ooc_jax.circuits.lens._vocabulary import readable_mask
from ooc_jax.circuits.lens._vocabulary import unembedding_table
from ooc_jax.circuits.numerics import device_of
from ooc_jax.circuits.numerics import divide
from ooc_jax.circuits.numerics import mesh_of
from ooc_jax.circuits.numerics import scaled_rows
from ooc_jax.circuits.numerics import times_power
from ooc_jax.dictionaries import Dictionary
from ooc_jax.model import Model

CONVENTIONS = ('raw', 'folded', 'normed', 'cosine')


def lens_precision(
    precision: str, model: Model, mesh: Mesh | None = None
) -> str:
  """'exact' or 'screened': what 'auto' is for a model where it lies.

  Args:
    precision: See `unembedding_lens`.
    model: With its unembedding.
    mesh: See `unembedding_lens`.

  Raises:
    InputError: There is no such precision.
  """
  table = unembedding_table(model)
  device = device_of(mesh or mesh_of(table), table)
  screened = use_screen(precision, device, table.dtype, table.shape[1])
  return 'screened' if screened else 'exact'


def output_lens(
    model: Model,
    dictionary: Dictionary,
    k: int = 20,
    convention: str = 'normed',
    centered: bool = False,
    precision: str = 'auto',
    kernel: str = 'xla',
    *,
    spread: float | None = None,
    both_ends: bool = False,
    bottom: bool = True,
    mask: Bool[Array, 'V'] | None = None,
    moments: TableMoments | None = None,
    mesh: Mesh | None = None,
) -> Lens:
  """What each feature predicts: its decoder through norm and unembedding.

  Args:
    model: With its unembedding and norms.
    dictionary: Its decoder must write to the residual stream.
    k: How many tokens to keep at either end.
    convention: How a direction is read (√D is over the width D, g is the
      final gain): 'raw' d·W_U, 'folded' (d⊙g)·W_U, 'normed'
      (√D d/‖d‖ ⊙ g)·W_U, 'cosine' between d⊙g and the rows of W_U. A final
      LayerNorm takes the mean of d from it first, but under 'raw'; the norm's
      bias, which is the same for all features, is left out.
    centered: Whether the mean kept row of W_U is subtracted first.
    precision: See `unembedding_lens`.
    kernel: See `unembedding_lens`.
    spread: See `unembedding_lens`.
    both_ends: See `unembedding_lens`.
    bottom: See `unembedding_lens`.
    mask: Tokens that count; None is `readable_mask(model)`.
    moments: `table_moments` of the unembedding and mask; not used by 'cosine'.
    mesh: See `unembedding_lens`.

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
      kernel=kernel,
      spread=spread,
      both_ends=both_ends,
      bottom=bottom,
      moments=moments,
      mesh=mesh,
      softcap=None if convention == 'cosine' else model.config.final_softcap,
      less_mean=model.config.layer_norm,
  )


def input_lens(
    model: Model,
    dictionary: Dictionary,
    k: int = 20,
    convention: str = 'normed',
    centered: bool = False,
    precision: str = 'auto',
    kernel: str = 'xla',
    *,
    spread: float | None = None,
    both_ends: bool = False,
    bottom: bool = True,
    mask: Bool[Array, 'V'] | None = None,
    moments: TableMoments | None = None,
    mesh: Mesh | None = None,
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
    kernel: See `unembedding_lens`.
    spread: See `unembedding_lens`.
    both_ends: See `unembedding_lens`.
    bottom: See `unembedding_lens`.
    mask: Tokens that count; None is `readable_mask(model)`.
    moments: `table_moments` of the embedding and mask; not used by 'cosine'.
    mesh: See `unembedding_lens`.

  Raises:
    InputError: A setting is unknown, or model and dictionary do not fit.
  """
  dictionary.check_reads_stream()
  site = dictionary.site
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
      kernel=kernel,
      spread=spread,
      both_ends=both_ends,
      bottom=bottom,
      moments=moments,
      mesh=mesh,
      softcap=None,
      scale=model.config.embedding_scale,
      threshold=threshold,
  )


@functools.partial(
    jax.jit, static_argnames=('convention', 'scale', 'less_mean')
)
def _rows(
    directions: Float[Array, 'F D'],
    gain: Float[Array, 'D'],
    threshold: Float[Array, 'F'] | None,
    convention: str,
    scale: float,
    less_mean: bool,
) -> tuple[Float[Array, 'F D'], Float[Array, 'F'] | None]:
  """What is multiplied with the table, and thresholds in the same units."""
  d = directions.astype(jnp.float32)
  g = gain[None, :]
  # Lengths are out of the way first: their squares may be beyond float32.
  row, exponent, norm = scaled_rows(d, centered=less_mean)
  if convention == 'raw':
    return d * scale, threshold
  if convention == 'folded':
    d = times_power(row, exponent[:, None]) if less_mean else d
    return d * g * scale, threshold
  if convention == 'normed':
    factor = divide(math.sqrt(d.shape[1]), norm)
    if threshold is not None:
      threshold = times_power(threshold * factor, -exponent)
    return row * factor[:, None] * g * scale, threshold
  rows = row * g
  return rows * divide(1.0, jnp.linalg.norm(rows, axis=-1))[:, None], None


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
    kernel: str,
    spread: float | None,
    both_ends: bool,
    bottom: bool,
    moments: TableMoments | None,
    mesh: Mesh | None,
    softcap: float | None,
    scale: float = 1.0,
    threshold: Float[Array, 'F'] | None = None,
    less_mean: bool = False,
) -> Lens:
  """The lens under a named convention; `scale` belongs to the table's rows."""
  if convention not in CONVENTIONS:
    raise InputError(
        f'convention {convention!r} is unknown; choose from {CONVENTIONS}.'
    )
  check_shapes(directions, table, mask)
  rows, threshold = _rows(
      directions, gain, threshold, convention, scale, less_mean
  )
  return lens_of_rows(
      rows,
      table,
      mask,
      k=k,
      precision=precision,
      kernel=kernel,
      softcap=softcap,
      spread=spread,
      both_ends=both_ends,
      bottom=bottom,
      unit_rows=convention == 'cosine',
      centered=centered,
      threshold=threshold,
      moments=moments,
      mesh=mesh,
  )
