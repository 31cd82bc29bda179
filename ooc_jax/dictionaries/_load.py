"""`load_dictionary`: from a name to a `Dictionary`."""

import dataclasses
import difflib
import os
import pathlib
import re
from typing import Any, SupportsIndex, TypeVar

from jax.sharding import Mesh

from ooc_jax._errors import InputError
from ooc_jax.dictionaries._archive import printable
from ooc_jax.dictionaries._builtin import mlp_dictionary
from ooc_jax.dictionaries._builtin import random_dictionary
from ooc_jax.dictionaries._builtin import token_dictionary
from ooc_jax.dictionaries._dictionary import Dictionary
from ooc_jax.dictionaries._dictionary import checked_hook
from ooc_jax.dictionaries._dictionary import checked_layer
from ooc_jax.dictionaries._formats import load_file
from ooc_jax.dictionaries._formats import load_folder
from ooc_jax.dictionaries._placement import checked_dtype
from ooc_jax.dictionaries._placement import place
from ooc_jax.dictionaries._places import PICKLES
from ooc_jax.dictionaries._places import HubPlace
from ooc_jax.dictionaries._places import LocalPlace
from ooc_jax.dictionaries._places import Place
from ooc_jax.dictionaries._registry import find_entry
from ooc_jax.dictionaries._registry import list_dictionaries
from ooc_jax.dictionaries._saved import is_saved_dictionary
from ooc_jax.dictionaries._saved import restore_dictionary
from ooc_jax.dictionaries._stored import Asked
from ooc_jax.dictionaries._stored import Stored
from ooc_jax.dictionaries._to_stream import check_fits
from ooc_jax.dictionaries._to_stream import to_stream
from ooc_jax.model import Model

_PACKAGE = pathlib.Path(__file__).resolve().parent.parent
BUILTIN = ('mlp', 'tokens', 'random')
_FILES = ('.npz', '.safetensors', *PICKLES)
_HUB_ID = re.compile(r'[A-Za-z0-9][\w.-]*/[\w.-]+')
_P = TypeVar('_P', bound=pathlib.PurePath)


def load_dictionary(
    source: str | os.PathLike[str],
    *,
    model: Model | None = None,
    layer: SupportsIndex | None = None,
    dtype: Any = None,
    mesh: Mesh | None = None,
    revision: str | None = None,
    hook: str | None = None,
    sparsity_include_decoder_norm: bool | None = None,
) -> Dictionary:
  """Loads the directions to explain.

  Args:
    source: 'mlp', 'tokens' or 'random' of `model`; a release and an id of
      `list_dictionaries` ('gemma-scope-2b-pt-res-canonical/layer_12/width_16k/
      canonical'), or a release and `layer`; an id of Neuronpedia
      ('gemma-2-2b/12-gemmascope-res-16k'); a folder or file here, or in a hub
      repository ('owner/name/path'), of Gemma Scope, Gemma Scope 2, Llama Scope
      or SAELens; what `save_dictionary` wrote. '{layer}' in it stands for
      `layer`.
    model: Whose directions they are. Without one, widths are not compared, and
      what needs the model's weights to reach the residual stream is refused.
    layer: Where; needed if neither files nor path say it, and compared with
      them if they do.
    dtype: Of encoder and decoder. None keeps what is stored, and float32 where
      loading computes them (Llama Scope, embeddings, attention).
    mesh: Spreads the features over its `feature` axis.
    revision: Branch, tag or commit of a hub repository.
    hook: One of `HOOKS`, for a file that does not say it; such a file is
      otherwise taken to be of 'resid_post'.
    sparsity_include_decoder_norm: Of Llama Scope: whether a pre-activation is
      multiplied by the norm of its decoder row before it is compared with the
      threshold. None does what the file says, as upstream does; SAELens reads
      False.

  Returns:
    The dictionary, mapped to the residual stream.

  Raises:
    InputError: The source is unknown, damaged, not safe to open or of a kind
      that is not supported, or does not fit `model` and `layer`; the message
      says what, where and what to do.
  """
  checked_dtype(dtype)
  number, hook = checked_layer(layer), checked_hook(hook)
  name = _filled(os.fspath(source), number)
  if name in BUILTIN:
    given = {
        'revision': revision,
        'hook': hook,
        'sparsity_include_decoder_norm': sparsity_include_decoder_norm,
    }
    dictionary = _builtin(name, model, number, given)
  else:
    asked = Asked(
        path=name,
        layer=number,
        hook=hook,
        config=None if model is None else model.config,
    )
    if is_saved_dictionary(name):
      _no_revision(name, revision)
      dictionary = _saved(name, asked, model)
    else:
      name, stored = _stored(
          name, asked, revision, sparsity_include_decoder_norm
      )
      dictionary = to_stream(stored, name, model)
  return place(dictionary, dtype, mesh)


def _saved(name: str, asked: Asked, model: Model | None) -> Dictionary:
  """What `save_dictionary` wrote."""
  dictionary = restore_dictionary(name)
  site = dictionary.site
  asked.site(site.layer, site.hook, name)
  if model is not None:
    check_fits(dictionary, name, model)
  return dictionary


def _no_revision(name: str, revision: str | None) -> None:
  if revision is not None:
    raise InputError(
        f'{name} is on this machine and has no revision {revision!r}; leave'
        ' the revision out, or rename the file or folder to read the hub.'
    )


def _builtin(
    name: str, model: Model | None, layer: int | None, given: dict[str, Any]
) -> Dictionary:
  for setting, value in given.items():
    if value is not None:
      raise InputError(f'Dictionary {name!r} has no {setting}; leave it out.')
  if model is None:
    raise InputError(f'Dictionary {name!r} is of a model; give model=.')
  if name == 'tokens':
    return token_dictionary(model)
  if layer is None:
    raise InputError(f'Dictionary {name!r} is of a layer; give layer=.')
  if name == 'mlp':
    return mlp_dictionary(model, layer)
  return random_dictionary(model, layer)


def _stored(
    name: str, asked: Asked, revision: str | None, include_norm: bool | None
) -> tuple[str, Stored]:
  """The full name, and what its files hold."""
  path = _existing(name)
  if path is not None:
    _no_revision(name, revision)
    path = path.absolute()
    folder, file = (path, None) if path.is_dir() else _split(path)
    local = LocalPlace(folder, chosen=file)
    return name, _read(local, file, asked, include_norm)
  if name.startswith(('/', '.', '~')) or (
      '/' not in name and name.lower().endswith(_FILES)
  ):
    raise InputError(f'{printable(name)} does not exist; check the path.')
  if entry := find_entry(name, asked.layer):
    release, short = entry
    full, told = f'{release.name}/{short}', release.entries[short]
    site = asked.site(told.site.layer, told.site.hook, full)
    # What the release says is then held against the files.
    asked = dataclasses.replace(asked, layer=site.layer, hook=site.hook)
    if release.repo is None:
      _no_revision(full, revision)
      where = LocalPlace(_PACKAGE / told.folder)
    else:
      where = HubPlace(release.repo, told.folder, revision)
    return full, _read(where, None, asked, include_norm)
  parts = name.strip('/').split('/')
  repo = '/'.join(parts[:2])
  if not _HUB_ID.fullmatch(repo):
    raise InputError(_unknown(name))
  inner, file = pathlib.PurePosixPath(*parts[2:]), None
  if len(parts) > 2 and inner.name.lower().endswith(_FILES):
    inner, file = _split(inner)
  folder = '' if str(inner) == '.' else str(inner)
  hub = HubPlace(repo, folder, revision)
  return name, _read(hub, file, asked, include_norm)


def _read(
    place_of: Place, file: str | None, asked: Asked, include_norm: bool | None
) -> Stored:
  asked = dataclasses.replace(asked, path=place_of.path)
  if file is None:
    stored = load_folder(place_of, asked, include_norm)
  else:
    stored = load_file(place_of, file, asked, include_norm)
  return stored


def _split(path: _P) -> tuple[_P, str]:
  """The folder of an SAE, and the name of its weights in it."""
  if path.parent.name == 'checkpoints':  # Llama Scope's are one folder deeper.
    return path.parent.parent, f'checkpoints/{path.name}'
  return path.parent, path.name


def _existing(name: str) -> pathlib.Path | None:
  try:
    path = pathlib.Path(name).expanduser()
    return path if name and path.exists() else None
  except (OSError, RuntimeError, ValueError) as error:  # '~nobody' and such.
    raise InputError(
        f'{printable(repr(name))} cannot be opened ({printable(str(error))});'
        ' check the path.'
    ) from None


def _filled(name: str, layer: int | None) -> str:
  """`name` with the layer in place of '{layer}'."""
  if '{layer}' not in name:
    return name
  if layer is None:
    raise InputError(f'{printable(name)} is of every layer; give layer=.')
  return name.replace('{layer}', str(layer))


def _unknown(name: str) -> str:
  known = [*BUILTIN, *(release.name for release in list_dictionaries())]
  close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
  hint = f'did you mean {close[0]!r}?' if close else f'known are {BUILTIN}.'
  return (
      f'Unknown dictionary {printable(repr(name))}: it is neither built in nor'
      f' a release, a file, a folder or a hub id (owner/name/path); {hint}'
  )
