"""Which product a lens is made with."""

import functools
import pathlib

from ooc_jax._errors import InputError

PRECISIONS = ('auto', 'screened', 'exact')
_WIDTH = 256
_CPU_FLAGS = frozenset({'avx512_bf16', 'amx_bf16'})


def use_screen(precision: str, platform: str, width: int) -> bool:
  """Whether logits are made in bfloat16, for the answers of float32.

  Args:
    precision: One of `PRECISIONS`; 'auto' is 'screened' where the product in
      bfloat16 is much the faster one, and 'exact' elsewhere.
    platform: Where it runs: 'cpu', 'gpu', 'tpu'.
    width: D; a product over few columns is cheap in either precision.

  Raises:
    InputError: It is none of them.
  """
  if precision not in PRECISIONS:
    raise InputError(
        f'precision {precision!r} is unknown; choose from {PRECISIONS}.'
    )
  if precision == 'auto':
    fast = platform != 'cpu' or _cpu_multiplies_bfloat16()
    return fast and width >= _WIDTH
  return precision == 'screened'


@functools.cache
def _cpu_multiplies_bfloat16() -> bool:
  try:
    lines = pathlib.Path('/proc/cpuinfo').read_text().splitlines()
  except OSError:
    return False  # Not Linux: unknown, so taken for absent.
  flags = next((x.split() for x in lines if x.startswith('flags')), ())
  return not _CPU_FLAGS.isdisjoint(flags)
