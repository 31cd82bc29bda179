"""Values of a config that may come from a damaged or hostile file."""

from collections.abc import Mapping
import dataclasses
from typing import Any

from ooc_jax._errors import InputError

_HUGE = 1e300


def is_number(value: object) -> bool:
  """Whether `value` is a finite int or float, and no bool."""
  if isinstance(value, bool) or not isinstance(value, (int, float)):
    return False
  # Compared, as `math.isfinite` overflows for an int of 400 digits.
  return -_HUGE < value < _HUGE


def is_positive(value: object) -> bool:
  """Whether `value` is a finite number above zero."""
  return is_number(value) and value > 0


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

  def number(self, key: str, default: Any = None) -> Any:
    """The finite number under `key`; null counts as left out.

    Raises:
      InputError: It is no number, or left out and without a default.
    """
    value = self.hf.get(key)
    if value is None:
      value = self.defaults.get(key, default)
    if value is None:
      raise self.fail(f'{key!r} is missing; this is no complete model config')
    if not is_number(value):
      raise self.fail(f'{key!r} is {shown(value)}, not a finite number')
    return value
