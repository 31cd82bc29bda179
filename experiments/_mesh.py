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
    devices: To choose from, instead of those of this run.

  Raises:
    InputError: The text is of another form, there are too few devices, or
      several processes would not use all of theirs.
  """
  shared = devices is None and jax.process_count() > 1
  if text is None:
    if shared:
      raise _leaves_devices_out('no mesh')
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
  if shared and math.prod(sizes) < len(available):
    raise _leaves_devices_out(f'mesh={text!r}')
  given = dict(zip(names, sizes, strict=True))
  return jax.make_mesh(
      [given.get(name, 1) for name in AXES],
      AXES,
      axis_types=(AxisType.Auto,) * len(AXES),
      devices=None if devices is None else devices[: math.prod(sizes)],
  )


def _leaves_devices_out(what: str) -> ooc_jax.InputError:
  return ooc_jax.InputError(
      f'With {what} some of the {jax.device_count()} devices of'
      f' {jax.process_count()} processes would have nothing to do; give a'
      f" --mesh over all of them, such as 'vocab:{jax.device_count()}'."
  )
