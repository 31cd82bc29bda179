"""What a head makes of a dictionary's directions: queries, keys and values.

A feature stands for the whole stream, so a pre-norm sees its direction only:
RMSNorm(d) ⊙ g = √D d/‖d‖ ⊙ g (the norm's epsilon is left out), and LayerNorm
the same of d less its mean. Biases of a feature alone are left out too, of the
norm and of the projections: they are constants of a head, whatever the feature,
and belong to the mean of the stream (`_on_bias`). In every role a feature is
its decoder row: what it writes is what later heads find.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np

from ooc_jax._errors import InputError
from ooc_jax.dictionaries import Dictionary
from ooc_jax.dictionaries import DictionarySite
from ooc_jax.model import Model
from ooc_jax.model import Site
from ooc_jax.model import norm_gain
from ooc_jax.model import parameter
from ooc_jax.model import rope_frequencies

_HIGHEST = jax.lax.Precision.HIGHEST


def attention_layer(site: DictionarySite) -> int | None:
  """The layer whose attention reads the stream with a site's directions.

  `resid_pre` of layer l feeds layer l; `resid_post`, and what the MLP or the
  attention of layer l writes, feed l + 1. None for `embedding`, which is in
  the stream of every layer, and for `resid_mid`, which no attention reads.
  """
  hook, layer = site.writes
  if hook in (Site.EMBEDDING, Site.RESID_MID):
    return None
  return layer if hook == Site.RESID_PRE else layer + 1


def check_attention_input(
    model: Model, dictionary: Dictionary, layer: int
) -> None:
  """Refuses a dictionary whose directions are not at the layer's input."""
  check_head(model, layer, 0)
  site = dictionary.site
  if dictionary.decoder.shape[1] != model.config.embed_dim:
    raise InputError(
        f'{dictionary.name} has directions of width'
        f' {dictionary.decoder.shape[1]}, and the model a residual stream of'
        f' {model.config.embed_dim}; load the dictionary of this model.'
    )
  if site.hook == 'embedding' or attention_layer(site) == layer:
    return
  read_by = attention_layer(site)
  fit = 'no layer' if read_by is None else f'layer {read_by}'
  wanted = f'resid_post of layer {layer - 1}' if layer else 'resid_pre'
  raise InputError(
      f'{dictionary.name} is at {site.hook} of layer {site.layer}, which is'
      f' read by the attention of {fit}, not of layer {layer}; give a'
      f' dictionary at {wanted}, or another layer.'
  )


def check_head(model: Model, layer: int, head: int) -> None:
  """Refuses a layer or a head that is not there."""
  config = model.config
  for name, value, number in (
      ('layer', layer, config.num_layers),
      ('head', head, config.num_heads),
  ):
    if not 0 <= value < number:
      raise InputError(
          f'There is no {name} {value}; the model has 0 to {number - 1}.'
      )


def check_offset(model: Model, layer: int, offset: int) -> None:
  """Refuses an offset at which the layer's queries see no key."""
  window = model.config.windows[layer]
  if offset < 0:
    raise InputError(
        f'offset is {offset}: a key stands at or before its query, so give the'
        ' distance between them, 0 or more.'
    )
  positions = model.config.positions
  if positions is not None and offset >= positions:
    raise InputError(
        f'offset is {offset}, and this model has {positions} positions; choose'
        ' a smaller one.'
    )
  if window is not None and offset >= window:
    raise InputError(
        f'offset is {offset}, and layer {layer} slides over {window} tokens;'
        f' choose an offset below {window}.'
    )


def head_queries(
    model: Model,
    directions: Float[Array, 'F D'],
    layer: int,
    head: int,
    *,
    offset: int = 0,
    biases: bool = False,
) -> Float[Array, 'F H']:
  """Queries of one head, turned by `offset` against keys at position 0.

  Args:
    model: With its attention and norms.
    directions: Of the residual stream; only their direction counts.
    layer: From 0.
    head: Query head, from 0.
    offset: Distance from the key back to the query, in tokens.
    biases: Whether `head_constants` are added, for directions that stand for
      the whole stream, its mean included.

  Raises:
    InputError: There is no such layer or head, or `offset` is outside the
      layer's window.
  """
  check_head(model, layer, head)
  check_offset(model, layer, offset)
  return rotate(
      model,
      layer,
      _projected(model, directions, layer, 'query', head, biases),
      offset,
  )


def head_keys(
    model: Model,
    directions: Float[Array, 'F D'],
    layer: int,
    head: int,
    *,
    biases: bool = False,
) -> Float[Array, 'F H']:
  """Keys that query head `head` meets, at position 0: of kv head n // G.

  Args:
    model: With its attention and norms.
    directions: Of the residual stream; only their direction counts.
    layer: From 0.
    head: Query head, from 0.
    biases: As of `head_queries`.

  Raises:
    InputError: There is no such layer or head.
  """
  check_head(model, layer, head)
  kv_head = head // model.config.group_size
  return _projected(model, directions, layer, 'key', kv_head, biases)


def head_values(
    model: Model, directions: Float[Array, 'F D'], layer: int, head: int
) -> Float[Array, 'F H']:
  """Values that query head `head` reads: of kv head n // G.

  Args:
    model: With its attention and norms.
    directions: Of the residual stream; only their direction counts.
    layer: From 0.
    head: Query head, from 0.

  Raises:
    InputError: There is no such layer or head.
  """
  check_head(model, layer, head)
  kv_head = head // model.config.group_size
  return _projected(model, directions, layer, 'value', kv_head)


def head_constants(
    model: Model, layer: int, head: int
) -> tuple[Float[Array, 'H'], Float[Array, 'H']] | None:
  """What is in every query and every key of a head, whatever the feature.

  The biases of the projections, and the pre-norm's bias through them; before
  they are rotated. `head_queries` and `head_keys` add them where they are told.

  Args:
    model: With its attention and norms.
    layer: From 0.
    head: Query head, from 0.

  Returns:
    That of the queries and that of the keys; None in a model without biases.

  Raises:
    InputError: There is no such layer or head.
  """
  check_head(model, layer, head)
  c = model.config
  if not (c.qkv_bias or c.layer_norm):
    return None
  return (
      _constant(model, layer, 'query', head),
      _constant(model, layer, 'key', head // c.group_size),
  )


def _constant(
    model: Model, layer: int, name: str, index: int
) -> Float[Array, 'H']:
  c, prefix = model.config, f'layer_{layer}'
  constant = jnp.zeros(c.head_dim, jnp.float32)
  if c.layer_norm:
    bias = parameter(model, f'{prefix}/attention_norm/bias')
    weight = parameter(model, f'{prefix}/attention/{name}')[:, index]
    constant += jnp.einsum(
        'd,dh->h',
        bias.astype(jnp.float32),
        weight.astype(jnp.float32),
        precision=_HIGHEST,
    )
  if c.qkv_bias:
    bias = parameter(model, f'{prefix}/attention/{name}_bias')[index]
    constant += bias.astype(jnp.float32)
  return constant


def rotation(
    model: Model, layer: int, offsets: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Cosine and sine [offsets, P] of rotary pairs, from float64 angles."""
  rope = model.config.rope_of(layer)
  frequencies = rope_frequencies(rope, model.config.head_dim)
  angles = np.asarray(offsets, np.float64)[:, None] * frequencies[None, :]
  return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def rotate(
    model: Model, layer: int, x: Float[Array, 'F H'], offset: int
) -> Float[Array, 'F H']:
  """Turns the P rotary pairs (i, i + P) by `offset` positions."""
  if offset == 0 or model.config.rope_of(layer) is None:
    return x
  cos, sin = (
      jnp.asarray(a) for a in rotation(model, layer, np.array([offset]))
  )
  first, second, rest = rotary_halves(x, cos.shape[1])
  return jnp.concatenate(
      [first * cos - second * sin, second * cos + first * sin, rest], axis=1
  )


def rotary_halves(
    x: Float[Array, 'F H'], pairs: int
) -> tuple[Float[Array, 'F P'], Float[Array, 'F P'], Float[Array, 'F rest']]:
  """First and second of every rotary pair, and the entries that do not turn."""
  first, second, rest = jnp.split(x, (pairs, 2 * pairs), axis=1)
  return first, second, rest


def _projected(
    model: Model,
    directions: Float[Array, 'F D'],
    layer: int,
    name: str,
    head: int,
    biases: bool = False,
) -> Float[Array, 'F H']:
  """The pre-norm's output times one head's weight, with its q/k norm."""
  prefix = f'layer_{layer}'
  weight = parameter(model, f'{prefix}/attention/{name}')[:, head]
  out = _normed_product(
      directions,
      norm_gain(model, f'{prefix}/attention_norm'),
      weight,
      centered=model.config.layer_norm,
  )
  if biases and (model.config.qkv_bias or model.config.layer_norm):
    out = out + _constant(model, layer, name, head)[None, :]
  if model.config.qk_norm and name != 'value':
    gain = norm_gain(model, f'{prefix}/attention/{name}_norm')
    out = _head_norm(out, gain, model.config.norm_eps)
  return out


@functools.partial(jax.jit, static_argnames='centered')
def _normed_product(
    directions: Float[Array, 'F D'],
    gain: Float[Array, 'D'],
    weight: Float[Array, 'D H'],
    *,
    centered: bool,
) -> Float[Array, 'F H']:
  """√D d/‖d‖ ⊙ g · W, without a second copy of directions; centred if asked."""
  d = directions.astype(jnp.float32)
  if centered:
    d = d - d.mean(axis=1, keepdims=True)
  # Of a row in units of its largest entry: squares neither over- nor underflow.
  largest = jnp.abs(d).max(axis=1, keepdims=True)
  largest = jnp.where(largest > 0, largest, 1.0)
  norm = largest * jnp.linalg.norm(d / largest, axis=1, keepdims=True)
  scale = math.sqrt(d.shape[1]) / jnp.where(norm > 0, norm, 1.0)
  weight = gain[:, None] * weight.astype(jnp.float32)
  return jnp.einsum('fd,dh->fh', d, weight, precision=_HIGHEST) * scale


@functools.partial(jax.jit, static_argnames='eps')
def _head_norm(
    x: Float[Array, 'F H'], gain: Float[Array, 'H'], eps: float
) -> Float[Array, 'F H']:
  mean_square = jnp.mean(jnp.square(x), axis=1, keepdims=True)
  return x * jax.lax.rsqrt(mean_square + eps) * gain[None, :]
