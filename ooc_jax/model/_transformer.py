"""Every family's text models as one flax.linen module."""

import functools

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from ooc_jax.model._config import ModelConfig
from ooc_jax.model._layers import MLP
from ooc_jax.model._layers import Attention
from ooc_jax.model._layers import norm_of
from ooc_jax.model._layers import product
from ooc_jax.model._layers import softcap
from ooc_jax.model._taps import Site
from ooc_jax.model._taps import Tap
from ooc_jax.model._taps import no_tap


class Layer(nn.Module):
  """Attention and MLP, each read through a norm and added to the stream.

  Where they are parallel, both read the stream before the layer, and there is
  no stream between them to tap.
  """

  config: ModelConfig
  layer: int
  cached: int | None = None

  @nn.compact
  def __call__(
      self,
      x: Float[Array, 'B T D'],
      positions: Int[Array, 'B T'],
      *,
      tap: Tap = no_tap,
  ) -> Float[Array, 'B T D']:
    c, i = self.config, self.layer

    norm = functools.partial(norm_of, c)
    x = tap(Site.RESID_PRE, i, x)
    normed = norm('attention_norm')(x)
    attention = Attention(c, i, self.cached, name='attention')
    out = attention(normed, positions, tap=tap)
    if c.post_norms:
      out = norm('post_attention_norm')(out)
    out = tap(Site.ATTN_OUT, i, out)
    middle = x if c.parallel else tap(Site.RESID_MID, i, x + out)
    normed = norm('mlp_norm')(middle, functools.partial(tap, Site.MLP_IN, i))
    x = x + out if c.parallel else middle
    neurons = functools.partial(tap, Site.MLP_NEURON, i)
    written = MLP(c, name='mlp')(normed, neurons)
    if c.post_norms:
      written = norm('post_mlp_norm')(written)
    return tap(Site.RESID_POST, i, x + tap(Site.MLP_OUT, i, written))


class Transformer(nn.Module):
  """A language model. Its `params` collection is what `load_model` returns.

  Attributes:
    config: The hyperparameters.
    dtype: Of the residual stream and the products; norms, attention weights
      and logits are float32 always. Parameters keep the dtype they have.
    cached: How many positions the collection `cache` holds keys and values
      of, or None without one. `apply` then needs `mutable=['cache']`, and
      begins the collection where it is not given.
  """

  config: ModelConfig
  dtype: DTypeLike = jnp.float32
  cached: int | None = None

  @nn.compact
  def __call__(
      self,
      tokens: Int[Array, 'B T'],
      start: Int[Array, ''] | int = 0,
      *,
      tap: Tap = no_tap,
  ) -> Float[Array, 'B T V']:
    """Logits of the next token, float32.

    Args:
      tokens: Token ids; positions count from `start`.
      start: Position of the first token: over 0 only where the ones before it
        are in the cache.
      tap: Reads or replaces activations; see `run_with_taps`.

    Returns:
      Logits after the final softcap, where the model has one.
    """
    c = self.config
    init = nn.initializers.normal(c.embed_dim**-0.5)
    shape = (c.vocab_size, c.embed_dim)
    embedding = self.param('embedding', init, shape)
    x = embedding[tokens].astype(self.dtype)
    # Rounded to the compute dtype first, as the reference code does.
    x = x * jnp.asarray(c.embedding_scale, self.dtype)
    positions = jnp.broadcast_to(
        start + jnp.arange(tokens.shape[1], dtype=jnp.int32)[None],
        tokens.shape,
    )
    if c.positions is not None:
      table = self.param('positions', init, (c.positions, c.embed_dim))
      x = x + table[positions].astype(self.dtype)
    for i in range(c.num_layers):
      layer = Layer(c, i, self.cached, name=f'layer_{i}')
      x = layer(x, positions, tap=tap)
    x = norm_of(c, 'final_norm')(x)
    table = embedding if c.tied else self.param('unembedding', init, shape)
    logits = product('BTD,VD->BTV', x, table.astype(self.dtype))
    return softcap(logits, c.final_softcap)
