"""Values of a config that may come from a damaged or hostile file."""

from collections.abc import Mapping
import dataclasses
from typing import Any, TypeGuard

from ooc_jax._errors import InputError

# All numbers become float32, with room for a square or a product.
_HUGE, _TINY = 1e30, 1e-30


def is_number(value: object) -> TypeGuard[float]:
  """Whether `value` is a number that float32 can hold, and no bool."""
  if isinstance(value, bool) or not isinstance(value, (int, float)):
    return False
  # Compared, as `math.isfinite` overflows for an int of 400 digits.
  return -_HUGE < value < _HUGE


def is_positive(value: object) -> bool:
  """Whether `value` is such a number, above zero."""
  return is_number(value) and value > _TINY


def shown(value: object) -> str:
  """`value` for an error message, short whatever the file holds."""
  try:
    text = repr(value)
  except (RecursionError, ValueError):  # Too deep, or too long an integer.
    text = f'a {type(value).__name__} that cannot be printed'
  return text if len(text) <= 80 else f'{text[:77]}...'


@dataclasses.dataclass(frozen=True)
class Reader:
  """A config with the name of its file, for errors.

  Attributes:
    hf: The parsed JSON object.
    where: Name of the file.
    defaults: Values of keys that may be left out.
  """

  hf: Mapping[str, Any]
  where: str
  defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def fail(self, what: str) -> InputError:
    return InputError(f'{self.where}: {what}.')

  def number(self, key: str, default: float | int | None = None) -> float:
    """The number under `key`; null counts as left out.

    Raises:
      InputError: It is no number, or left out and without a default.
    """
    value = self._given(key, default)
    if not is_number(value):
      raise self.fail(f'{key!r} is {shown(value)}, not a number in range')
    return float(value)

  def whole(self, key: str, default: int | None = None) -> int:
    """The whole number under `key`; null counts as left out.

    Raises:
      InputError: It is no integer, or left out and without a default.
    """
    value = self._given(key, default)
    if type(value) is not int or abs(value) >= 2**63:
      raise self.fail(
          f'{key!r} is {shown(value)}, not a whole number of 64 bits'
      )
    return value

  def _given(self, key: str, default: Any) -> Any:
    value = self.hf.get(key)
    if value is None:
      value = self.defaults.get(key, default)
    if value is None:
      raise self.fail(f'{key!r} is missing; this is no complete model config')
    return value
