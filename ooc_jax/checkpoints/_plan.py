"""What a load would download, read and hold, found from headers alone."""

from collections.abc import Collection
import dataclasses
import math
import os
from typing import Any

from ooc_jax.checkpoints._cache import cached_copy
from ooc_jax.checkpoints._hub import PlannedFile
from ooc_jax.checkpoints._hub import fetch_config
from ooc_jax.checkpoints._hub import plan_weights
from ooc_jax.checkpoints._locate import locate
from ooc_jax.checkpoints._manifest import read_manifest
from ooc_jax.checkpoints._open import canonical_name
from ooc_jax.checkpoints._open import find_model
from ooc_jax.checkpoints._open import open_model
from ooc_jax.checkpoints._open import tensors_of
from ooc_jax.checkpoints._source import read_json
from ooc_jax.model import PARTS
from ooc_jax.model import ModelConfig
from ooc_jax.model import config_from_hf
from ooc_jax.model import parameter_shapes
from ooc_jax.model import part_of
from ooc_jax.model import parts_needed

_HALF = ('bfloat16', 'float16', 'BF16', 'F16')


@dataclasses.dataclass(frozen=True)
class ModelPlan:
  """What `load_model` would do.

  Attributes:
    config: The model's hyperparameters.
    files: What would be read of it.
    parameter_bytes: Of the parameters, as they would be held.
  """

  config: ModelConfig
  files: tuple[PlannedFile, ...]
  parameter_bytes: int


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
    wanted = tensors_of(config, parts)
    files = plan_weights(place, folder, wanted, canonical_name)
    return _plan(config, parts, files, _item_bytes(hf))
  found = find_model(source, parts, revision)
  if found.is_ours:
    manifest = read_manifest(found.path)
    inside = (f for f in found.path.rglob('*') if f.is_file())
    item = max((x.dtype.itemsize for x in manifest.arrays.values()), default=4)
    return _plan(manifest.config, parts, _local(inside), item)
  opened = open_model(found, parts)
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
  return ModelPlan(config, files, item_bytes * count)


def _local(files: Any) -> tuple[PlannedFile, ...]:
  return tuple(PlannedFile(str(f), f.stat().st_size, True) for f in files)


def _item_bytes(hf: dict[str, Any]) -> int:
  inner = hf.get('text_config') or hf
  stored = [c.get(k) for c in (inner, hf) for k in ('dtype', 'torch_dtype')]
  named = next((x for x in stored if x is not None), 'float32')
  return 2 if named in _HALF else 4
