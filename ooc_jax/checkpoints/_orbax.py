"""Our own checkpoints: Orbax arrays, one item a part, and a manifest.

A folder holds `ooc_jax.json`, `tokenizer.json` and `params/`, where each of
`ooc_jax.model.PARTS` is its own item, so that a load reads only what it needs.
The only module that knows Orbax.
"""

from collections.abc import Collection
import os
import pathlib
import shutil
import tempfile
from typing import Any

import flax
import jax
from jax.sharding import Mesh
from jax.sharding import SingleDeviceSharding
from orbax.checkpoint import v1 as ocp

from ooc_jax._errors import InputError
from ooc_jax.checkpoints._convert import parameter_sharding
from ooc_jax.checkpoints._manifest import MANIFEST
from ooc_jax.checkpoints._manifest import read_manifest
from ooc_jax.checkpoints._manifest import write_manifest
from ooc_jax.model import PARTS
from ooc_jax.model import Model
from ooc_jax.model import Tokenizer
from ooc_jax.model import parameter_shapes
from ooc_jax.model import part_of
from ooc_jax.model import parts_needed

_PARAMS = 'params'
_TOKENIZER = 'tokenizer.json'


def save_model(model: Model, folder: str | os.PathLike[str]) -> None:
  """Writes `model` to a new folder, whole or not at all.

  Args:
    model: With all or some of its parts.
    folder: Must not exist.

  Raises:
    InputError: The folder exists or cannot be written.
  """
  target = pathlib.Path(folder).expanduser().absolute()
  if os.path.lexists(target):
    raise InputError(f'{target} exists already; give a new folder.')
  flat = flax.traverse_util.flatten_dict(model.params, sep='/')
  shapes = parameter_shapes(model.config)
  if wrong := [k for k, x in flat.items() if x.shape != shapes.get(k)]:
    raise InputError(
        f'{target} is not written: {wrong[:5]} are not what the config of the'
        ' model describes; check its params.'
    )
  items: dict[str, dict[str, jax.Array]] = {}
  for name, array in flat.items():
    # Orbax nests by '/', and a part is a flat item.
    items.setdefault(part_of(name.split('/')), {})[_key(name)] = array
  try:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = pathlib.Path(
        tempfile.mkdtemp(prefix=f'.{target.name}.', dir=target.parent)
    )
    try:
      ocp.save_checkpointables(temporary / _PARAMS, items)
      if model.tokenizer is not None:
        model.tokenizer.save(temporary / _TOKENIZER)
      write_manifest(temporary, model.config, flat)
      # mkdtemp is private to its user; a checkpoint is as open as any folder.
      temporary.chmod(0o755)
      temporary.rename(target)
    except BaseException:
      shutil.rmtree(temporary, ignore_errors=True)
      raise
  except OSError as error:
    raise InputError(
        f'{target} cannot be written: {error.strerror or error}.'
    ) from None


def restore_model(
    folder: str | os.PathLike[str],
    *,
    parts: Collection[str] | None = None,
    dtype: Any = None,
    mesh: Mesh | None = None,
) -> Model:
  """Reads what `save_model` wrote, each array straight to its devices.

  Args:
    folder: Of `save_model`.
    parts: Which of `ooc_jax.model.PARTS` to read; None is all.
    dtype: Of the parameters; None keeps what is stored.
    mesh: Spreads them over devices.

  Returns:
    The model.

  Raises:
    InputError: The folder is incomplete, damaged or of another format.
  """
  folder = pathlib.Path(folder).expanduser().absolute()
  manifest = read_manifest(folder)
  config = manifest.config
  needed = parts_needed(config, PARTS if parts is None else parts)
  abstract: dict[str, dict[str, jax.ShapeDtypeStruct]] = {}
  names = {}
  shapes = parameter_shapes(config)
  if extra := sorted(set(manifest.arrays) - set(shapes)):
    raise InputError(
        f'{folder} holds {extra[:5]}, which its config does not describe;'
        ' convert the model again.'
    )
  for name, shape in shapes.items():
    part = part_of(name.split('/'))
    if part not in needed:
      continue
    if name not in manifest.arrays:
      raise InputError(
          f'{folder} was saved without its {part!r} part; convert the model'
          ' again, or leave the part out.'
      )
    stored = manifest.arrays[name]
    if stored.shape != shape:
      raise InputError(
          f'{folder}: {name} is {list(stored.shape)} and its config describes'
          f' {list(shape)}; convert the model again.'
      )
    sharding = SingleDeviceSharding(jax.devices()[0])
    if mesh is not None:
      sharding = parameter_sharding(mesh, name, shape)
    abstract.setdefault(part, {})[_key(name)] = jax.ShapeDtypeStruct(
        shape, stored.dtype if dtype is None else dtype, sharding=sharding
    )
    names[_key(name)] = name
  files = [folder / MANIFEST]
  files += manifest.whole_files(folder, [f'{_PARAMS}/{p}/' for p in abstract])
  try:
    loaded = ocp.load_checkpointables(folder / _PARAMS, abstract)
  except Exception as error:  # Orbax and TensorStore raise many types.
    raise InputError(
        f'{folder} is damaged ({type(error).__name__}); convert the model'
        ' again.'
    ) from error
  flat = {names[k]: x for item in loaded.values() for k, x in item.items()}
  tokenizer = None
  if tokenizer_file := manifest.whole_files(folder, [_TOKENIZER]):
    files += tokenizer_file
    tokenizer = Tokenizer.from_file(
        folder / _TOKENIZER, vocab_size=config.vocab_size
    )
  return Model(
      config,
      flax.traverse_util.unflatten_dict(flat, sep='/'),
      tokenizer,
      files=tuple(str(f) for f in files),
  )


def _key(name: str) -> str:
  return name.replace('/', '.')
