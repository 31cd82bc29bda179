"""Arrays in and out with Orbax: the only module that knows it."""

from collections.abc import Mapping
import os
import pathlib
import re
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

# Pieces that are encoded at a time, so that no second copy of an embedding is
# made, and that another mesh can read alone.
_CHUNK_BYTES = 64 * 2**20


def save_arrays(folder: pathlib.Path, arrays: Mapping[str, jax.Array]) -> None:
  """Writes `arrays` to a new folder, each from the devices it lies on.

  Raises:
    OSError: They cannot be written.
  """
  context = ocp.Context()
  context.array.saving.storage_options.chunk_byte_size = _CHUNK_BYTES
  # Weights shrink by a quarter and take three times as long.
  context.array.saving.use_compression = False
  try:
    with context:
      # Orbax nests by '/'. Any: its own type of a tree is no plain dict.
      tree: Any = {_key(name): x for name, x in arrays.items()}
      ocp.save(str(folder), tree)
  except (OSError, MemoryError):
    raise
  except Exception as error:  # TensorStore raises many types on a full disk.
    text = ' '.join(str(error).split())
    # The reason of the system, where TensorStore's text ends with one.
    reason = re.search(r"([^:]+) \[os_error_code='\d+'\]", text)
    raise OSError(reason[1].strip() if reason else text[:300]) from error


def load_arrays(
    folder: pathlib.Path, like: Mapping[str, jax.ShapeDtypeStruct]
) -> dict[str, jax.Array]:
  """Reads what `save_arrays` wrote.

  Args:
    folder: Of `save_arrays`.
    like: Shape, dtype and sharding of every array in it.

  Raises:
    ValueError: The folder is damaged, or holds other arrays.
  """
  if not os.path.isdir(folder):
    raise ValueError('it is missing')
  try:
    tree: Any = {_key(name): x for name, x in like.items()}
    loaded: Any = ocp.load(str(folder), tree)
  except MemoryError:
    raise
  except Exception as error:  # Orbax and TensorStore raise many types.
    raise ValueError(type(error).__name__) from error
  return {name: loaded[_key(name)] for name in like}


def _key(name: str) -> str:
  return name.replace('/', '.')


def barrier(name: str, seconds: int) -> None:
  """Waits until all processes are here; to be called by all of them.

  Collectives of CPUs give up after 30 seconds; this does not.

  Args:
    name: Another one for each call.
    seconds: The longest wait.
  """
  from orbax.checkpoint import multihost  # Slow to import, and seldom needed.

  everyone = set(range(jax.process_count()))
  multihost.sync_global_processes(name, timeout=seconds, processes=everyone)
