"""Values of a JSON settings file, each of the type it must have."""

from collections.abc import Mapping
from typing import Any

from ooc_jax._errors import InputError
from ooc_jax.dictionaries._archive import printable

_NAMES = {
    str: 'a text',
    int: 'a whole number',
    float: 'a finite number',
    bool: 'true or false',
    dict: 'an object',
}
# Far over any size; an integer of 5000 digits can neither be shown nor used.
_MOST = 2**53


def setting(
    config: Mapping[str, Any],
    key: str,
    kind: type,
    where: str,
    default: Any = None,
) -> Any:
  """The value of `key`, or `default` where it is missing or null.

  Args:
    config: A JSON object.
    key: In it.
    kind: str, int, float (which an int is too), bool or dict.
    where: The file, for errors.
    default: None where the key must be there.

  Raises:
    InputError: The value is of another type, not finite, or missing.
  """
  value: Any = config.get(key)
  if value is None and default is not None:
    return default
  right = type(value) is kind or (kind is float and type(value) is int)
  if right and kind in (int, float):
    right = -_MOST <= value <= _MOST  # Not so of NaN.
  if not right:
    shown = 'missing' if value is None else printable(repr(value), 60)
    raise InputError(
        f'{where}: {key!r} is {shown}, and must be {_NAMES[kind]}; check that'
        ' it is the right file.'
    )
  return float(value) if kind is float else value
