"""What a format of dictionaries on disk is: one `Format` record.

A format is described once, in a file of its own beside this one, and listed in
`FORMATS`. Everything else, from the error about a file that is missing to the
list of releases, is made from the records.
"""

from collections.abc import Callable, Iterable, Mapping
import dataclasses
import pathlib
import re

from ooc_jax.dictionaries._dictionary import DictionarySite
from ooc_jax.dictionaries.formats._arrays import Archive
from ooc_jax.dictionaries.formats._arrays import open_archive
from ooc_jax.dictionaries.formats._source import Option
from ooc_jax.dictionaries.formats._source import RawDictionary
from ooc_jax.dictionaries.formats._source import Source


@dataclasses.dataclass(frozen=True)
class Entry:
  """One dictionary of a release.

  Attributes:
    folder: Of its files, in the repository.
    site: What it is of; None where only the files say it.
    size: F, how many features; None where only the files say it.
    file: Its weights in the folder; None for the format's own name.
    l0: How many of its features are active at once, where that is known.
    scale: See `LoadHints`.
    normalize: See `LoadHints`.
    neuronpedia: Its id there.
    refusal: Why it does not load, or None.
  """

  folder: str
  site: DictionarySite | None
  size: int | None
  file: str | None = None
  l0: int | float | None = None
  scale: float | None = None
  normalize: str | None = None
  neuronpedia: str | None = None
  refusal: str | None = None


@dataclasses.dataclass(frozen=True)
class Release:
  """A suite of dictionaries of one model.

  Attributes:
    name: 'gemma-scope-2b-pt-res-canonical'; names and ids are SAELens's
      (6.54.12, `pretrained_saes.yaml`, MIT), so that they can be pasted.
    repo: Hub repository of the dictionaries; None if they come with ooc_jax,
      in folders of the package.
    model: Hub repository of the model, or its name here.
    entries: Id in the release -> where it is.
  """

  name: str
  repo: str | None
  model: str
  entries: Mapping[str, Entry]

  def at_layer(self, layer: int) -> list[str]:
    """The ids that are of that layer (the embedding is none)."""
    return [
        name
        for name, entry in self.entries.items()
        if entry.site is not None
        and entry.site.layer == layer
        and entry.site.hook != 'embedding'
    ]


def _no_alias(name: str) -> str | None:
  del name  # Part of the signature.
  return None


def _unlisted(release: str, name: str, path: str) -> Entry:
  # No input of a user leads here: only a release that was listed under a format
  # which does not say how to locate its ids.
  raise NotImplementedError(f'{release}/{name} ({path}) is in no list.')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Format:
  """A way in which dictionaries are stored.

  Attributes:
    name: As its users call it.
    weights: Names that the file of the arrays may have in the folder of a
      dictionary; '{layer}' stands for the layer, where a folder has many.
    beside: Another file of arrays that belongs to it, or None.
    config: File of its settings there, or None if it has none.
    optional_config: Whether there are dictionaries without that file.
    recognise: Whether arrays of these names and shapes are of this format;
      asked where the name of the file does not say it.
    site: Layer and hook that the files and their path name, None for what they
      do not.
    read: The dictionary, at the site that is given.
    open: Opens the file of the arrays.
    releases: Suites that are published in this format.
    loader: What SAELens's list of releases calls this format; the ids that it
      lists under the name are of this format.
    locate: Where an id of that list is: (release, id, path in the repository)
      -> `Entry`.
    alias: 'release/id' of a name that others use, Neuronpedia for one, or
      None.
    options: Choices between readings.
  """

  name: str
  weights: tuple[str, ...]
  beside: str | None = None
  config: str | None = None
  optional_config: bool = False
  recognise: Callable[[Mapping[str, tuple[int, ...]]], bool]
  site: Callable[[Source], tuple[int | None, str | None]]
  read: Callable[[Source, DictionarySite], RawDictionary]
  open: Callable[[pathlib.Path], Archive] = open_archive
  releases: Callable[[], Iterable[Release]] = tuple
  loader: str | None = None
  locate: Callable[[str, str, str], Entry] = _unlisted
  alias: Callable[[str], str | None] = _no_alias
  options: tuple[Option, ...] = ()

  def layer_of(self, file: str) -> int | None:
    """The layer that the name of a file says, as `weights` has it."""
    for name in self.weights:
      start, mark, end = name.partition('{layer}')
      pattern = f'{re.escape(start)}([0-9]{{1,4}}){re.escape(end)}'
      if mark and (match := re.fullmatch(pattern, file)):
        return int(match[1])
    return None
