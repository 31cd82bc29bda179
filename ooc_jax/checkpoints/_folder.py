"""Our own checkpoints: Orbax arrays in small items, and a manifest.

A folder holds `ooc_jax.json`, `tokenizer.json`, `source_config.json` (what
Hugging Face's config.json said, where there was one) and `params/`, where each
item of `items_of` is a checkpoint of its own: a load reads only what it needs,
and a conversion holds one item at a time.
"""

from collections.abc import Collection
import json
import os
import pathlib
from typing import Any

import flax
import jax
from jax.sharding import Mesh
from jax.sharding import SingleDeviceSharding

from ooc_jax._errors import InputError
from ooc_jax._folders import checked_target
from ooc_jax._folders import new_folder
from ooc_jax.checkpoints._convert import parameter_sharding
from ooc_jax.checkpoints._manifest import MANIFEST
from ooc_jax.checkpoints._manifest import Manifest
from ooc_jax.checkpoints._manifest import read_manifest
from ooc_jax.checkpoints._manifest import write_manifest
from ooc_jax.checkpoints._orbax import load_arrays
from ooc_jax.checkpoints._orbax import save_arrays
from ooc_jax.checkpoints._source import read_json
from ooc_jax.checkpoints._stream import ParameterStream
from ooc_jax.checkpoints._stream import items_of
from ooc_jax.checkpoints._stream import stream_of_model
from ooc_jax.model import PARTS
from ooc_jax.model import Model
from ooc_jax.model import Tokenizer
from ooc_jax.model import parameter_shapes
from ooc_jax.model import part_of
from ooc_jax.model import parts_needed

_PARAMS = 'params'
_TOKENIZER = 'tokenizer.json'
_SOURCE_CONFIG = 'source_config.json'


def save_model(model: Model, folder: str | os.PathLike[str]) -> None:
  """Writes `model` to a new folder, whole or not at all.

  Args:
    model: With all or some of its parts.
    folder: Must not exist.

  Raises:
    InputError: The folder exists or cannot be written.
  """
  target = checked_target(folder)
  try:
    stream = stream_of_model(model)
  except InputError as error:
    raise InputError(f'{target} is not written: {error}') from None
  write_folder(stream, target)


def write_folder(stream: ParameterStream, target: pathlib.Path) -> None:
  """Writes a model, one item after another.

  Args:
    stream: Is read an item at a time.
    target: Must not exist.

  Raises:
    InputError: The folder cannot be written, or the stream cannot be read.
  """
  with new_folder(target, stream.size) as folder:
    (folder / _PARAMS).mkdir()
    for item, names in stream.items().items():
      save_arrays(folder / _PARAMS / item, stream.read(names))
    if stream.write_tokenizer is not None:
      stream.write_tokenizer(folder / _TOKENIZER)
    if stream.hf_config is not None:
      text = json.dumps(stream.hf_config, indent=2) + '\n'
      (folder / _SOURCE_CONFIG).write_text(text)
    write_manifest(folder, stream.config, stream.arrays, stream.origin())


def restore_model(
    folder: str | os.PathLike[str],
    *,
    parts: Collection[str] | None = None,
    dtype: Any = None,
    mesh: Mesh | None = None,
) -> Model:
  """Reads what `save_model` wrote, each array straight to its devices.

  Args:
    folder: Of `save_model`, or of a conversion.
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
  _check(folder, manifest, needed)
  wanted = [
      name for name in manifest.arrays if part_of(name.split('/')) in needed
  ]
  items = items_of(wanted)
  files = [folder / MANIFEST]
  files += manifest.whole_files(folder, [f'{_PARAMS}/{i}/' for i in items])
  flat = {}
  for names in items.values():
    flat |= _read_item(folder, manifest, names, dtype, mesh)
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


def stream_of_folder(
    folder: pathlib.Path, dtype: Any = None, mesh: Mesh | None = None
) -> ParameterStream:
  """A folder of ours, read again an item at a time.

  Args:
    folder: Of `write_folder`.
    dtype: Of the parameters; None keeps what is stored.
    mesh: Spreads them over devices.

  Raises:
    InputError: The folder is incomplete, damaged or of another format.
  """
  manifest = read_manifest(folder)
  _check(folder, manifest, parts_needed(manifest.config, PARTS))
  manifest.whole_files(folder, [f'{_PARAMS}/', _SOURCE_CONFIG])
  arrays = manifest.arrays
  if dtype is not None:
    arrays = {
        name: jax.ShapeDtypeStruct(x.shape, dtype) for name, x in arrays.items()
    }
  write_tokenizer = None
  if tokenizer := manifest.whole_files(folder, [_TOKENIZER]):
    write_tokenizer = Tokenizer.from_file(tokenizer[0]).save
  hf_config = None
  if _SOURCE_CONFIG in manifest.sizes:
    hf_config = read_json(folder / _SOURCE_CONFIG)
  return ParameterStream(
      config=manifest.config,
      arrays=arrays,
      read=lambda names: _read_item(folder, manifest, names, dtype, mesh),
      write_tokenizer=write_tokenizer,
      hf_config=hf_config,
      origin=lambda: manifest.origin,
  )


def _check(
    folder: pathlib.Path, manifest: Manifest, needed: Collection[str]
) -> None:
  """Whether the arrays of `needed` are those of the config."""
  shapes = parameter_shapes(manifest.config)
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
    stored = manifest.arrays[name].shape
    if stored != shape:
      raise InputError(
          f'{folder}: {name} is {list(stored)} and its config describes'
          f' {list(shape)}; convert the model again.'
      )


def _read_item(
    folder: pathlib.Path,
    manifest: Manifest,
    names: Collection[str],
    dtype: Any,
    mesh: Mesh | None,
) -> dict[str, jax.Array]:
  """The parameters `names`, all of one item."""
  like = {}
  for name in names:
    stored = manifest.arrays[name]
    sharding = SingleDeviceSharding(jax.devices()[0])
    if mesh is not None:
      sharding = parameter_sharding(mesh, name, stored.shape)
    like[name] = jax.ShapeDtypeStruct(
        stored.shape, dtype or stored.dtype, sharding=sharding
    )
  (item,) = items_of(names)
  try:
    return load_arrays(folder / _PARAMS / item, like)
  except ValueError as error:
    raise InputError(
        f'{folder} is damaged ({error}); convert the model again.'
    ) from error
