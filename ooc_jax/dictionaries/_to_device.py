"""The dtype of a dictionary, and the devices that it lies on."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec
import numpy as np

from ooc_jax._errors import InputError
from ooc_jax.dictionaries._dictionary import Dictionary

_DTYPES = ('float32', 'bfloat16', 'float16')
_MATRICES = ('encoder', 'decoder')
_ROWS = ('encoder', 'decoder', 'encoder_bias', 'threshold')


def checked_dtype(dtype: Any) -> np.dtype | None:
  """`dtype` as a dtype, None as None.

  Raises:
    InputError: It is none that a dictionary can have.
  """
  try:
    if dtype is None or jnp.dtype(dtype).name in _DTYPES:
      return None if dtype is None else jnp.dtype(dtype)
  except TypeError:
    pass  # No dtype at all.
  raise InputError(f'dtype={dtype!r} must be one of {", ".join(_DTYPES)}.')


def to_device(
    dictionary: Dictionary, dtype: Any, mesh: Mesh | None
) -> Dictionary:
  """The dictionary in `dtype`, its features over the `feature` axis.

  Where the axis does not divide the features, every device holds them all:
  a lens pads them, and spreads them then.

  Args:
    dictionary: Of NumPy or JAX arrays.
    dtype: Of encoder and decoder; None keeps theirs. Biases and thresholds
      stay float32.
    mesh: None leaves it on one device.

  Raises:
    InputError: The dtype is unknown or too narrow, or the axis is missing.
  """
  dtype = checked_dtype(dtype)
  _check_mesh(mesh)
  arrays = {
      name: x
      for name in (*_ROWS, 'decoder_bias')
      if (x := getattr(dictionary, name)) is not None
  }
  moved: dict[int, jax.Array] = {}  # A shared table is moved once.
  out: dict[str, Any] = {}
  for name, x in arrays.items():
    if id(x) not in moved:
      cast = dtype if name in _MATRICES and dtype is not None else x.dtype
      with np.errstate(over='ignore'):  # Refused below.
        moved[id(x)] = _put(x.astype(cast), mesh, name in _ROWS)
    out[name] = moved[id(x)]
  dictionary = dataclasses.replace(dictionary, **out)
  check_finite(dictionary)
  return dictionary


def check_finite(dictionary: Dictionary) -> None:
  """Refuses NaN, and infinity but in a threshold: such a feature never fires.

  Raises:
    InputError: An array holds either; it is named.
  """
  arrays = {
      name: x
      for name in (*_MATRICES, 'encoder_bias', 'decoder_bias')
      if (x := getattr(dictionary, name)) is not None
  }
  finite, no_nan = jax.device_get(_are_finite(arrays, dictionary.threshold))
  for name, good in finite.items():
    if not good:
      raise InputError(
          f'{dictionary.name}: the {name} overflows {arrays[name].dtype}, or'
          ' holds NaN; take a wider dtype, or check where it is from.'
      )
  if not no_nan:
    raise InputError(f'{dictionary.name}: a threshold is NaN; check the file.')


@jax.jit
def _are_finite(arrays, threshold):
  """Of each array; and whether no threshold is NaN. One program for all."""
  finite = {name: jnp.isfinite(x).all() for name, x in arrays.items()}
  return finite, ~jnp.isnan(threshold).any()


def _put(x: Any, mesh: Mesh | None, rows: bool) -> jax.Array:
  if mesh is None:
    return jax.device_put(x)
  divided = rows and x.shape[0] % mesh.shape['feature'] == 0
  spec = PartitionSpec('feature') if divided else PartitionSpec()
  return jax.device_put(x, NamedSharding(mesh, spec))


def _check_mesh(mesh: Mesh | None) -> None:
  if mesh is not None and 'feature' not in mesh.axis_names:
    raise InputError(
        f"The mesh has the axes {mesh.axis_names}, and none is 'feature', over"
        ' which a dictionary is spread.'
    )
