"""Processes that import the results room and nothing else of the package."""

import os
import pathlib
import subprocess
import sys
import types

_PACKAGE = pathlib.Path(__file__).resolve().parents[2] / 'ooc_jax'


def without_front_door() -> None:
  """Makes `import ooc_jax.x` skip `ooc_jax/__init__.py` in this process."""
  package = types.ModuleType('ooc_jax')
  package.__path__ = [str(_PACKAGE)]
  sys.modules['ooc_jax'] = package


def run(code: str, *args: str, **env: str) -> subprocess.CompletedProcess:
  """Runs `code` in a fresh Python, with `args` from sys.argv[1] on."""
  prelude = 'import light\nlight.without_front_door()\n'
  return subprocess.run(
      [sys.executable, '-W', 'error', '-c', prelude + code, *args],
      env={**os.environ, 'PYTHONPATH': str(pathlib.Path(__file__).parent)}
      | env,
      capture_output=True,
      text=True,
      check=False,
      timeout=60,
  )
