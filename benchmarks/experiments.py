r"""Times a whole experiment from the command line, start-up included.

Example:
  python benchmarks/experiments.py --model=tiny_gemma2 --repeats=3
  python benchmarks/experiments.py --model=smollm2 --repeats=1 \
      -- --weights=SmolLM2-135M-Instruct.Q4_1.gguf

Prints one JSON object: seconds of wall and of processor time, peak resident
memory, and the seconds that the bare float32 products of the output side would
take in this process: features x vocabulary x width, layer by layer.
"""

import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import _lens_cases
from absl import app
from absl import flags
import jax.numpy as jnp
import pyarrow.parquet as pq

import ooc_jax

_EXPERIMENT = flags.DEFINE_string(
    'experiment', 'output_prediction', 'A script of experiments/.'
)
_MODEL = flags.DEFINE_string('model', 'tiny_gemma2', 'A file of configs/.')
_REPEATS = flags.DEFINE_integer('repeats', 3, 'Runs; medians count.')
_ROOT = pathlib.Path(__file__).resolve().parent.parent


def _run(out: pathlib.Path, more: list[str]) -> dict[str, float]:
  script = _ROOT / 'experiments' / f'{_EXPERIMENT.value}.py'
  command = [sys.executable, script, f'--model={_MODEL.value}', f'--out={out}']
  start, before = time.perf_counter(), _children()
  process = subprocess.Popen(
      [*command, *more],
      stdout=subprocess.DEVNULL,
      stderr=subprocess.PIPE,
      env={**os.environ, 'HF_HUB_OFFLINE': '1'},
  )
  _, errors = process.communicate()
  if process.returncode:
    sys.exit(errors.decode(errors='replace')[-2000:])
  return {
      'seconds': time.perf_counter() - start,
      'cpu_seconds': _children() - before,
  }


def _children() -> float:
  used = resource.getrusage(resource.RUSAGE_CHILDREN)
  return used.ru_utime + used.ru_stime


def _bare_seconds(layers: dict[str, int], vocab: int, width: int) -> float:
  """The product of each layer's directions with a table, made and dropped."""
  features = max(layers.values())
  directions = _lens_cases.random_rows(0, (features, width), jnp.float32)
  table = _lens_cases.random_rows(1, (vocab, width), 'float32', width**-0.5)
  bare = _lens_cases.bare_product(directions, table, jnp.dtype('float32'))
  times = _lens_cases.measure({'': bare}, 3)['']
  return times['seconds'] * sum(layers.values()) / features


def main(argv: list[str]) -> None:
  with tempfile.TemporaryDirectory() as folder:
    runs = [
        _run(pathlib.Path(folder) / str(i), argv[1:])
        for i in range(_REPEATS.value)
    ]
    first = pathlib.Path(folder) / '0'
    settings = json.loads((first / 'config.json').read_text())
    if (first / 'output_prediction').exists():  # Part of experiment 3.
      first /= 'output_prediction'
    layers = {
        path.stem: pq.read_metadata(path).num_rows
        for path in sorted(first.glob('features/*.parquet'))
    }
  # Of the largest child there was; this process has not yet grown.
  peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
  source = [a.partition('=')[2] for a in argv[1:] if a.startswith('--weights=')]
  name = source[0] if source else settings['settings']['model']
  model = ooc_jax.load_model(name, parts=())
  result = {
      'experiment': _EXPERIMENT.value,
      'model': _MODEL.value,
      'layers': len(layers),
      'features': sum(layers.values()),
      'repeats': _REPEATS.value,
      'peak_rss_mb': round(peak / 1e3),
  }
  for key in runs[0]:
    result[key] = round(statistics.median(run[key] for run in runs), 1)
  result['bare_product_seconds'] = round(
      _bare_seconds(layers, model.config.vocab_size, model.config.embed_dim), 2
  )
  print(json.dumps(result, indent=2))


if __name__ == '__main__':
  app.run(main)
