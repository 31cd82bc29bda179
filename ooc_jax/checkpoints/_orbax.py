"""Our own checkpoints: Orbax arrays, one item a part, and a manifest.

A folder holds `ooc_jax.json` (format, config, dtypes), `tokenizer.json` and
`params/`, where each of `ooc_jax.model.PARTS` is its own item, so that a load
reads only what it needs. The only module that knows Orbax.
"""

from collections.abc import Collection, Mapping
import dataclasses
import json
import os
import pathlib
import shutil
import tempfile
from typing import Any

import flax
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import SingleDeviceSharding
from orbax.checkpoint import v1 as ocp

from ooc_jax._errors import InputError
from ooc_jax.checkpoints._convert import parameter_sharding
from ooc_jax.checkpoints._source import read_json
from ooc_jax.model import Llama3Scaling
from ooc_jax.model import Model
from ooc_jax.model import ModelConfig
from ooc_jax.model import Rope
from ooc_jax.model import Tokenizer
from ooc_jax.model import parameter_shapes
from ooc_jax.model import part_of
from ooc_jax.model import parts_needed

MANIFEST = 'ooc_jax.json'
_FORMAT = 1
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
  if target.exists():
    raise InputError(f'{target} exists already; give a new folder.')
  flat = flax.traverse_util.flatten_dict(model.params, sep='/')
  items: dict[str, dict[str, jax.Array]] = {}
  for name, array in flat.items():
    # Orbax nests by '/', and a part is a flat item.
    items.setdefault(part_of(name.split('/')), {})[_key(name)] = array
  manifest = {
      'format': _FORMAT,
      'config': dataclasses.asdict(model.config),
      'dtypes': {name: str(array.dtype) for name, array in flat.items()},
  }
  try:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = pathlib.Path(
        tempfile.mkdtemp(prefix=f'.{target.name}.', dir=target.parent)
    )
    try:
      ocp.save_checkpointables(temporary / _PARAMS, items)
      (temporary / MANIFEST).write_text(json.dumps(manifest, indent=2) + '\n')
      if model.tokenizer is not None:
        model.tokenizer.save(temporary / _TOKENIZER)
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
    parts: Collection[str],
    dtype: Any = None,
    mesh: Mesh | None = None,
) -> Model:
  """Reads what `save_model` wrote, each array straight to its devices.

  Args:
    folder: Of `save_model`.
    parts: Which of `ooc_jax.model.PARTS` to read.
    dtype: Of the parameters; None keeps what is stored.
    mesh: Spreads them over devices.

  Raises:
    InputError: The folder is incomplete or of another format.
  """
  folder = pathlib.Path(folder).expanduser().absolute()
  manifest = read_json(folder / MANIFEST)
  config, dtypes = _read_manifest(manifest, folder / MANIFEST)
  needed = parts_needed(config, parts)
  abstract: dict[str, dict[str, jax.ShapeDtypeStruct]] = {}
  names = {}
  for name, shape in parameter_shapes(config).items():
    part = part_of(name.split('/'))
    if part not in needed:
      continue
    if name not in dtypes:
      raise InputError(f'{folder} was saved without its {part!r} part.')
    sharding = SingleDeviceSharding(jax.devices()[0])
    if mesh is not None:
      sharding = parameter_sharding(mesh, name, shape)
    abstract.setdefault(part, {})[_key(name)] = jax.ShapeDtypeStruct(
        shape, dtype if dtype is not None else dtypes[name], sharding=sharding
    )
    names[_key(name)] = name
  try:
    loaded = ocp.load_checkpointables(folder / _PARAMS, abstract)
  except Exception as error:  # Orbax and TensorStore raise many types.
    raise InputError(
        f'{folder} is damaged ({type(error).__name__}:'
        f' {" ".join(str(error).split())[:300]}); convert the model again.'
    ) from None
  flat = {names[k]: x for item in loaded.values() for k, x in item.items()}
  tokenizer = None
  read = [folder / MANIFEST]
  for part in abstract:
    read += sorted(
        f for f in (folder / _PARAMS / part).rglob('*') if f.is_file()
    )
  if (folder / _TOKENIZER).is_file():
    read.append(folder / _TOKENIZER)
    tokenizer = Tokenizer.from_file(
        folder / _TOKENIZER, vocab_size=config.vocab_size
    )
  return Model(
      config,
      flax.traverse_util.unflatten_dict(flat, sep='/'),
      tokenizer,
      files=tuple(str(f) for f in read),
  )


def _key(name: str) -> str:
  return name.replace('/', '.')


def _read_manifest(
    manifest: Mapping[str, Any], path: pathlib.Path
) -> tuple[ModelConfig, dict[str, jnp.dtype]]:
  if manifest.get('format') != _FORMAT:
    raise InputError(
        f'{path} has format {manifest.get("format")!r}, this version reads'
        f' {_FORMAT}; convert the model again.'
    )
  try:
    fields = dict(manifest['config'])
    for name in ('rope', 'local_rope'):
      if fields[name] is not None:
        fields[name] = _read_rope(fields[name])
    fields['windows'] = tuple(fields['windows'])
    config = ModelConfig(**fields)
    dtypes = {k: jnp.dtype(v) for k, v in manifest['dtypes'].items()}
  except InputError as error:
    raise InputError(f'{path}: {error}') from None
  except (KeyError, TypeError, ValueError, AttributeError) as error:
    raise InputError(f'{path} is damaged: {error!r}.') from None
  return config, dtypes


def _read_rope(fields: Mapping[str, Any]) -> Rope:
  llama3, divisors = fields['llama3'], fields['divisors']
  return Rope(
      base=fields['base'],
      linear_factor=fields['linear_factor'],
      llama3=None if llama3 is None else Llama3Scaling(**llama3),
      divisors=None if divisors is None else tuple(divisors),
  )
