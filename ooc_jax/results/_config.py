"""`config.json`: which run a results folder belongs to."""

from collections.abc import Iterator, Mapping
import json
import math
import pathlib
from typing import Any

from absl import logging
import numpy as np

from ooc_jax._errors import InputError
from ooc_jax._files import plain
from ooc_jax._files import read_json
from ooc_jax._text import printable
from ooc_jax.results._summary import SCHEMA_VERSION

CONFIG = 'config.json'
_FORMAT = 'ooc_jax results'  # A model folder has a config.json too.
_SHOWN = 3
_ABSENT = object()


def new_config(
    settings: Mapping[str, Any],
    weights: Mapping[str, str],
    provenance: Mapping[str, Any],
) -> dict[str, Any]:
  """The content of a `config.json`.

  Args:
    settings: JSON values that define the run.
    weights: File name -> SHA-256.
    provenance: What is recorded and may differ on resume: versions.

  Raises:
    InputError: A setting is NaN or infinite: JSON would make it null, and then
      another run could not be told from this one.
    TypeError: Something is no JSON value.
  """
  for key, value in _leaves(settings):
    if _is_lossy(value):
      raise InputError(
          f'Setting {printable(key)} is {value}, which cannot be recorded: give'
          ' a finite number.'
      )
  return {
      'format': _FORMAT,
      'schema': SCHEMA_VERSION,
      'settings': plain(settings),
      'weights': plain(weights),
      'provenance': plain(provenance),
  }


def read_config(folder: pathlib.Path) -> dict[str, Any]:
  """What `new_config` made, from the `config.json` of a results folder.

  Raises:
    InputError: It is missing, is no config of ours, or has another schema.
  """
  path = folder / CONFIG
  config = read_json(
      path,
      remedy=(
          'which run the folder is of is lost, so give another one, or delete'
          ' it and run again'
      ),
  )
  if not isinstance(config, dict) or config.get('format') != _FORMAT:
    raise InputError(
        f'{printable(str(path))} is not the config of an ooc_jax results'
        ' folder: give another --out.'
    )
  schema = config.get('schema')
  if schema != SCHEMA_VERSION:
    raise InputError(
        f'{printable(str(folder))} has results of schema {_shown(schema)}, and'
        f' this ooc_jax reads and writes {SCHEMA_VERSION}: give another --out,'
        ' or delete the folder.'
    )
  return config


def check_same_run(
    folder: pathlib.Path, ours: Mapping[str, Any], recorded: Mapping[str, Any]
) -> None:
  """Refuses to mix two runs in one folder.

  Other versions of the packages are only logged, and the recorded ones stay:
  an interrupted run that ends under a newer JAX is still worth having.

  Args:
    folder: The results folder, for the message.
    ours: The `new_config` of this process.
    recorded: The `read_config` of the folder.

  Raises:
    InputError: Settings or weights differ; the first keys are named.
  """
  found = [
      *_differences(ours['settings'], recorded.get('settings')),
      *_differences(ours['weights'], recorded.get('weights'), 'weights'),
  ]
  if found:
    more = f', and {len(found) - _SHOWN} more' if len(found) > _SHOWN else ''
    raise InputError(
        f'{printable(str(folder))} holds another run'
        f' ({", ".join(found[:_SHOWN])}{more}): give another --out, or delete'
        ' the folder.'
    )
  versions = _differences(ours['provenance'], recorded.get('provenance'))
  if versions:
    logging.warning(
        '%s was begun by other software (%s); the recorded versions are kept.',
        printable(str(folder)),
        ', '.join(versions),
    )


def _is_lossy(value: Any) -> bool:
  """Whether `plain` would make null of something in `value`."""
  if isinstance(value, (np.ndarray, np.generic)):
    value = value.tolist()
  if isinstance(value, (list, tuple)):
    return any(map(_is_lossy, value))
  if isinstance(value, Mapping):
    return any(map(_is_lossy, value.values()))
  return isinstance(value, float) and not math.isfinite(value)


def _leaves(value: Any, prefix: str = '') -> Iterator[tuple[str, Any]]:
  """Dotted key and value of everything in nested mappings."""
  if not isinstance(value, Mapping) or (prefix and not value):
    yield prefix, value
    return
  for key in sorted(value, key=str):
    yield from _leaves(value[key], f'{prefix}.{key}' if prefix else str(key))


def _differences(ours: Any, recorded: Any, prefix: str = '') -> list[str]:
  here, there = dict(_leaves(ours, prefix)), dict(_leaves(recorded, prefix))
  pairs = {
      key: (there.get(key, _ABSENT), here.get(key, _ABSENT))
      for key in sorted({*here, *there})
  }
  return [
      f'{printable(key)} is {_shown(theirs)} there and {_shown(mine)} here'
      for key, (theirs, mine) in pairs.items()
      if not _same(theirs, mine)
  ]


def _same(left: Any, right: Any) -> bool:
  # Python takes True for 1, which as settings are two things; 1 and 1.0, of a
  # flag and of a file, are one.
  if isinstance(left, bool) is not isinstance(right, bool):
    return False
  if isinstance(left, list) and isinstance(right, list):
    return len(left) == len(right) and all(map(_same, left, right))
  return left == right


def _shown(value: Any) -> str:
  if value is _ABSENT:
    return 'absent'
  text = json.dumps(value)  # ASCII, so safe to show.
  return text if len(text) <= 40 else text[:39] + '…'
