"""Memory that was freed, given back to the system."""

import ctypes
import sys


def give_back() -> None:
  """Frees what the C library keeps of what was freed.

  A compiler takes and frees some 200 MB for each program; glibc keeps it for
  itself, in an arena for each of the compiler's threads. Elsewhere than on
  Linux with glibc nothing happens.
  """
  if not sys.platform.startswith('linux'):
    return
  trim = getattr(ctypes.CDLL(None), 'malloc_trim', None)
  if trim is not None:
    trim(0)
