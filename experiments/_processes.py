"""Several processes that compute one run together: one a host."""

from collections.abc import Callable
import itertools
import json
import socket
import time
from typing import Any

from absl import flags
import jax
from jax.experimental import multihost_utils
import numpy as np

import ooc_jax

_COORDINATOR = flags.DEFINE_string(
    'coordinator',
    None,
    'Compute together with other processes, whose first one listens at'
    " 'host:port' (with --processes and --process); 'auto' where the machine"
    ' knows them: a TPU pod, Slurm, Open MPI, Kubernetes.',
)
_PROCESSES = flags.DEFINE_integer('processes', None, 'How many they are.')
_PROCESS = flags.DEFINE_integer('process', None, 'Which this one is, from 0.')
# The longest that others wait for what the first process does alone, and for
# the first process to be there.
_SECONDS, _PATIENCE = 3600, 300
_calls = itertools.count()


def join() -> None:
  """Joins the other processes of this run, where flags name them.

  To be called before anything asks JAX for devices.

  Raises:
    InputError: The flags do not go together, or the others are not found.
  """
  place, count, number = _COORDINATOR.value, _PROCESSES.value, _PROCESS.value
  alone = place in (None, 'auto')
  if alone != (count is None) or alone != (number is None):
    raise ooc_jax.InputError(
        f'coordinator={place!r}, processes={count}, process={number} do not go'
        ' together; give all three, or --coordinator=auto alone.'
    )
  if place is None:
    return
  if place == 'auto':
    _initialize()
    return
  assert count is not None and number is not None  # As was just checked.
  if not 0 <= number < count:
    raise ooc_jax.InputError(
        f'process={number} is none of {count}; they are numbered from 0.'
    )
  _check_reached(place, first=number == 0)
  _initialize(coordinator_address=place, num_processes=count, process_id=number)


def _initialize(**settings: Any) -> None:
  try:
    jax.distributed.initialize(**settings)
  except (RuntimeError, ValueError) as error:
    raise ooc_jax.InputError(
        f'The processes of this run did not find each other ({error}); start'
        ' the same command for each, with one --coordinator and its own'
        ' --process.'
    ) from error


def _check_reached(place: str, first: bool) -> None:
  """Refuses an address that the first process cannot use, or is not at.

  JAX itself would abort. Others than the first wait until it is there.
  """
  host, _, digits = place.rpartition(':')
  if not host or not digits.isdecimal() or not 0 < int(digits) < 2**16:
    raise ooc_jax.InputError(
        f"coordinator={place!r} is not understood; write 'host:port'."
    )
  port = int(digits)
  if first:
    try:
      with socket.create_server(('', port)):
        return
    except OSError as error:
      raise ooc_jax.InputError(
          f'coordinator={place!r}: the port cannot be used ({error}); choose'
          ' another one.'
      ) from error
  end = time.monotonic() + _PATIENCE
  while True:
    try:
      with socket.create_connection((host, port), timeout=5):
        return
    except OSError as error:
      if time.monotonic() > end:
        raise ooc_jax.InputError(
            f'No process listens at coordinator={place!r} ({error}); start the'
            ' one with --process=0 there, and this one again.'
        ) from error
    time.sleep(0.5)


def leads() -> bool:
  """Whether this process is the one that reads and writes results."""
  return jax.process_index() == 0


def told(say: Callable[[], Any]) -> Any:
  """What `say` returns in the first process, in all of them.

  All call this at the same place of the run; the others wait.

  Args:
    say: Returns JSON values. Called in the first process only.

  Raises:
    InputError: It did in the first process.
  """
  # Asked first, as to count processes starts JAX's threads.
  if not jax.distributed.is_initialized() or jax.process_count() == 1:
    return say()
  from orbax.checkpoint import multihost  # Slow to import, and seldom needed.

  said: dict[str, Any] = {}
  if leads():
    try:
      said = {'value': say()}
    except ooc_jax.InputError as error:
      said = {'error': str(error)}
  # Collectives of CPUs give up after 30 seconds; this does not.
  multihost.sync_global_processes(
      f'told {next(_calls)}',
      timeout=_SECONDS,
      processes=set(range(jax.process_count())),
  )
  said = json.loads(_broadcast(json.dumps(said).encode()))
  if 'error' in said:
    raise ooc_jax.InputError(said['error'])
  return said['value']


def _broadcast(text: bytes) -> bytes:
  """The bytes of the first process."""
  size = multihost_utils.broadcast_one_to_all(np.int32(len(text)))
  mine = np.frombuffer(text, np.uint8)
  held = mine if leads() else np.zeros(int(size), np.uint8)
  return np.asarray(multihost_utils.broadcast_one_to_all(held)).tobytes()
