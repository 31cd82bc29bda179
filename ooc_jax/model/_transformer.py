"""Every family's text models as one flax.linen module."""

import functools

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from ooc_jax.model._config import ModelConfig
from ooc_jax.model._layers import MLP
from ooc_jax.model._layers import Attention
from ooc_jax.model._layers import RMSNorm
from ooc_jax.model._layers import product
from ooc_jax.model._layers import softcap
from ooc_jax.model._taps import Site
from ooc_jax.model._taps import Tap
from ooc_jax.model._taps import no_tap


class Layer(nn.Module):
  """Attention and MLP, each read through a norm and added to the stream."""

  config: ModelConfig
  layer: int

  @nn.compact
  def __call__(
      self,
      x: Float[Array, 'B T D'],
      positions: Int[Array, 'B T'],
      *,
      tap: Tap = no_tap,
  ) -> Float[Array, 'B T D']:
    c, i = self.config, self.layer

    def norm(name: str) -> RMSNorm:
      return RMSNorm(c.norm_eps, c.norm_offset, name=name)

    x = tap(Site.RESID_PRE, i, x)
    normed = norm('attention_norm')(x)
    out = Attention(c, i, name='attention')(normed, positions, tap=tap)
    if c.post_norms:
      out = norm('post_attention_norm')(out)
    x = tap(Site.RESID_MID, i, x + tap(Site.ATTN_OUT, i, out))
    normed = norm('mlp_norm')(x, functools.partial(tap, Site.MLP_IN, i))
    out = MLP(c, name='mlp')(normed)
    if c.post_norms:
      out = norm('post_mlp_norm')(out)
    return tap(Site.RESID_POST, i, x + tap(Site.MLP_OUT, i, out))


class Transformer(nn.Module):
  """A language model. Its `params` collection is what `load_model` returns.

  Attributes:
    config: The hyperparameters.
    dtype: Of the residual stream and the products; norms, attention weights
      and logits are float32 always. Parameters keep the dtype they have.
  """

  config: ModelConfig
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(
      self, tokens: Int[Array, 'B T'], *, tap: Tap = no_tap
  ) -> Float[Array, 'B T V']:
    """Logits of the next token, float32.

    Args:
      tokens: Token ids; positions count from 0.
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
        jnp.arange(tokens.shape[1], dtype=jnp.int32)[None], tokens.shape
    )
    for i in range(c.num_layers):
      x = Layer(c, i, name=f'layer_{i}')(x, positions, tap=tap)
    x = RMSNorm(c.norm_eps, c.norm_offset, name='final_norm')(x)
    table = embedding if c.tied else self.param('unembedding', init, shape)
    logits = product('BTD,VD->BTV', x, table.astype(self.dtype))
    return softcap(logits, c.final_softcap)
