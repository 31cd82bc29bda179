"""Checks of types that cost less, and find the same.

jaxtyping's own decorator binds the arguments of every call and checks them
twice, for better messages; in runs of the tests that was a third of the time.
Here beartype checks a function, and what makes a dataclass, once, with the axes
of its arrays, if it has any, in a memo of jaxtyping's.
"""

from collections.abc import Callable, Sequence
import dataclasses
import functools
import inspect
import typing
from typing import Any

import beartype
from beartype import roar
import jaxtyping
from jaxtyping import _storage


def install() -> None:
  """For modules that are imported after this, by jaxtyping's import hook."""
  jaxtyping.jaxtyped = functools.partial(_decorated, jaxtyping.jaxtyped)


def _decorated(whole: Callable[..., Any], fn: Any = None, **how: Any) -> Any:
  """`jaxtyped`, or what checks the same in less time."""
  if fn is None:
    return functools.partial(_decorated, whole, **how)
  if dataclasses.is_dataclass(fn):
    # Unless it is inherited from a class that has been here.
    if getattr(fn.__init__, '__globals__', {}).get('__name__') != __name__:
      fn.__init__ = _decorated(whole, fn.__init__, **how)
    return fn
  checked = _checked_by_beartype(fn) if inspect.isfunction(fn) else None
  if checked is None:
    return whole(fn, **how)
  has_axes = any(map(_may_have_axes, fn.__annotations__.values()))

  @functools.wraps(fn)
  def wrapped(*args, **kwargs):
    __tracebackhide__ = True  # pylint: disable=unused-variable
    if jaxtyping.config.jaxtyping_disable:
      return fn(*args, **kwargs)
    if has_axes:
      _storage.push_shape_memo({})
    try:
      return checked(*args, **kwargs)
    except roar.BeartypeCallHintViolation as error:
      raise jaxtyping.TypeCheckError(str(error)) from error
    finally:
      if has_axes:
        _storage.pop_shape_memo()

  return wrapped


def _checked_by_beartype(fn: Callable[..., Any]) -> Callable[..., Any] | None:
  """None where it takes jaxtyping: axes by arguments, and what begins later."""
  later = inspect.isgeneratorfunction(fn) or inspect.iscoroutinefunction(fn)
  hints = fn.__annotations__.values()
  if later or any(_is_text(x) or '{' in repr(x) for x in hints):
    return None
  try:
    return beartype.beartype(fn)
  except roar.BeartypeException:
    return None


def _parts(hint: Any) -> Sequence[Any]:
  if isinstance(hint, list):  # Of the arguments of a Callable.
    return hint
  if typing.get_origin(hint) is typing.Literal:
    return ()
  return typing.get_args(hint)


def _is_text(hint: Any) -> bool:
  if isinstance(hint, str | typing.ForwardRef):
    return True
  return any(map(_is_text, _parts(hint)))


def _may_have_axes(hint: Any) -> bool:
  where = getattr(hint, '__module__', ''), type(hint).__module__
  if any(str(x).partition('.')[0] == 'jaxtyping' for x in where):
    return True
  return any(map(_may_have_axes, _parts(hint)))
