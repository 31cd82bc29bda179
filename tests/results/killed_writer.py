"""A small run over layers, killed in every way a run can be.

  killed_writer.py points FOLDER           killed at chosen system calls
  killed_writer.py random FOLDER KILLS     killed at random moments
  killed_writer.py hold FOLDER             keeps the folder open until killed

One process forks a child for each killing: imports are paid once. It prints
one JSON value. `run` is the run itself.
"""

from collections.abc import Callable
import itertools
import json
import os
import pathlib
import random
import shutil
import signal
import stat
import sys
import time

if __name__ == '__main__':
  import light

  light.without_front_door()

# Not at the top: the line above decides how.
from matplotlib import figure as mpl_figure  # noqa: E402
from matplotlib import lines as mpl_lines  # noqa: E402
import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402

from ooc_jax import results  # noqa: E402

_LAYERS = 7
_ROWS = 1000
SETTINGS = {'k': 20, 'layers': list(range(_LAYERS)), 'rule': {'name': 'any'}}
PROVENANCE = {'jax': '0.0.0'}
WEIGHTS = {'model.safetensors': 'ab' * 32}
# Which os function to die in, and whether before or after its work.
POINTS = (
    ('open', 'after'),
    ('fsync', 'before'),
    ('replace', 'before'),
    ('replace', 'after'),
)
# config.json, the first and another layer, summary.json, the second figure.
FILES = (1, 2, 5, 10, 12)


def run(folder: str) -> None:
  """Writes what is missing in `folder`, as an experiment does."""
  with results.ResultsFolder.open(
      folder, SETTINGS, provenance=PROVENANCE, weights=WEIGHTS
  ) as out:
    for layer in range(_LAYERS):
      if not out.has_layer(layer):
        out.write_layer(layer, _table(layer))
    out.write_table('labels', out.read_layer(0).select(['feature']))
    means = [
        float(np.mean(out.read_layer(layer)['cosine'].to_numpy()))
        for layer in out.layers()
    ]
    out.write_summary({'experiment': 'test', 'means': means})
    picture = mpl_figure.Figure(figsize=(1, 1))
    picture.add_artist(mpl_lines.Line2D([0, 1], [0.2, 0.9]))
    out.write_figure('line', picture)


def _table(layer: int):
  rng = np.random.default_rng(layer)
  ids = rng.integers(1, 50_000, (_ROWS, 20)).astype(np.int32)
  cosine = rng.normal(size=_ROWS).astype(np.float32)
  rows = np.arange(_ROWS, dtype=np.int32)
  flat = pa.FixedSizeListArray.from_arrays(pa.array(ids.ravel()), 20)
  return pa.table({'feature': rows, 'top_ids': flat, 'cosine': cosine})


def _forked(work: Callable[[], None]) -> int:
  """Starts `work` in a child; its process id."""
  child = os.fork()
  if child:
    return child
  status = 1
  try:
    work()
    status = 0
  finally:
    os._exit(status)


def _ended_by(child: int) -> int:
  """0 after success, -9 after SIGKILL."""
  return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _dies_at(name: str, moment: str, file: int, folder: str) -> None:
  """Runs until the `file`-th file that gets written is at that point."""
  real = getattr(os, name)
  calls = itertools.count(1)

  def fatal(*args, **kwargs):
    # Of os.open, only what creates a file; of os.fsync, only of a file.
    counts = {
        'open': lambda: bool(args[1] & os.O_EXCL),
        'fsync': lambda: stat.S_ISREG(os.fstat(args[0]).st_mode),
        'replace': lambda: True,
    }[name]()
    last = counts and next(calls) == file
    if last and moment == 'before':
      os.kill(os.getpid(), signal.SIGKILL)
    value = real(*args, **kwargs)
    if last:
      os.kill(os.getpid(), signal.SIGKILL)
    return value

  setattr(os, name, fatal)
  run(folder)


def content(folder: str) -> dict[str, bytes]:
  """Every file of a folder."""
  root = pathlib.Path(folder)
  return {
      str(path.relative_to(root)): path.read_bytes()
      for path in sorted(root.rglob('*'))
      if path.is_file()
  }


def _names(folder: str) -> list[str]:
  return sorted(content(folder)) if os.path.isdir(folder) else []


def _points(folder: str) -> list[dict]:
  run(os.path.join(folder, 'warm'))  # Children inherit caches and imports.
  cases = []
  for (name, moment), file in itertools.product(POINTS, FILES):
    out = os.path.join(folder, f'{name}-{moment}-{file}')
    killed = _forked(lambda a=(name, moment, file, out): _dies_at(*a))
    case = {'out': out, 'killed': _ended_by(killed), 'left': _names(out)}
    case['resumed'] = _ended_by(_forked(lambda out=out: run(out)))
    cases.append(case)
  return cases


def _random(folder: str, kills: int) -> dict:
  reference = os.path.join(folder, 'reference')
  run(os.path.join(folder, 'warm'))  # Children inherit caches and imports.
  start = time.monotonic()
  _ended_by(_forked(lambda: run(reference)))
  length = time.monotonic() - start
  whole = content(reference)
  rng = random.Random(0)
  report = {'kills': 0, 'temporaries': 0, 'wrong': [], 'finished': 0}
  out = os.path.join(folder, 'killed')
  while report['kills'] < kills:
    child = _forked(lambda: run(out))
    time.sleep(rng.uniform(0, length))
    os.kill(child, signal.SIGKILL)
    status = _ended_by(child)
    if status == 0:
      report['finished'] += 1
      report['wrong'] += [] if content(out) == whole else ['a finished run']
      shutil.rmtree(out)
      continue
    report['kills'] += status == -signal.SIGKILL
    report['wrong'] += [] if status == -signal.SIGKILL else [status]
    for name, data in (content(out) if os.path.isdir(out) else {}).items():
      if os.path.basename(name).startswith('.ooc_jax-tmp-'):
        report['temporaries'] += 1
      elif data != whole[name]:
        report['wrong'].append(name)
  report['last'] = _ended_by(_forked(lambda: run(out)))
  report['same'] = content(out) == whole
  return report


def main(mode: str, folder: str, *args: str) -> None:
  # It guards against a loss of power, which no test here causes, and takes most
  # of the time; that it is called is tested elsewhere.
  os.fsync = lambda descriptor: None
  if mode == 'hold':
    with results.ResultsFolder.open(
        folder, SETTINGS, provenance=PROVENANCE, weights=WEIGHTS
    ):
      print('held', flush=True)
      time.sleep(60)
  elif mode == 'points':
    print(json.dumps(_points(folder)))
  else:
    print(json.dumps(_random(folder, *map(int, args))))


if __name__ == '__main__':
  main(*sys.argv[1:])
