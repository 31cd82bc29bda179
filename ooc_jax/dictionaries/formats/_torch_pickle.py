"""The description of tensors in a `.pt` file, read without running anything.

`torch.save` writes what it saves as a pickle, which is a program: it may name
any function of any module and have it called. This reads the few steps that a
description of tensors takes, and the few names in it, of which each stands for
a function of this module. Any other step or name is refused by its name.
Nothing is imported, looked up or called that the file says.
"""

from collections.abc import Callable, Mapping
import dataclasses
import io
import math
import pickletools
from typing import Any

from ooc_jax._text import printable

# Of an element, by torch's name of the storage: name of the dtype, bytes.
_STORAGES: Mapping[str, tuple[str, int]] = {
    'DoubleStorage': ('float64', 8),
    'FloatStorage': ('float32', 4),
    'HalfStorage': ('float16', 2),
    'BFloat16Storage': ('bfloat16', 2),
    'LongStorage': ('int64', 8),
    'IntStorage': ('int32', 4),
    'ShortStorage': ('int16', 2),
    'CharStorage': ('int8', 1),
    'ByteStorage': ('uint8', 1),
    'BoolStorage': ('bool', 1),
}
# Names of dtypes, which a file may mention beside its tensors.
_DTYPES = ('float64', 'float32', 'float16', 'bfloat16', 'int64', 'int32',
           'int16', 'int8', 'uint8', 'bool')  # fmt: skip
_MAX_RANK = 8
_OPCODES = {op.code.encode('latin-1'): op for op in pickletools.opcodes}
_MARK = object()


class PickleRefused(ValueError):
  """What is in the pickle is not read here; the message says what."""


@dataclasses.dataclass(frozen=True)
class StoredTensor:
  """Where the numbers of a tensor are.

  Attributes:
    storage: Name of the entry of the archive.
    dtype: Name.
    itemsize: Bytes of an element.
    numel: Elements of the storage.
    offset: Of the first element, in elements.
    shape: Of the tensor, within the storage.
    strides: In elements.
  """

  storage: str
  dtype: str
  itemsize: int
  numel: int
  offset: int = 0
  shape: tuple[int, ...] = ()
  strides: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class _Name:
  """A global of the allow-list: only ever compared with others."""

  text: str


def read_tensors(data: bytes) -> Any:
  """What the pickle describes: dicts, lists, numbers and `StoredTensor`s.

  Args:
    data: The pickle.

  Raises:
    PickleRefused: It has a step or a name that is not read.
    ValueError, TypeError, LookupError: It is damaged.
  """
  machine, file = _Machine(), io.BytesIO(data)
  while code := file.read(1):
    if code == b'.':
      return machine.pop()
    opcode = _OPCODES.get(code)
    name = repr(code) if opcode is None else opcode.name
    # Before its argument is read: some are decoded in surprising ways.
    if opcode is None or name not in _STEPS:
      raise PickleRefused(
          f'its pickle has the step {name}, which no tensor needs'
      )
    if name == 'GLOBAL':  # `pickletools` would undo escapes in it.
      arg = _line(file), _line(file)
    else:
      arg = None if opcode.arg is None else opcode.arg.reader(file)
    _STEPS[name](machine, arg)
  raise ValueError('the pickle has no end')


class _Machine:
  """Stack and memo of a pickle."""

  def __init__(self):
    self.stack: list[Any] = []
    self.memo: dict[int, Any] = {}

  def pop(self) -> Any:
    value = self.stack.pop()
    if value is _MARK:
      raise ValueError('a mark in place of a value')
    return value

  def pop_mark(self) -> list[Any]:
    values: list[Any] = []
    while (value := self.stack.pop()) is not _MARK:
      values.append(value)
    return values[::-1]

  def top(self, kind: type) -> Any:
    if type(self.stack[-1]) is not kind:
      raise ValueError(f'a {kind.__name__} was expected')
    return self.stack[-1]

  def memoize(self, index: int) -> None:
    if self.stack[-1] is _MARK:
      raise ValueError('a mark in place of a value')
    self.memo[index] = self.stack[-1]


def _items(machine: _Machine, values: list[Any]) -> None:
  target = machine.top(dict)
  if len(values) % 2:
    raise ValueError('a key without a value')
  for key, value in zip(values[::2], values[1::2], strict=True):
    # A nested tuple can take as long to hash as its writer likes.
    if type(key) not in (str, int, float, bool):
      raise PickleRefused(
          'its pickle has a key that is neither text nor number'
      )
    target[key] = value


def _named(machine: _Machine, module: Any, name: Any) -> None:
  text = f'{module}.{name}' if module else f'{name}'
  if text not in _NAMES:
    raise PickleRefused(
        f'its pickle names {printable(text, 100)}, which is no part of a tensor'
    )
  machine.stack.append(_Name(text))


def _line(file: io.BytesIO) -> str:
  line = file.readline()
  if not line.endswith(b'\n'):
    raise ValueError('a name without an end')
  return line[:-1].decode()


def _global(machine: _Machine, names: tuple[str, str]) -> None:
  _named(machine, *names)


def _stack_global(machine: _Machine, _: Any) -> None:
  name, module = machine.pop(), machine.pop()
  if type(name) is not str or type(module) is not str:
    raise ValueError('a name that is no text')
  _named(machine, module, name)


def _reduce(machine: _Machine, _: Any) -> None:
  args, name = machine.pop(), machine.pop()
  if type(args) is not tuple or type(name) is not _Name:
    raise PickleRefused('its pickle calls what has no name')
  if name.text not in _CALLS:
    raise PickleRefused(f'its pickle calls {name.text}')
  machine.stack.append(_CALLS[name.text](*args))


def _build(machine: _Machine, _: Any) -> None:
  machine.pop()  # Of a state dict only: its `_metadata`, which says no number.
  machine.top(dict)


def _persistent(machine: _Machine, _: Any) -> None:
  """A storage: ('storage', its type, name of the entry, device, elements)."""
  described = machine.pop()
  if type(described) is not tuple or len(described) != 5:
    raise ValueError('a storage of another kind')
  tag, kind, key, device, numel = described
  known = type(kind) is _Name and kind.text.removeprefix('torch.') in _STORAGES
  texts = all(type(x) is str for x in (tag, key, device))
  if not known or not texts or tag != 'storage' or not _is_size(numel):
    raise ValueError('a storage of another kind')
  dtype, itemsize = _STORAGES[kind.text.removeprefix('torch.')]
  machine.stack.append(StoredTensor(key, dtype, itemsize, numel))


def _ordered_dict(*args: Any) -> dict[Any, Any]:
  if args and args != ([],):
    raise PickleRefused('its pickle makes an OrderedDict of other things')
  return {}


def _rebuild_tensor(
    storage: Any, offset: Any, shape: Any, strides: Any, *flags: Any
) -> StoredTensor:
  if type(storage) is not StoredTensor or storage.shape or len(flags) > 3:
    raise ValueError('a tensor without a storage')
  if not _are_sizes(shape) or not _are_sizes(strides) or not _is_size(offset):
    raise ValueError('a tensor without a shape')
  if len(shape) != len(strides) or len(shape) > _MAX_RANK:
    raise ValueError('a shape that does not fit its strides')
  last = offset + sum(
      (n - 1) * step for n, step in zip(shape, strides, strict=True)
  )
  count = math.prod(shape)
  # More elements than its storage has: a view that repeats them.
  if count and (last >= storage.numel or count > storage.numel):
    raise ValueError('a tensor that is larger than its storage')
  return dataclasses.replace(
      storage, offset=offset, shape=tuple(shape), strides=tuple(strides)
  )


def _rebuild_parameter(data: Any, *flags: Any) -> StoredTensor:
  if type(data) is not StoredTensor or len(flags) > 2:
    raise ValueError('a parameter without a tensor')
  return data


def _size(values: Any = ()) -> tuple[int, ...]:
  if not _are_sizes(values):
    raise ValueError('a torch.Size of other things')
  return tuple(values)


def _is_size(x: Any) -> bool:
  return type(x) is int and 0 <= x < 2**48


def _are_sizes(x: Any) -> bool:
  return type(x) in (tuple, list) and all(_is_size(n) for n in x)


# What a name stands for when it is called; the rest are never called.
_CALLS: Mapping[str, Callable[..., Any]] = {
    'collections.OrderedDict': _ordered_dict,
    'torch._utils._rebuild_tensor_v2': _rebuild_tensor,
    'torch._utils._rebuild_parameter': _rebuild_parameter,
    'torch.Size': _size,
    'torch.device': lambda *names: 'device',
}
_NAMES = frozenset(
    [*_CALLS]
    + [f'torch.{name}' for name in _STORAGES]
    + [f'torch.{name}' for name in _DTYPES]
)


def _push(machine: _Machine, value: Any) -> None:
  machine.stack.append(value)


def _pop(machine: _Machine, _: Any) -> None:
  machine.stack.pop()


def _constant(make: Callable[[], Any]) -> Callable[[_Machine, Any], None]:
  return lambda machine, _: machine.stack.append(make())


def _tuple_of(count: int) -> Callable[[_Machine, Any], None]:
  def step(machine: _Machine, _: Any) -> None:
    values = [machine.pop() for _ in range(count)]
    machine.stack.append(tuple(values[::-1]))

  return step


def _dict(machine: _Machine, _: Any) -> None:
  values = machine.pop_mark()
  machine.stack.append({})
  _items(machine, values)


def _set_item(machine: _Machine, _: Any) -> None:
  value, key = machine.pop(), machine.pop()
  _items(machine, [key, value])


def _append(machine: _Machine, _: Any) -> None:
  value = machine.pop()
  machine.top(list).append(value)


def _appends(machine: _Machine, _: Any) -> None:
  values = machine.pop_mark()
  machine.top(list).extend(values)


_STEPS: Mapping[str, Callable[[_Machine, Any], None]] = {
    'PROTO': lambda machine, _: None,
    'FRAME': lambda machine, _: None,
    'MARK': lambda machine, _: machine.stack.append(_MARK),
    'POP': _pop,
    'NONE': _constant(lambda: None),
    'NEWTRUE': _constant(lambda: True),
    'NEWFALSE': _constant(lambda: False),
    'EMPTY_TUPLE': _constant(tuple),
    'EMPTY_LIST': _constant(list),
    'EMPTY_DICT': _constant(dict),
    **dict.fromkeys(
        ('INT', 'BININT', 'BININT1', 'BININT2', 'LONG', 'LONG1', 'LONG4',
         'FLOAT', 'BINFLOAT', 'BINUNICODE', 'SHORT_BINUNICODE',
         'BINUNICODE8'),
        _push,
    ),
    'TUPLE1': _tuple_of(1),
    'TUPLE2': _tuple_of(2),
    'TUPLE3': _tuple_of(3),
    'TUPLE': lambda machine, _: _push(machine, tuple(machine.pop_mark())),
    'LIST': lambda machine, _: _push(machine, machine.pop_mark()),
    'DICT': _dict,
    'APPEND': _append,
    'APPENDS': _appends,
    'SETITEM': _set_item,
    'SETITEMS': lambda machine, _: _items(machine, machine.pop_mark()),
    **dict.fromkeys(('PUT', 'BINPUT', 'LONG_BINPUT'), _Machine.memoize),
    'MEMOIZE': lambda machine, _: machine.memoize(len(machine.memo)),
    **dict.fromkeys(
        ('GET', 'BINGET', 'LONG_BINGET'),
        lambda machine, index: _push(machine, machine.memo[index]),
    ),
    'GLOBAL': _global,
    'STACK_GLOBAL': _stack_global,
    'REDUCE': _reduce,
    'BUILD': _build,
    'BINPERSID': _persistent,
}  # fmt: skip
