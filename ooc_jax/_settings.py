"""Settings: each is described once, in its field.

The description makes the check of its value, its flag, and its line in
`--help`.
"""

from collections.abc import Callable, Mapping
import dataclasses
import types
import typing
from typing import Any

from ooc_jax._errors import InputError
from ooc_jax._text import nearest

_KEY = 'setting'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
  """What is known of a setting.

  Attributes:
    help: What it is, in a sentence.
    choices: All values of a text, or None. Of a flag that is true or false:
      what may be listed instead of true.
    least: The smallest whole number.
    between: Bounds of a number, themselves excluded.
    parse: Understands a text, or raises `InputError`.
    source: 'paper', 'inferred' where the paper leaves it open and one value is
      likely, or 'ours'.
    group: Heading in `--help`; None is the experiment.
    alias: Older name of its flag.
  """

  help: str
  choices: tuple[str, ...] | None = None
  least: int | None = None
  between: tuple[float, float] | None = None
  parse: Callable[[str], Any] | None = None
  source: str = 'ours'
  group: str | None = None
  alias: str | None = None


def setting(default: Any, **about: Any) -> Any:
  """A field of a frozen dataclass; `about` as of `Setting`, `help` at least."""
  return dataclasses.field(
      default=default, metadata={_KEY: Setting(**about)}, kw_only=True
  )


def settings_of(
    kind: type,
) -> Mapping[str, tuple[Setting, type, bool, Any]]:
  """Name -> description, type, whether None is allowed, and default."""
  hints = typing.get_type_hints(kind)
  found = {}
  for field in dataclasses.fields(kind):
    if _KEY in field.metadata:
      own, optional = _without_none(hints[field.name])
      about = field.metadata[_KEY]
      found[field.name] = about, own, optional, field.default
  return found


def _without_none(hint: Any) -> tuple[Any, bool]:
  """`int | None` as (int, True), int as (int, False)."""
  if typing.get_origin(hint) not in (types.UnionType, typing.Union):
    return hint, False
  (own,) = (x for x in typing.get_args(hint) if x is not type(None))
  return own, True


def check(config: Any) -> None:
  """Refuses a dataclass of settings of which one cannot be.

  Raises:
    InputError: Names the setting, its value, and what may be there.
  """
  for name, (about, kind, optional, _) in settings_of(type(config)).items():
    value = getattr(config, name)
    if value is None and optional:
      continue
    problem = _problem(value, kind, about)
    if problem:
      raise InputError(f'{name}={value!r} {problem}')
    if about.parse is not None:
      about.parse(value)


def _problem(value: Any, kind: Any, about: Setting) -> str:
  """What is wrong with a value, or ''."""
  if about.choices is not None:
    if value in about.choices:
      return ''
    return f'is unknown{nearest(str(value), about.choices)}'
  if kind is int:
    least = about.least
    if type(value) is int and (least is None or value >= least):
      return ''
    least_text = '' if least is None else f', at least {least}'
    return f'must be a whole number{least_text}.'
  if kind is float:
    low, high = about.between or (float('-inf'), float('inf'))
    if type(value) in (int, float) and low < value < high:
      return ''
    return f'must be a number between {low:g} and {high:g}.'
  if kind in (bool, str) and type(value) is not kind:
    return f'must be {"true or false" if kind is bool else "a text"}.'
  return ''
