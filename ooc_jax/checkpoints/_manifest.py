"""`ooc_jax.json`: what a checkpoint folder of ours holds.

Orbax knows arrays. Which model they make, and whether every file is there and
whole, is written beside them.
"""

from collections.abc import Collection, Mapping
import dataclasses
import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp

from ooc_jax._errors import InputError
from ooc_jax._files import sha256_file
from ooc_jax._text import printable
from ooc_jax.checkpoints._source import read_json
from ooc_jax.model import Llama3Scaling
from ooc_jax.model import ModelConfig
from ooc_jax.model import Rope
from ooc_jax.model import families

MANIFEST = 'ooc_jax.json'
# Format 2 had no fields for what a family's models have in common.
_FORMAT, _READ = 3, (2, 3)


@dataclasses.dataclass(frozen=True)
class Origin:
  """What a converted model was read from.

  Attributes:
    files: Name, size and SHA-256 of every file that was read.
    repo: On the hub, or None.
    commit: Of the repository, or None.
  """

  files: tuple[Mapping[str, Any], ...]
  repo: str | None = None
  commit: str | None = None


@dataclasses.dataclass(frozen=True)
class Manifest:
  """What a folder holds.

  Attributes:
    config: Of the model.
    arrays: Shape and dtype of every parameter that was saved.
    sizes: Bytes of every file, by its path in the folder.
    origin: None where a model in memory was saved.
  """

  config: ModelConfig
  arrays: Mapping[str, jax.ShapeDtypeStruct]
  sizes: Mapping[str, int]
  origin: Origin | None = None

  def whole_files(
      self, folder: pathlib.Path, under: Collection[str]
  ) -> list[pathlib.Path]:
    """The files whose path starts with one of `under`.

    Raises:
      InputError: One is missing or cut.
    """
    files = []
    for name, size in self.sizes.items():
      if not name.startswith(tuple(under)):
        continue
      file = folder / name
      have = file.stat().st_size if file.is_file() else None
      if have != size:
        found = 'is missing' if have is None else f'has {have} bytes'
        raise InputError(
            f'{file} {found}, and {size} bytes were written; convert the model'
            ' again.'
        )
      files.append(file)
    return files


def write_manifest(
    folder: pathlib.Path,
    config: ModelConfig,
    arrays: Mapping[str, jax.ShapeDtypeStruct],
    origin: Origin | None = None,
) -> None:
  """Describes `folder` as it is now, in a file inside it."""
  manifest = {
      'format': _FORMAT,
      'config': dataclasses.asdict(config),
      'origin': None if origin is None else dataclasses.asdict(origin),
      'arrays': {
          name: {'shape': list(x.shape), 'dtype': str(x.dtype)}
          for name, x in arrays.items()
      },
      'sizes': {
          file.relative_to(folder).as_posix(): file.stat().st_size
          for file in sorted(folder.rglob('*'))
          if file.is_file()
      },
  }
  (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + '\n')


def read_manifest(folder: pathlib.Path) -> Manifest:
  """Reads what `write_manifest` wrote.

  Raises:
    InputError: The file is missing, damaged or of another format.
  """
  path = folder / MANIFEST
  manifest = read_json(path)
  if manifest.get('format') not in _READ:
    raise InputError(
        f'{path} has format {manifest.get("format")!r}, this version reads'
        f' {_READ[0]} and {_READ[1]}; convert the model again.'
    )
  try:
    return Manifest(
        config=_read_config(manifest['config']),
        arrays={
            name: jax.ShapeDtypeStruct(
                tuple(array['shape']), jnp.dtype(array['dtype'])
            )
            for name, array in manifest['arrays'].items()
        },
        sizes={str(k): int(v) for k, v in manifest['sizes'].items()},
        origin=_read_origin(manifest['origin']),
    )
  except InputError as error:
    raise InputError(f'{path}: {error}') from None
  except (LookupError, TypeError, ValueError, AttributeError) as error:
    reason = printable(f'{type(error).__name__}: {error}', 100)
    raise InputError(
        f'{path} is damaged ({reason}); convert the model again.'
    ) from None


def _read_origin(fields: Mapping[str, Any] | None) -> Origin | None:
  if fields is None:
    return None
  files = tuple(
      {
          'name': str(file['name']),
          'size': int(file['size']),
          'sha256': str(file['sha256']),
      }
      for file in fields['files']
  )
  return Origin(files, fields['repo'], fields['commit'])


def origin_of(
    files: Collection[pathlib.Path],
    repo: str | None = None,
    commit: str | None = None,
) -> Origin:
  """Reads `files` once more, for their SHA-256."""
  found = [
      {
          'name': path.name,
          'size': path.stat().st_size,
          'sha256': sha256_file(path),
      }
      for path in files
  ]
  return Origin(tuple(found), repo, commit)


def _read_config(fields: Mapping[str, Any]) -> ModelConfig:
  blocks = families.family_blocks(fields['family'])
  fields = {**blocks, **fields}
  if wrong := [name for name in blocks if fields[name] != blocks[name]]:
    raise InputError(
        'the config does not describe a model of the family'
        f' {fields["family"]!r}: {wrong[0]} is {fields[wrong[0]]!r}; convert'
        ' the model again.'
    )
  for name in ('rope', 'local_rope'):
    if fields[name] is not None:
      fields[name] = _read_rope(fields[name])
  fields['windows'] = tuple(fields['windows'])
  return ModelConfig(**fields)


def _read_rope(fields: Mapping[str, Any]) -> Rope:
  fields = dict(fields)
  if fields['llama3'] is not None:
    fields['llama3'] = Llama3Scaling(**fields['llama3'])
  if fields['divisors'] is not None:
    fields['divisors'] = tuple(fields['divisors'])
  return Rope(**fields)
