"""The upper part of a forward pass, from a stream that is given.

What is changed at a layer acts on the layers above it only, so the ones below
need not be computed again. Where the stream enters may be traced: one compiled
program serves every layer.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ooc_jax.model._config import ModelConfig
from ooc_jax.model._layers import norm_of
from ooc_jax.model._layers import product
from ooc_jax.model._layers import softcap
from ooc_jax.model._taps import Tap
from ooc_jax.model._taps import no_tap
from ooc_jax.model._transformer import Layer


def run_layers(
    config: ModelConfig,
    params: Any,
    x: Float[Array, 'B T D'],
    first: Int[Array, ''] | int,
    *,
    tap: Tap = no_tap,
) -> Float[Array, 'B T D']:
  """The stream after the last layer.

  Args:
    config: Of the model.
    params: Its parameters.
    x: The stream before layer `first`, all its positions from 0; its dtype is
      that of the computation.
    first: The first layer to run, which may be traced; L runs none.
    tap: As of `Transformer`; it must not keep what it is given, as a layer is
      traced apart.
  """
  positions = jnp.broadcast_to(
      jnp.arange(x.shape[1], dtype=jnp.int32)[None], x.shape[:2]
  )
  for i in range(config.num_layers):

    def through(y: Array, i: int = i) -> Array:
      own = {'params': params[f'layer_{i}']}
      out = Layer(config, i).apply(own, y, positions, tap=tap)
      assert isinstance(out, Array)  # Flax says Any or a tuple.
      return out

    # A branch that is not taken costs nothing.
    x = jax.lax.cond(first <= i, through, lambda y: y, x)
  return x


def stream_logits(
    config: ModelConfig, params: Any, x: Float[Array, 'B T D']
) -> Float[Array, 'B T V']:
  """Float32 logits of a stream after the last layer, with the final softcap.

  Args:
    config: Of the model.
    params: Its parameters.
    x: The stream; any positions of it.
  """
  norm = norm_of(config, 'final_norm')
  normed = norm.apply({'params': params['final_norm']}, x)
  assert isinstance(normed, Array)
  table = params['embedding' if config.tied else 'unembedding']
  logits = product('BTD,VD->BTV', normed, table.astype(x.dtype))
  return softcap(logits, config.final_softcap)
