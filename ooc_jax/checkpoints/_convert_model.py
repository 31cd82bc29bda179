"""`convert_model`: from any checkpoint to Orbax or to safetensors."""

import os
import pathlib
from typing import Any

from jax.sharding import Mesh

from ooc_jax._errors import InputError
from ooc_jax.checkpoints._cache import cache_folder
from ooc_jax.checkpoints._convert import checked_dtype
from ooc_jax.checkpoints._export import write_safetensors
from ooc_jax.checkpoints._folder import stream_of_folder
from ooc_jax.checkpoints._folder import write_folder
from ooc_jax.checkpoints._new_folder import checked_target
from ooc_jax.checkpoints._open import find_model
from ooc_jax.checkpoints._stream import stream_of_checkpoint
from ooc_jax.model import PARTS

KINDS = ('orbax', 'safetensors')
SHARD_SIZE = 2 * 10**9


def convert_model(
    source: str | os.PathLike[str],
    folder: str | os.PathLike[str] | None = None,
    *,
    to: str = 'orbax',
    dtype: Any = None,
    mesh: Mesh | None = None,
    revision: str | None = None,
    shard_size: int = SHARD_SIZE,
) -> pathlib.Path:
  """Converts a checkpoint, holding a small group of parameters at a time.

  Args:
    source: See `load_model`.
    folder: Must not exist. None is the place in the cache where `load_model`
      finds the Orbax copy of a hub repository.
    to: 'orbax', or 'safetensors' with Hugging Face's names and config.
    dtype: Of the parameters; None keeps every bit.
    mesh: Over which the arrays are spread as they are written.
    revision: Branch, tag or commit of a hub repository.
    shard_size: Bytes of a safetensors file.

  Returns:
    The folder, whole: an interrupted conversion leaves none.

  Raises:
    InputError: The source cannot be read or the folder not be written; the
      message says what, where and what to do.
  """
  if to not in KINDS:
    raise InputError(f'to={to!r} must be one of {", ".join(KINDS)}.')
  dtype = checked_dtype(dtype)
  target = None if folder is None else checked_target(folder)
  if target is None and (to != 'orbax' or dtype is not None):
    raise InputError(
        'Only an Orbax copy in the dtype of the source has a place of its own,'
        ' where later runs find it; give --out=FOLDER for another.'
    )
  # Where an Orbax copy is made for the cache, the one there will not do.
  found = find_model(source, PARTS, revision, converted=target is not None)
  if target is None:
    if found.repo is None or found.commit is None:
      raise InputError(
          f'{os.fspath(source)} is on this machine; give --out=FOLDER, and give'
          ' that folder to later runs.'
      )
    target = checked_target(cache_folder(found.repo) / found.commit)
  stream = (
      stream_of_folder(found.path.absolute(), dtype, mesh)
      if found.is_ours
      else stream_of_checkpoint(found, dtype, mesh)
  )
  if to == 'orbax':
    write_folder(stream, target)
  else:
    write_safetensors(stream, target, shard_size)
  return target
