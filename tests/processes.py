"""Several processes that compute together, started by a test."""

from collections.abc import Mapping, Sequence
import contextlib
import pathlib
import socket
import subprocess


def free_port() -> int:
  """One that nobody listens at, for the first process."""
  with socket.socket() as s:
    s.bind(('localhost', 0))
    return s.getsockname()[1]


def run_together(
    commands: Sequence[Sequence[str | pathlib.Path]],
    seconds: float,
    env: Mapping[str, str] | None = None,
) -> list[subprocess.CompletedProcess[str]]:
  """Runs all commands at once, to their ends, with what each prints."""
  with contextlib.ExitStack() as stack:
    processes = []
    for command in commands:
      process = subprocess.Popen(
          command,
          stdout=subprocess.PIPE,
          stderr=subprocess.PIPE,
          text=True,
          env=env,
      )
      stack.enter_context(process)
      # Where one has died, the others would wait for it.
      stack.callback(process.kill)
      processes.append(process)
    said = [process.communicate(timeout=seconds) for process in processes]
  return [
      subprocess.CompletedProcess(p.args, p.returncode, *texts)
      for p, texts in zip(processes, said, strict=True)
  ]
