"""From a folder or file to a `RawDictionary`: its format, and what it lacks."""

from collections.abc import Mapping, Sequence
import dataclasses
import pathlib
from typing import Any

from ooc_jax._errors import InputError
from ooc_jax._text import printable
from ooc_jax.dictionaries._locations import PICKLES
from ooc_jax.dictionaries._locations import Location
from ooc_jax.dictionaries.formats._arrays import ARCHIVES
from ooc_jax.dictionaries.formats._arrays import open_archive
from ooc_jax.dictionaries.formats._format import Format
from ooc_jax.dictionaries.formats._format import LoadHints
from ooc_jax.dictionaries.formats._format import RawDictionary
from ooc_jax.dictionaries.formats._format import Settings
from ooc_jax.dictionaries.formats._format import Source


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
    found, weights, config = _in_folder(location, formats)
  else:
    found, weights, config = _of_file(location, file, formats)
  given = {name: x for name, x in options.items() if x is not None}
  known = {option.name for option in found.options}
  if strangers := sorted(set(given) - known):
    raise InputError(
        f'{location.path} is of {found.name}, which has no option'
        f' {strangers[0]}; leave it out.'
    )
  source = Source(
      archive=found.open(weights),
      config=Settings({}, '') if config is None else Settings.read(config),
      hints=hints,
      options=given,
  )
  site = hints.site(*found.site(source), source.archive.where)
  raw = found.read(source, site)
  files = raw.files or tuple(
      str(path) for path in (config, weights) if path is not None
  )
  return dataclasses.replace(raw, files=files)


_Found = tuple[Format, pathlib.Path, pathlib.Path | None]


def _in_folder(location: Location, formats: Sequence[Format]) -> _Found:
  """The format whose files are in the folder, and these files."""
  found: list[_Found] = []
  missing: list[str] = []  # Weights of which only the config is there.
  unreachable: InputError | None = None
  for f in formats:
    try:
      config = _config(location, f)
      if f.config and config is None and not f.optional_config:
        continue
      weights = location.get(f.weights)
    except InputError as error:
      # Without a network only what is in the cache can be told: look on.
      unreachable = unreachable or error
      continue
    if weights is not None:
      found.append((f, weights, config))
      if location.remote:
        break  # What is not needed is not fetched.
    elif f.config and not f.optional_config:
      missing.append(f.weights)
  if not found and missing and unreachable is None:
    raise _missing(location, ' or '.join(missing))
  if not found:
    raise unreachable or _nothing(location, formats)
  files = list(dict.fromkeys(f.weights for f, _, _ in found))
  if len(files) > 1:
    raise InputError(
        f'{location.path} holds {" and ".join(files)}, which are of different'
        ' formats; give the file of one of them.'
    )
  if len(found) > 1:
    names = found[0][0].open(found[0][1]).shapes.keys()
    found = [x for x in found if x[0].recognise(names)] or found
  return found[0]


def _of_file(
    location: Location, name: str, formats: Sequence[Format]
) -> _Found:
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
  alike = [f for f in formats if f.weights.endswith(suffix)]
  if len(alike) > 1:
    names = open_archive(path).shapes.keys()
    alike = [f for f in alike if f.recognise(names)]
    if not alike:
      raise InputError(
          f'{where} holds the tensors {printable(str(sorted(names)), 200)}, of'
          ' no SAE format that is read'
          f' ({", ".join(f.name for f in formats)}).'
      )
  begun: InputError | None = None
  for f in alike:  # More than one may have such arrays: the config decides.
    config = _config(location, f)
    if config is not None or f.config is None or f.optional_config:
      return f, path, config
    begun = begun or _missing(location, f.config)
  assert begun is not None
  raise begun


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
  if unsafe := _pickle_in(location):
    return InputError(unsafe)
  return InputError(
      f'{location.path} has no {name}, which belongs to it; download it too.'
  )


def _nothing(location: Location, formats: Sequence[Format]) -> InputError:
  if unsafe := _pickle_in(location):
    return InputError(unsafe)
  return InputError(
      f'{location.path} holds none of {", ".join(f.weights for f in formats)};'
      ' give the folder or the file of one SAE.'
  )


def _pickle_in(location: Location) -> str | None:
  for name in location.names():
    if name.lower().endswith(PICKLES):
      return _pickle(f'{location.path}/{name}')
  return None


def _pickle(path: str) -> str:
  return (
      f'{printable(path, 200)} is opened by a pickle reader only, which could'
      ' run code; take the SAE as .safetensors or .npz (SAELens saves'
      ' sae_weights.safetensors), or convert it.'
  )
