"""The matrix products of the forward pass."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


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
