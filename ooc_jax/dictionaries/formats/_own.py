"""Dictionaries of our own: there and back, bit for bit.

A folder holds `ooc_jax_dictionary.json` (site, name, what it was read from)
and the arrays, as Orbax in `arrays/` or in `dictionary.safetensors`. Everything
is in the residual stream already, so no model is needed to read it.
"""

from collections.abc import Mapping
import dataclasses
import json
import os
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import SingleDeviceSharding
import numpy as np
import safetensors
import safetensors.numpy

from ooc_jax._errors import InputError
from ooc_jax._folders import checked_target
from ooc_jax._folders import new_folder
from ooc_jax.checkpoints import load_arrays
from ooc_jax.checkpoints import origin_of
from ooc_jax.checkpoints import save_arrays
from ooc_jax.dictionaries._dictionary import HOOKS
from ooc_jax.dictionaries._dictionary import Dictionary
from ooc_jax.dictionaries._dictionary import DictionarySite
from ooc_jax.dictionaries.formats._format import Format
from ooc_jax.dictionaries.formats._settings import Settings
from ooc_jax.dictionaries.formats._source import RawDictionary
from ooc_jax.dictionaries.formats._source import Source

_ARRAYS = 'arrays'
_MANIFEST = 'ooc_jax_dictionary.json'
_SAFETENSORS = 'dictionary.safetensors'
_VERSION = 1
# The encoder comes first: it is the one that may be missing.
_NAMES = ('encoder', 'decoder', 'encoder_bias', 'decoder_bias', 'threshold')


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
        'format': _VERSION,
        'name': dictionary.name,
        'layer': dictionary.site.layer,
        'hook': dictionary.site.hook,
        'out_hook': dictionary.site.out_hook,
        'out_layer': dictionary.site.out_layer,
        'top_k': dictionary.top_k,
        'no_encoder': dictionary.no_encoder,
        'files': list(origin_of(files).files),
        'arrays': {
            name: {'shape': list(x.shape), 'dtype': str(x.dtype)}
            for name, x in arrays.items()
        },
    }
    text = json.dumps(manifest, indent=2) + '\n'
    (temporary / _MANIFEST).write_text(text)
  return target


class _SavedArchive:
  """The arrays that a manifest lists, from either kind of file."""

  def __init__(self, path: pathlib.Path):
    """Reads the manifest only.

    Args:
      path: Of the manifest.

    Raises:
      InputError: It is damaged, or of another version.
    """
    self.where, self._folder = str(path), path.parent
    self.manifest = Settings.read(path)
    version = self.manifest.values.get('format')
    if version != _VERSION:
      raise InputError(
          f'{path} has format {version!r:.40}, this version reads {_VERSION};'
          ' convert the dictionary again.'
      )
    try:
      self._like = _described(self.manifest.values['arrays'])
    except (LookupError, TypeError, ValueError) as error:
      raise self._damaged(error) from None
    self._arrays: Mapping[str, Any] | None = None

  @property
  def shapes(self) -> dict[str, tuple[int, ...]]:
    return {name: x.shape for name, x in self._like.items()}

  @property
  def files(self) -> tuple[str, ...]:
    names = (_MANIFEST, _SAFETENSORS)
    return tuple(
        str(self._folder / n) for n in names if (self._folder / n).is_file()
    )

  def read(self, name: str) -> Any:
    if self._arrays is None:
      try:
        self._arrays = self._read()
      except (
          safetensors.SafetensorError, LookupError, TypeError, ValueError,
          OSError,
      ) as error:  # fmt: skip
        raise self._damaged(error) from None
    return self._arrays[name]

  def _read(self) -> Mapping[str, Any]:
    path = self._folder / _SAFETENSORS
    if path.is_file():
      arrays = safetensors.numpy.load_file(path)
    else:
      arrays = load_arrays(self._folder / _ARRAYS, self._like)
    for name, x in self._like.items():
      if arrays[name].shape != x.shape or arrays[name].dtype != x.dtype:
        raise ValueError(f'{name} is not what the manifest says')
    return arrays

  def _damaged(self, error: Exception) -> InputError:
    return InputError(
        f'{self._folder} is damaged ({type(error).__name__}: {error!s:.100});'
        ' convert the dictionary again.'
    )


def _described(arrays: Mapping[str, Any]) -> dict[str, jax.ShapeDtypeStruct]:
  """Shape and dtype of each array, which fit together."""
  names = _NAMES if 'encoder' in arrays else _NAMES[1:]
  like = {
      name: jax.ShapeDtypeStruct(
          tuple(arrays[name]['shape']),
          jnp.dtype(arrays[name]['dtype']),
          sharding=SingleDeviceSharding(jax.devices()[0]),
      )
      for name in names
  }
  size, width = like['decoder'].shape
  shapes = {
      'encoder': (size, like[names[0]].shape[-1]),
      'decoder': (size, width),
      'encoder_bias': (size,),
      'decoder_bias': (width,),
      'threshold': (size,),
  }
  for name, x in like.items():
    if x.shape != shapes[name]:
      raise ValueError(f'{name} has the wrong shape')
  return like


def _manifest(source: Source) -> Settings:
  assert isinstance(source.archive, _SavedArchive)
  return source.archive.manifest


def _site(source: Source) -> tuple[int, str]:
  manifest = _manifest(source)
  hook = manifest.get('hook', str)
  if hook not in HOOKS:
    raise InputError(
        f'{manifest.where} is damaged: there is no hook {hook!r:.40}; convert'
        ' the dictionary again.'
    )
  return manifest.get('layer', int), hook


def _read(source: Source, site: DictionarySite) -> RawDictionary:
  manifest, archive = _manifest(source), source.archive
  assert isinstance(archive, _SavedArchive)
  values = manifest.values
  if (out_hook := values.get('out_hook')) is not None:
    if out_hook not in HOOKS:
      raise InputError(
          f'{manifest.where} is damaged: there is no hook {out_hook!r:.40};'
          ' convert the dictionary again.'
      )
    site = dataclasses.replace(site, out_hook=out_hook)
  if values.get('out_layer') is not None:
    site = dataclasses.replace(site, out_layer=manifest.get('out_layer', int))
  top_k = values.get('top_k')
  arrays = {name: archive.read(name) for name in archive.shapes}
  return RawDictionary(
      encoder=arrays.get('encoder'),
      decoder=arrays['decoder'],
      encoder_bias=arrays['encoder_bias'],
      decoder_bias=arrays['decoder_bias'],
      threshold=arrays['threshold'],
      site=site,
      top_k=None if top_k is None else manifest.get('top_k', int),
      in_stream=True,
      no_encoder=(
          None
          if values.get('no_encoder') is None
          else manifest.get('no_encoder', str)
      ),
      name=manifest.get('name', str),
      files=archive.files,
  )


OWN = Format(
    name='ooc_jax',
    weights=(_MANIFEST,),
    recognise=lambda names: False,  # The manifest says it.
    site=_site,
    read=_read,
    open=_SavedArchive,
)
