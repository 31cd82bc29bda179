"""How a command starts and ends: flags, log, cache, and errors as sentences."""

import codecs
from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import ctypes
import dataclasses
import hashlib
import io
import logging as standard_logging
import os
import pathlib
import platform
import re
import sys

from absl import flags
from absl import logging

from ooc_jax import _cache
from ooc_jax._cli._flags import Given
from ooc_jax._cli._flags import parse_flags
from ooc_jax._errors import InputError
from ooc_jax._folders import cache_root

# Loggers whose news are of no interest: fonts in a PDF, accelerators that are
# not there, every HTTP request.
_QUIET = ('fontTools', 'jax', 'httpx', 'huggingface_hub', 'filelock')
_OUT_OF_MEMORY = re.compile('out of memory|RESOURCE_EXHAUSTED', re.IGNORECASE)
_ESCAPED = 'ooc_jax.escaped'  # Name of a handler of errors of an encoding.
_M_ARENA_MAX = -8  # Of glibc's malloc.h.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Command:
  """What can be started from a command line.

  Attributes:
    doc: What it does, first line first.
    settings: Heading -> dataclass whose settings are its flags.
    main: Does it.
    words: Whether it takes arguments that are no flags.
    interrupted: What becomes of a run that Ctrl-C stops.
    computes: Whether it needs JAX, which takes a second to import.
  """

  doc: str
  settings: Mapping[str, type]
  main: Callable[[Given], None]
  words: bool = False
  interrupted: str = 'the same command continues where this one stopped.'
  computes: bool = True


def start(command: Command, argv: Sequence[str], program: str) -> None:
  """Reads the flags and runs the command; what a user can cause is a sentence.

  Args:
    command: To run.
    argv: Its command line; the first word is not read.
    program: How it was called, for `--help`.
  """
  _print_any_text()
  with _errors_without_traceback(command.interrupted):
    usage = f'{command.doc.strip()}\n\nusage: {program} [--SETTING=VALUE ...]'
    given = parse_flags(argv, command.settings, usage)
    if given.help is not None:
      print(given.help)
      return
    if given.words and not command.words:
      raise InputError(
          f'Unexpected arguments {list(given.words)}; settings are given as'
          ' --name=value.'
      )
    _log(given)
    _draw_in_files()
    if command.computes:
      _use_compilation_cache()
      _cache.set_cache_dir()
    _hold_little()
    command.main(given)


@contextlib.contextmanager
def _errors_without_traceback(interrupted: str) -> Iterator[None]:
  try:
    yield
  except InputError as error:
    print(f'error: {error}', file=sys.stderr)
    sys.exit(2)
  except _memory_errors() as error:
    text = ' '.join(str(error).split())
    if not isinstance(error, MemoryError) and not _OUT_OF_MEMORY.search(text):
      raise
    print(
        f'error: There is not enough memory ({text[-200:].rstrip(".")}); choose'
        ' smaller settings or a smaller dictionary, or spread it over more'
        ' devices (--mesh).',
        file=sys.stderr,
    )
    sys.exit(2)
  except KeyboardInterrupt:
    print(f'\ninterrupted; {interrupted}', file=sys.stderr)
    sys.exit(130)
  except BrokenPipeError:
    # The reader of our output left (`| head`): nothing is wrong here.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(0)


def _print_any_text() -> None:
  """Lets a standard output that is not UTF-8 show what it can of a text.

  The rest becomes what it is in a source file (\\u2019): different tokens stay
  different, and a run does not die of its last lines.
  """
  for stream in (sys.stdout, sys.stderr):
    if isinstance(stream, io.TextIOWrapper):
      codecs.register_error(_ESCAPED, _escaped)
      stream.reconfigure(errors=_ESCAPED)


def _escaped(error: UnicodeError) -> tuple[str, int]:
  if not isinstance(error, UnicodeEncodeError):
    raise error
  text = error.object[error.start : error.end].replace('…', '...')
  return text.encode('ascii', 'backslashreplace').decode(), error.end


def _draw_in_files() -> None:
  """Keeps the backend of a notebook, which may not be here, out of it.

  Matplotlib looks for it when it is imported; figures here are files.
  """
  os.environ['MPLBACKEND'] = 'agg'


def _memory_errors() -> tuple[type[Exception], ...]:
  """What says that memory is out; of JAX, where a command imported it."""
  if 'jax' not in sys.modules:
    return (MemoryError,)
  import jax

  return MemoryError, jax.errors.JaxRuntimeError


def _log(given: Given) -> None:
  flags.FLAGS.mark_as_parsed()  # Those of absl's log, which it asks for.
  if flags.FLAGS['verbosity'].using_default_value:
    quiet = given.settings.get('quiet', False)
    logging.set_verbosity(logging.WARNING if quiet else logging.INFO)
  logging.use_absl_handler()
  for name in _QUIET:
    standard_logging.getLogger(name).setLevel(standard_logging.WARNING)


def _use_compilation_cache() -> None:
  """Keeps compiled programs for later runs, unless the user said where."""
  if 'JAX_COMPILATION_CACHE_DIR' in os.environ:
    return
  root = cache_root()
  if root is None:
    return
  folder = root / 'programs' / _machine()
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError:
    return  # Without a place to keep them, they are compiled every time.
  import jax  # Not for commands that do without: it takes a second.

  jax.config.update('jax_compilation_cache_dir', str(folder))
  # Most programs compile in less than a second, and there are hundreds.
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)
  jax.config.update('jax_persistent_cache_min_entry_size_bytes', -1)


def _machine() -> str:
  """Another name on a processor of other instructions, as homes are shared."""
  about = platform.processor()
  try:
    text = pathlib.Path('/proc/cpuinfo').read_text()
    about += next(x for x in text.splitlines() if x.startswith('flags'))
  except (OSError, StopIteration):
    pass
  return (
      f'{platform.machine()}-{hashlib.sha256(about.encode()).hexdigest()[:8]}'
  )


def _hold_little() -> None:
  """Gives the C library two arenas; before threads start.

  By itself it makes one for many a thread, and in each stays what a compiler
  took there and freed. Of experiment 1 on SmolLM2 (3 layers), with nothing in
  the cache of programs, the peak is 1.39 GB with this and 1.49 GB without.
  """
  if not sys.platform.startswith('linux'):
    return
  change = getattr(ctypes.CDLL(None), 'mallopt', None)
  if change is not None:
    change(_M_ARENA_MAX, 2)
