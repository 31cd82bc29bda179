"""Scripts run as a user runs them, and what they leave."""

from collections.abc import Callable, Sequence
import contextlib
import io
import os
import pathlib
import signal
import subprocess
import time
from typing import Any
from unittest import mock

from ooc_jax import _cli
from ooc_jax import results
from ooc_jax._cli import _main

# As `finished.SMALL`.
SMALL = ('--null_size=1000', '--layer_null_size=200')


def environment() -> dict[str, str]:
  """No hub, whatever the machine has."""
  return os.environ | {'HF_HUB_OFFLINE': '1', 'JAX_PLATFORMS': 'cpu'}


def run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
  """Runs a command to its end, with what it prints."""
  return subprocess.run(
      command,
      capture_output=True,
      text=True,
      env=environment(),
      timeout=600,
      check=False,
  )


def kill(
    command: Sequence[str], reached: Callable[[], bool], delay: float
) -> None:
  """Kills a command once it got so far and a moment has passed.

  Args:
    command: Started anew.
    reached: Whether it is at the place.
    delay: Seconds after that.

  Raises:
    AssertionError: It ended before it could be killed.
  """
  with subprocess.Popen(
      command,
      stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
      env=environment(),
  ) as process:
    while process.poll() is None and not reached():
      time.sleep(0.005)
    time.sleep(delay)
    process.kill()
  if process.returncode != -signal.SIGKILL:
    raise AssertionError(f'It ended by itself: {process.returncode}.')


def run_here(
    command: str | _cli.Command, *args: str
) -> subprocess.CompletedProcess[str]:
  """A command in this process, which starts at once; keeps log and memory."""
  out, err = io.StringIO(), io.StringIO()
  status: Any = 0
  with (
      contextlib.redirect_stdout(out),
      contextlib.redirect_stderr(err),
      mock.patch.object(_main, '_log'),
      mock.patch.object(_main, '_hold_little'),
  ):
    try:
      _cli.run(command, ['script.py', *args])
    except SystemExit as end:
      status = end.code
  return subprocess.CompletedProcess(
      args, status, out.getvalue(), err.getvalue()
  )


def digest(folder: pathlib.Path) -> dict[str, str]:
  """SHA-256 of every file, by its path in the folder."""
  return {
      str(path.relative_to(folder)): results.sha256_file(path)
      for path in sorted(folder.rglob('*'))
      if path.is_file()
  }
