"""Features on the mean of the stream, as attention meets them.

Alone, a feature stands for the whole stream. A stream of text is mostly its
mean, and a query or key is of mean and features together. So with b the mean
(the decoder bias of a dictionary of the stream, or an estimate),
  x = b/‖b‖ + length · d/‖d‖,
and x is read as any direction is: its length does not count, nor that of b or
d. Without a mean (b = 0) x is the feature alone. In a model whose heads have
biases (GPT-2, Qwen2) x has them, which a feature alone has not, so there the
two differ even at b = 0.

Scores on the mean predict those of a text much better than scores alone, but
most of that is the mean with itself, a course over distance that is the same
for all features. On two small models, from layer 1 on and at the true distance,
the rank correlation with true scores is 0.67 and 0.57 for the mean with itself,
0.76 and 0.72 with the features on it, and 0.10 and 0.12 for features alone. At
layer 0, where the mean is little of the stream, features alone are ahead.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np

from ooc_jax._errors import InputError
from ooc_jax.circuits.numerics import compensated_dots
from ooc_jax.circuits.qk._head_vectors import head_keys
from ooc_jax.circuits.qk._head_vectors import head_queries
from ooc_jax.model import Model
from ooc_jax.model import softcap

# Of true scores on text, 0.3 to 0.5 predict equally well, and 1 less.
LENGTH = 0.5


class BiasScores(NamedTuple):
  """Scores of features with the mean of the stream, after the softcap.

  With q and k of `attention_statistics`, R the rotation by the offset and b the
  mean: scale · q(d_i) · R k(b), scale · q(b) · R k(d_i) and scale · q(b) · R
  k(b). Where features are read on the mean, x_i stands for d_i.

  Attributes:
    query: [F] of each feature as a query, the mean as the key.
    key: [F] of each feature as a key, the mean as the query.
    own: Of the mean with itself.
  """

  query: Float[Array, 'F']
  key: Float[Array, 'F']
  own: Float[Array, '']


def on_bias(
    model: Model,
    directions: Float[Array, 'F D'],
    bias: Float[Array | np.ndarray, 'D'],
    length: float = LENGTH,
) -> Float[Array, 'F D']:
  """b/‖b‖ + length · d/‖d‖ for each direction; a zero b or d is left out.

  Where the model has LayerNorm, b and d are less their means before they are
  measured: the norm would take these from their sum.

  Args:
    model: Says which norm it has.
    directions: Of the residual stream, d.
    bias: Mean of that stream, b.
    length: Of a feature, that of the mean being 1.

  Raises:
    InputError: `bias` is no finite direction of this model, or `length` is not
      above 0.
  """
  check_bias(model, bias, length)
  return _on_bias(
      directions,
      jnp.asarray(bias, jnp.float32),
      jnp.float32(length),
      centered=model.config.layer_norm,
  )


def check_bias(
    model: Model,
    bias: Float[Array | np.ndarray, 'D'] | None,
    length: float | None,
) -> None:
  """Refuses a mean or a length that cannot be; either may be left out."""
  if length is not None and not (np.isfinite(length) and length > 0):
    raise InputError(f'length is {length}; a feature needs one above 0.')
  if bias is None:
    if length is not None:
      raise InputError(
          f'length={length} is of features on the mean of the stream, and there'
          ' is no mean; give bias=.'
      )
    return
  width = model.config.embed_dim
  traced = isinstance(bias, jax.core.Tracer)
  if bias.shape != (width,) or not (traced or np.isfinite(bias).all()):
    raise InputError(
        f'bias has shape {bias.shape}; give the mean of the residual stream,'
        f' {width} finite numbers.'
    )


def bias_scores(
    model: Model,
    bias: Float[Array | np.ndarray, 'D'],
    layer: int,
    head: int,
    queries: Float[Array, 'F H'],
    keys: Float[Array, 'F H'],
    *,
    offset: int = 0,
) -> BiasScores:
  """What queries and keys of a head score with the mean of the stream.

  Args:
    model: With its attention and norms.
    bias: Mean of the stream.
    layer: From 0.
    head: Query head, from 0.
    queries: Of that head, turned by `offset`.
    keys: Of that head.
    offset: Tokens from key to query.
  """
  mean = jnp.asarray(bias, jnp.float32)[None]
  query = head_queries(model, mean, layer, head, offset=offset, biases=True)
  key = head_keys(model, mean, layer, head, biases=True)
  found = _dots(queries, key), _dots(keys, query), _dots(query, key)[0]
  c = model.config
  return BiasScores(
      *(softcap(x * c.attention_scale, c.attention_softcap) for x in found)
  )


@jax.jit
def _dots(x: Float[Array, 'F H'], y: Float[Array, '1 H']) -> Float[Array, 'F']:
  # Exact, for a sum's last bits would depend on how it is split over devices.
  return compensated_dots(x, jnp.broadcast_to(y, x.shape)).value


@functools.partial(jax.jit, static_argnames='centered')
def _on_bias(
    directions: Float[Array, 'F D'],
    bias: Float[Array, 'D'],
    length: Float[Array, ''],
    *,
    centered: bool,
) -> Float[Array, 'F D']:
  mean = _unit(bias[None], centered)
  return mean + length * _unit(directions.astype(jnp.float32), centered)


def _unit(x: Float[Array, 'n D'], centered: bool) -> Float[Array, 'n D']:
  """Rows of length 1; in units of their largest entry no square overflows."""
  if centered:
    x = x - x.mean(axis=1, keepdims=True)
  largest = jnp.abs(x).max(axis=1, keepdims=True)
  x = x / jnp.where(largest > 0, largest, 1.0)
  norm = jnp.linalg.norm(x, axis=1, keepdims=True)
  return x / jnp.where(norm > 0, norm, 1.0)
