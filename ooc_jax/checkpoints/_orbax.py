"""Arrays in and out with Orbax: the only module that knows it.

It takes a third of a second to import, and most runs never ask for it.
"""

from collections.abc import Iterator, Mapping
import contextlib
import os
import pathlib
import re
from typing import Any, TypeVar

import jax

from ooc_jax._errors import InputError
from ooc_jax._files import refusal

_T = TypeVar('_T')
# Pieces that are encoded at a time, so that no second copy of an embedding is
# made, and that another mesh can read alone.
_CHUNK_BYTES = 64 * 2**20


def _context() -> Any:
  from orbax.checkpoint import v1 as ocp

  context = ocp.Context()
  context.array.saving.storage_options.chunk_byte_size = _CHUNK_BYTES
  # Weights shrink by a quarter and take three times as long.
  context.array.saving.use_compression = False
  return context


@contextlib.contextmanager
def _written() -> Iterator[None]:
  """Failures to write as an `OSError` with the system's reason."""
  try:
    yield
  except (OSError, MemoryError):
    raise
  except Exception as error:  # TensorStore raises many types on a full disk.
    text = ' '.join(str(error).split())
    # The reason of the system, where TensorStore's text ends with one.
    reason = re.search(r"([^:]+) \[os_error_code='\d+'\]", text)
    raise OSError(reason[1].strip() if reason else text[:300]) from error


def save_arrays(folder: pathlib.Path, arrays: Mapping[str, jax.Array]) -> None:
  """Writes `arrays` to a new folder, each from the devices it lies on.

  Raises:
    OSError: They cannot be written.
  """
  from orbax.checkpoint import v1 as ocp

  # Orbax nests by '/'. Any: its own type of a tree is no plain dict.
  tree: Any = {_key(name): x for name, x in arrays.items()}
  with _written(), _context():
    ocp.save(str(folder), tree)


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
  from orbax.checkpoint import v1 as ocp

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
  from orbax.checkpoint import multihost

  everyone = set(range(jax.process_count()))
  multihost.sync_global_processes(name, timeout=seconds, processes=everyone)


class TrainingCheckpoints:
  """The last two states of a training, each on the disk whole or not at all.

  Use as a context manager: Orbax has threads to end.
  """

  def __init__(self, folder: pathlib.Path):
    """Opens the folder, or makes it; what a killed run left is removed.

    Raises:
      InputError: It cannot be written.
    """
    from orbax.checkpoint import v1 as ocp

    self._folder = folder
    try:
      folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
      raise InputError(refusal('write', folder, error)) from None
    # Any: Orbax's policies are not of the type that it asks for.
    last_two: Any = ocp.training.preservation_policies.LatestN(2)
    self._orbax = ocp.training.Checkpointer(
        str(folder.absolute()),
        context=_context(),
        preservation_policy=last_two,
        cleanup_tmp_directories=True,
    )

  def __enter__(self) -> 'TrainingCheckpoints':
    return self

  def __exit__(self, *exc_info: object) -> None:
    self._orbax.close()

  def newest(self) -> int | None:
    """The last step that was saved, or None."""
    latest = self._orbax.latest
    return None if latest is None else latest.step

  def save(self, step: int, state: Any) -> None:
    """Writes the state after `step` steps.

    Raises:
      InputError: It cannot be written.
    """
    try:
      with _written():
        self._orbax.save(step, state, force=True)
    except OSError as error:
      raise InputError(refusal('write', self._folder, error)) from None

  def load(self, step: int, like: _T) -> _T:
    """Reads the state after `step` steps.

    Args:
      step: Of `newest`.
      like: A state of the same structure.

    Raises:
      InputError: The checkpoint is damaged.
    """
    shapes: Any = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding),
        like,
    )
    try:
      state: Any = self._orbax.load(step, shapes)
    except MemoryError:
      raise
    except Exception as error:  # Orbax and TensorStore raise many types.
      raise InputError(
          f'{self._folder / str(step)} is damaged ({type(error).__name__});'
          ' delete it, and the same command continues from the checkpoint'
          ' before.'
      ) from error
    return state
