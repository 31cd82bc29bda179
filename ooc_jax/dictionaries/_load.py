"""`load_dictionary`: from a name to a `Dictionary`."""

from collections.abc import Mapping
import dataclasses
import os
import pathlib
import re
from typing import Any, SupportsIndex, TypeVar

from absl import logging
from jax.sharding import Mesh

from ooc_jax._errors import InputError
from ooc_jax._text import nearest
from ooc_jax._text import printable
from ooc_jax.dictionaries._builtin import mlp_dictionary
from ooc_jax.dictionaries._builtin import random_dictionary
from ooc_jax.dictionaries._builtin import token_dictionary
from ooc_jax.dictionaries._dictionary import Dictionary
from ooc_jax.dictionaries._dictionary import checked_hook
from ooc_jax.dictionaries._dictionary import checked_layer
from ooc_jax.dictionaries._locations import PICKLES
from ooc_jax.dictionaries._locations import HubLocation
from ooc_jax.dictionaries._locations import LocalLocation
from ooc_jax.dictionaries._registry import BUILTIN
from ooc_jax.dictionaries._registry import check_loads
from ooc_jax.dictionaries._registry import check_nothing_given
from ooc_jax.dictionaries._registry import find_entry
from ooc_jax.dictionaries._registry import is_release
from ooc_jax.dictionaries._registry import list_dictionaries
from ooc_jax.dictionaries._registry import pasted_name
from ooc_jax.dictionaries._to_device import checked_dtype
from ooc_jax.dictionaries._to_device import to_device
from ooc_jax.dictionaries._to_stream import to_stream
from ooc_jax.dictionaries.formats import FORMATS
from ooc_jax.dictionaries.formats import OPTIONS
from ooc_jax.dictionaries.formats import Format
from ooc_jax.dictionaries.formats import LoadHints
from ooc_jax.dictionaries.formats import RawDictionary
from ooc_jax.dictionaries.formats import read_dictionary
from ooc_jax.model import Model

_PACKAGE = pathlib.Path(__file__).resolve().parent.parent
_FILES = ('.npz', '.safetensors', '.pt', '.pth', *PICKLES)
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
    nan_rows: str | None = None,
    **options: Any,
) -> Dictionary:
  """Loads the directions to explain.

  Args:
    source: 'mlp', 'tokens' or 'random' of `model`; a release and an id of
      `list_dictionaries` ('gemma-scope-2b-pt-res-canonical/layer_12/width_16k/
      canonical'), or a release and `layer`; an id of Neuronpedia
      ('gemma-2-2b/12-gemmascope-res-16k'); a folder or file here, or in a hub
      repository ('owner/name/path'), of any format of `FORMATS`. '{layer}' in
      it stands for `layer`.
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
    nan_rows: 'dead' goes on where latents are not finite, as some are that died
      in training: they neither read, write nor fire. None refuses them.
    **options: Choices between readings of a format: see `Format.options`.
      `sparsity_include_decoder_norm` of Llama Scope is one, `to_layer` of
      cross-layer transcoders another.

  Returns:
    The dictionary, mapped to the residual stream.

  Raises:
    InputError: The source is unknown, damaged, not safe to open or of a kind
      that is not supported, or does not fit `model` and `layer`; the message
      says what, where and what to do.
  """
  checked_dtype(dtype)
  _check_options(options)
  if nan_rows not in (None, 'dead'):
    raise InputError(f"nan_rows={nan_rows!r} must be None or 'dead'.")
  number, hook = checked_layer(layer), checked_hook(hook)
  name = _filled(os.fspath(source), number)
  if (name_of_page := pasted_name(name)) is not None:
    raise InputError(
        f'{printable(name, 200)} is a web address; give'
        f' {printable(repr(name_of_page), 200)}.'
        if name_of_page
        else (
            f'{printable(name, 200)} is a web address; give the id, file or'
            ' folder that it shows.'
        )
    )
  if name in BUILTIN:
    if _existing(name) is not None:
      logging.warning(
          '%r is made of the model, and not what is here under that name; give'
          ' ./%s for that.',
          name,
          name,
      )
    given = {'revision': revision, 'hook': hook, **options}
    dictionary = _builtin(name, model, number, given)
  else:
    hints = LoadHints(
        name,
        number,
        hook,
        model.config if model else None,
        nan_rows=nan_rows,
    )
    name, raw = _read(name, hints, revision, options)
    dictionary = to_stream(raw, name, model)
  return to_device(dictionary, dtype, mesh)


def _check_options(options: Mapping[str, Any]) -> None:
  for name, value in options.items():
    if name not in OPTIONS:
      raise InputError(
          f'load_dictionary has no option {name!r}{nearest(name, OPTIONS)}'
      )
    kind = OPTIONS[name].kind
    right = type(value) is kind or (kind is float and type(value) is int)
    if value is not None and not right:
      raise InputError(
          f'{name}={value!r} must be None or of type {kind.__name__}.'
      )


def _builtin(
    name: str, model: Model | None, layer: int | None, given: dict[str, Any]
) -> Dictionary:
  check_nothing_given(name, given)
  if model is None:
    raise InputError(f'Dictionary {name!r} is of a model; give model=.')
  if name == 'tokens':
    return token_dictionary(model)
  if layer is None:
    raise InputError(f'Dictionary {name!r} is of a layer; give layer=.')
  return (mlp_dictionary if name == 'mlp' else random_dictionary)(model, layer)


def _read(
    name: str,
    hints: LoadHints,
    revision: str | None,
    options: Mapping[str, Any],
) -> tuple[str, RawDictionary]:
  """The full name, and what its files hold."""
  formats: tuple[Format, ...] = FORMATS
  file: str | None = None
  if (path := _existing(name)) is not None:
    _no_revision(name, revision)
    path = path.absolute()
    if is_release(name):
      logging.warning(
          '%s is read from here: a file or folder of that name comes before a'
          ' release; start elsewhere to read the release.',
          path,
      )
    folder, file = (path, None) if path.is_dir() else _split(path)
    location = LocalLocation(folder, chosen=file)
  elif name.startswith(('/', '.', '~')) or (
      '/' not in name and name.lower().endswith(_FILES)
  ):
    raise InputError(f'{printable(name, 200)} does not exist; check the path.')
  elif named := find_entry(name, hints.layer):
    name, entry, formats = named.name, named.entry, (check_loads(named),)
    file = entry.file
    if entry.site is not None:
      site = hints.site(entry.site.layer, entry.site.hook, name)
      # What the release says is then compared with the files.
      hints = dataclasses.replace(hints, layer=site.layer, hook=site.hook)
    hints = dataclasses.replace(
        hints, scale=entry.scale, normalize=entry.normalize
    )
    if named.release.repo is None:
      _no_revision(name, revision)
      location = LocalLocation(_PACKAGE / entry.folder)
    else:
      location = HubLocation(named.release.repo, entry.folder, revision)
  else:
    parts = name.strip('/').split('/')
    repo = '/'.join(parts[:2])
    if not _HUB_ID.fullmatch(repo):
      raise InputError(_unknown(name))
    inner = pathlib.PurePosixPath(*parts[2:])
    if len(parts) > 2 and inner.name.lower().endswith(_FILES):
      inner, file = _split(inner)
    folder = '' if str(inner) == '.' else str(inner)
    location = HubLocation(repo, folder, revision)
  hints = dataclasses.replace(hints, path=location.path)
  return name, read_dictionary(location, file, hints, options, formats)


def _no_revision(name: str, revision: str | None) -> None:
  if revision is not None:
    raise InputError(
        f'{name} is on this machine and has no revision {revision!r}; leave'
        ' the revision out, or rename the file or folder to read the hub.'
    )


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
        f'{printable(repr(name), 200)} cannot be opened'
        f' ({printable(str(error), 200)}); check the path.'
    ) from None


def _filled(name: str, layer: int | None) -> str:
  """`name` with the layer in place of '{layer}'."""
  if '{layer}' not in name:
    return name
  if layer is None:
    raise InputError(f'{printable(name, 200)} is of every layer; give layer=.')
  return name.replace('{layer}', str(layer))


def _unknown(name: str) -> str:
  known = [*BUILTIN, *(release.name for release in list_dictionaries())]
  hint = nearest(name, known)
  if not hint.startswith('; did you mean'):  # The list is too long to print.
    hint = f'; known are {", ".join(BUILTIN)} and what list_dictionaries() has.'
  return (
      f'Unknown dictionary {printable(repr(name), 200)}: it is neither built in'
      f' nor a release, a file, a folder or a hub id (owner/name/path){hint}'
  )
