"""Where arrays lie, and how they come to lie over a mesh."""

import jax
from jax.experimental import multihost_utils
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec
from jaxtyping import Array
import numpy as np

from ooc_jax._errors import InputError

FEATURE, VOCAB = 'feature', 'vocab'


def mesh_of(*arrays: Array) -> Mesh | None:
  """The mesh that one of the arrays lies on, if it has an axis of ours."""
  for x in arrays:
    if isinstance(x, jax.core.Tracer):
      continue
    mesh = getattr(x.sharding, 'mesh', None)
    if isinstance(mesh, Mesh) and {FEATURE, VOCAB} & set(mesh.axis_names):
      return mesh
  return None


def check_mesh(mesh: Mesh | None) -> None:
  """Refuses a mesh over which nothing of a lens is spread."""
  if mesh is not None and not {FEATURE, VOCAB} & set(mesh.axis_names):
    raise InputError(
        f'The mesh has the axes {mesh.axis_names}, and none is {FEATURE!r} or'
        f' {VOCAB!r}, over which a lens is spread; name one so.'
    )


def feature_mesh(mesh: Mesh | None, *arrays: Array) -> Mesh | None:
  """`mesh`, or the one that an array lies on, if it has our axis.

  Raises:
    InputError: `mesh` has no axis 'feature'.
  """
  if mesh is not None and FEATURE not in mesh.axis_names:
    raise InputError(
        f'The mesh has the axes {mesh.axis_names}, and none is {FEATURE!r},'
        ' over which queries and keys are spread; name one so.'
    )
  mesh = mesh_of(*arrays) if mesh is None else mesh
  return mesh if axis_of(mesh, FEATURE) else None


def axis_of(mesh: Mesh | None, name: str) -> str | None:
  """`name` where the mesh has such an axis."""
  return name if mesh is not None and name in mesh.axis_names else None


def device_of(mesh: Mesh | None, table: Array) -> jax.Device:
  """One of those on which it will run."""
  if mesh is not None:
    return mesh.devices.flat[0]
  if isinstance(table, jax.core.Tracer):
    return jax.devices()[0]
  return next(iter(table.devices()))


def platform_of(mesh: Mesh | None, table: Array) -> str:
  """Where it will run: 'cpu', 'gpu' or 'tpu'."""
  return device_of(mesh, table).platform


def to_host(x: Array | np.ndarray) -> np.ndarray:
  """The whole array [...], also where other processes hold parts of it.

  Those processes then have to call this too, at the same place of the program.
  """
  if isinstance(x, jax.Array) and not (
      x.is_fully_addressable or x.is_fully_replicated
  ):
    x = multihost_utils.process_allgather(x, tiled=True)
  return np.asarray(x)


def shard_rows(x: Array, mesh: Mesh, axis: str | None) -> Array:
  """`x` over a mesh axis, with zeros behind it where that does not divide."""
  padding = -x.shape[0] % (1 if axis is None else mesh.shape[axis])
  if padding:
    x = jnp.pad(x, [(0, padding)] + [(0, 0)] * (x.ndim - 1))
  sharding = NamedSharding(mesh, PartitionSpec(axis))
  if isinstance(x, jax.core.Tracer):
    return jax.lax.with_sharding_constraint(x, sharding)
  return jax.device_put(x, sharding)


def on_mesh(x: Array, mesh: Mesh | None) -> Array:
  """`x` on the devices of the mesh; where it is there already, as it lies."""
  if mesh is None or isinstance(x, jax.core.Tracer):
    return x
  if x.sharding.device_set == set(mesh.devices.flat):
    return x
  return jax.device_put(x, NamedSharding(mesh, PartitionSpec()))
