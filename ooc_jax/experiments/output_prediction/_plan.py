"""What a run would need, and whether it would fit TPUs that are not here.

For those the lens is compiled ahead of time; nothing is computed.
"""

from collections.abc import Mapping, Sequence
import importlib.util
import math
import os
import re
from typing import Any

import jax
from jax.experimental import topologies
import jax.numpy as jnp

from ooc_jax import circuits
from ooc_jax._errors import InputError
from ooc_jax.experiments._devices import make_mesh
from ooc_jax.experiments._plan import gigabytes
from ooc_jax.experiments._plan import plan_dictionaries
from ooc_jax.experiments._plan import plan_lines
from ooc_jax.experiments._plan import plan_model
from ooc_jax.experiments._settings import parse_layers
from ooc_jax.experiments.output_prediction._config import OutputPrediction

# Measured: the lens above its inputs (V 256,000), and the interpreter with its
# libraries.
_BLOCKS = 0.3e9
_PROGRAM = 0.45e9
# Measured on SmolLM2 at k=20: 24 MB for 46,080 features.
_BYTES_PER_TOKEN = 26
# High-bandwidth memory of a chip, from the data sheets of Google Cloud.
_CHIP_BYTES = {'v4': 32e9, 'v5e': 16e9, 'v5p': 95e9, 'v6e': 32e9}
_TOPOLOGY = re.compile(r'(v\d\w?):\d{1,3}(x\d{1,3}){1,2}')
_BYTES = {'pred': 1, 'bf16': 2, 'f16': 2, 'f64': 8, 's64': 8, 'u64': 8}
# Of the text of a compiled program: the first line of a function, an operation
# that sends, a loop and how often it turns, functions that a line calls.
_FUNCTION = re.compile(r'^(ENTRY )?%?([\w.-]+) .*\{$')
_SENDS = re.compile(
    r'= (.*?) (all-gather|all-reduce|all-to-all|collective-permute'
    r'|reduce-scatter)(-start)?\('
)
_CHAIN = re.compile(r'chain_id="(\w+)"')
_SHAPE = re.compile(r'\b([a-z]+\d*)\[([\d,]*)\]')
_LOOP = re.compile(r' while\(.*body=%?([\w.-]+)')
_TURNS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_CALLS = re.compile(
    r'(?:calls|to_apply|true_computation|false_computation)=%?([\w.-]+)'
    r'|branch_computations=\{([^}]*)\}'
)


def plan(
    config: OutputPrediction, model: str | os.PathLike[str] | None = None
) -> list[str]:
  """Lines that say what `run` would do; computes nothing.

  Args:
    config: The settings.
    model: A copy of the model, instead of what the settings name.

  Raises:
    InputError: As the run itself does.
  """
  planned = plan_model(config, config.parts, model)
  c = planned.config
  layers = parse_layers(config.layers, c.num_layers)
  files, F, shown = plan_dictionaries(config, layers, c)
  V, D = c.vocab_size, c.embed_dim
  # Covariance and norms in the token space: one triangle each.
  flops = 2.0 * F * V * D * len(layers) + 2.0 * V * D * D
  if config.neighbours and F < V:
    flops += 2.0 * F * F * D * len(layers)
  space, directions = _space_bytes(float(V), D), 8.0 * F * D
  weights = planned.parameter_bytes
  device = weights + space + directions + _BLOCKS
  return plan_lines(
      config,
      config.parts,
      (*planned.files, *files),
      shown,
      {'L': c.num_layers, 'D': D, 'V': V},
      {
          'compute': f'{flops / 1e12:.1f} TFLOP',
          'device': (
              f'{gigabytes(device)} (parameters {gigabytes(weights)}, token'
              f' space {gigabytes(space)}, one dictionary'
              f' {gigabytes(directions)})'
          ),
          'host': (
              f'{gigabytes(device + _PROGRAM)} on a CPU,'
              f' {gigabytes(_PROGRAM + directions)} beside an accelerator'
          ),
          'write': (
              'about'
              f' {gigabytes(F * len(layers) * config.k * _BYTES_PER_TOKEN)}'
          ),
      },
  )


def _space_bytes(V: float, D: int) -> float:
  """Covariance and map, and norms before and after it; beside the table."""
  return 8.0 * (D * D + V)


def topology_plan(
    config: OutputPrediction,
    topology: str,
    *,
    model: str | os.PathLike[str] | None = None,
    mesh: str = 'auto',
) -> list[str]:
  """Lines that say what each chip of a topology would hold and send.

  Args:
    config: The settings.
    topology: 'v5e:2x4': a chip, and how many along each side.
    model: A copy of the model, instead of what the settings name.
    mesh: How they are used, 'feature:4,vocab:2'; 'auto' spreads features alone.

  Raises:
    InputError: The topology is unknown, libtpu is missing, or as the run
      itself does.
  """
  devices = tpu_devices(topology)
  if mesh == 'auto':
    mesh = f'feature:{len(devices)}'
  devices_mesh = make_mesh(mesh, devices)
  assert devices_mesh is not None  # The text names axes.
  planned = plan_model(config, config.parts, model)
  c, item = planned.config, planned.item_bytes
  layers = parse_layers(config.layers, c.num_layers)
  _, F, _ = plan_dictionaries(config, layers, c)
  compiled = circuits.lower_lens(
      c,
      F,
      devices_mesh,
      k=config.k,
      precision=config.precision,
      kernel=config.kernel,
      dtype=jnp.bfloat16 if item == 2 else jnp.float32,
  ).compile()
  table = c.vocab_size * c.embed_dim
  others = 1 if not c.tied and 'embedding' in config.parts else 0
  rest = planned.parameter_bytes - (1 + others) * item * table
  shards = devices_mesh.shape['vocab']
  shape = ', '.join(f'{name} {n}' for name, n in devices_mesh.shape.items())
  return [
      f'topology    {topology}: {len(devices)} chips as {shape}',
      *_memory_lines(
          compiled,
          {
              'token space': _space_bytes(c.vocab_size / shards, c.embed_dim),
              'other weights': rest + others * item * table / shards,
          },
          _CHIP_BYTES.get(topology.split(':')[0]),
      ),
      *_traffic_lines(compiled.as_text() or '', F),
  ]


def tpu_devices(topology: str) -> Sequence[Any]:
  """The chips of 'v5e:2x4', none of which need be here.

  Raises:
    InputError: There is no such topology, or libtpu is not installed.
  """
  if not _TOPOLOGY.fullmatch(topology):
    raise InputError(f"plan={topology!r} is not understood; write 'v5e:2x4'.")
  if importlib.util.find_spec('libtpu') is None:
    raise InputError(
        f'plan={topology!r} needs the compiler for TPUs; install it with'
        " pip install 'ooc_jax[tpu]'."
    )
  try:
    found = topologies.get_topology_desc(platform='tpu', topology_name=topology)
  # What JAX and libtpu raise for names and versions they do not know.
  except (RuntimeError, ValueError, NotImplementedError) as error:
    raise InputError(
        f'libtpu does not describe plan={topology!r}'
        f' ({str(error).splitlines()[0]}); take one such as v5e:2x4.'
    ) from None
  return found.devices


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
  verdict = f'{gigabytes(total)} a chip'
  if chip is not None:
    answer = 'fits in' if total < chip else 'DOES NOT FIT in'
    verdict += f', {answer} {chip / 1e9:.0f} GB'
  lines = [f'  {size / 1e9:6.2f} GB  {name}' for name, size in held.items()]
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


def collectives(hlo: str) -> Mapping[str, tuple[int, int]]:
  """Kind of collective -> how often it runs, and bytes each device gets.

  Loops of a length that is known count as often as they turn, others once:
  their length depends on the data, as that of a closer look does. One that is
  spread over several fusions (start, steps and end of a chain) counts once.

  Args:
    hlo: `compiled.as_text()`.
  """
  functions: dict[str, list[str]] = {}
  name = entry = ''
  for line in hlo.splitlines():
    if not line.startswith(' ') and (match := _FUNCTION.match(line)):
      name = match[2]
      entry = name if match[1] else entry
    functions.setdefault(name, []).append(line)
  found: dict[str, tuple[int, int]] = {}
  chains: set[str] = set()

  def visit(function: str, times: int) -> None:
    for line in functions.get(function, ()):
      chain = _CHAIN.search(line)
      match = _SENDS.search(line)
      if match and not (chain and chain[1] in chains):
        chains.update(chain.groups() if chain else ())
        count, size = found.get(match[2], (0, 0))
        more = times * _result_bytes(*match.groups())
        found[match[2]] = count + times, size + more
      if match := _LOOP.search(line):
        turns = _TURNS.search(line)
        visit(match[1], times * int(turns[1]) if turns else times)
      for one, branches in _CALLS.findall(line):
        for called in (one or branches).split(','):
          visit(called.strip().lstrip('%'), times)

  visit(entry, 1)
  return found


def _result_bytes(shapes: str, kind: str, start: str | None) -> int:
  """Bytes of what a collective leaves on a device."""
  sizes = [
      math.prod(int(n) for n in dims.split(',') if n)
      * _BYTES.get(kind_of, 1 if kind_of.endswith('8') else 4)
      for kind_of, dims in _SHAPE.findall(shapes)
  ]
  # The start of an asynchronous one also names what it was given.
  if start and kind != 'all-reduce':
    sizes = sizes[len(sizes) // 2 :] if len(sizes) % 2 == 0 else sizes[1:2]
  return sum(sizes)
