"""From a checkpoint's tensors to the parameters of a `Transformer`."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import flax
import jax
from jax.sharding import Mesh
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec
import jax.numpy as jnp
import numpy as np

from ooc_jax._errors import InputError
from ooc_jax.checkpoints._rules import conversion_problems
from ooc_jax.checkpoints._rules import Rule
from ooc_jax.checkpoints._source import TensorSource
from ooc_jax.model import ModelConfig
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
_MOST_PROBLEMS = 12

# Jitted: one fused pass, where eager code would hold a mask of its size.
_all_finite = jax.jit(lambda x: jnp.isfinite(x).all())


def parameter_sharding(
    mesh: Mesh, name: str, shape: tuple[int, ...]
) -> NamedSharding:
  """Where the parameter `name` lies on a mesh with `feature` and `vocab`.

  An axis that the mesh does not divide is replicated.
  """
  axes = _SPECS.get(name.rsplit('/', 1)[-1], ())
  spec = [
      axis
      if axis in mesh.axis_names and size % mesh.shape[axis] == 0
      else None
      for axis, size in zip(axes, shape, strict=False)
  ]
  return NamedSharding(mesh, PartitionSpec(*spec))


def place(x: np.ndarray, name: str, dtype: Any, mesh: Mesh | None) -> jax.Array:
  """Puts a host array on the device, or spreads it over the mesh."""
  # One copy at most: a transposed view is made contiguous by the cast.
  x = np.ascontiguousarray(x, dtype=dtype if dtype is not None else x.dtype)
  if mesh is None:
    return jnp.asarray(x)
  return jax.device_put(x, parameter_sharding(mesh, name, x.shape))


def convert(
    config: ModelConfig,
    rules: Iterable[Rule],
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
  aliases = aliases or {}
  stored = {
      aliases.get(name, name): info
      for name, info in source.tensors().items()
      if name not in ignored
  }
  back = {ours: theirs for theirs, ours in aliases.items()}
  rules = tuple(rules)
  problems = conversion_problems(
      rules,
      {name: info.shape for name, info in stored.items()},
      parameter_shapes(config),
  )
  if problems:
    more = len(problems) - _MOST_PROBLEMS
    listed = '; '.join(problems[:_MOST_PROBLEMS])
    raise InputError(
        f'{source.where} does not hold the model that its config describes:'
        f' {listed}{f"; and {more} more" if more > 0 else ""}.'
    )
  needed = parts_needed(config, parts)
  params = {}
  for rule in rules:
    if part_of(rule.ours.split('/')) not in needed:
      continue
    name = back.get(rule.theirs, rule.theirs)
    x = rule.convert(source.read(name))
    array = place(x, rule.ours, dtype, mesh)
    if not _all_finite(array):
      raise InputError(
          f'{source.where}: tensor {name!r} holds NaN or infinity; download'
          ' the checkpoint again.'
      )
    params[rule.ours] = array
  return flax.traverse_util.unflatten_dict(params, sep='/')
