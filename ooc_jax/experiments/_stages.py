"""What a run is doing, on the screen: stages, and layers one by one.

On a terminal one line that a thread renews, so that it moves while a program is
compiled; elsewhere lines of the log. Nothing where the log is off: its
verbosity is that of absl, INFO in the scripts and less with `--quiet`.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
import contextlib
import shutil
import sys
import threading
import time
from typing import TypeVar

from absl import logging

_T = TypeVar('_T')
# A stage that takes no longer is not worth a line of the log.
_SHORT = 2.0
_RENEWED = 4  # Times a second.


@contextlib.contextmanager
def stage(name: str) -> Iterator[None]:
  """Says that something is being done, and for how long.

  Args:
    name: What, as in 'reading the model'.
  """
  if _on_terminal():
    with _line(name, None):
      yield
    return
  start = time.monotonic()
  begun = threading.Timer(_SHORT, lambda: logging.info('%s …', name))
  begun.daemon = True
  begun.start()
  try:
    yield
  finally:
    begun.cancel()
  seconds = time.monotonic() - start
  if seconds >= _SHORT:
    logging.info('%s: %.0f s', name, seconds)


def progress(
    items: Sequence[_T], unit: str = 'layer'
) -> Generator[_T, None, None]:
  """Gives the items on, and says which one is done and how long the rest takes.

  Args:
    items: In their order.
    unit: What they are.
  """
  if _on_terminal():
    with _line(f'{unit}s', len(items)) as advance:
      for item in items:
        yield item
        advance()
    return
  start = time.monotonic()
  for done, item in enumerate(items, 1):
    yield item
    seconds = time.monotonic() - start
    logging.info(
        '%s %s: %d of %d, %.0f s, %.0f s left',
        unit,
        item,
        done,
        len(items),
        seconds,
        seconds / done * (len(items) - done),
    )


def _on_terminal() -> bool:
  return sys.stderr.isatty() and logging.get_verbosity() >= logging.INFO


@contextlib.contextmanager
def _line(name: str, total: int | None) -> Iterator[Callable[[], None]]:
  """A line that goes when it is done; gives a function that takes a step."""
  # Of no use where there is no terminal.
  from rich import console
  from rich import progress as bars

  columns: list[bars.ProgressColumn] = [
      bars.SpinnerColumn(),
      bars.TextColumn('{task.description}'),
      bars.TimeElapsedColumn(),
  ]
  if total is not None:
    columns[2:2] = [bars.BarColumn(), bars.MofNCompleteColumn()]
    columns += [bars.TextColumn('left'), bars.TimeRemainingColumn()]
  lines = bars.Progress(
      *columns,
      # A width of 0, of a window whose size is not known, would show nothing.
      console=console.Console(
          stderr=True, width=shutil.get_terminal_size().columns
      ),
      transient=True,
      refresh_per_second=_RENEWED,
  )
  handler = logging.get_absl_handler().python_handler
  before = handler.stream
  with lines:
    # Rich writes what is written meanwhile above its line.
    handler.setStream(sys.stderr)
    try:
      task = lines.add_task(name, total=total)
      yield lambda: lines.advance(task)
    finally:
      handler.setStream(before)
