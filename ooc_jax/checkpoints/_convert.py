"""From a checkpoint's tensors to the parameters of a `Transformer`."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import flax
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec
import numpy as np

from ooc_jax._errors import InputError
from ooc_jax._text import printable
from ooc_jax.checkpoints._source import TensorSource
from ooc_jax.model import ModelConfig
from ooc_jax.model import families
from ooc_jax.model import parameter_shapes
from ooc_jax.model import part_of
from ooc_jax.model import parts_needed

# Which mesh axis each parameter's leading or trailing axis lies on. All that
# the lenses stream over is spread out; the rest is small and replicated.
_SPECS = {
    'embedding': ('vocab', None),
    'unembedding': ('vocab', None),
    'gate': (None, 'feature'),
    'up': (None, 'feature'),
    'down': ('feature', None),
}
_FLOATS = ('float32', 'bfloat16', 'float16', 'float64')
_MOST_PROBLEMS = 12
# Elements tested for NaN at a time: no mask as large as an embedding.
_BLOCK = 2**18


def parameter_sharding(
    mesh: Mesh, name: str, shape: tuple[int, ...]
) -> NamedSharding:
  """Where the parameter `name` lies on a mesh with `feature` and `vocab`.

  An axis that the mesh does not divide is replicated.
  """
  axes = _SPECS.get(name.rsplit('/', 1)[-1], ())
  spec = [
      axis if axis in mesh.axis_names and size % mesh.shape[axis] == 0 else None
      for axis, size in zip(axes, shape, strict=False)
  ]
  return NamedSharding(mesh, PartitionSpec(*spec))


def checked_dtype(dtype: Any) -> Any:
  """The dtype that parameters shall have, or None.

  Raises:
    InputError: It is none that weights may have.
  """
  # float64 only where JAX would not make float32 of it.
  known = [d for d in _FLOATS if jax.dtypes.canonicalize_dtype(d).name == d]
  try:
    if dtype is None or jnp.dtype(dtype).name in known:
      return None if dtype is None else jnp.dtype(dtype)
  except TypeError:
    pass  # No dtype at all.
  raise InputError(f'dtype={dtype!r} must be one of {", ".join(known)}.')


def convert(
    config: ModelConfig,
    rules: Iterable[families.Rule],
    source: TensorSource,
    *,
    parts: Collection[str],
    dtype: Any = None,
    mesh: Mesh | None = None,
    ignored: Collection[str] = (),
    aliases: Mapping[str, str] | None = None,
) -> dict[str, Any]:
  """Reads the tensors of `parts`, or says everything that is wrong.

  Every tensor of the checkpoint is accounted for, read or not.

  Args:
    config: Fixes the name and shape of every parameter.
    rules: One rule per tensor.
    source: The checkpoint.
    parts: Which of `ooc_jax.model.PARTS` to read.
    dtype: Of the parameters; None keeps what is stored.
    mesh: Spreads them over devices.
    ignored: Tensors that are no parameters.
    aliases: Name in the checkpoint -> name that the rules use for it.

  Returns:
    A nested dict, as much of the `params` collection as `parts` covers.

  Raises:
    InputError: Tensors are missing, unread or misshapen, or one that is read
      holds NaN or infinity.
  """
  readable = checked_rules(
      config, rules, source, parts=parts, ignored=ignored, aliases=aliases
  )
  shapes = parameter_shapes(config)
  params = {
      rule.ours: read_parameter(
          rule, source, name, dtype, mesh, shapes[rule.ours]
      )
      for rule, name in readable
  }
  return flax.traverse_util.unflatten_dict(params, sep='/')


def checked_rules(
    config: ModelConfig,
    rules: Iterable[families.Rule],
    source: TensorSource,
    *,
    parts: Collection[str],
    ignored: Collection[str] = (),
    aliases: Mapping[str, str] | None = None,
) -> list[tuple[families.Rule, str]]:
  """The rules of `parts`, each with the name of its tensor in `source`.

  Args:
    See `convert`.

  Raises:
    InputError: Tensors are missing, unread or misshapen.
  """
  rules = tuple(rules)
  name_of = _stored_names(source, ignored, aliases or {})
  infos = source.tensors()
  problems = conversion_problems(
      rules,
      {plain: infos[name].shape for plain, name in name_of.items()},
      parameter_shapes(config),
  )
  if problems:
    more = len(problems) - _MOST_PROBLEMS
    listed = printable('; '.join(problems[:_MOST_PROBLEMS]), 2000)
    raise InputError(
        f'{source.where} does not hold the model that its config describes:'
        f' {listed}{f"; and {more} more" if more > 0 else ""}.'
    )
  needed = parts_needed(config, parts)
  return [
      (rule, name_of[rule.theirs])
      for rule in rules
      if part_of(rule.ours.split('/')) in needed
  ]


def conversion_problems(
    rules: Iterable[families.Rule],
    theirs: Mapping[str, tuple[int, ...] | None],
    expected: Mapping[str, tuple[int, ...]],
) -> list[str]:
  """Everything that is wrong with a checkpoint, or an empty list.

  Args:
    rules: One rule per tensor.
    theirs: Name and shape of every tensor of the checkpoint; None where the
      shape is not known.
    expected: Name and shape of every parameter of the model.
  """
  rules = tuple(rules)
  problems = [
      f'no rule reads {name}'
      for name in sorted(set(theirs) - {rule.theirs for rule in rules})
  ]
  written = set()
  for rule in rules:
    if rule.ours in written:
      problems.append(f'two rules write {rule.ours}')
    written.add(rule.ours)
    if rule.theirs not in theirs:
      problems.append(f'{rule.theirs} is missing')
      continue
    want, have = expected.get(rule.ours), theirs[rule.theirs]
    if want is None:
      problems.append(f'the model has no {rule.ours}')
    elif have is not None and rule.converted_shape(have) != want:
      problems.append(
          f'{rule.theirs} is {list(have)}, which does not give {rule.ours}'
          f' {list(want)}'
      )
  return problems + [
      f'no rule writes {name}' for name in sorted(set(expected) - written)
  ]


def _stored_names(
    source: TensorSource,
    ignored: Collection[str],
    aliases: Mapping[str, str],
) -> dict[str, str]:
  """Name that the rules use -> name in the checkpoint."""
  names: dict[str, str] = {}
  for name in source.tensors():
    if name in ignored:
      continue
    plain = aliases.get(name, name)
    if plain in names:
      raise InputError(
          printable(
              f'{source.where} holds {plain} twice, as {names[plain]!r} and'
              f' {name!r}; take a checkpoint with one of them.'
          )
      )
    names[plain] = name
  return names


def read_parameter(
    rule: families.Rule,
    source: TensorSource,
    name: str,
    dtype: Any,
    mesh: Mesh | None,
    shape: tuple[int, ...],
) -> jax.Array:
  """One parameter, holding at most one more array of its size at a time.

  Of one that is spread over a mesh, each process reads its own part.

  Args:
    rule: Between the two names.
    source: The checkpoint.
    name: Of the tensor there.
    dtype: Of the parameter; None keeps what is stored.
    mesh: Spreads it over devices.
    shape: Of the parameter.

  Raises:
    InputError: The tensor `name` holds NaN or infinity.
  """
  if mesh is None:
    return jax.device_put(_read(rule, source, name, dtype, None))
  sharding = parameter_sharding(mesh, rule.ours, shape)
  whole = (slice(None),) * len(shape)
  pieces: dict[Any, np.ndarray] = {}  # Devices may share a part.

  def part(index: Any) -> np.ndarray:
    stored = rule.stored_part(index)
    key = None if stored is None or index == whole else str(stored)
    if key not in pieces:
      pieces[key] = _read(
          rule, source, name, dtype, None if key is None else stored
      )
    return pieces[key] if stored is not None else pieces[key][index]

  return jax.make_array_from_callback(shape, sharding, part)


def _read(
    rule: families.Rule,
    source: TensorSource,
    name: str,
    dtype: Any,
    index: tuple[slice, ...] | None,
) -> np.ndarray:
  """A part of a tensor as that of a parameter, checked."""
  x = source.read(name, index)
  stored = x.dtype
  dtype = jax.dtypes.canonicalize_dtype(stored if dtype is None else dtype)
  with np.errstate(over='ignore', invalid='ignore'):  # Refused below.
    x = np.ascontiguousarray(rule.convert(x), dtype)
  if not _all_finite(x):
    cast = f' as {dtype}' if dtype != stored else ''
    raise InputError(
        f'{source.where}: tensor {name!r} holds NaN or infinity{cast};'
        f' {"take a wider dtype, or " if cast else ""}download the checkpoint'
        ' again.'
    )
  return x


def _all_finite(x: np.ndarray) -> bool:
  flat = x.reshape(-1)
  return all(
      np.isfinite(flat[i : i + _BLOCK]).all()
      for i in range(0, flat.size, _BLOCK)
  )
