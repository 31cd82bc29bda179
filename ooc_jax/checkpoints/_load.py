"""`load_model`, and `plan_model`: what it would download, read and hold."""

from collections.abc import Collection
import dataclasses
import math
import os
from typing import Any

from jax.sharding import Mesh

from ooc_jax.checkpoints._convert import checked_dtype
from ooc_jax.checkpoints._convert import convert
from ooc_jax.checkpoints._find import fetch_config
from ooc_jax.checkpoints._find import find_model
from ooc_jax.checkpoints._find import plan_weights
from ooc_jax.checkpoints._folder import restore_model
from ooc_jax.checkpoints._hub_plan import PlannedFile
from ooc_jax.checkpoints._locate import cached_copy
from ooc_jax.checkpoints._locate import locate
from ooc_jax.checkpoints._manifest import read_manifest
from ooc_jax.checkpoints._open import open_model
from ooc_jax.checkpoints._open import tensors_of
from ooc_jax.checkpoints._source import read_json
from ooc_jax.model import PARTS
from ooc_jax.model import Model
from ooc_jax.model import ModelConfig
from ooc_jax.model import config_from_hf
from ooc_jax.model import parameter_shapes
from ooc_jax.model import part_of
from ooc_jax.model import parts_needed

_HALF = ('bfloat16', 'float16', 'BF16', 'F16')


def load_model(
    source: str | os.PathLike[str],
    *,
    parts: Collection[str] | None = None,
    dtype: Any = None,
    mesh: Mesh | None = None,
    revision: str | None = None,
) -> Model:
  """Loads a text model of one of the families in `ooc_jax.model.families`.

  Args:
    source: A name of the registry ('gemma2-2b', 'smollm2'), a hub repository
      ('owner/name'), a folder (Hugging Face safetensors, or what `save_model`
      wrote), a `.safetensors` file beside its `config.json`, or a `.gguf`
      file.
    parts: Which of 'embedding', 'unembedding', 'attention', 'mlp', 'norms' to
      read; None is all. Nothing else is read or downloaded.
    dtype: Of the parameters; None keeps what is stored (float32 where it was
      quantised).
    mesh: Spreads parameters over devices: rows of the embeddings over `vocab`,
      MLP neurons over `feature`.
    revision: Branch, tag or commit of a hub repository.

  Returns:
    `Model(config, params, tokenizer)`.

  Raises:
    InputError: The source is unknown, incomplete, damaged or of a kind that is
      not supported; the message says what, where and what to do.
  """
  parts = PARTS if parts is None else parts
  dtype = checked_dtype(dtype)
  place = find_model(source, parts, revision)
  if place.is_ours:
    return restore_model(place.path, parts=parts, dtype=dtype, mesh=mesh)
  opened = open_model(place.path, parts)
  params = convert(
      opened.config,
      opened.rules,
      opened.source,
      parts=parts,
      dtype=dtype,
      mesh=mesh,
      ignored=opened.ignored,
      aliases=opened.aliases,
  )
  files = tuple(str(f) for f in opened.files)
  return Model(
      opened.config,
      params,
      opened.tokenizer(),
      files=files,
      notes=opened.notes,
  )


@dataclasses.dataclass(frozen=True)
class ModelPlan:
  """What `load_model` would do.

  Attributes:
    config: The model's hyperparameters.
    files: What would be read of it.
    parameter_bytes: Of the parameters, as they would be held.
    item_bytes: Of one parameter.
  """

  config: ModelConfig
  files: tuple[PlannedFile, ...]
  parameter_bytes: int
  item_bytes: int


def plan_model(
    source: str | os.PathLike[str],
    *,
    parts: Collection[str] | None = None,
    revision: str | None = None,
) -> ModelPlan:
  """What `load_model` with the same arguments would download and hold.

  Of a hub repository only config, tokenizer and index are fetched.

  Raises:
    InputError: As `load_model` does.
  """
  parts = PARTS if parts is None else parts
  place = locate(source, revision)
  if isinstance(place, str) and not cached_copy(place, revision):
    folder = fetch_config(place, revision)
    hf = read_json(folder / 'config.json')
    config = config_from_hf(hf, place)
    files = plan_weights(place, folder, config, tensors_of(config, parts))
    return _plan(config, parts, files, _item_bytes(hf))
  found = find_model(source, parts, revision)
  if found.is_ours:
    manifest = read_manifest(found.path)
    inside = (f for f in found.path.rglob('*') if f.is_file())
    item = max((x.dtype.itemsize for x in manifest.arrays.values()), default=4)
    return _plan(manifest.config, parts, _local(inside), item)
  opened = open_model(found.path, parts)
  # GGUF is dequantised to float32.
  stored = {info.dtype for info in opened.source.tensors().values()}
  half = opened.config_file is not None and stored <= {*_HALF, None}
  return _plan(opened.config, parts, _local(opened.files), 2 if half else 4)


def _plan(
    config: ModelConfig,
    parts: Collection[str],
    files: tuple[PlannedFile, ...],
    item_bytes: int,
) -> ModelPlan:
  needed = parts_needed(config, parts)
  count = sum(
      math.prod(shape)
      for name, shape in parameter_shapes(config).items()
      if part_of(name.split('/')) in needed
  )
  return ModelPlan(config, files, item_bytes * count, item_bytes)


def _local(files: Any) -> tuple[PlannedFile, ...]:
  return tuple(PlannedFile(str(f), f.stat().st_size, True) for f in files)


def _item_bytes(hf: dict[str, Any]) -> int:
  inner = hf.get('text_config') or hf
  stored = [c.get(k) for c in (inner, hf) for k in ('dtype', 'torch_dtype')]
  named = next((x for x in stored if x is not None), 'float32')
  return 2 if named in _HALF else 4
