"""What can be held: sizes that a setting asks for, and dictionaries together.

An allocation that is too large need not fail: Linux grants it, and kills the
process once it is filled. So what grows with a setting is computed first.
"""

from collections.abc import Iterator, Mapping, Sequence
import os
import pathlib

import jax

from ooc_jax._errors import InputError
from ooc_jax.dictionaries import Dictionary

# Where Linux says how much memory a control group may take: version 2, and 1.
_GROUPS = (
    '/sys/fs/cgroup/memory.max',
    '/sys/fs/cgroup/memory/memory.limit_in_bytes',
)
# Dictionaries that are held at a time, in bytes.
_TOGETHER = 2**30


def check_held(setting: str, count: int, bytes_each: float | int) -> None:
  """Refuses a setting whose arrays can be held neither here nor on a device.

  Args:
    setting: Its name.
    count: Its value.
    bytes_each: Held for each of them, at least.

  Raises:
    InputError: There is less memory; a value that fits is named.
  """
  there = min(memory_bytes().values(), default=float('inf'))
  if count * bytes_each <= there:
    return
  # The directions of a run are not all that it holds.
  most = int(there / bytes_each / 2)
  digits = max(len(str(most)) - 2, 0)
  raise InputError(
      f'{setting}={count} takes {count * bytes_each / 1e9:,.1f} GB, and there'
      f' are {there / 1e9:,.1f} GB of memory; choose at most'
      f' {most // 10**digits * 10**digits}.'
  )


def memory_bytes() -> Mapping[str, float]:
  """What may be held, by what says so: the machine, its group, a device."""
  found: dict[str, float] = {}
  if hasattr(os, 'sysconf') and 'SC_PHYS_PAGES' in os.sysconf_names:
    pages = os.sysconf('SC_PHYS_PAGES')
    found['machine'] = float(pages * os.sysconf('SC_PAGE_SIZE'))
  for name in _GROUPS:
    try:
      text = pathlib.Path(name).read_text().strip()
    except OSError:
      continue
    if text.isdecimal():
      found['group'] = float(text)
      break
  stats = jax.local_devices()[0].memory_stats() or {}
  if 'bytes_limit' in stats:
    found['device'] = float(stats['bytes_limit'])
  return found


def held_together(
    layers: Sequence[int], dictionaries: Mapping[int, Dictionary]
) -> Iterator[dict[int, Dictionary]]:
  """Dictionaries one after the other, as many together as can be held."""
  group: dict[int, Dictionary] = {}
  held = 0
  for layer in layers:
    own = dictionaries[layer]
    size = sum(x.nbytes for x in jax.tree.leaves(own))
    if group and held + size > _TOGETHER:
      yield group
      group, held = {}, 0
    group[layer] = own
    held += size
  yield group
