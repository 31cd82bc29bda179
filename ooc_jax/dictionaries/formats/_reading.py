"""From a folder or file to a `RawDictionary`: its format, and what it lacks."""

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
import pathlib
from typing import Any

from absl import logging

from ooc_jax._errors import InputError
from ooc_jax._text import printable
from ooc_jax.dictionaries._locations import PICKLES
from ooc_jax.dictionaries._locations import Location
from ooc_jax.dictionaries.formats._arrays import ARCHIVES
from ooc_jax.dictionaries.formats._arrays import open_archive
from ooc_jax.dictionaries.formats._format import Format
from ooc_jax.dictionaries.formats._settings import Settings
from ooc_jax.dictionaries.formats._source import LoadHints
from ooc_jax.dictionaries.formats._source import RawDictionary
from ooc_jax.dictionaries.formats._source import Source

# What is in a file of torch's may be stored as safetensors too.
_NAMED = {'.safetensors', '.pt', '.pth'}


@dataclasses.dataclass(frozen=True)
class _Files:
  """The files of one dictionary, and their format."""

  format: Format
  weights: pathlib.Path
  config: pathlib.Path | None
  beside: pathlib.Path | None = None


def read_dictionary(
    location: Location,
    file: str | None,
    hints: LoadHints,
    options: Mapping[str, Any],
    formats: Sequence[Format],
) -> RawDictionary:
  """The dictionary in a folder or a file, in whichever of the formats it is.

  Args:
    location: The folder of its files.
    file: The weights in it, where they were named.
    hints: What the caller knows of it.
    options: Values of formats' options; None does what the files say.
    formats: That it may be of.

  Raises:
    InputError: There is none, more than one, or a damaged one, or it has no
      such option.
  """
  if file is None:
    found = _in_folder(location, hints.layer, formats)
  else:
    found = _of_file(location, file, formats)
  given = options_of(found.format, options, location.path)
  config = found.config
  source = Source(
      archive=found.format.open(found.weights),
      config=Settings({}, '') if config is None else Settings.read(config),
      hints=hints,
      options=given,
      beside=None if found.beside is None else open_archive(found.beside),
  )
  site = hints.site(*found.format.site(source), source.archive.where)
  raw = source.without_dead(found.format.read(source, site))
  if source.dead:
    logging.warning(
        '%s: %d latents are not finite and taken as dead: %s.',
        source.archive.where,
        len(source.dead),
        ', '.join(map(str, sorted(source.dead)[:20])),
    )
  paths = (config, found.weights, found.beside)
  files = raw.files or tuple(str(path) for path in paths if path is not None)
  return dataclasses.replace(raw, files=files)


def options_of(
    f: Format, options: Mapping[str, Any], where: str
) -> dict[str, Any]:
  """Those that are given, not None.

  Raises:
    InputError: The format of what is at `where` has no such option.
  """
  given = {name: x for name, x in options.items() if x is not None}
  known = {option.name for option in f.options}
  if strangers := sorted(set(given) - known):
    raise InputError(
        f'{where} is of {f.name}, which has no option {strangers[0]}; leave it'
        ' out.'
    )
  return given


def _in_folder(
    location: Location, layer: int | None, formats: Sequence[Format]
) -> _Files:
  """The format whose files are in the folder, and these files."""
  found: list[_Files] = []
  incomplete: dict[str, list[str]] = {}  # Config -> weights it belongs to.
  unreachable: InputError | None = None
  for f in formats:
    try:
      config = _config(location, f)
      if f.config and config is None and not f.optional_config:
        continue
      weights = _weights(location, f, layer)
      if weights is None:
        if f.config and not f.optional_config:
          incomplete.setdefault(f.config, []).append(f.weights[0])
        continue
      found.append(_Files(f, weights, config, _beside(location, f, weights)))
    except InputError as error:
      # Without a network only what is in the cache can be told: look on.
      unreachable = unreachable or error
      continue
    if location.remote:
      break  # What is not needed is not fetched.
  if not found:
    if unreachable is not None:
      raise unreachable
    return _only_file(location, formats, incomplete)
  files = list(dict.fromkeys(str(x.weights) for x in found))
  if len(files) > 1:
    names = ' and '.join(pathlib.PurePath(name).name for name in files)
    raise InputError(
        f'{location.path} holds {names}, which are of different formats; give'
        ' the file of one of them.'
    )
  if len(found) > 1:
    shapes = found[0].format.open(found[0].weights).shapes
    found = [x for x in found if x.format.recognise(shapes)] or found
  return found[0]


def _weights(
    location: Location, f: Format, layer: int | None
) -> pathlib.Path | None:
  for name in f.weights:
    if '{layer}' in name and layer is None:
      layers = sorted(
          x for x in map(f.layer_of, location.names()) if x is not None
      )
      if len(layers) > 1:
        raise InputError(
            f'{location.path} holds dictionaries of the layers'
            f' {", ".join(map(str, layers[:8]))}'
            f'{", ..." if layers[8:] else ""}; give layer=.'
        )
      if not layers:
        continue
      layer = layers[0]
    if (path := location.get(name.replace('{layer}', str(layer)))) is not None:
      return path
  return None


def _beside(
    location: Location, f: Format, weights: pathlib.Path
) -> pathlib.Path | None:
  """The other file of the weights."""
  if f.beside is None:
    return None
  layer = f.layer_of(weights.name)
  name = f.beside.replace('{layer}', str(layer))
  if layer is None or (path := location.get(name)) is None:
    raise _missing(location, name)
  return path


def _only_file(
    location: Location,
    formats: Sequence[Format],
    incomplete: Mapping[str, Sequence[str]],
) -> _Files:
  """The one file of weights in a folder, whatever it is called."""
  names = location.names()
  archives = [
      x for x in names if pathlib.PurePath(x).suffix.lower() in ARCHIVES
  ]
  if len(archives) == 1:
    return _of_file(location, archives[0], formats)
  if len(archives) > 1:
    raise InputError(
        f'{location.path} holds {len(archives)} files of weights'
        f' ({printable(", ".join(archives[:4]), 200)}); give one of them.'
    )
  if unsafe := next((x for x in names if x.lower().endswith(PICKLES)), None):
    raise InputError(_pickle(f'{location.path}/{unsafe}'))
  if incomplete:
    weights = [x for found in incomplete.values() for x in found]
    raise _missing(location, ' or '.join(weights))
  known = dict.fromkeys(name for f in formats for name in f.weights)
  raise InputError(
      f'{location.path} holds none of {", ".join(known)}; give the folder or'
      ' the file of one SAE.'
  )


def _of_file(
    location: Location, name: str, formats: Sequence[Format]
) -> _Files:
  """The format of a file of weights, told by the names of its arrays."""
  where = f'{location.path}/{name}'
  suffix = pathlib.PurePath(name).suffix.lower()
  if suffix in PICKLES:
    raise InputError(_pickle(where))
  path = location.get(name)
  if path is None:
    raise _missing(location, name)
  if suffix not in ARCHIVES:
    raise InputError(
        f'{where} is of no format that is read; give one of'
        f' {", ".join(ARCHIVES)}, or the folder of an SAE.'
    )
  alike = list(formats)
  if len(alike) > 1:
    shapes = open_archive(path).shapes
    stored = [f for f in formats if _may_be(f, suffix)]
    alike = [f for f in stored if f.recognise(shapes)]
    if not alike:
      raise InputError(
          f'{where} holds the tensors {printable(str(sorted(shapes)), 200)}, of'
          ' no SAE format that is read'
          f' ({", ".join(f.name for f in formats)}).'
      )
  unreachable: InputError | None = None
  for f in alike:  # More than one may have such arrays: the config decides.
    try:
      config = _config(location, f)
    except InputError as error:
      unreachable = unreachable or error
      continue
    if config is not None or f.config is None or f.optional_config:
      return _Files(f, path, config, _beside(location, f, path))
  raise unreachable or InputError(
      f'{where} holds tensors as of'
      f' {_either(f.name for f in alike)}, and what they mean stands in the'
      f' {_either(f.config or "" for f in alike)} that was beside it; put that'
      ' file there too.'
  )


def _may_be(f: Format, suffix: str) -> bool:
  suffixes = {pathlib.PurePath(name).suffix for name in f.weights}
  return suffix in suffixes or (suffix in _NAMED and bool(suffixes & _NAMED))


def _either(names: Iterable[str]) -> str:
  return ' or '.join(dict.fromkeys(names))


def _config(location: Location, f: Format) -> pathlib.Path | None:
  if f.config is None:
    return None
  try:
    return location.get(f.config)
  except InputError:
    if f.optional_config:
      return None  # It says no more than the folder's name.
    raise


def _missing(location: Location, name: str) -> InputError:
  return InputError(
      f'{location.path} has no {name}, which belongs to it; download it too.'
  )


def _pickle(path: str) -> str:
  return (
      f'{printable(path, 200)} is opened by a pickle reader only, which could'
      ' run code; take the SAE as .safetensors, .npz or a .pt of tensors'
      ' (SAELens saves sae_weights.safetensors), or convert it.'
  )
