"""What a compiled program sends from device to device, read from its text."""

from collections.abc import Mapping
import math
import re

_KINDS = (
    'all-gather',
    'all-reduce',
    'all-to-all',
    'collective-permute',
    'reduce-scatter',
)
_BYTES = {'pred': 1, 'bf16': 2, 'f16': 2, 'f64': 8, 's64': 8, 'u64': 8}
_COMPUTATION = re.compile(r'^(ENTRY )?%?([\w.-]+) .*\{$')
_SHAPE = re.compile(r'\b([a-z]+\d*)\[([\d,]*)\]')
_OPERATION = re.compile(rf'= (.*?) ({"|".join(_KINDS)})(-start)?\(', re.ASCII)
_LOOP = re.compile(r' while\(.*body=%?([\w.-]+)')
_TURNS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_CALL = re.compile(
    r'(?:calls|to_apply|true_computation|false_computation)=%?([\w.-]+)'
)
_BRANCHES = re.compile(r'branch_computations=\{([^}]*)\}')


def collectives(hlo: str) -> Mapping[str, tuple[int, int]]:
  """Kind of collective -> how often it runs, and bytes each device gets.

  Loops of a length that is known count as often as they turn, others once:
  their length depends on the data, as that of a closer look does.

  Args:
    hlo: `compiled.as_text()`.
  """
  bodies, entry = _computations(hlo)
  found: dict[str, tuple[int, int]] = {}

  def visit(name: str, times: int) -> None:
    for line in bodies.get(name, ()):
      if match := _OPERATION.search(line):
        count, size = found.get(match[2], (0, 0))
        found[match[2]] = count + times, size + times * _result_bytes(
            *match.groups()
        )
      if match := _LOOP.search(line):
        turns = _TURNS.search(line)
        visit(match[1], times * int(turns[1]) if turns else times)
      for called in _called(line):
        visit(called, times)

  visit(entry, 1)
  return found


def _computations(hlo: str) -> tuple[dict[str, list[str]], str]:
  """Lines of every computation, and the name of the first to run."""
  bodies: dict[str, list[str]] = {}
  name = entry = ''
  for line in hlo.splitlines():
    if not line.startswith(' ') and (match := _COMPUTATION.match(line)):
      name = match[2]
      bodies[name] = []
      if match[1]:
        entry = name
    elif name:
      bodies[name].append(line)
  return bodies, entry


def _called(line: str) -> list[str]:
  names = _CALL.findall(line)
  for branches in _BRANCHES.findall(line):
    names += [x.strip().lstrip('%') for x in branches.split(',')]
  return names


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
