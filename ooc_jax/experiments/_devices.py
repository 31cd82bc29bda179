"""Devices, as a text names them: 'feature:4,vocab:2'."""

from collections.abc import Sequence
import math
import os
import re

import jax
from jax.sharding import AxisType
from jax.sharding import Mesh

from ooc_jax._errors import InputError

AXES = ('feature', 'vocab')


def make_mesh(
    mesh: str | Mesh | None, devices: Sequence[jax.Device] | None = None
) -> Mesh | None:
  """'feature:4,vocab:2' as a mesh of these two axes.

  An axis that is left out has one device. 'auto' spreads features over all
  accelerators, and over all devices of several processes; a CPU by itself needs
  no mesh, as its cores share the work already. None and a mesh stay as they
  are.

  Args:
    mesh: As above.
    devices: To choose from, instead of those of this run.

  Raises:
    InputError: The text is of another form, there are too few devices, or
      several processes would not use all of theirs.
  """
  if isinstance(mesh, Mesh):
    return mesh
  shared = devices is None and jax.process_count() > 1
  available = jax.devices() if devices is None else devices
  if mesh == 'auto':
    if len(available) == 1 or not shared and jax.default_backend() == 'cpu':
      return None
    mesh = f'feature:{len(available)}'
  if mesh is None:
    if shared:
      raise _leaves_devices_out('no mesh')
    return None
  if not re.fullmatch(r'[a-z]+:\d{1,6}(,[a-z]+:\d{1,6})*', mesh):
    raise InputError(
        f"mesh={mesh!r} is not understood; write 'auto' or 'feature:4,vocab:2'."
    )
  axes = [item.split(':') for item in mesh.split(',')]
  names, sizes = zip(*[(name, int(size)) for name, size in axes], strict=True)
  if set(names) - set(AXES) or len(set(names)) < len(names):
    raise InputError(
        f"mesh={mesh!r} has axes {names}; known are 'feature' and 'vocab'."
    )
  count = math.prod(sizes)
  if not 0 < count <= len(available):
    raise InputError(
        f'mesh={mesh!r} needs {count} devices, and there are'
        f' {len(available)}; choose smaller sizes.'
    )
  if shared and count < len(available):
    raise _leaves_devices_out(f'mesh={mesh!r}')
  given = dict(zip(names, sizes, strict=True))
  return jax.make_mesh(
      [given.get(name, 1) for name in AXES],
      AXES,
      axis_types=(AxisType.Auto,) * len(AXES),
      devices=None if devices is None else devices[:count],
  )


def check_devices() -> None:
  """Refuses to start where JAX has no device, before anything is downloaded.

  To be called once other processes are joined, as it starts JAX.

  Raises:
    InputError: JAX cannot use the platform that it was told to use.
  """
  try:
    jax.devices()
  # JAX 0.11 asserts where a platform is named and no plugin has it.
  except (AssertionError, RuntimeError) as error:
    asked = os.environ.get('JAX_PLATFORMS', '')
    reason = ' '.join(str(error).split()) or f'nothing here runs {asked}'
    raise InputError(
        f'JAX has no device for JAX_PLATFORMS={asked!r} ({reason:.200}); unset'
        ' it to use what is there, or install the plugin: pip install'
        " 'ooc_jax[cuda]' or 'ooc_jax[tpu]'."
    ) from None


def _leaves_devices_out(what: str) -> InputError:
  return InputError(
      f'With {what} some of the {jax.device_count()} devices of'
      f' {jax.process_count()} processes would have nothing to do; give a'
      f" --mesh over all of them, such as 'vocab:{jax.device_count()}'."
  )
