"""The command line: `python -m ooc_jax NAME ...` and the script `ooc-jax`.

Here, and nowhere else in the package, flags are defined, the environment is
set, and the process is given a log, a cache of compiled programs and limits to
the memory it keeps.
"""

from collections.abc import Sequence
import importlib
import os
import sys

from ooc_jax._cli._main import Command
from ooc_jax._cli._main import start
from ooc_jax._text import nearest

# Name -> the module here that holds it.
COMMANDS = {
    'output_prediction': '_experiments',
    'attention_participation': '_experiments',
    'semantic_attention': '_experiments',
    'validate': '_experiments',
    'compare': '_finished',
    'intrusion': '_finished',
    'convert_weights': '_convert_weights',
    'train_sae': '_train_sae',
    'explain': '_explain',
    'explore': '_pages',
    'export': '_pages',
}
__all__ = ('COMMANDS', 'Command', 'main', 'run', 'start')


def run(
    command: str | Command,
    argv: Sequence[str] | None = None,
    program: str | None = None,
) -> None:
  """Runs a command as its script does; ends the process on an error.

  Args:
    command: One of `COMMANDS`, or one's own.
    argv: Its command line; `sys.argv` by default.
    program: How it was called, for `--help`.
  """
  argv = sys.argv if argv is None else argv
  if isinstance(command, str):
    module = importlib.import_module(f'{__name__}.{COMMANDS[command]}')
    command = module.COMMANDS[command]
  start(command, argv, program or f'python {os.path.relpath(argv[0])}')


def main() -> None:
  """`ooc-jax NAME ...`."""
  name, *rest = sys.argv[1:] or ['--help']
  if name in ('--help', '-h', 'help'):
    print('usage: ooc-jax NAME [--SETTING=VALUE ...]\n')
    print(f'NAME is one of {", ".join(COMMANDS)}; NAME --help says more.')
    return
  if name not in COMMANDS:
    print(
        f'error: There is no command {name!r}{nearest(name, COMMANDS)}',
        file=sys.stderr,
    )
    sys.exit(2)
  run(name, [name, *rest], f'ooc-jax {name}')
