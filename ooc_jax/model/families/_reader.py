"""Settings that may come from a damaged or hostile file."""

from collections.abc import Mapping
import dataclasses
from typing import Any

from ooc_jax._errors import InputError
from ooc_jax.model._config import MAX_LAYERS
from ooc_jax.model._config import is_number
from ooc_jax.model._config import shown


@dataclasses.dataclass(frozen=True)
class Reader:
  """Settings with the name of their file, for errors.

  Attributes:
    settings: Names and plain values, of JSON or of a GGUF header.
    where: Name of the file.
    defaults: Values of keys that may be left out; null counts as left out.
    prefix: Stands in front of every key in the file, and in errors.
  """

  settings: Mapping[str, Any]
  where: str
  defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  prefix: str = ''

  def fail(self, what: str) -> InputError:
    return InputError(f'{self.where}: {what}.')

  def has(self, key: str) -> bool:
    """Whether the file says anything of `key`, null included."""
    return self.prefix + key in self.settings

  def get(self, key: str, default: Any = None) -> Any:
    """Whatever stands under `key`, unchecked."""
    value = self.settings.get(self.prefix + key)
    return self.defaults.get(key, default) if value is None else value

  def number(self, key: str, default: float | int | None = None) -> float:
    """The number under `key`.

    Raises:
      InputError: It is no number, or left out and without a default.
    """
    value = self._given(key, default)
    if not is_number(value):
      raise self.fail(
          f'{self.prefix + key!r} is {shown(value)}, not a number in range'
      )
    return float(value)

  def whole(self, key: str, default: int | None = None) -> int:
    """The whole number under `key`.

    Raises:
      InputError: It is no integer, or left out and without a default.
    """
    value = self._given(key, default)
    if type(value) is not int or abs(value) >= 2**63:
      raise self.fail(
          f'{self.prefix + key!r} is {shown(value)}, not a whole number of 64'
          ' bits'
      )
    return value

  def flag(self, key: str) -> bool:
    """Whether `key` is true.

    Raises:
      InputError: It is neither true nor false, or left out and without a
        default.
    """
    value = self._given(key, None)
    if not isinstance(value, bool):
      raise self.fail(
          f'{self.prefix + key!r} is {shown(value)}, not true or false'
      )
    return value

  def layers(self, key: str) -> int:
    """How many layers `key` says: what is made for each of them has bounds.

    Raises:
      InputError: It is no number of layers.
    """
    count = self.whole(key)
    if not 0 < count <= MAX_LAYERS:
      raise self.fail(
          f'{self.prefix + key!r} is {count}, not from 1 to {MAX_LAYERS}'
      )
    return count

  def _given(self, key: str, default: Any) -> Any:
    value = self.get(key, default)
    if value is None:
      raise self.fail(
          f'{self.prefix + key!r} is missing; this is no complete model config'
      )
    return value
