r"""How long pages and searches of `explore` take, and how much memory.

Example:
  python benchmarks/explore.py --out=/tmp/synthetic

Writes results folders of random numbers as large as those of a real model (or
takes those of an earlier call), serves them in a process of its own, asks for
pages in turn and prints one JSON object: seconds until the first page, the
median and the largest time of each kind of page and of a search in
milliseconds, their medians over all, the mean processor time of a page, which
other work on the machine does not change, and the memory of the server in MB.
"""

import http.client
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

import _explore_folder
from absl import app
from absl import flags
import numpy as np

_OUT = flags.DEFINE_string('out', None, 'Where the folders are.', required=True)
_LAYERS = flags.DEFINE_integer('layers', 26, 'Of the model.')
_FEATURES = flags.DEFINE_integer('features', 16384, 'Of each layer.')
_TOKENS = flags.DEFINE_integer('tokens', 256_000, 'Of the vocabulary.')
_REPEATS = flags.DEFINE_integer('repeats', 10, 'Pages of each kind.')
_SCRIPT = pathlib.Path(__file__).parent.parent / 'experiments' / 'explore.py'
_SLUG = '/s/output_prediction'


def _pages(rng: np.random.Generator, words: list[str]) -> dict[str, str]:
  """An address of each kind."""
  layer = int(rng.integers(1, _LAYERS.value))
  feature = int(rng.integers(_FEATURES.value))
  head = int(rng.integers(_explore_folder.HEADS))
  word = words[int(rng.integers(1, 5000))].strip()
  return {
      'overview': f'{_SLUG}/',
      'features': f'{_SLUG}/features?page={int(rng.integers(1, 999))}',
      'features of a layer, sorted': (
          f'{_SLUG}/features?layer={layer}&sort=cosine&way=down'
      ),
      'features of all layers, sorted and filtered': (
          f'{_SLUG}/features?coherent=yes&q=0.{layer:02d}&sort=entropy'
      ),
      'feature': f'{_SLUG}/feature/{layer}/{feature}',
      'heads': f'{_SLUG}/heads',
      'head': f'{_SLUG}/head/{layer}/{head}',
      'search, token': f'{_SLUG}/search?q={word}',
      'search, prefix': f'{_SLUG}/search?q={word[:2]}&match=prefix',
      'search, alike': f'{_SLUG}/like/{layer}/{feature}',
  }


def _status(process: int, key: str) -> float:
  lines = pathlib.Path(f'/proc/{process}/status').read_text().splitlines()
  line = next(x for x in lines if x.startswith(key))
  return int(line.split()[1]) / 1000


def _processor_ms(process: int) -> float:
  """Used by a process until now."""
  fields = pathlib.Path(f'/proc/{process}/stat').read_text().rsplit(')')[1]
  ticks = sum(map(int, fields.split()[11:13]))
  return 1000 * ticks / os.sysconf('SC_CLK_TCK')


def _get(port: int, address: str) -> float:
  """Milliseconds until a page is there."""
  start = time.perf_counter()
  _body(port, address)
  return 1000 * (time.perf_counter() - start)


def _body(port: int, address: str) -> bytes:
  connection = http.client.HTTPConnection('127.0.0.1', port, timeout=120)
  connection.request('GET', address)
  response = connection.getresponse()
  text = response.read()
  if response.status != 200 or b'cannot be shown' in text:
    raise RuntimeError(f'{address}: {response.status}')
  return text


def main(argv: list[str]) -> None:
  del argv  # Flags only.
  root = pathlib.Path(_OUT.value)
  folders = [root / 'output_prediction', root / 'attention']
  if not all((x / 'summary.json').exists() for x in folders):
    _explore_folder.make_folders(
        root,
        layers=_LAYERS.value,
        features=_FEATURES.value,
        tokens=_TOKENS.value,
    )
  start = time.perf_counter()
  server = subprocess.Popen(
      [sys.executable, str(_SCRIPT), *map(str, folders)],
      stdout=subprocess.PIPE,
      text=True,
  )
  try:
    assert server.stdout is not None
    port = int(server.stdout.readline().split()[0].rstrip('/').split(':')[2])
    _get(port, f'{_SLUG}/')
    first = time.perf_counter() - start
    _get(port, f'{_SLUG}/search?q=the')
    ready = time.perf_counter() - start
    while b'Not all layers' in _body(port, f'{_SLUG}/search?q=the'):
      time.sleep(0.2)
    whole = time.perf_counter() - start
    rng = np.random.default_rng(0)
    words = _explore_folder.vocabulary(_TOKENS.value).tolist()
    times: dict[str, list[float]] = {}
    before = _processor_ms(server.pid)
    for _ in range(_REPEATS.value):
      for kind, address in _pages(rng, words).items():
        times.setdefault(kind, []).append(_get(port, address))
    used = _processor_ms(server.pid) - before
    flat = {
        search: [
            x
            for kind, own in times.items()
            if kind.startswith('search') is search
            for x in own
        ]
        for search in (False, True)
    }
    print(
        json.dumps(
            {
                'features': _LAYERS.value * _FEATURES.value,
                'first_page_s': round(first, 2),
                'first_search_s': round(ready, 2),
                'all_searched_s': round(whole, 2),
                'page_median_ms': round(statistics.median(flat[False]), 1),
                'search_median_ms': round(statistics.median(flat[True]), 1),
                'processor_mean_ms': round(
                    used / sum(map(len, times.values())), 1
                ),
                'kinds_ms': {
                    kind: {
                        'median': round(statistics.median(own), 1),
                        'largest': round(max(own), 1),
                    }
                    for kind, own in times.items()
                },
                'memory_mb': round(_status(server.pid, 'VmRSS')),
                'memory_peak_mb': round(_status(server.pid, 'VmHWM')),
            },
            indent=1,
        )
    )
  finally:
    server.terminate()
    server.wait()


if __name__ == '__main__':
  app.run(main)
