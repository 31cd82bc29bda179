"""From the space of a site to the residual stream of a model."""

import jax
import jax.numpy as jnp
import numpy as np

from ooc_jax._errors import InputError
from ooc_jax.dictionaries._dictionary import Dictionary
from ooc_jax.dictionaries.formats import RawDictionary
from ooc_jax.model import Model
from ooc_jax.model import norm_gain
from ooc_jax.model import parameter


def to_stream(raw: RawDictionary, name: str, model: Model | None) -> Dictionary:
  """The dictionary with every decoder row a direction of the residual stream.

  Only two sites need the model's weights. What is written to the heads'
  outputs is multiplied by W_O, head by head, and in Gemma by the gain of the
  norm after the attention; the RMS of that norm depends on the input and is
  dropped, so that lengths (not directions) are relative. And an encoder that
  expects the norm before the MLP with its gain takes the gain into itself.

  Args:
    raw: As its files have it.
    name: For results and errors.
    model: Whose dictionary it is; without one, widths are not compared.

  Returns:
    The dictionary, of NumPy or JAX arrays.

  Raises:
    InputError: Model and dictionary do not fit, or the map needs a model.
  """
  site = raw.site
  if model is not None:
    _check_fits(raw, name, model)
  encoder, decoder = raw.encoder, raw.decoder
  encoder_bias, decoder_bias = raw.encoder_bias, raw.decoder_bias
  if site.hook == 'attn_z' and not raw.in_stream:
    if model is None:
      raise InputError(
          f'{name} writes to the outputs of attention heads, and needs the'
          " model's output weights to be in the residual stream; give model=,"
          " loaded with the parts 'attention' and 'norms'."
      )
    matrix = _from_heads(model, site.layer)
    decoder = _times(jnp.asarray(decoder), matrix)
    decoder_bias = _times(jnp.asarray(decoder_bias)[None, :], matrix)[0]
    if model.config.output_bias:  # Of what the block writes in any case.
      path = f'layer_{site.layer}/attention/output_bias'
      decoder_bias = decoder_bias + parameter(model, path).astype(jnp.float32)
  if raw.reads_gain and encoder is not None:
    if model is None:
      raise InputError(
          f'{name} reads the stream after the norm before the MLP, and needs'
          " its gain; give model=, loaded with the part 'norms'."
      )
    gain = np.asarray(norm_gain(model, f'layer_{site.layer}/mlp_norm'))
    stored = encoder.astype(np.float32)
    encoder = stored * gain[None, :]
    if model.config.layer_norm:  # Whose bias every input has.
      bias = parameter(model, f'layer_{site.layer}/mlp_norm/bias')
      encoder_bias = encoder_bias + stored @ np.asarray(bias, np.float32)
  centred = model is not None and model.config.layer_norm
  if centred and site.hook == 'mlp_in' and encoder is not None:
    # The norm takes the mean from the stream; here the encoder's rows lose it.
    encoder = encoder.astype(np.float32)
    encoder = encoder - encoder.mean(axis=1, keepdims=True)
  return Dictionary(
      encoder=encoder,
      decoder=decoder,
      encoder_bias=encoder_bias,
      decoder_bias=decoder_bias,
      threshold=raw.threshold,
      site=site,
      name=name if raw.name is None else raw.name,
      top_k=raw.top_k,
      no_encoder=raw.no_encoder,
      files=raw.files,
  )


def _from_heads(model: Model, layer: int) -> jax.Array:
  """W_O [N·H, D], heads one after the other, times the gain after it."""
  prefix = f'layer_{layer}'
  output = parameter(model, f'{prefix}/attention/output').astype(jnp.float32)
  matrix = output.reshape(-1, output.shape[-1])
  if model.config.post_norms:
    gain = norm_gain(model, f'{prefix}/post_attention_norm')
    matrix = matrix * gain[None, :]
  return matrix


def _times(rows: jax.Array, matrix: jax.Array) -> jax.Array:
  return jnp.einsum(
      'FZ,ZD->FD',
      rows.astype(jnp.float32),
      matrix,
      precision=jax.lax.Precision.HIGHEST,
  )


def _check_fits(raw: RawDictionary, name: str, model: Model) -> None:
  """Refuses a dictionary that cannot be of the model.

  Args:
    raw: As its files have it.
    name: For the error.
    model: Whose it should be.

  Raises:
    InputError: Its layer or a width is none of the model's; both are named.
  """
  c, site = model.config, raw.site
  whole = f'{c.family} model of {c.num_layers} layers'
  layer = max(site.layer, site.writes[1])
  if layer >= c.num_layers:
    raise InputError(
        f'{name} is of layer {layer}, and the {whole} has 0 to'
        f' {c.num_layers - 1}; give the model that it was trained on.'
    )
  stream = ('residual stream', 'is', c.embed_dim)
  heads = ('attention heads', 'are', c.num_heads * c.head_dim)
  reads = writes = stream
  if site.hook == 'attn_z':
    reads = heads
    writes = stream if raw.in_stream else heads
  for side, (what, verb, width) in (
      (raw.encoder, reads),
      (raw.decoder, writes),
  ):
    if side is not None and side.shape[1] != width:
      raise InputError(
          f'{name} is {side.shape[1]} wide at the hook {site.hook!r}, and the'
          f' {what} of the {whole} {verb} {width} wide; give the model that it'
          ' was trained on, or its hook=.'
      )
