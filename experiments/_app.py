"""How a script starts, and how it ends."""

from collections.abc import Callable, Iterator
import contextlib
import logging as standard_logging
import os
import sys
from typing import Any

from absl import app
from absl import flags
from absl import logging

import ooc_jax

# Flags of every script; what None means, each says itself.
MODEL = flags.DEFINE_string(
    'model',
    None,
    'What is studied: a file of configs/ (default tiny_gemma2). What is'
    ' converted: a name of the registry, a hub id (owner/name), a folder or a'
    ' file.',
)
DICTIONARY = flags.DEFINE_string(
    'dictionary',
    None,
    "The directions: 'mlp', 'tokens', 'random', an id of convert_weights.py"
    " --list, a hub id, a folder or a file; '{layer}' in it is the layer.",
)
REVISION = flags.DEFINE_string(
    'revision', None, 'Branch, tag or commit of the hub repository.'
)
MESH = flags.DEFINE_string(
    'mesh', None, "Devices to spread over: 'feature:4,vocab:2'."
)
OUT = flags.DEFINE_string('out', None, 'Folder to write.')

_RESUMES = 'the same command continues where this one stopped.'


@contextlib.contextmanager
def _errors_without_traceback(interrupted: str) -> Iterator[None]:
  try:
    yield
  except ooc_jax.InputError as error:
    print(f'error: {error}', file=sys.stderr)
    sys.exit(2)
  except KeyboardInterrupt:
    print(f'\ninterrupted; {interrupted}', file=sys.stderr)
    sys.exit(130)
  except BrokenPipeError:
    # The reader of our output left (`| head`): nothing is wrong here.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(0)


def no_words(words: list[str]) -> None:
  """Refuses arguments that are no flags.

  Raises:
    InputError: There are some.
  """
  if words:
    raise ooc_jax.InputError(
        f'Unexpected arguments {words}; settings are given as --name=value.'
    )


def start(main: Callable[[], Any]) -> None:
  """Parses flags and runs `main`; what a user can cause is one sentence."""

  def without_words(words: list[str]) -> None:
    no_words(words)
    main()

  start_with_words(without_words, interrupted=_RESUMES)


def start_with_words(
    main: Callable[[list[str]], Any], *, interrupted: str
) -> None:
  """Like `start`, for a `main` that takes arguments that are no flags.

  Args:
    main: Takes them.
    interrupted: What becomes of a run that Ctrl-C stops.
  """

  def checked(argv: list[str]) -> None:
    with _errors_without_traceback(interrupted):
      main(argv[1:])

  logging.set_verbosity(logging.INFO)
  # Fonts in a PDF, and accelerators that are not there, are no news.
  for name in ('fontTools', 'jax'):
    standard_logging.getLogger(name).setLevel(standard_logging.WARNING)
  app.run(checked)
