"""Makes every silent mistake loud, for the whole test run."""

import atexit
import contextlib
import fcntl
import functools
import gc
import os
import pathlib
import shutil
import sys
import tempfile
import threading

# Read by huggingface_hub when it is imported: the tests have a hub of their
# own, and neither a token nor the offline mode of this machine is for it.
for _name in [n for n in os.environ if n.startswith('HF_')]:
  del os.environ[_name]

# Programs are compiled once for all test files, the scripts that they start,
# and later runs, but for the smallest, which take as long to keep; read by JAX
# when it is imported.
os.environ.setdefault(
    'JAX_COMPILATION_CACHE_DIR',
    str(pathlib.Path(__file__).resolve().parent.parent / '.pytest_cache/xla'),
)
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.02')
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES', '-1')
# Programs carry no stack of Python lines, which compilers drag along.
os.environ.setdefault('JAX_TRACEBACK_IN_LOCATIONS_LIMIT', '0')
# And nothing else: a test of this code would read what another version found.
os.environ.setdefault('OOC_JAX_CACHE', '')
# A program is compiled in one piece, not a piece for each of many cores. LLVM
# optimises what runs for hours; these programs run for milliseconds and compile
# in half the time without, and faster still without fusion emitters. `.ci/run`
# runs what is marked `optimized` and real weights as users compile them.
_xla_flags = '--xla_cpu_parallel_codegen_split_count=1'
if not os.environ.get('OOC_JAX_TEST_OPTIMIZED'):
  _xla_flags += (
      ' --xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false'
  )
os.environ.setdefault('XLA_FLAGS', _xla_flags)

# Folders of tests, 100 MB at most, lie in memory where there is room, and go
# when the run ends: a disk lets each file wait that is replaced or synced. To
# look at them afterwards, set TMPDIR. Tests at full size need a disk.
_MEMORY = pathlib.Path('/dev/shm')
if (
    not {'TMPDIR', 'OOC_JAX_FULL_SIZE'} & set(os.environ)
    and os.access(_MEMORY, os.W_OK)
    and shutil.disk_usage(_MEMORY).free > 2**31
):
  for _left in _MEMORY.glob('ooc_jax-tests-*'):  # By a run that was killed?
    with contextlib.suppress(OSError):  # Whoever lives holds a lock.
      fcntl.flock(os.open(_left, os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)
      shutil.rmtree(_left)
  _folder = tempfile.mkdtemp(prefix='ooc_jax-tests-', dir=_MEMORY)
  fcntl.flock(os.open(_folder, os.O_RDONLY), fcntl.LOCK_EX)
  atexit.register(shutil.rmtree, _folder, ignore_errors=True)
  os.environ['TMPDIR'], tempfile.tempdir = _folder, None

# Bytecode is kept whatever the environment says: without it, each process of
# pytest and each script of a test compiles every module anew.
sys.dont_write_bytecode = False
os.environ.pop('PYTHONDONTWRITEBYTECODE', None)

from absl import flags  # noqa: E402
import jax  # noqa: E402
from jax._src.interpreters import mlir  # noqa: E402
import pytest  # noqa: E402

from tests import type_checks  # noqa: E402

type_checks.install()

# Jaxprs and modules of MLIR are many objects and few cycles: by default a tenth
# of the time goes to the collector.
gc.set_threshold(100_000, 20, 20)
_new_context = mlir.make_ir_context
# A new one for each program, of which a run has thousands, costs as much as
# the rest of the lowering of a small one.
_context_of_thread = functools.cache(lambda thread: _new_context())
mlir.make_ir_context = lambda: _context_of_thread(threading.get_ident())

# What `.ci/run` compiles as users do: circuits, and slow tests of either
# precision, of nulls, and of how long a user waits.
_TESTS = pathlib.Path(__file__).resolve().parent
_CIRCUITS = _TESTS / 'circuits'
OPTIMIZED = (
    _CIRCUITS,
    _TESTS / 'experiments/output_prediction/calibration_test.py',
    _TESTS / 'experiments/precision_test.py',
    _TESTS / 'experiments/stages_test.py',
)
_MAPS = pathlib.Path('/proc/self/maps')
_MOST_MAPS = 45_000  # No file adds more than half of what is left.


def pytest_configure(config):
  del config  # Part of the hook's signature.
  flags.FLAGS.mark_as_parsed()  # absl flags are read under pytest.
  jax.config.update('jax_platforms', 'cpu')
  jax.config.update('jax_num_cpu_devices', 8)
  jax.config.update('jax_numpy_rank_promotion', 'raise')
  jax.config.update('jax_numpy_dtype_promotion', 'strict')


@pytest.hookimpl(tryfirst=True)  # Before what is selected by marks.
def pytest_collection_modifyitems(items):
  for item in items:
    marks = {mark.name for mark in item.iter_markers()}
    if item.path.is_relative_to(_CIRCUITS):
      optimized = 'any_compiler' not in marks
    else:
      optimized = 'slow' in marks and any(
          item.path.is_relative_to(path) for path in OPTIMIZED
      )
    if optimized:
      item.add_marker('optimized')


@pytest.fixture(autouse=True, scope='session')
def _finished_runs_are_shared(tmp_path_factory):
  """Gives `tests.finished` a folder, the same in all processes of pytest."""
  from tests import finished

  base = tmp_path_factory.getbasetemp()
  if 'PYTEST_XDIST_WORKER' in os.environ:
    base = base.parent
  finished.ROOT = base / 'finished'
  finished.ROOT.mkdir(exist_ok=True)


@pytest.fixture(autouse=True, scope='module')
def _compiled_programs_are_let_go():
  """Drops all programs once they hold many memory maps.

  The whole suite in one process (`-n 0`) would reach Linux's
  vm.max_map_count, 65,530, half way, and LLVM then aborts. Dropped after every
  file, they cost 1.6 times the processor time: all files share many small
  programs.
  """
  yield
  _context_of_thread.cache_clear()  # Which would keep every constant.
  if _MAPS.exists() and len(_MAPS.read_bytes().splitlines()) > _MOST_MAPS:
    jax.clear_caches()
