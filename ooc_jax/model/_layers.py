"""The parts of a transformer layer, and the products in them."""

from collections.abc import Callable
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int
import numpy as np

from ooc_jax.model._config import ModelConfig
from ooc_jax.model._rope import apply_rope
from ooc_jax.model._rope import rope_frequencies
from ooc_jax.model._taps import Site
from ooc_jax.model._taps import Tap
from ooc_jax.model._taps import no_tap

_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    'silu': jax.nn.silu,
    'gelu_tanh': functools.partial(jax.nn.gelu, approximate=True),
    'gelu': functools.partial(jax.nn.gelu, approximate=False),
}


def product(
    spec: str, x: Float[Array, '...'], w: Float[Array, '...']
) -> Float[Array, '...']:
  """The einsum of two arrays of one dtype, summed in float32 or wider.

  float32 arrays are multiplied at highest precision. Narrower ones are
  multiplied as they are, also in the gradient, whose cotangent is rounded to
  their dtype first: a processor with bfloat16 instructions has them for
  bfloat16 operands alone, and a sum rounded to bfloat16 would be slower and
  worse.

  Args:
    spec: As of `einsum`, each letter in two of its three parts.
    x: The first operand.
    w: The second.

  Returns:
    The product, float32; float64 of float64.
  """
  if x.dtype.itemsize >= 4:
    return jnp.einsum(spec, x, w, precision=jax.lax.Precision.HIGHEST)
  return _narrow_product(spec, x, w)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _narrow_product(
    spec: str, x: Float[Array, '...'], w: Float[Array, '...']
) -> Float[Array, '...']:
  return jnp.einsum(spec, x, w, preferred_element_type=jnp.float32)


def _forward(
    spec: str, x: Float[Array, '...'], w: Float[Array, '...']
) -> tuple[Float[Array, '...'], tuple[Array, Array]]:
  return _narrow_product(spec, x, w), (x, w)


def _backward(
    spec: str, operands: tuple[Array, Array], cotangent: Float[Array, '...']
) -> tuple[Float[Array, '...'], Float[Array, '...']]:
  x, w = operands
  inputs, out = spec.split('->')
  x_axes, w_axes = inputs.split(',')
  g = cotangent.astype(x.dtype)
  dx = _narrow_product(f'{out},{w_axes}->{x_axes}', g, w)
  dw = _narrow_product(f'{out},{x_axes}->{w_axes}', g, x)
  return dx.astype(x.dtype), dw.astype(w.dtype)


_narrow_product.defvjp(_forward, _backward)


def softcap(x: Float[Array, '...'], cap: float | None) -> Float[Array, '...']:
  """Bounds `x`: cap·tanh(x/cap); None leaves it alone."""
  return x if cap is None else jnp.tanh(x / cap) * cap


def rms_norm(
    x: Float[Array, '*batch D'],
    gain: Float[Array, 'D'],
    eps: float,
    tap: Callable[[Array], Array] = lambda x: x,
) -> Float[Array, '*batch D']:
  """x / sqrt(mean(x²) + eps) times `gain`, in float32, returned as x.dtype.

  Args:
    x: Rows.
    gain: One number a column.
    eps: Added to the mean square.
    tap: Reads or replaces the rows before the gain.
  """
  x32 = x.astype(jnp.float32)
  mean_square = jnp.mean(jnp.square(x32), axis=-1, keepdims=True)
  normed = tap(x32 * jax.lax.rsqrt(mean_square + eps))
  gain = gain.astype(jnp.float32).reshape((1,) * (x.ndim - 1) + (-1,))
  return (normed * gain).astype(x.dtype)


def attention_mask(length: int, window: int | None) -> Bool[np.ndarray, 'T S']:
  """True where query t sees key s: s <= t, and t - s < window if sliding."""
  distance = np.arange(length)[:, None] - np.arange(length)[None, :]
  return _is_seen(distance, window)


def _is_seen(distance: Any, window: int | None) -> Any:
  """Whether a key so many positions back is seen."""
  past = distance >= 0
  return past if window is None else past & (distance < window)


class RMSNorm(nn.Module):
  """RMSNorm whose gain is its weight plus `offset`: 1 in Gemma."""

  eps: float
  offset: float

  @nn.compact
  def __call__(
      self,
      x: Float[Array, '*batch width'],
      tap: Callable[[Array], Array] = lambda x: x,
  ) -> Float[Array, '*batch width']:
    init = nn.initializers.constant(1.0 - self.offset)
    weight = self.param('weight', init, (x.shape[-1],))
    gain = weight.astype(jnp.float32) + self.offset
    return rms_norm(x, gain, self.eps, tap)


class LayerNorm(nn.Module):
  """(x - mean(x)) / sqrt(var(x) + eps) times a gain, plus a bias."""

  eps: float

  @nn.compact
  def __call__(
      self,
      x: Float[Array, '*batch width'],
      tap: Callable[[Array], Array] = lambda x: x,
  ) -> Float[Array, '*batch width']:
    weight = self.param('weight', nn.initializers.ones, (x.shape[-1],))
    bias = self.param('bias', nn.initializers.zeros, (x.shape[-1],))
    x32 = x.astype(jnp.float32)
    centred = x32 - jnp.mean(x32, axis=-1, keepdims=True)
    normed = rms_norm(centred, weight, self.eps, tap)
    return (normed + _row(bias.astype(jnp.float32), x.ndim)).astype(x.dtype)


def norm_of(config: ModelConfig, name: str) -> RMSNorm | LayerNorm:
  """The module of one of the model's norms of the stream."""
  if config.layer_norm:
    return LayerNorm(config.norm_eps, name=name)
  return RMSNorm(config.norm_eps, config.norm_offset, name=name)


def _row(x: Float[Array, '...'], ndim: int) -> Float[Array, '...']:
  """`x` with leading axes of 1: ranks are not promoted silently here."""
  return x.reshape((1,) * (ndim - x.ndim) + x.shape)


class Attention(nn.Module):
  """Causal grouped-query attention; query head n uses kv head n // G.

  Attributes:
    config: The hyperparameters.
    layer: Which one.
    cached: Rows of the cache, or None without one. With it, keys and values
      lie by position in the collection `cache`; the rows of x, which follow
      each other, are added, and see what lies there.
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

    def biased(y: Array, name: str, has: bool) -> Array:
      if not has:
        return y.astype(x.dtype)
      shape = (D,) if name == 'output' else w[name].shape[1:]
      bias = self.param(f'{name}_bias', nn.initializers.zeros, shape)
      return (y + _row(bias.astype(y.dtype), y.ndim)).astype(x.dtype)

    q_BTNH = product('BTD,DNH->BTNH', x, w['query'])
    q_BTNH = biased(q_BTNH, 'query', c.qkv_bias)
    k_BSKH = product('BSD,DKH->BSKH', x, w['key'])
    k_BSKH = biased(k_BSKH, 'key', c.qkv_bias)
    v_BSKH = product('BSD,DKH->BSKH', x, w['value'])
    v_BSKH = biased(v_BSKH, 'value', c.qkv_bias)
    if c.qk_norm:
      q_BTNH = RMSNorm(c.norm_eps, c.norm_offset, name='query_norm')(q_BTNH)
      k_BSKH = RMSNorm(c.norm_eps, c.norm_offset, name='key_norm')(k_BSKH)
    frequencies = rope_frequencies(c.rope_of(self.layer), H)
    q_BTNH = apply_rope(q_BTNH, positions, frequencies)
    k_BSKH = apply_rope(k_BSKH, positions, frequencies)
    B, T = positions.shape
    window = c.windows[self.layer]
    mask_BTS = attention_mask(T, window)[None]
    if self.cached is not None:
      S, start = self.cached, positions[0, 0]

      def kept(name: str, rows: Array) -> Array:
        shape = (B, S, K, H)
        rest = self.variable('cache', name, jnp.zeros, shape, rows.dtype)
        at = (0, start, 0, 0)
        rest.value = jax.lax.dynamic_update_slice(
            rest.value, rows, [jnp.asarray(i, start.dtype) for i in at]
        )
        return rest.value

      k_BSKH, v_BSKH = kept('key', k_BSKH), kept('value', v_BSKH)
      # Rows that are not written yet lie after every query.
      keys = jnp.arange(S, dtype=positions.dtype)
      distance = positions[:, :, None] - keys[None, None]
      mask_BTS = _is_seen(distance, window)
    q_BTKGH = q_BTNH.reshape(B, T, K, c.group_size, H)
    # bfloat16 scores lose the tail of the distribution: softmax in float32.
    scores = product('BTKGH,BSKH->BKGTS', q_BTKGH, k_BSKH)
    scores = scores * c.attention_scale
    scores = softcap(scores, c.attention_softcap)
    mask_BTS = jnp.asarray(mask_BTS)
    scores = jnp.where(mask_BTS[:, None, None], scores, -jnp.inf)
    probs = jax.nn.softmax(scores, axis=-1).astype(x.dtype)
    out = product('BKGTS,BSKH->BTKGH', probs, v_BSKH).astype(x.dtype)
    out_BTZ = tap(Site.ATTN_Z, self.layer, out.reshape(B, T, N * H))
    out_BTNH = out_BTZ.reshape(B, T, N, H)
    out_BTD = product('BTNH,NHD->BTD', out_BTNH, w['output'])
    return biased(out_BTD, 'output', c.output_bias)


class MLP(nn.Module):
  """down(act(gate(x)) · up(x)), or without a gate down(act(up(x)))."""

  config: ModelConfig

  @nn.compact
  def __call__(
      self,
      x: Float[Array, 'B T D'],
      tap: Callable[[Array], Array] = lambda x: x,
  ) -> Float[Array, 'B T D']:
    c = self.config
    D, M = c.embed_dim, c.mlp_dim
    init = nn.initializers.normal(D**-0.5)
    act = _ACTIVATIONS[c.activation]

    def through(x: Array, spec: str, name: str, size: int) -> Array:
      shape = (D, M) if name != 'down' else (M, D)
      own = nn.initializers.normal(M**-0.5) if name == 'down' else init
      weight = self.param(name, own, shape).astype(x.dtype)
      y = product(spec, x, weight)
      if c.output_bias:
        bias = self.param(f'{name}_bias', nn.initializers.zeros, (size,))
        y = y + _row(bias.astype(y.dtype), y.ndim)
      return y.astype(x.dtype)

    if c.gated:
      hidden = act(through(x, 'BTD,DM->BTM', 'gate', M))
      hidden = hidden * through(x, 'BTD,DM->BTM', 'up', M)
    else:
      hidden = act(through(x, 'BTD,DM->BTM', 'up', M))
    return through(tap(hidden), 'BTM,MD->BTD', 'down', D)
