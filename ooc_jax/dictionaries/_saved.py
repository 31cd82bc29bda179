"""Dictionaries of our own: there and back, bit for bit.

A folder holds `ooc_jax_dictionary.json` (site, name, what it was
read from) and the
arrays, as Orbax in `arrays/` or in `dictionary.safetensors`. Everything is in
the residual stream already, so no model is needed to read it.
"""

from collections.abc import Mapping
import json
import os
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import SingleDeviceSharding
import numpy as np
import safetensors
import safetensors.numpy

from ooc_jax._errors import InputError
from ooc_jax.checkpoints import checked_target
from ooc_jax.checkpoints import load_arrays
from ooc_jax.checkpoints import new_folder
from ooc_jax.checkpoints import origin_of
from ooc_jax.checkpoints import read_json
from ooc_jax.checkpoints import save_arrays
from ooc_jax.dictionaries._dictionary import HOOKS
from ooc_jax.dictionaries._dictionary import Dictionary
from ooc_jax.dictionaries._dictionary import DictionarySite
from ooc_jax.dictionaries._placement import place
from ooc_jax.dictionaries._settings import setting

_ARRAYS = 'arrays'
_MANIFEST = 'ooc_jax_dictionary.json'
_SAFETENSORS = 'dictionary.safetensors'
_FORMAT = 1
_NAMES = ('encoder', 'decoder', 'encoder_bias', 'decoder_bias', 'threshold')


def is_saved_dictionary(path: str | os.PathLike[str]) -> bool:
  """Whether `path` is a folder that `save_dictionary` wrote."""
  try:
    return (pathlib.Path(path).expanduser() / _MANIFEST).is_file()
  except (OSError, RuntimeError, ValueError):
    return False


def save_dictionary(
    dictionary: Dictionary,
    folder: str | os.PathLike[str],
    *,
    to: str = 'orbax',
) -> pathlib.Path:
  """Writes a dictionary to a new folder, whole or not at all.

  Args:
    dictionary: In memory.
    folder: Must not exist.
    to: 'orbax', or 'safetensors' with the names of the fields.

  Returns:
    The folder.

  Raises:
    InputError: The folder exists or cannot be written.
  """
  if to not in ('orbax', 'safetensors'):
    raise InputError(f"to={to!r} must be 'orbax' or 'safetensors'.")
  target = checked_target(folder)
  arrays = {
      name: jnp.asarray(x)
      for name in _NAMES
      if (x := getattr(dictionary, name)) is not None
  }
  files = [p for p in map(pathlib.Path, dictionary.files) if p.is_file()]
  with new_folder(target, sum(x.nbytes for x in arrays.values())) as temporary:
    if to == 'orbax':
      save_arrays(temporary / _ARRAYS, arrays)
    else:
      safetensors.numpy.save_file(
          {k: np.ascontiguousarray(x) for k, x in arrays.items()},
          temporary / _SAFETENSORS,
      )
      (temporary / _SAFETENSORS).chmod(0o644)
    manifest = {
        'format': _FORMAT,
        'name': dictionary.name,
        'layer': dictionary.site.layer,
        'hook': dictionary.site.hook,
        'top_k': dictionary.top_k,
        'files': list(origin_of(files).files),
        'arrays': {
            name: {'shape': list(x.shape), 'dtype': str(x.dtype)}
            for name, x in arrays.items()
        },
    }
    text = json.dumps(manifest, indent=2) + '\n'
    (temporary / _MANIFEST).write_text(text)
  return target


def restore_dictionary(
    folder: str | os.PathLike[str],
    *,
    dtype: Any = None,
    mesh: Mesh | None = None,
) -> Dictionary:
  """Reads what `save_dictionary` wrote, of either kind.

  Args:
    folder: Of `save_dictionary`.
    dtype: Of encoder and decoder; None keeps what is stored.
    mesh: Spreads the features over its `feature` axis.

  Raises:
    InputError: The folder is incomplete, damaged or of another format.
  """
  folder = pathlib.Path(folder).expanduser().absolute()
  where = str(folder / _MANIFEST)
  manifest = read_json(folder / _MANIFEST)
  if manifest.get('format') != _FORMAT:
    raise InputError(
        f'{where} has format {manifest.get("format")!r:.40}, this version reads'
        f' {_FORMAT}; convert the dictionary again.'
    )
  hook = setting(manifest, 'hook', str, where)
  top_k = manifest.get('top_k')
  if hook not in HOOKS or not (top_k is None or type(top_k) is int):
    raise InputError(f'{where} is damaged; convert the dictionary again.')
  try:
    arrays = _read(folder, manifest['arrays'])
  except (LookupError, TypeError, ValueError, OSError) as error:
    raise InputError(
        f'{folder} is damaged ({type(error).__name__}: {error!s:.100}); convert'
        ' the dictionary again.'
    ) from error
  except safetensors.SafetensorError as error:
    raise InputError(
        f'{folder / _SAFETENSORS} is damaged ({error!s:.100}); convert the'
        ' dictionary again.'
    ) from None
  dictionary = Dictionary(
      **arrays,
      site=DictionarySite(setting(manifest, 'layer', int, where), hook),
      name=setting(manifest, 'name', str, where),
      top_k=top_k,
      files=tuple(
          str(f) for f in (folder / _MANIFEST, folder / _SAFETENSORS)
          if f.is_file()
      ),
  )  # fmt: skip
  return place(dictionary, dtype, mesh)


def _read(folder: pathlib.Path, told: Mapping[str, Any]) -> dict[str, Any]:
  like = {
      name: jax.ShapeDtypeStruct(
          tuple(told[name]['shape']),
          jnp.dtype(told[name]['dtype']),
          sharding=SingleDeviceSharding(jax.devices()[0]),
      )
      for name in _NAMES
      if name in told or name != 'encoder'
  }
  features, width = like['decoder'].shape
  reads = like.get('encoder', like['decoder']).shape[-1]
  shapes = {
      'encoder': (features, reads),
      'decoder': (features, width),
      'encoder_bias': (features,),
      'decoder_bias': (width,),
      'threshold': (features,),
  }
  if (folder / _SAFETENSORS).is_file():
    arrays = safetensors.numpy.load_file(folder / _SAFETENSORS)
  else:
    arrays = load_arrays(folder / _ARRAYS, like)
  for name, x in like.items():
    if not shapes[name] == x.shape == arrays[name].shape:
      raise ValueError(f'{name} has the wrong shape')
    if arrays[name].dtype != x.dtype:
      raise ValueError(f'{name} has the wrong dtype')
  return {'encoder': None} | {name: arrays[name] for name in like}
