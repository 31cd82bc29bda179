"""Several processes that compute one run together: one a host."""

from collections.abc import Callable
import itertools
import json
import socket
import time
from typing import Any

import jax
from jax.experimental import multihost_utils
import numpy as np

from ooc_jax import checkpoints
from ooc_jax._errors import InputError

# The longest that others wait for what the first process does alone, and for
# the first process to be there.
_SECONDS, _PATIENCE = 3600, 300
_calls = itertools.count()


def join(
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
) -> None:
  """Joins the other processes of this run, where there are some.

  To be called before anything asks JAX for devices.

  Args:
    coordinator: 'host:port' at which the first process listens; 'auto' where
      the machine knows the processes; None for a run of one process.
    processes: How many they are.
    process: Which this one is, from 0.

  Raises:
    InputError: The arguments do not go together, or the others are not found.
  """
  alone = coordinator in (None, 'auto')
  if alone != (processes is None) or alone != (process is None):
    raise InputError(
        f'coordinator={coordinator!r}, processes={processes},'
        f' process={process} do not go together; give all three, or'
        ' --coordinator=auto alone.'
    )
  if coordinator is None:
    return
  if coordinator == 'auto':
    _initialize()
    return
  assert processes is not None and process is not None  # As was just checked.
  if not 0 <= process < processes:
    raise InputError(
        f'process={process} is none of {processes}; they are numbered from 0.'
    )
  _check_reached(coordinator, first=process == 0)
  _initialize(
      coordinator_address=coordinator,
      num_processes=processes,
      process_id=process,
  )


def _initialize(**settings: Any) -> None:
  try:
    jax.distributed.initialize(**settings)
  except (RuntimeError, ValueError) as error:
    raise InputError(
        f'The processes of this run did not find each other ({error}); start'
        ' the same command for each, with one --coordinator and its own'
        ' --process.'
    ) from error


def _check_reached(address: str, first: bool) -> None:
  """Refuses an address that the first process cannot use, or is not at.

  JAX itself would abort. Others than the first wait until it is there.
  """
  host, _, digits = address.rpartition(':')
  if not host or not digits.isdecimal() or not 0 < int(digits) < 2**16:
    raise InputError(
        f"coordinator={address!r} is not understood; write 'host:port'."
    )
  port = int(digits)
  if first:
    try:
      with socket.create_server(('', port)):
        return
    except OSError as error:
      raise InputError(
          f'coordinator={address!r}: the port cannot be used ({error}); choose'
          ' another one.'
      ) from error
  end = time.monotonic() + _PATIENCE
  while True:
    try:
      with socket.create_connection((host, port), timeout=5):
        return
    except OSError as error:
      if time.monotonic() > end:
        raise InputError(
            f'No process listens at coordinator={address!r} ({error}); start'
            ' the one with --process=0 there, and this one again.'
        ) from error
    time.sleep(0.5)


def is_first_process() -> bool:
  """Whether this process is the one that reads and writes results."""
  return jax.process_index() == 0


def on_first_process(call: Callable[[], Any]) -> Any:
  """What `call` returns in the first process, in all of them.

  All call this at the same place of the run; the others wait.

  Args:
    call: Returns JSON values. Called in the first process only.

  Raises:
    InputError: It did in the first process.
  """
  # Asked first, as to count processes starts JAX's threads.
  if not jax.distributed.is_initialized() or jax.process_count() == 1:
    return call()
  outcome: dict[str, Any] = {}
  if is_first_process():
    try:
      outcome = {'value': call()}
    except InputError as error:
      outcome = {'error': str(error)}
  checkpoints.barrier(f'on_first_process {next(_calls)}', _SECONDS)
  outcome = json.loads(_broadcast(json.dumps(outcome).encode()))
  if 'error' in outcome:
    raise InputError(outcome['error'])
  return outcome['value']


def _broadcast(text: bytes) -> bytes:
  """The bytes of the first process."""
  size = multihost_utils.broadcast_one_to_all(np.int32(len(text)))
  mine = np.frombuffer(text, np.uint8)
  held = mine if is_first_process() else np.zeros(int(size), np.uint8)
  return np.asarray(multihost_utils.broadcast_one_to_all(held)).tobytes()
