"""Dictionaries that need no download: neurons, tokens, random directions."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ooc_jax._errors import InputError
from ooc_jax.dictionaries._dictionary import Dictionary
from ooc_jax.dictionaries._dictionary import DictionarySite
from ooc_jax.model import Model
from ooc_jax.model import norm_gain
from ooc_jax.model import parameter

RANDOM_SIZE = 4096


def mlp_dictionary(model: Model, layer: int) -> Dictionary:
  """The MLP neurons of a layer, F = M.

  A neuron writes its row of W_down; in Gemma times the gain of the
  post-feedforward norm, whose RMS depends on the input and is dropped. It
  reads its column of W_gate (of W_up without gates) times the gain of the norm
  before the MLP, and is open where that is above zero. Where that norm is a
  LayerNorm the column is less its mean, which the norm takes from the stream.
  Biases are left out: how much they count depends on the length of the input.

  Args:
    model: With its MLPs and norms.
    layer: From 0.

  Raises:
    InputError: There is no such layer, or a part was not loaded.
  """
  _check_layer(model, layer)
  prefix = f'layer_{layer}'
  decoder = parameter(model, f'{prefix}/mlp/down').astype(jnp.float32)
  if model.config.post_norms:
    decoder = decoder * norm_gain(model, f'{prefix}/post_mlp_norm')[None, :]
  name = 'gate' if model.config.gated else 'up'
  gate = parameter(model, f'{prefix}/mlp/{name}').astype(jnp.float32)
  encoder = gate.T * norm_gain(model, f'{prefix}/mlp_norm')[None, :]
  if model.config.layer_norm:
    encoder = encoder - encoder.mean(axis=1, keepdims=True)
  return _plain(
      encoder,
      decoder,
      DictionarySite(layer, 'mlp_neuron'),
      f'mlp/layer_{layer}',
  )


def token_dictionary(model: Model) -> Dictionary:
  """The token embeddings as the stream receives them, F = V.

  Encoder and decoder are both s · W_E, s = √D in Gemma and 1 in Llama. Rows
  are not centred.

  Args:
    model: With its embedding.

  Raises:
    InputError: The embedding was not loaded.
  """
  rows = parameter(model, 'embedding').astype(jnp.float32)
  rows = rows * model.config.embedding_scale
  return _plain(rows, rows, DictionarySite(0, 'embedding'), 'tokens')


def random_dictionary(
    model: Model, layer: int, *, size: int = RANDOM_SIZE, seed: int = 0
) -> Dictionary:
  """Isotropic random unit directions, F = `size`: the baseline.

  Args:
    model: Gives the width.
    layer: Another layer draws other directions.
    size: How many.
    seed: Of the draw.

  Raises:
    InputError: There is no such layer, or `size` is below 1.
  """
  _check_layer(model, layer)
  if size < 1:
    raise InputError(f'A random dictionary of {size} directions was asked for.')
  key = jax.random.fold_in(jax.random.key(seed), layer)
  shape = (size, model.config.embed_dim)
  rows = jax.random.normal(key, shape, jnp.float32)
  rows = rows / jnp.linalg.norm(rows, axis=-1, keepdims=True)
  return _plain(
      rows, rows, DictionarySite(layer, 'resid_pre'), f'random/layer_{layer}'
  )


def _plain(
    encoder: Float[Array, 'F D'],
    decoder: Float[Array, 'F D'],
    site: DictionarySite,
    name: str,
) -> Dictionary:
  """A dictionary without biases that opens at zero."""
  F, D = decoder.shape
  return Dictionary(
      encoder=encoder,
      decoder=decoder,
      encoder_bias=jnp.zeros(F, jnp.float32),
      decoder_bias=jnp.zeros(D, jnp.float32),
      threshold=jnp.zeros(F, jnp.float32),
      site=site,
      name=name,
  )


def _check_layer(model: Model, layer: int) -> None:
  last = model.config.num_layers - 1
  if not 0 <= layer <= last:
    raise InputError(f'There is no layer {layer}; the model has 0 to {last}.')
