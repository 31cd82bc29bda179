"""A dictionary: a set of directions in one model's activation space."""

from collections.abc import Mapping
import dataclasses
import operator
from typing import Any

import flax
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np

from ooc_jax._errors import InputError
from ooc_jax.model import Site

_HIGHEST = jax.lax.Precision.HIGHEST
# Site -> what an encoder there reads: the residual stream itself, the stream
# divided by its RMS, or something that is no direction of the stream.
_READS: Mapping[str, str] = {
    Site.RESID_PRE: 'stream',
    Site.RESID_MID: 'stream',
    Site.RESID_POST: 'stream',
    Site.EMBEDDING: 'stream',
    Site.MLP_IN: 'normed',
    Site.MLP_NEURON: 'normed',
    Site.ATTN_Z: 'elsewhere',
    Site.ATTN_OUT: 'elsewhere',
    Site.MLP_OUT: 'elsewhere',
}
HOOKS = tuple(map(str, _READS))
# Where what is read at a site is written, if not there.
_WRITES = {
    Site.MLP_IN: Site.MLP_OUT,
    Site.MLP_NEURON: Site.MLP_OUT,
    Site.ATTN_Z: Site.ATTN_OUT,
}


@dataclasses.dataclass(frozen=True)
class DictionarySite:
  """Where a dictionary's directions were taken.

  The hooks, by what they read and write. Every decoder is in the residual
  stream: what does not write there is mapped when it is loaded, or refused.
    resid_pre, resid_mid, resid_post: the stream before the layer, between
      attention and MLP, and after the layer. `resid_post` of layer l feeds
      the attention of layer l + 1.
    embedding: the stream before layer 0, Gemma's scale √D included.
    mlp_in: reads the stream before the MLP divided by its RMS, without the
      norm's gain; writes what the MLP adds (transcoders).
    mlp_neuron: reads and writes as `mlp_in` does, with the gain in the encoder.
    mlp_out, attn_out: read and write what the block adds to the stream, in
      Gemma after the post-norm.
    attn_z: reads the heads' outputs [N·H] before W_O; writes after it.

  A transcoder may read the stream itself and write what the MLP adds, and a
  cross-layer transcoder writes to later layers than the one it reads.

  Attributes:
    layer: Of the model, from 0; where it reads.
    hook: A `ooc_jax.Site`, or its name; where it reads.
    out_hook: Where it writes; None is where what `hook` reads is written.
    out_layer: Layer that it writes to; None is `layer`.
  """

  layer: int
  hook: str
  out_hook: str | None = None
  out_layer: int | None = None

  @property
  def reads(self) -> tuple[Site, int]:
    """Site and layer of what the encoder reads."""
    return Site(self.hook), self.layer

  @property
  def writes(self) -> tuple[Site, int]:
    """Site and layer of what the decoder writes."""
    hook = self.out_hook or _WRITES.get(Site(self.hook), self.hook)
    return Site(hook), self.layer if self.out_layer is None else self.out_layer

  @property
  def tap(self) -> tuple[Site, int]:
    """Where a forward pass has what is read and written here.

    Raises:
      InputError: What is read at this hook is written elsewhere.
    """
    if self.hook == Site.EMBEDDING:
      return Site.RESID_PRE, 0
    if self.reads != self.writes:
      raise InputError(
          f'A dictionary of the hook {self.hook!r} reads at one place and'
          ' writes at another; choose one of'
          f' {", ".join(x for x in HOOKS if x not in _WRITES)}.'
      )
    return self.reads

  @property
  def reads_stream(self) -> bool:
    """Whether encoder rows are directions of the residual stream.

    Where not, a contraction of the encoder with embedding or attention
    weights has no meaning.
    """
    return _READS[self.hook] != 'elsewhere'

  @property
  def reads_normed(self) -> bool:
    """Whether `encode` expects the stream divided by its RMS.

    Then a pre-activation of the raw stream says which side of zero it is on
    (where the bias is zero), and nothing about a threshold.
    """
    return _READS[self.hook] == 'normed'


def checked_hook(hook: str | None) -> str | None:
  """`hook`, which is one of `HOOKS`, or None.

  Raises:
    InputError: It is something else.
  """
  if hook is not None and hook not in HOOKS:
    raise InputError(f'hook={hook!r} must be one of {", ".join(HOOKS)}.')
  return hook


def checked_layer(layer: Any) -> int | None:
  """`layer` as an int, or None.

  Raises:
    InputError: It is no whole number from 0.
  """
  try:
    number = None if layer is None else operator.index(layer)
  except TypeError:
    number = -1
  if number is not None and (number < 0 or isinstance(layer, bool)):
    raise InputError(f'layer={layer!r} must be a whole number from 0.')
  return number


@flax.struct.dataclass
class Dictionary:
  """F directions to explain, mapped to the residual stream.

  A feature fires at x with a = pre · 1[pre > threshold], where
  pre = x · encoder + encoder_bias. R is the width that the encoder reads: D,
  but N·H at the hook 'attn_z'. Directions without an encoder are read by what
  they write alone: through the unembedding and by attention.

  Attributes:
    encoder: [F, R] what each feature reads; None where that is not known.
    decoder: [F, D] what each feature writes.
    encoder_bias: [F].
    decoder_bias: [D].
    threshold: [F]; 0 is a plain ReLU.
    site: Layer and hook.
    name: For results and figures.
    top_k: Of the features over their threshold only the k largest fire, or
      None.
    no_encoder: Why there is no encoder, where the files have one that has no
      form out of context; or None.
    files: Paths of the files that were read, for provenance.
  """

  # Any: JAX also fills its pytrees with shapes, shardings and batches.
  encoder: Float[Array, 'F R'] | Any
  decoder: Float[Array, 'F D'] | Any
  encoder_bias: Float[Array, 'F'] | Any
  decoder_bias: Float[Array, 'D'] | Any
  threshold: Float[Array, 'F'] | Any
  site: DictionarySite = flax.struct.field(pytree_node=False)
  name: str = flax.struct.field(pytree_node=False)
  top_k: int | None = flax.struct.field(pytree_node=False, default=None)
  no_encoder: str | None = flax.struct.field(pytree_node=False, default=None)
  files: tuple[str, ...] = flax.struct.field(pytree_node=False, default=())

  @property
  def size(self) -> int:
    """F, how many features."""
    return self.decoder.shape[0]

  @property
  def reads_stream(self) -> bool:
    """Whether there is an encoder, of directions of the residual stream."""
    return self.encoder is not None and self.site.reads_stream

  def check_reads_stream(self) -> None:
    """Refuses a dictionary whose encoder meets no weights of the stream.

    Raises:
      InputError: There is no encoder, or it is of another space.
    """
    self._check_encoder()
    if not self.site.reads_stream:
      raise InputError(
          f'{self.name} reads {self.site.hook} of layer {self.site.layer},'
          ' which is not the residual stream, so its encoder cannot be'
          ' contracted with what the stream holds; read its decoder'
          ' (output_lens, attention_statistics).'
      )

  def _check_encoder(self) -> None:
    if self.encoder is None and self.no_encoder is not None:
      raise InputError(
          f'{self.name} is read without its encoder: {self.no_encoder}; read'
          ' its decoder (output_lens, attention_statistics).'
      )
    if self.encoder is None:
      raise InputError(
          f'{self.name} has no encoder, so what its features read is not'
          ' known; give encoder=, or read its decoder (output_lens,'
          ' attention_statistics).'
      )

  def encode(
      self, x: Float[Array | np.ndarray, '*batch R']
  ) -> Float[Array, '*batch F']:
    """Activations of the features: pre where pre > threshold, else 0.

    Args:
      x: [*, R] what `site` reads.

    Raises:
      InputError: The width is another one, or there is no encoder.
    """
    self._check_encoder()
    pre = _times(x, self.encoder, 'FR', 'encoder')
    pre = pre + _as_row(self.encoder_bias, pre.ndim)
    fires = pre > _as_row(self.threshold, pre.ndim)
    if self.top_k is not None:
      _, best = jax.lax.top_k(pre, self.top_k)
      among = jnp.zeros(pre.shape, bool)
      fires &= jnp.put_along_axis(among, best, True, axis=-1, inplace=False)
    return jnp.where(fires, pre, 0.0)

  def decode(
      self, a: Float[Array | np.ndarray, '*batch F']
  ) -> Float[Array, '*batch D']:
    """What features of activations `a` write: a · decoder + decoder_bias.

    The skip connection that some transcoders have beside their features is no
    part of a dictionary, and so not of this.

    Args:
      a: [*, F] activations.

    Raises:
      InputError: The width is another one.
    """
    out = _times(a, self.decoder, 'RF', 'decoder')
    return out + _as_row(self.decoder_bias, out.ndim)


def _times(x: Any, matrix: Array, axes: str, name: str) -> Array:
  """x times a matrix over its axis R, in float32 at highest precision."""
  x = jnp.asarray(x)
  width = matrix.shape[axes.index('R')]
  if x.ndim < 1 or x.shape[-1] != width:
    raise InputError(
        f'The {name} takes vectors of width {width}, not an array of shape'
        f' {x.shape}.'
    )
  return jnp.einsum(
      f'...R,{axes}->...F',
      x.astype(jnp.float32),
      matrix.astype(jnp.float32),
      precision=_HIGHEST,
  )


def _as_row(x: Array, ndim: int) -> Array:
  return x.astype(jnp.float32).reshape((1,) * (ndim - 1) + (-1,))
