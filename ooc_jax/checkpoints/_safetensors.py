"""Reads Hugging Face safetensors: one file, or shards named by an index."""

from collections.abc import Callable, Mapping
import pathlib
import re
from typing import Any

import numpy as np
import safetensors

from ooc_jax._errors import InputError
from ooc_jax.checkpoints._source import TensorInfo
from ooc_jax.checkpoints._source import check_no_pointer
from ooc_jax.checkpoints._source import read_json

_DTYPES = ('F32', 'F16', 'BF16', 'F64')
INDEX = 'model.safetensors.index.json'
SINGLE = 'model.safetensors'
# Bytes from which opening the file again is the smaller cost.
_LARGE = 2**25
_PLAIN_NAME = re.compile(r'[A-Za-z0-9_][A-Za-z0-9_.-]*\.safetensors')


def shard_names(index: Mapping[str, object], where: str) -> dict[str, str]:
  """Tensor name -> file name of an index, with hostile names refused.

  Raises:
    InputError: No `weight_map`, or a name that is no plain file name: an
      index comes from a download and must not name a file elsewhere.
  """
  weight_map = index.get('weight_map')
  if not isinstance(weight_map, dict) or not weight_map:
    raise InputError(f"{where}: there is no 'weight_map'; download it again.")
  for tensor, name in weight_map.items():
    if not (isinstance(name, str) and _PLAIN_NAME.fullmatch(name)):
      raise InputError(
          f'{where}: tensor {tensor!r:.200} is said to be in {name!r:.200},'
          ' which is no plain .safetensors file name of that folder; do not'
          ' use this checkpoint.'
      )
  return dict(weight_map)


class SafetensorsSource:
  """A folder of safetensors or one file, memory-mapped."""

  def __init__(
      self,
      path: pathlib.Path,
      needs: Callable[[str], bool] = lambda name: True,
  ):
    """Opens headers only, and only of shards that hold a needed tensor.

    Args:
      path: A `.safetensors` file, or a folder with `model.safetensors` or its
        index and shards.
      needs: Whether the tensor of a name will be read.

    Raises:
      InputError: A file is missing, cut or not what its header says.
    """
    self._path = path
    self._file_of: dict[str, pathlib.Path] = {}
    self._infos: dict[str, TensorInfo] = {}
    self._files: list[pathlib.Path] = []
    self._needs = needs
    # Opening parses the header: once a file, not once a tensor.
    self._handles: dict[pathlib.Path, Any] = {}
    index, single = path / INDEX, path / SINGLE
    if not path.is_dir():
      self._add(path)
    elif single.is_file():  # With both, transformers takes this one too.
      self._add(single)
    elif index.is_file():
      self._files.append(index)
      self._add_shards(index)
    else:
      raise InputError(_nothing_here(path))

  @property
  def where(self) -> str:
    return str(self._path)

  @property
  def files(self) -> tuple[pathlib.Path, ...]:
    return tuple(self._files)

  def tensors(self) -> Mapping[str, TensorInfo]:
    return self._infos

  def read(
      self, name: str, index: tuple[slice, ...] | None = None
  ) -> np.ndarray:
    """One tensor or a part of it, in memory of its own."""
    path = self._file_of[name]
    try:
      if index is None:
        x = self._handles[path].get_tensor(name)
      else:
        x = self._handles[path].get_slice(name)[index]
      if x.nbytes > _LARGE:
        # Its pages stay in memory for as long as the file is mapped.
        self._handles[path] = _open(path)
      return x
    except (safetensors.SafetensorError, OSError, ValueError) as error:
      raise InputError(f'{path}: tensor {name!r}: {error}.') from None

  def _add_shards(self, index: pathlib.Path) -> None:
    weight_map = shard_names(read_json(index), str(index))
    opened = {
        name for tensor, name in weight_map.items() if self._needs(tensor)
    }
    for name in sorted(opened):
      self._add(index.parent / name)
    wrong = sorted(
        tensor
        for tensor, name in weight_map.items()
        if name in opened
        and (tensor not in self._file_of or self._file_of[tensor].name != name)
    )
    if wrong:
      raise InputError(
          f'{index}: tensors {wrong[:5]} are not in the files it names;'
          ' download the checkpoint again.'
      )
    for tensor in weight_map:
      self._infos.setdefault(tensor, TensorInfo(None, None))

  def _add(self, path: pathlib.Path) -> None:
    handle = self._handles[path] = _open(path)
    for name in handle.keys():
      if name in self._infos:
        raise InputError(
            f'{path}: tensor {name!r} is in {self._file_of[name]} too;'
            ' download the checkpoint again.'
        )
      part = handle.get_slice(name)
      dtype = str(part.get_dtype())
      if dtype not in _DTYPES and self._needs(name):
        raise InputError(
            f'{path}: tensor {name!r} is {dtype}, and only'
            f' {", ".join(_DTYPES)} are read; take weights that are not'
            ' quantised, or a GGUF file.'
        )
      self._infos[name] = TensorInfo(tuple(part.get_shape()), dtype)
      self._file_of[name] = path
    self._files.append(path)


def _open(path: pathlib.Path) -> Any:
  check_no_pointer(path)
  try:
    return safetensors.safe_open(str(path), framework='numpy')
  except FileNotFoundError:
    raise InputError(
        f'{path} does not exist; download the checkpoint again.'
    ) from None
  except (safetensors.SafetensorError, OSError, ValueError) as error:
    raise InputError(
        f'{path} is no whole safetensors file ({error}); download it again.'
    ) from None


def _nothing_here(path: pathlib.Path) -> str:
  """Why a folder has no checkpoint we can read."""
  unsafe = sorted(
      f.name
      for f in path.iterdir()
      if f.suffix in ('.bin', '.pt', '.pth', '.ckpt', '.pkl', '.msgpack')
  )
  if unsafe:
    return (
        f'{path} holds {unsafe[0]}, which only a pickle reader opens and which'
        ' could run code; convert it to safetensors, or take a revision that'
        ' has model.safetensors.'
    )
  return (
      f'{path} holds neither {SINGLE} nor {INDEX}; give a folder with a'
      ' Hugging Face checkpoint, an Orbax folder of ours, or a .gguf file.'
  )
