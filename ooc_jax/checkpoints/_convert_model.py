"""`convert_model`: from any checkpoint to Orbax, or back to Hugging Face."""

from collections.abc import Mapping
import json
import os
import pathlib
from typing import Any

from jax.sharding import Mesh
import numpy as np
import safetensors.numpy

from ooc_jax._errors import InputError
from ooc_jax._folders import checked_target
from ooc_jax._folders import new_folder
from ooc_jax.checkpoints._convert import checked_dtype
from ooc_jax.checkpoints._find import find_model
from ooc_jax.checkpoints._folder import stream_of_folder
from ooc_jax.checkpoints._folder import write_folder
from ooc_jax.checkpoints._locate import cache_folder
from ooc_jax.checkpoints._safetensors import INDEX
from ooc_jax.checkpoints._safetensors import SINGLE
from ooc_jax.checkpoints._stream import ParameterStream
from ooc_jax.checkpoints._stream import stream_of_checkpoint
from ooc_jax.model import PARTS
from ooc_jax.model import config_to_hf
from ooc_jax.model import families
from ooc_jax.model import text_config

KINDS = ('orbax', 'safetensors')
SHARD_SIZE = 2 * 10**9
# As transformers writes it; loaders that know several frameworks ask for it.
_METADATA = {'format': 'pt'}


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
    copies = cache_folder(found.repo)
    if copies is None:
      raise InputError(
          'There is no cache to put the copy into: set OOC_JAX_CACHE to a'
          ' folder, or give --out=FOLDER.'
      )
    target = checked_target(copies / found.commit)
  stream = (
      stream_of_folder(found.path.absolute(), dtype, mesh)
      if found.is_ours
      else stream_of_checkpoint(found, dtype, mesh)
  )
  if to == 'orbax':
    write_folder(stream, target)
  else:
    _write_safetensors(stream, target, shard_size)
  return target


def _write_safetensors(
    stream: ParameterStream, target: pathlib.Path, shard_size: int
) -> None:
  """Writes a folder that `transformers` reads, one shard in memory at a time.

  The tensors have the bits that were read. Where the model came with a
  config.json, that is written (of a multimodal model, its text model).

  Args:
    stream: All parts of a model.
    target: Must not exist.
    shard_size: Bytes of a file; a larger table or block of a layer has a file
      of its own.

  Raises:
    InputError: The folder cannot be written, the stream cannot be read, or the
      model has no form in a config.json.
  """
  if shard_size < 1:
    raise InputError(f'shard_size={shard_size} must be at least 1 byte.')
  config = (
      config_to_hf(stream.config)
      if stream.hf_config is None
      else text_config(stream.hf_config)
  )
  shards = _shards(stream, shard_size)
  with new_folder(target, stream.size) as folder:
    weight_map = {}
    for i, items in enumerate(shards, 1):
      name = f'model-{i:05}-of-{len(shards):05}.safetensors'
      if len(shards) == 1:
        name = SINGLE
      for tensor in _write_shard(stream, items, folder / name):
        weight_map[tensor] = name
    if len(shards) > 1:
      index = {
          'metadata': {'total_size': stream.size},
          'weight_map': weight_map,
      }
      (folder / INDEX).write_text(json.dumps(index, indent=2) + '\n')
    text = json.dumps(_with_dtype(config, stream), indent=2) + '\n'
    (folder / 'config.json').write_text(text)
    if stream.write_tokenizer is not None:
      stream.write_tokenizer(folder / 'tokenizer.json')


def _shards(stream: ParameterStream, most: int) -> list[list[str]]:
  """The items of every file: none is in two files, so each is read once."""
  shards: list[list[str]] = [[]]
  size = 0
  for item, names in stream.items().items():
    arrays = [stream.arrays[name] for name in names]
    nbytes = sum(x.size * x.dtype.itemsize for x in arrays)
    if shards[-1] and size + nbytes > most:
      shards.append([])
      size = 0
    shards[-1].append(item)
    size += nbytes
  return shards


def _write_shard(
    stream: ParameterStream, items: list[str], path: pathlib.Path
) -> list[str]:
  """Writes a file and gives the names of the tensors in it."""
  rules = {rule.ours: rule for rule in families.hf_rules(stream.config)}
  tensors: dict[str, np.ndarray] = {}
  for item in items:
    # All parts of a tensor are in one item.
    parts: dict[str, dict[int, np.ndarray]] = {}
    for name, x in stream.read(stream.items()[item]).items():
      rule = rules[name]
      if rule.part is None:
        tensors[rule.theirs] = _theirs(rule, np.asarray(x))
        continue
      found = parts.setdefault(rule.theirs, {})
      found[rule.part] = np.asarray(x)
      if len(found) == rule.sizes['c']:
        whole = np.stack([found[i] for i in sorted(found)])
        tensors[rule.theirs] = _theirs(rule, whole)
  try:
    safetensors.numpy.save_file(tensors, path, metadata=_METADATA)
  except safetensors.SafetensorError as error:  # As on a full disk.
    raise OSError(str(error)) from None
  # safetensors makes files that only their user may read.
  path.chmod(0o644)
  return list(tensors)


def _theirs(rule: families.Rule, x: np.ndarray) -> np.ndarray:
  return np.ascontiguousarray(rule.inverse().convert(x))


def _with_dtype(
    config: Mapping[str, Any], stream: ParameterStream
) -> dict[str, Any]:
  """The config, saying the dtype that is written where that is another one."""
  config = dict(config)
  kinds = {str(x.dtype) for x in stream.arrays.values()}
  keys = [k for k in ('torch_dtype', 'dtype') if config.get(k) is not None]
  if len(kinds) == 1:
    for key in keys or ['torch_dtype']:
      if stream.hf_config is None or keys:
        config[key] = next(iter(kinds))
  return config
