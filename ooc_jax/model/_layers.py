"""The parts of a transformer layer, for all three families.

Axis letters: B batch, T query position, S key position, D residual width,
N query heads, K key-value heads, G = N/K, H head width, M MLP width.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int
import numpy as np

from ooc_jax.model._config import ModelConfig
from ooc_jax.model._products import product
from ooc_jax.model._rope import apply_rope
from ooc_jax.model._rope import rope_frequencies


def softcap(x: Float[Array, '...'], cap: float | None) -> Float[Array, '...']:
  """Gemma-2's bound: cap·tanh(x/cap); None leaves `x` alone."""
  return x if cap is None else jnp.tanh(x / cap) * cap


def rms_norm(
    x: Float[Array, '*batch D'], gain: Float[Array, 'D'], eps: float
) -> Float[Array, '*batch D']:
  """x / sqrt(mean(x²) + eps) times `gain`, in float32, returned as x.dtype."""
  x32 = x.astype(jnp.float32)
  mean_square = jnp.mean(jnp.square(x32), axis=-1, keepdims=True)
  normed = x32 * jax.lax.rsqrt(mean_square + eps)
  gain = gain.astype(jnp.float32).reshape((1,) * (x.ndim - 1) + (-1,))
  return (normed * gain).astype(x.dtype)


def attention_mask(length: int, window: int | None) -> Bool[np.ndarray, 'T S']:
  """True where query t sees key s: s <= t, and t - s < window if sliding."""
  distance = np.arange(length)[:, None] - np.arange(length)[None, :]
  mask = distance >= 0
  return mask if window is None else mask & (distance < window)


class RMSNorm(nn.Module):
  """RMSNorm whose gain is its weight, or 1 + weight in Gemma."""

  eps: float
  offset: float

  @nn.compact
  def __call__(
      self, x: Float[Array, '*batch width']
  ) -> Float[Array, '*batch width']:
    init = nn.initializers.constant(1.0 - self.offset)
    weight = self.param('weight', init, (x.shape[-1],))
    return rms_norm(x, weight.astype(jnp.float32) + self.offset, self.eps)


class Attention(nn.Module):
  """Causal grouped-query attention; query head n uses kv head n // G."""

  config: ModelConfig
  layer: int

  @nn.compact
  def __call__(
      self, x: Float[Array, 'B T D'], positions: Int[Array, 'B T']
  ) -> Float[Array, 'B T D']:
    c = self.config
    init = nn.initializers.normal(c.embed_dim**-0.5)
    D, N, K, H = c.embed_dim, c.num_heads, c.num_kv_heads, c.head_dim
    weights = {
        'query': self.param('query', init, (D, N, H)),
        'key': self.param('key', init, (D, K, H)),
        'value': self.param('value', init, (D, K, H)),
        'output': self.param('output', init, (N, H, D)),
    }
    w = {name: weight.astype(x.dtype) for name, weight in weights.items()}
    q_BTNH = product('BTD,DNH->BTNH', x, w['query']).astype(x.dtype)
    k_BSKH = product('BSD,DKH->BSKH', x, w['key']).astype(x.dtype)
    v_BSKH = product('BSD,DKH->BSKH', x, w['value']).astype(x.dtype)
    if c.qk_norm:
      q_BTNH = RMSNorm(c.norm_eps, c.norm_offset, name='query_norm')(q_BTNH)
      k_BSKH = RMSNorm(c.norm_eps, c.norm_offset, name='key_norm')(k_BSKH)
    frequencies = rope_frequencies(c.rope_of(self.layer), H)
    q_BTNH = apply_rope(q_BTNH, positions, frequencies)
    k_BSKH = apply_rope(k_BSKH, positions, frequencies)
    B, T = positions.shape
    q_BTKGH = q_BTNH.reshape(B, T, K, c.group_size, H)
    # bfloat16 scores lose the tail of the distribution: softmax in float32.
    scores = product('BTKGH,BSKH->BKGTS', q_BTKGH, k_BSKH)
    scores = scores * c.attention_scale
    scores = softcap(scores, c.attention_softcap)
    mask_TS = jnp.asarray(attention_mask(T, c.windows[self.layer]))
    scores = jnp.where(mask_TS[None, None, None], scores, -jnp.inf)
    probs = jax.nn.softmax(scores, axis=-1).astype(x.dtype)
    out = product('BKGTS,BSKH->BTKGH', probs, v_BSKH).astype(x.dtype)
    out_BTNH = out.reshape(B, T, N, H)
    return product('BTNH,NHD->BTD', out_BTNH, w['output']).astype(x.dtype)


class MLP(nn.Module):
  """Gated MLP: down(act(gate(x)) · up(x))."""

  config: ModelConfig

  @nn.compact
  def __call__(self, x: Float[Array, 'B T D']) -> Float[Array, 'B T D']:
    c = self.config
    D, M = c.embed_dim, c.mlp_dim
    init = nn.initializers.normal(D**-0.5)
    gate = self.param('gate', init, (D, M)).astype(x.dtype)
    up = self.param('up', init, (D, M)).astype(x.dtype)
    down = self.param('down', nn.initializers.normal(M**-0.5), (M, D))
    gated = product('BTD,DM->BTM', x, gate).astype(x.dtype)
    if c.is_gemma:
      gated = jax.nn.gelu(gated, approximate=True)
    else:
      gated = jax.nn.silu(gated)
    hidden = gated * product('BTD,DM->BTM', x, up).astype(x.dtype)
    out = product('BTM,MD->BTD', hidden, down.astype(x.dtype))
    return out.astype(x.dtype)
