"""`--plan=v5e:2x4`: would experiment 1 fit on TPUs that are not here?

The lens is compiled ahead of time for the topology; nothing is computed.
"""

from collections.abc import Mapping, Sequence
import importlib.util
import math
import os
import re
from typing import Any

from _collectives import collectives
import _mesh
import _plan
from _study import Study
import jax
from jax.experimental import topologies
import jax.numpy as jnp

import ooc_jax
from ooc_jax import checkpoints

# High-bandwidth memory of a chip, from the data sheets of Google Cloud.
_CHIP_BYTES = {'v4': 32e9, 'v5e': 16e9, 'v5p': 95e9, 'v6e': 32e9}
# Else libtpu asks a server for the TPU of this machine, for minutes, complains
# that there is none, and refuses to be loaded by two programs at a time.
_NO_TPU_HERE = {
    'TPU_SKIP_MDS_QUERY': '1',
    'TPU_WORKER_HOSTNAMES': 'localhost',
    'TPU_ACCELERATOR_TYPE': 'v5litepod-8',
    'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
}
_TOPOLOGY = re.compile(r'(v\d\w?):\d{1,3}(x\d{1,3}){1,2}')


def topology_plan(
    study: Study,
    parts: Sequence[str],
    weights: str | None,
    topology: str,
    mesh: str | None,
) -> list[str]:
  """Lines that say what a topology would hold and send.

  Args:
    study: The settings.
    parts: Of the model that would be read.
    weights: A local copy of the model, or None.
    topology: 'v5e:2x4': a chip, and how many along each side.
    mesh: How they are used, 'feature:4,vocab:2'; None spreads features alone.

  Raises:
    InputError: The topology is unknown, libtpu is missing, or as the run
      itself does.
  """
  devices = tpu_devices(topology)
  devices_mesh = _mesh.make_mesh(mesh or f'feature:{len(devices)}', devices)
  assert devices_mesh is not None  # The text is not None.
  model = checkpoints.plan_model(
      study.model if weights is None else weights,
      parts=parts,
      revision=study.revision,
  )
  config = model.config
  features = _plan.dictionary_size(study, config)
  table = config.vocab_size * config.embed_dim
  item = _item_bytes(model.parameter_bytes, parts, config)
  compiled = ooc_jax.circuits.lower_lens(
      config,
      features,
      devices_mesh,
      k=study.k,
      precision=study.precision,
      dtype=jnp.bfloat16 if item == 2 else jnp.float32,
  ).compile()
  shards = devices_mesh.shape['vocab']
  others = 1 if not config.tied and 'embedding' in parts else 0
  rest = model.parameter_bytes - (1 + others) * item * table
  chip = topology.split(':')[0]
  return [
      f'topology    {topology}: {len(devices)} chips as {_text(devices_mesh)}',
      *_memory_lines(
          compiled,
          {
              'token space': 4 * table / shards,
              'other weights': rest + others * item * table / shards,
          },
          _CHIP_BYTES.get(chip),
      ),
      *_traffic_lines(compiled.as_text() or '', features),
  ]


def tpu_devices(topology: str) -> Sequence[Any]:
  """The chips of 'v5e:2x4', none of which need be here.

  Raises:
    InputError: There is no such topology, or libtpu is not installed.
  """
  if not _TOPOLOGY.fullmatch(topology):
    raise ooc_jax.InputError(
        f"plan={topology!r} is not understood; write 'v5e:2x4'."
    )
  for name, value in _NO_TPU_HERE.items():
    os.environ.setdefault(name, value)
  if importlib.util.find_spec('libtpu') is None:
    raise ooc_jax.InputError(
        f'plan={topology!r} needs the compiler for TPUs; install it with'
        " pip install 'ooc_jax[tpu]'."
    )
  try:
    found = topologies.get_topology_desc(platform='tpu', topology_name=topology)
  # What JAX and libtpu raise for names and versions they do not know.
  except (RuntimeError, ValueError, NotImplementedError) as error:
    raise ooc_jax.InputError(
        f'libtpu does not describe plan={topology!r}'
        f' ({str(error).splitlines()[0]}); take one such as v5e:2x4.'
    ) from None
  return found.devices


def _item_bytes(parameter_bytes: int, parts: Any, config: Any) -> int:
  """2 where the weights are held in bfloat16, else 4."""
  shapes = ooc_jax.model.parameter_shapes(config)
  needed = ooc_jax.model.parts_needed(config, parts)
  numbers = sum(
      math.prod(shape)
      for name, shape in shapes.items()
      if ooc_jax.model.part_of(name.split('/')) in needed
  )
  return round(parameter_bytes / numbers)


def _memory_lines(
    compiled: jax.stages.Compiled,
    beside: Mapping[str, float],
    chip: float | None,
) -> list[str]:
  memory: Any = compiled.memory_analysis()
  held = {
      'table and dictionary': memory.argument_size_in_bytes,
      'temporaries of the lens': memory.temp_size_in_bytes,
      'the lens': memory.output_size_in_bytes,
      'program': memory.generated_code_size_in_bytes,
      **beside,
  }
  total = sum(held.values())
  lines = [f'  {size / 1e9:6.2f} GB  {name}' for name, size in held.items()]
  verdict = f'{total / 1e9:.2f} GB a chip'
  if chip is not None:
    answer = 'fits in' if total < chip else 'DOES NOT FIT in'
    verdict += f', {answer} {chip / 1e9:.0f} GB'
  return [f'memory      {verdict}', *lines]


def _traffic_lines(hlo: str, features: int) -> list[str]:
  found = collectives(hlo)
  if not found:
    return ['traffic     none: chips never wait for each other']
  total = sum(size for _, size in found.values())
  return [
      (
          f'traffic     {total / 1e3:,.1f} kB to a chip for {features}'
          ' features, and more if features are looked at again'
      ),
      *(
          f'  {size / 1e3:9,.1f} kB  {count} x {kind}'
          for kind, (count, size) in sorted(found.items())
      ),
  ]


def _text(mesh: jax.sharding.Mesh) -> str:
  return ', '.join(f'{name} {size}' for name, size in mesh.shape.items())
