r"""Times what a person waits for: first word, first layer, the whole run.

Example:
  python benchmarks/startup.py --model=tiny_gemma2 --repeats=3
  python benchmarks/startup.py --model=smollm2 --repeats=1 -- --layers=0-2

Each run is a process of its own that writes to a terminal. A cold one has an
empty cache of compiled programs, and the warm one after it has what that left.
Prints one JSON object: seconds until the first character on the terminal, until
the table of the first layer is there, and until the end; and processor seconds.
The cache of file pages is not emptied: run it twice after a restart.
"""

import json
import os
import pathlib
import pty
import resource
import select
import statistics
import subprocess
import sys
import tempfile
import time

from absl import app
from absl import flags

_EXPERIMENT = flags.DEFINE_string(
    'experiment', 'output_prediction', 'A script of experiments/.'
)
_MODEL = flags.DEFINE_string('model', 'tiny_gemma2', 'A file of configs/.')
_REPEATS = flags.DEFINE_integer('repeats', 3, 'Of each kind; medians count.')
_ROOT = pathlib.Path(__file__).resolve().parent.parent
_POLL = 0.01  # Seconds between looks for a file.


def _run(
    out: pathlib.Path, cache: pathlib.Path, more: list[str]
) -> dict[str, float]:
  script = _ROOT / 'experiments' / f'{_EXPERIMENT.value}.py'
  command = [sys.executable, script, f'--model={_MODEL.value}', f'--out={out}']
  environment = {
      # One of the user would come before ours.
      **{k: v for k, v in os.environ.items() if not k.startswith('JAX_')},
      'OOC_JAX_CACHE': str(cache),
      'HF_HUB_OFFLINE': '1',
      'TERM': 'xterm',
  }
  ours, theirs = pty.openpty()
  used = resource.getrusage(resource.RUSAGE_CHILDREN)
  start = time.perf_counter()
  process = subprocess.Popen(
      [*command, *more],
      stdin=theirs,
      stdout=theirs,
      stderr=theirs,
      env=environment,
  )
  os.close(theirs)
  found: dict[str, float] = {}
  shown = b''
  while True:
    ready, _, _ = select.select([ours], [], [], _POLL)
    seconds = time.perf_counter() - start
    if 'first_layer' not in found and any(out.glob('features/*.parquet')):
      found['first_layer'] = seconds
    if not ready:
      continue
    try:
      text = os.read(ours, 1 << 16)
    except OSError:  # Of Linux, where the other end is closed.
      text = b''
    if not text:
      break
    found.setdefault('first_word', seconds)
    shown += text
  status = process.wait()
  found['whole'] = time.perf_counter() - start
  os.close(ours)
  if status:
    sys.exit(shown.decode(errors='replace')[-2000:])
  now = resource.getrusage(resource.RUSAGE_CHILDREN)
  found['cpu'] = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
  return found


def main(argv: list[str]) -> None:
  runs: dict[str, list[dict[str, float]]] = {'cold': [], 'warm': []}
  for _ in range(_REPEATS.value):
    with tempfile.TemporaryDirectory() as name:
      folder = pathlib.Path(name)
      for kind, found in runs.items():
        found.append(_run(folder / kind, folder / 'cache', argv[1:]))
  seconds = {
      kind: {
          key: round(statistics.median(x[key] for x in found), 1)
          for key in found[0]
      }
      for kind, found in runs.items()
  }
  result = {
      'experiment': _EXPERIMENT.value,
      'model': _MODEL.value,
      'repeats': _REPEATS.value,
      **seconds,
  }
  print(json.dumps(result, indent=2))


if __name__ == '__main__':
  app.run(main)
