"""What a format of dictionaries on disk is: one `Format` record.

A format is described once, in a file of its own beside this one, and listed in
`FORMATS`. Everything else, from the error about a file that is missing to the
list of releases, is made from the records.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
import dataclasses
import pathlib
from typing import Any

import numpy as np

from ooc_jax._errors import InputError
from ooc_jax._text import printable
from ooc_jax.checkpoints import read_json
from ooc_jax.dictionaries._dictionary import DictionarySite
from ooc_jax.dictionaries.formats._arrays import Archive
from ooc_jax.dictionaries.formats._arrays import axis_sizes
from ooc_jax.dictionaries.formats._arrays import open_archive
from ooc_jax.dictionaries.formats._arrays import read_array
from ooc_jax.model import ModelConfig

_TYPE_NAMES = {
    str: 'a text',
    int: 'a whole number',
    float: 'a finite number',
    bool: 'true or false',
    dict: 'an object',
}
# Far over any size; an integer of 5000 digits can neither be shown nor used.
_MAX_NUMBER = 2**53


@dataclasses.dataclass(frozen=True, kw_only=True)
class RawDictionary:
  """A dictionary as its files have it, in the space of its site.

  Attributes:
    encoder: [F, R], or None where there is none.
    decoder: [F, W], W the width of what the site writes.
    encoder_bias: [F] float32.
    decoder_bias: [W] float32.
    threshold: [F] float32.
    site: Layer and hook.
    top_k: See `Dictionary`.
    reads_gain: Whether the encoder expects its input times the gain of the
      norm before the MLP.
    in_stream: Whether it has been mapped to the residual stream already.
    name: That it was saved under; None takes the name it is loaded by.
    files: Paths that were read.
  """

  encoder: Any
  decoder: Any
  encoder_bias: Any
  decoder_bias: Any
  threshold: Any
  site: DictionarySite
  top_k: int | None = None
  reads_gain: bool = False
  in_stream: bool = False
  name: str | None = None
  files: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class LoadHints:
  """What the caller knows of a dictionary that its files may not say.

  Attributes:
    path: Where the files are, as the caller or the hub names it.
    layer: Or None.
    hook: Or None.
    model_config: Of the model, or None without one.
  """

  path: str
  layer: int | None = None
  hook: str | None = None
  model_config: ModelConfig | None = None

  def site(
      self, layer: int | None, hook: str | None, where: str
  ) -> DictionarySite:
    """What the files and the caller say together.

    Args:
      layer: That the files name, or None.
      hook: That the files name, or None.
      where: The files, for errors.

    Raises:
      InputError: They contradict each other, or none says the layer.
    """
    layers = {x for x in (layer, self.layer) if x is not None}
    hooks = {x for x in (hook, self.hook) if x is not None}
    if len(layers) > 1:
      raise InputError(
          f'{where} is of layer {layer}, and layer {self.layer} was asked for;'
          ' give the layer of the file, or none.'
      )
    if len(hooks) > 1:
      raise InputError(
          f'{where} is of the hook {hook!r}, and {self.hook!r} was asked for;'
          ' give the hook of the file, or none.'
      )
    if not layers:
      raise InputError(
          f'Neither {where} nor its path says of which layer it is; give'
          ' layer=.'
      )
    return DictionarySite(layers.pop(), hooks.pop() if hooks else 'resid_post')


class Settings:
  """A JSON file of settings, whose values are of the type they must have.

  Attributes:
    where: Its path, for errors.
    values: The object in it.
  """

  def __init__(self, values: Mapping[str, Any], where: str):
    self.values, self.where = values, where

  @classmethod
  def read(cls, path: pathlib.Path) -> 'Settings':
    """Opens a file.

    Raises:
      InputError: It is missing, or holds no JSON object.
    """
    return cls(read_json(path), str(path))

  def __contains__(self, key: str) -> bool:
    return key in self.values

  def get(self, key: str, kind: type, default: Any = None) -> Any:
    """The value of `key`, or `default` where it is missing or null.

    Args:
      key: In the object.
      kind: str, int, float (which an int is too), bool or dict.
      default: None where the key must be there.

    Raises:
      InputError: The value is of another type, not finite, or missing.
    """
    value: Any = self.values.get(key)
    if value is None and default is not None:
      return default
    right = type(value) is kind or (kind is float and type(value) is int)
    if right and kind in (int, float):
      right = -_MAX_NUMBER <= value <= _MAX_NUMBER  # Not so of NaN.
    if not right:
      shown = 'missing' if value is None else printable(repr(value), 60)
      raise InputError(
          f'{self.where}: {key!r} is {shown}, and must be {_TYPE_NAMES[kind]};'
          ' check that it is the right file.'
      )
    return float(value) if kind is float else value

  def object(self, key: str) -> 'Settings':
    """The settings that stand in an object inside, under `key`.

    Raises:
      InputError: It is missing, or no object.
    """
    return Settings(self.get(key, dict), f'{self.where}: {key}')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
  """The files of one dictionary, opened, with what is known beside them.

  Attributes:
    archive: Its weights.
    config: Its settings; empty where the format has none.
    hints: What the caller knows.
    options: Values of the format's `Option`s that were given.
  """

  archive: Archive
  config: Settings
  hints: LoadHints
  options: Mapping[str, Any]

  @property
  def where(self) -> str:
    """The file that describes the dictionary, for errors."""
    return self.config.where or self.archive.where

  def sizes(
      self,
      axes: Mapping[str, str],
      optional: Mapping[str, str] | None = None,
      *,
      config_sizes: Mapping[str, str] | None = None,
  ) -> dict[str, int]:
    """`axis_sizes` of the weights, compared with what the config says.

    Args:
      axes: See `axis_sizes`.
      optional: See `axis_sizes`.
      config_sizes: Key of the config that holds a size -> the axis it is of.

    Raises:
      InputError: The arrays do not fit each other, or the config.
    """
    sizes = axis_sizes(self.archive, axes, optional)
    for key, axis in (config_sizes or {}).items():
      size = self.config.get(key, int, sizes[axis])
      if size != sizes[axis]:
        raise InputError(
            f'{self.where}: {key} is {size}, and the weights have'
            f' {sizes[axis]}; download both again.'
        )
    return sizes

  def read(
      self, name: str, *, transposed: bool = False, wide: bool = False
  ) -> np.ndarray:
    """One array of the weights; see `read_array`."""
    return read_array(self.archive, name, transposed=transposed, wide=wide)

  def refuse_scaling_factor(self) -> None:
    """Refuses a factor of each feature that is not 1.

    Raises:
      InputError: There is such an array in the weights.
    """
    if 'scaling_factor' in self.archive.shapes:
      if (self.read('scaling_factor') != 1).any():
        raise InputError(
            f'{self.archive.where} has a scaling_factor that is not 1, left by'
            ' a fine-tuning whose meaning differs between programs; take an'
            ' SAE without one.'
        )


@dataclasses.dataclass(frozen=True)
class Entry:
  """One dictionary of a release.

  Attributes:
    folder: Of its files, in the repository.
    site: What it is of.
    size: F, how many features.
  """

  folder: str
  site: DictionarySite
  size: int


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
        if entry.site.layer == layer and entry.site.hook != 'embedding'
    ]


@dataclasses.dataclass(frozen=True)
class Option:
  """A choice between readings of a file, a keyword of `load_dictionary`.

  Attributes:
    name: The keyword.
    kind: Type of its value; None does what the file says.
    help: What it chooses.
  """

  name: str
  kind: type
  help: str


def _no_alias(name: str) -> str | None:
  del name  # Part of the signature.
  return None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Format:
  """A way in which dictionaries are stored.

  Attributes:
    name: As its users call it.
    weights: File of the arrays, in the folder of one dictionary.
    config: File of its settings there, or None if it has none.
    optional_config: Whether there are dictionaries without that file.
    recognise: Whether arrays of these names are of this format; asked where
      the name of the file does not say it.
    site: Layer and hook that the files and their path name, None for what they
      do not.
    read: The dictionary, at the site that is given.
    open: Opens the file of the arrays.
    releases: Suites that are published in this format.
    alias: 'release/id' of a name that others use, Neuronpedia for one, or
      None.
    options: Choices between readings.
  """

  name: str
  weights: str
  config: str | None = None
  optional_config: bool = False
  recognise: Callable[[Collection[str]], bool]
  site: Callable[[Source], tuple[int | None, str | None]]
  read: Callable[[Source, DictionarySite], RawDictionary]
  open: Callable[[pathlib.Path], Archive] = open_archive
  releases: Callable[[], Iterable[Release]] = tuple
  alias: Callable[[str], str | None] = _no_alias
  options: tuple[Option, ...] = ()
