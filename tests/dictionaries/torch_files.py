"""`.pt` files written byte by byte, as `torch.save` writes them, without torch.

The pickle has protocol 2, and every opcode of it stands here.
"""

import pathlib
import struct
import zipfile

import numpy as np

STORAGES = {
    'float64': 'DoubleStorage',
    'float32': 'FloatStorage',
    'float16': 'HalfStorage',
    'bfloat16': 'BFloat16Storage',
    'int64': 'LongStorage',
    'int32': 'IntStorage',
    'bool': 'BoolStorage',
}


class Call:
  """A global called with arguments: what a hostile file would hold."""

  def __init__(self, name: str, *args):
    self.name, self.args = name, args


class Strided:
  """A tensor that is a view of its storage."""

  def __init__(self, storage, offset, shape, strides, numel=None):
    self.storage, self.offset = np.asarray(storage), offset
    self.shape, self.strides, self.numel = shape, strides, numel


def global_(name: str) -> bytes:
  module, _, last = name.rpartition('.')
  return f'c{module}\n{last}\n'.encode()


def text(value: str) -> bytes:
  data = value.encode()
  return b'X' + struct.pack('<I', len(data)) + data


def integer(value: int) -> bytes:
  size = max(1, value.bit_length() // 8 + 1)
  return b'\x8a' + bytes([size]) + value.to_bytes(size, 'little', signed=True)


def pickle_of(tree, storages: list | None = None) -> bytes:
  """The pickle; arrays are appended to `storages`."""
  storages = [] if storages is None else storages
  return b'\x80\x02' + _value(tree, storages) + b'.'


def _value(x, storages) -> bytes:
  if isinstance(x, Strided):
    return _tensor(x, storages)
  if isinstance(x, Call):
    args = b''.join(_value(a, storages) for a in x.args)
    return global_(x.name) + b'(' + args + b'tR'
  if isinstance(x, np.ndarray):
    strides = tuple(n // x.itemsize for n in x.strides)
    return _tensor(Strided(x, 0, x.shape, strides), storages)
  if isinstance(x, dict):  # As a state dict is: an OrderedDict.
    items = b''.join(
        _value(k, storages) + _value(v, storages) for k, v in x.items()
    )
    return global_('collections.OrderedDict') + b')R(' + items + b'u'
  if isinstance(x, (tuple, list)):
    items = b''.join(_value(a, storages) for a in x)
    return b'(' + items + (b't' if isinstance(x, tuple) else b'l')
  if isinstance(x, bool) or x is None:
    return {True: b'\x88', False: b'\x89', None: b'N'}[x]
  if isinstance(x, int):
    return integer(x)
  if isinstance(x, float):
    return b'G' + struct.pack('>d', x)
  assert isinstance(x, str), x
  return text(x)


def _tensor(x: Strided, storages) -> bytes:
  key = str(len(storages))
  storages.append(x.storage)
  numel = x.storage.size if x.numel is None else x.numel
  storage = (
      b'(' + text('storage')
      + global_(f'torch.{STORAGES[x.storage.dtype.name]}')
      + text(key) + text('cpu') + integer(numel) + b'tQ'
  )  # fmt: skip
  shape = b''.join(_value(tuple(n), []) for n in (x.shape, x.strides))
  hooks = global_('collections.OrderedDict') + b')R'
  return (
      global_('torch._utils._rebuild_tensor_v2')
      + b'(' + storage + integer(x.offset) + shape + b'\x89' + hooks + b'tR'
  )  # fmt: skip


def write_pt(path: pathlib.Path, tree, **changes) -> pathlib.Path:
  """A file as of torch 2; bytes in `changes` replace an entry, None drops it.

  Args:
    path: Of the file.
    tree: Dicts of arrays, and whatever else `pickle_of` takes.
    **changes: By the entry's name, 'data/0' as data_0.
  """
  storages: list[np.ndarray] = []
  entries = {'data.pkl': pickle_of(tree, storages), 'byteorder': b'little'}
  for i, x in enumerate(storages):
    # A storage lies in memory order, whatever the axes of its tensor are.
    entries[f'data/{i}'] = x.ravel(order='K').tobytes()
  entries['version'] = b'3\n'
  for name, data in changes.items():
    key = name.replace('data_', 'data/').replace('data/pkl', 'data.pkl')
    entries[key] = data
  path.parent.mkdir(parents=True, exist_ok=True)
  with zipfile.ZipFile(path, 'w') as archive:
    for name, data in entries.items():
      if data is not None:
        archive.writestr(f'{path.stem}/{name}', data)
  return path
