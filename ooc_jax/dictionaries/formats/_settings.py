"""The settings that stand beside the weights of a dictionary."""

from collections.abc import Mapping
import pathlib
import re
from typing import Any

from ooc_jax._errors import InputError
from ooc_jax._text import printable
from ooc_jax.checkpoints import read_json

_TYPE_NAMES = {
    str: 'a text',
    int: 'a whole number',
    float: 'a finite number',
    bool: 'true or false',
    dict: 'an object',
}
# Far over any size; an integer of 5000 digits can neither be shown nor used.
_MAX_NUMBER = 2**53


# A line `key: value` of a YAML file, at its first level.
_YAML_LINE = re.compile(r'([A-Za-z_]\w{0,60}):[ \t]+(\S.{0,500})')
_MAX_YAML = 2**20


class Settings:
  """A file of settings, whose values are of the type they must have.

  Attributes:
    where: Its path, for errors.
    values: The object in it.
  """

  def __init__(self, values: Mapping[str, Any], where: str):
    self.values, self.where = values, where

  @classmethod
  def read(cls, path: pathlib.Path) -> 'Settings':
    """Opens a file of JSON, or of plain YAML.

    Raises:
      InputError: It is missing, or holds no JSON object.
    """
    if path.suffix in ('.yaml', '.yml'):
      return cls(_flat_yaml(path), str(path))
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


def _flat_yaml(path: pathlib.Path) -> dict[str, str]:
  """The texts at the first level of a YAML file; the rest is not looked at.

  Raises:
    InputError: It cannot be read.
  """
  try:
    with path.open('rb') as file:
      lines = file.read(_MAX_YAML).decode('utf-8', 'replace').splitlines()
  except OSError as error:
    raise InputError(
        f'{path} cannot be read ({printable(str(error), 200)}); check it.'
    ) from None
  matches = filter(None, map(_YAML_LINE.fullmatch, lines))
  return {
      match[1]: match[2].partition(' #')[0].strip().strip('\'"')
      for match in matches
  }
