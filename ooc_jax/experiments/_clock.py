"""How long something runs, and how long of it programs are compiled."""

from collections.abc import Iterator
import contextlib
import time
from typing import Any

from jax import monitoring

# Tracing, lowering, and compiling or reading what was compiled before; JAX
# tells of each when it is over. A program inside another is told of first.
_STEPS = (
    '/jax/core/compile/jaxpr_trace_duration',
    '/jax/core/compile/jaxpr_to_mlir_module_duration',
    '/jax/core/compile/backend_compile_duration',
)


class Clock:
  """Filled by `timed`.

  Attributes:
    seconds: Of all, without what `compiling` counts.
    compiling: In which programs were made.
  """

  def __init__(self) -> None:
    self._start = time.monotonic()
    self._total: float | None = None
    # Disjoint and rising: what one step spans is not counted in another.
    self._spans: list[tuple[float, float]] = []

  @property
  def compiling(self) -> float:
    return sum((end - start for start, end in self._spans), 0.0)

  @property
  def seconds(self) -> float:
    now = time.monotonic() - self._start
    return (now if self._total is None else self._total) - self.compiling

  def stop(self) -> None:
    self._total = time.monotonic() - self._start

  def __call__(self, event: str, duration_secs: float, **_: Any) -> None:
    """The listener that JAX calls."""
    if event not in _STEPS:
      return
    end = time.monotonic()
    start = max(end - duration_secs, self._start)
    while self._spans and self._spans[-1][0] >= start:
      self._spans.pop()
    if self._spans:
      start = max(start, self._spans[-1][1])
    self._spans.append((start, end))


@contextlib.contextmanager
def timed() -> Iterator[Clock]:
  """Times what is done inside, apart from compiling."""
  clock = Clock()
  monitoring.register_event_duration_secs_listener(clock)
  try:
    yield clock
  finally:
    monitoring.unregister_event_duration_listener(clock)
    clock.stop()
