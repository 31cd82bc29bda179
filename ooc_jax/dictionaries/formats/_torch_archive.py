"""A `.pt` file of tensors: a zip archive of a description and raw storages."""

from collections.abc import Mapping
import pathlib
import struct
from typing import Any
import zipfile
import zlib

import jax.numpy as jnp
import numpy as np

from ooc_jax._errors import InputError
from ooc_jax._text import printable
from ooc_jax.dictionaries.formats._torch_pickle import PickleRefused
from ooc_jax.dictionaries.formats._torch_pickle import StoredTensor
from ooc_jax.dictionaries.formats._torch_pickle import read_tensors

_MAX_MEMBERS = 4096
# A description takes about 100 bytes a tensor.
_MAX_DESCRIPTION = 2**20
# What zipfile, zlib, struct and the reader of the pickle raise for damaged
# files: the user is told in one sentence.
_DAMAGE = (
    EOFError,
    LookupError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


class TorchArchive:
  """The tensors that `torch.save` wrote.

  Of the top level, or of the one dict in it that holds tensors
  ('state_dict'): what else the file has is not looked at.
  """

  def __init__(self, path: pathlib.Path):
    """Reads the description only.

    Args:
      path: The file.

    Raises:
      InputError: It is of the time before torch 1.6, damaged, or describes
        more than tensors.
    """
    self.where, self._path = str(path), path
    try:
      with path.open('rb') as file:
        if file.read(2) != b'PK':
          raise InputError(self._old())
      with zipfile.ZipFile(path) as archive:
        self._infos = self._checked(archive)
        described = [n for n in self._infos if n.endswith('/data.pkl')]
        if len(described) != 1:
          raise ValueError('it has no data.pkl')
        (name,) = described
        self._root = name.removesuffix('data.pkl')
        self._check_order(archive)
        if self._infos[name].file_size > _MAX_DESCRIPTION:
          raise PickleRefused('its description is longer than any of tensors')
        self._tensors = _of_tensors(read_tensors(archive.read(name)))
      for tensor in self._tensors.values():
        self._entry(tensor)
    except FileNotFoundError:
      raise InputError(f'{path} does not exist; check the path.') from None
    except PickleRefused as error:
      raise InputError(
          f'{path} is not read as it stands: {error}; {convert(path)}.'
      ) from None
    except InputError:
      raise
    except _DAMAGE as error:
      raise InputError(
          f'{path} is no whole .pt file ({printable(str(error), 200)});'
          ' download it again.'
      ) from None

  @property
  def shapes(self) -> Mapping[str, tuple[int, ...]]:
    return {name: x.shape for name, x in self._tensors.items()}

  def read(self, name: str) -> np.ndarray:
    tensor = self._tensors[name]
    try:
      with zipfile.ZipFile(self._path) as archive:
        data = archive.read(self._entry(tensor))
    except _DAMAGE as error:
      raise InputError(
          f'{self._path}: tensor {printable(name, 60)!r} cannot be read'
          f' ({printable(str(error), 200)}); download it again.'
      ) from None
    dtype = np.dtype(jnp.dtype(tensor.dtype))
    stored = np.frombuffer(data, dtype)[tensor.offset :]
    steps = tuple(step * dtype.itemsize for step in tensor.strides)
    # Within the storage: `read_tensors` has compared them.
    view = np.lib.stride_tricks.as_strided(stored, tensor.shape, steps)
    return np.array(view)

  def _checked(self, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The entries by name, all of them as long as they say."""
    infos = archive.infolist()
    if len(infos) > _MAX_MEMBERS:
      raise ValueError(f'it holds {len(infos)} entries')
    if any(x.compress_type != zipfile.ZIP_STORED for x in infos):
      raise ValueError('it is compressed, which torch.save never does')
    found = {info.filename: info for info in infos}
    if len(found) < len(infos):
      raise ValueError('it holds an entry twice')
    if sum(x.file_size for x in infos) > self._path.stat().st_size:
      raise ValueError('its entries are longer than the file')
    return found

  def _check_order(self, archive: zipfile.ZipFile) -> None:
    info = self._infos.get(f'{self._root}byteorder')
    if info is None:  # Written before torch 2.1.
      return
    if info.file_size > 16 or archive.read(info).strip() != b'little':
      raise PickleRefused('its numbers are big-endian')

  def _entry(self, tensor: StoredTensor) -> zipfile.ZipInfo:
    """The entry of a storage, which is as long as the storage is."""
    name = f'{self._root}data/{tensor.storage}'
    info = self._infos.get(name)
    size = tensor.numel * tensor.itemsize
    if info is None or info.file_size != size:
      held = 'missing' if info is None else f'{info.file_size} bytes long'
      raise ValueError(
          f'entry {printable(name, 100)} is {held}, and its storage takes'
          f' {size} bytes'
      )
    return info

  def _old(self) -> str:
    return (
        f'{self._path} is no zip archive, as .pt files since torch 1.6 (2020)'
        f' are; {convert(self._path)}.'
    )


def convert(path: pathlib.Path | str) -> str:
  """What to do with a file of torch's that is not read."""
  name = printable(pathlib.PurePath(path).name, 60)
  out = f'{name.rpartition(".")[0] or name}.safetensors'
  return (
      'where torch is, write it as safetensors: '
      f"x = torch.load('{name}', map_location='cpu', weights_only=True); "
      'safetensors.torch.save_file({k: v.contiguous() for k, v in x.items() if'
      f" torch.is_tensor(v)}}, '{out}')"
  )


def _of_tensors(tree: Any) -> dict[str, StoredTensor]:
  """The tensors of a dict, or of the one dict in it that has any."""
  found = _direct(tree)
  if not found and type(tree) is dict:
    inner = [x for x in map(_direct, tree.values()) if x]
    if len(inner) == 1:
      (found,) = inner
  if not found:
    raise PickleRefused('it holds no dict of tensors by name')
  return found


def _direct(tree: Any) -> dict[str, StoredTensor]:
  if type(tree) is not dict:
    return {}
  return {
      name: x
      for name, x in tree.items()
      if type(name) is str and type(x) is StoredTensor
  }
