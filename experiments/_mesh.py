"""Devices, as the command line names them."""

from collections.abc import Sequence
import math
import re

import jax
from jax.sharding import AxisType

import ooc_jax

AXES = ('feature', 'vocab')


def make_mesh(
    text: str | None, devices: Sequence[jax.Device] | None = None
) -> jax.sharding.Mesh | None:
  """'feature:4,vocab:2' as a mesh of these two axes, None as None.

  An axis that is left out has one device.

  Args:
    text: As above.
    devices: To choose from, instead of those of this process.

  Raises:
    InputError: The text is of another form, or there are too few devices.
  """
  if text is None:
    return None
  if not re.fullmatch(r'[a-z]+:\d{1,6}(,[a-z]+:\d{1,6})*', text):
    raise ooc_jax.InputError(
        f"mesh={text!r} is not understood; write 'feature:4,vocab:2'."
    )
  axes = [item.split(':') for item in text.split(',')]
  names, sizes = zip(*[(name, int(size)) for name, size in axes], strict=True)
  if set(names) - set(AXES) or len(set(names)) < len(names):
    raise ooc_jax.InputError(
        f"mesh={text!r} has axes {names}; known are 'feature' and 'vocab'."
    )
  available = jax.devices() if devices is None else devices
  if not 0 < math.prod(sizes) <= len(available):
    raise ooc_jax.InputError(
        f'mesh={text!r} needs {math.prod(sizes)} devices, and there are'
        f' {len(available)}; choose smaller sizes.'
    )
  given = dict(zip(names, sizes, strict=True))
  return jax.make_mesh(
      [given.get(name, 1) for name in AXES],
      AXES,
      axis_types=(AxisType.Auto,) * len(AXES),
      devices=None if devices is None else devices[: math.prod(sizes)],
  )
