"""Which format a folder or file is of, told by the files themselves."""

import pathlib

from ooc_jax._errors import InputError
from ooc_jax.dictionaries._archive import SafetensorsArchive
from ooc_jax.dictionaries._archive import printable
from ooc_jax.dictionaries._gemma_scope import load_gemma_scope
from ooc_jax.dictionaries._gemma_scope import load_gemma_scope_2
from ooc_jax.dictionaries._llama_scope import load_llama_scope
from ooc_jax.dictionaries._places import PICKLES
from ooc_jax.dictionaries._places import Place
from ooc_jax.dictionaries._sae_lens import load_sae_lens
from ooc_jax.dictionaries._stored import Asked
from ooc_jax.dictionaries._stored import Stored

_NPZ = 'params.npz'
_SAFETENSORS = 'params.safetensors'
_SAE_LENS = 'cfg.json'
_LLAMA_SCOPE = 'hyperparams.json'
# Format by the file that it cannot be without.
_KEYS = (_NPZ, _SAFETENSORS, _SAE_LENS, _LLAMA_SCOPE)
_WEIGHTS = 'sae_weights.safetensors'
_FINAL = 'checkpoints/final.safetensors'


def load_folder(
    place: Place, asked: Asked, include_norm: bool | None
) -> Stored:
  """The dictionary in a folder, in whatever format it is.

  Args:
    place: The folder.
    asked: What the caller knows of it.
    include_norm: The setting `sparsity_include_decoder_norm`.

  Raises:
    InputError: There is none, more than one, or a damaged one.
  """
  found: dict[str, pathlib.Path] = {}
  unreachable = None
  for key in _KEYS:
    try:
      path = place.get(key)
    except InputError as error:
      # Without a network only what is in the cache can be told: look on.
      unreachable = unreachable or error
      continue
    if path is not None:
      found[key] = path
      if place.remote:
        break  # What is not needed is not fetched.
  if not found:
    raise unreachable or InputError(_nothing(place))
  if len(found) > 1:
    raise InputError(
        f'{place.path} holds {" and ".join(found)}, which are of different'
        ' formats; give the file of one of them.'
    )
  key, path = found.popitem()
  if key == _NPZ:
    return load_gemma_scope(path, asked)
  if key == _SAFETENSORS:
    return load_gemma_scope_2(path, _config_beside(place), asked)
  if key == _SAE_LENS:
    return load_sae_lens(path, _needed(place, _WEIGHTS), asked)
  return load_llama_scope(
      path,
      _needed(place, _FINAL),
      asked,
      sparsity_include_decoder_norm=include_norm,
  )


def load_file(
    place: Place, name: str, asked: Asked, include_norm: bool | None
) -> Stored:
  """The dictionary in a file, with what stands beside it.

  Args:
    place: The folder of the file.
    name: Of the file in it.
    asked: What the caller knows of it.
    include_norm: The setting `sparsity_include_decoder_norm`.

  Raises:
    InputError: It is missing, damaged, or of no format that is read.
  """
  suffix = pathlib.PurePath(name).suffix.lower()
  if suffix in PICKLES:
    raise InputError(_pickle(f'{place.path}/{name}'))
  path = _needed(place, name)
  if suffix == '.npz':
    return load_gemma_scope(path, asked)
  if suffix != '.safetensors':
    raise InputError(
        f'{place.path}/{name} is of no format that is read; give an .npz or'
        ' .safetensors file, or the folder of an SAE.'
    )
  names = SafetensorsArchive(path).shapes
  if 'w_enc' in names:
    return load_gemma_scope_2(path, _config_beside(place), asked)
  if 'W_enc' in names:
    return load_sae_lens(_needed(place, _SAE_LENS), path, asked)
  if 'encoder.weight' in names:
    return load_llama_scope(
        _needed(place, _LLAMA_SCOPE),
        path,
        asked,
        sparsity_include_decoder_norm=include_norm,
    )
  raise InputError(
      f'{place.path}/{name} holds the tensors {printable(str(sorted(names)))},'
      ' of no SAE format that is read (Gemma Scope 2, Llama Scope, SAELens).'
  )


def _config_beside(place: Place) -> pathlib.Path | None:
  """Gemma Scope 2's config, which says no more than the folder's name."""
  try:
    return place.get('config.json')
  except InputError:
    return None


def _needed(place: Place, name: str) -> pathlib.Path:
  path = place.get(name)
  if path is None:
    if unsafe := _pickle_in(place):
      raise InputError(unsafe)
    raise InputError(
        f'{place.path} has no {name}, which belongs to it; download it too.'
    )
  return path


def _pickle_in(place: Place) -> str | None:
  for name in place.names():
    if name.lower().endswith(PICKLES):
      return _pickle(f'{place.path}/{name}')
  return None


def _pickle(path: str) -> str:
  return (
      f'{printable(path)} is opened by a pickle reader only, which could run'
      ' code; take the SAE as .safetensors or .npz (SAELens saves'
      ' sae_weights.safetensors), or convert it.'
  )


def _nothing(place: Place) -> str:
  return _pickle_in(place) or (
      f'{place.path} holds none of {", ".join(_KEYS)}; give the folder or the'
      ' file of one SAE.'
  )
