"""Scripts run as a user runs them, and what they leave."""

from collections.abc import Sequence
import os
import pathlib
import subprocess

from ooc_jax import results


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


def digest(folder: pathlib.Path) -> dict[str, str]:
  """SHA-256 of every file, by its path in the folder."""
  return {
      str(path.relative_to(folder)): results.sha256_file(path)
      for path in sorted(folder.rglob('*'))
      if path.is_file()
  }
