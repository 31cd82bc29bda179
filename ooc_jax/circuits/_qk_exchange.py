"""What the devices of a head tell each other; nothing where there is one.

Axis letters: s segments of one device, S of all, K keys, C keys of one
device, n groups.
"""

import functools
import operator

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def gather(x: Array, axis: str | None) -> Array:
  """Rows of all devices."""
  return x if axis is None else jax.lax.all_gather(x, axis, tiled=True)


def exchange(x: Array, axis: str | None) -> Array:
  """[s, K, ...] of every device -> [S, C, ...] of this device's keys."""
  if axis is None:
    return x
  return jax.lax.all_to_all(x, axis, split_axis=1, concat_axis=0, tiled=True)


def my_part(x: Float[Array, 'K'], axis: str | None) -> Float[Array, 'C']:
  """This device's entries of what all devices hold."""
  if axis is None:
    return x
  size = len(x) // jax.lax.axis_size(axis)
  start = jax.lax.axis_index(axis) * size
  return jax.lax.dynamic_slice_in_dim(x, start, size)


def sum_in_order(x: Float[Array, 'S C']) -> Float[Array, 'C']:
  """Σ over segments; a reduction may add in an order that depends on C."""
  return functools.reduce(operator.add, x)


def merge_groups(
    best: tuple[Float[Array, 'K n'], Int[Array, 'K n']],
    groups: int,
    axis: str | None,
) -> Int[Array, 'C n']:
  """The best groups of this device's keys, over all devices.

  Args:
    best: Maxima of each device's best groups, counted from its own first, and
      which those are; -inf where there is none.
    groups: How many all devices have; the number of a group that is not there.
    axis: Of the mesh, or None.
  """
  values, ids = best
  if axis is not None:
    n = values.shape[1]
    own = groups // jax.lax.axis_size(axis)
    values = exchange(values[None], axis)
    ids = exchange(ids[None] + jax.lax.axis_index(axis) * own, axis)
    # Devices in order, so equal maxima go to the lower group.
    values = jnp.moveaxis(values, 0, 1).reshape(values.shape[1], -1)
    ids = jnp.moveaxis(ids, 0, 1).reshape(values.shape)
    values, index = jax.lax.top_k(values, n)
    ids = jnp.take_along_axis(ids, index, axis=1)
  return jnp.where(values > -jnp.inf, ids, groups)
