"""A JumpReLU SAE in training: its weights, its loss and its gradient."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float


class SaeParams(NamedTuple):
  """What is trained. A leading axis of sites may stand before all of it.

  Both matrices are [D, F]: products and gradients are then plain row-major
  products, which a CPU does at twice the speed in bfloat16.

  Attributes:
    encoder: [D, F].
    decoder: [D, F], columns of norm 1.
    encoder_bias: [F].
    decoder_bias: [D].
    log_threshold: [F]; the threshold is positive by its form.
  """

  encoder: Float[Array, '*sites D F']
  decoder: Float[Array, '*sites D F']
  encoder_bias: Float[Array, '*sites F']
  decoder_bias: Float[Array, '*sites D']
  log_threshold: Float[Array, '*sites F']


class SaeLosses(NamedTuple):
  """How well a batch was explained.

  Attributes:
    fvu: Squared error a component; the activations have variance 1, so it is
      the fraction of variance unexplained, up to the batch.
    l0: Features that fired, a token.
    fired: [F] share of the tokens on which each did.
  """

  fvu: Float[Array, '*sites']
  l0: Float[Array, '*sites']
  fired: Float[Array, '*sites F']


def product(
    axes: str, x: Array, y: Array, dtype: DTypeLike
) -> Float[Array, '...']:
  """An einsum with factors of `dtype`, summed in float32."""
  return jnp.einsum(
      axes,
      x.astype(dtype),
      y.astype(dtype),
      precision=jax.lax.Precision.HIGHEST,
      preferred_element_type=jnp.float32,
  )


def pre_activations(
    params: SaeParams, x: Float[Array, 'n D'], dtype: DTypeLike
) -> Float[Array, 'n F']:
  """What is compared with the thresholds."""
  pre = product('nD,DF->nF', x, params.encoder, dtype)
  return pre + params.encoder_bias[None]


def reconstruct(
    params: SaeParams, a: Float[Array, 'n F'], dtype: DTypeLike
) -> Float[Array, 'n D']:
  """Activations of features -> activations of the model."""
  out = product('nF,DF->nD', a, params.decoder, dtype)
  return out + params.decoder_bias[None]


def loss_gradient(
    params: SaeParams,
    x: Float[Array, 'n D'],
    *,
    sparsity: float | Float[Array, ''],
    target: float,
    bandwidth: float,
    dtype: DTypeLike = jnp.float32,
) -> tuple[SaeParams, SaeLosses]:
  """Gradient of mean‖x̂ - x‖²/D + sparsity · (L0 / target - 1)².

  JumpReLU with straight-through gradients of the thresholds (Rajamanoharan et
  al. 2024, arXiv 2407.14435): with the rectangle K of width 1, θ the threshold
  and ε the bandwidth,
    d a / d pre = 1[pre > θ],
    d a / d θ = -(θ / ε) K((pre - θ) / ε),
    d 1[pre > θ] / d θ = -(1 / ε) K((pre - θ) / ε).
  The penalty is the paper's form for a given L0, here of the batch's mean.
  Written out, not differentiated by JAX: a straight-through gradient is no
  derivative, and the factors of each product here stay in `dtype`, where a
  transposed product would mix it with float32.

  Args:
    params: Of one site.
    x: [n, D] activations, of variance 1 a component.
    sparsity: Weight of the penalty.
    target: Mean L0 that is aimed at.
    bandwidth: ε, in the units of x.
    dtype: Of the factors of the products.
  """
  n, D = x.shape
  threshold = jnp.exp(params.log_threshold)[None]
  pre = pre_activations(params, x, dtype)
  fires = pre > threshold
  a = jnp.where(fires, pre, 0.0).astype(dtype)
  error = reconstruct(params, a, dtype) - x
  fired = fires.sum(axis=0, dtype=jnp.float32) / n
  l0 = fired.sum()
  losses = SaeLosses(jnp.square(error).sum() / (n * D), l0, fired)

  # Of the loss by x̂, by a and by each feature's firing.
  by_out = error * (2 / (n * D))
  by_a = product('nD,DF->nF', by_out, params.decoder, dtype)
  by_fire = sparsity * 2 * (l0 / target - 1) / (target * n)
  near = jnp.abs(pre - threshold) < bandwidth / 2
  by_threshold = jnp.where(near, threshold * by_a + by_fire, 0.0).sum(axis=0)
  by_pre = jnp.where(fires, by_a, 0.0)
  gradient = SaeParams(
      encoder=product('Dn,nF->DF', x.T, by_pre, dtype),
      decoder=product('Dn,nF->DF', by_out.T, a, dtype),
      encoder_bias=by_pre.sum(axis=0),
      decoder_bias=by_out.sum(axis=0),
      log_threshold=by_threshold * threshold[0] / -bandwidth,
  )
  return gradient, losses


def along_sphere(
    gradient: Float[Array, 'D F'], unit: Float[Array, 'D F']
) -> Float[Array, 'D F']:
  """The part of `gradient` that keeps the norm of the columns of `unit`."""
  radial = (gradient * unit).sum(axis=0, keepdims=True)
  return gradient - radial * unit


def unit_columns(x: Float[Array, '*sites D F']) -> Float[Array, '*sites D F']:
  """Columns of norm 1; a column of zeros stays one."""
  norms = jnp.linalg.norm(x, axis=-2, keepdims=True)
  return x / jnp.where(norms > 0, norms, 1.0)
