"""Cheap checks of the types of functions that have no arrays.

jaxtyping binds the arguments of every call of the package, and checks them
twice, to know what the axes of its arrays are called. A function without an
array in its signature has no axes: beartype checks the same alone, in a tenth
of the time, and what a run calls in its loops are such functions.
"""

from collections.abc import Callable
import functools
import inspect
import typing
from typing import Any

import beartype
from beartype import roar
import jaxtyping


def install() -> None:
  """For modules that are imported after this, by jaxtyping's import hook."""
  jaxtyping.jaxtyped = functools.partial(_decorated, jaxtyping.jaxtyped)


def _decorated(whole: Callable[..., Any], fn: Any = None, **how: Any) -> Any:
  """`jaxtyped`, or what checks the same in less time."""
  if fn is None:
    return functools.partial(_decorated, whole, **how)
  checked = _checked_by_beartype(fn) if inspect.isfunction(fn) else None
  if checked is None:
    return whole(fn, **how)

  @functools.wraps(fn)
  def wrapped(*args, **kwargs):
    __tracebackhide__ = True  # pylint: disable=unused-variable
    if jaxtyping.config.jaxtyping_disable:
      return fn(*args, **kwargs)
    try:
      return checked(*args, **kwargs)
    except roar.BeartypeCallHintViolation as error:
      raise jaxtyping.TypeCheckError(str(error)) from error

  return wrapped


def _checked_by_beartype(fn: Callable[..., Any]) -> Callable[..., Any] | None:
  """None where it takes jaxtyping: for axes, and what begins when asked."""
  hints = getattr(fn, '__annotations__', {}).values()
  later = inspect.isgeneratorfunction(fn) or inspect.iscoroutinefunction(fn)
  if later or any(map(_may_have_axes, hints)):
    return None
  try:
    return beartype.beartype(fn)
  except roar.BeartypeException:
    return None


def _may_have_axes(hint: Any) -> bool:
  if typing.get_origin(hint) is typing.Literal:
    return False
  if isinstance(hint, str | typing.ForwardRef):
    return True
  if isinstance(hint, list):  # Of the arguments of a Callable.
    return any(map(_may_have_axes, hint))
  if 'jaxtyping' in (getattr(hint, '__module__', ''), type(hint).__module__):
    return True
  if type(hint).__module__.startswith('jaxtyping.'):
    return True
  return any(map(_may_have_axes, typing.get_args(hint)))
