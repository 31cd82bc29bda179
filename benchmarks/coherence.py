r"""Times the measures of coherence.

Example:
  python benchmarks/coherence.py --features=16384 --tokenizer=tokenizer.json

Prints one JSON object: medians in seconds of wall time and of processor time
(of all threads: it says more on a busy machine).
Without a tokenizer the vocabulary is made up, with the lengths of Gemma 2's.
The cosine is in the whitened space of a random table in bfloat16.
"""

from collections.abc import Callable, Mapping
import json
import statistics
import time

from absl import app
from absl import flags
import jax
import jax.numpy as jnp
import numpy as np

from ooc_jax import measures
from ooc_jax.model import Tokenizer

_FEATURES = flags.DEFINE_integer('features', 16_384, 'F.')
_VOCAB = flags.DEFINE_integer('vocab', 256_000, 'V, without a tokenizer.')
_WIDTH = flags.DEFINE_integer('width', 2_304, 'D of the token space; 0: none.')
_K = flags.DEFINE_integer('k', 20, 'Top tokens.')
_TOKENIZER = flags.DEFINE_string('tokenizer', None, 'A tokenizer.json.')
_REPEATS = flags.DEFINE_integer('repeats', 5, 'Runs of each; medians count.')


def _vocabulary(rng: np.random.Generator) -> list[str]:
  """Strings and, of a tokenizer, those that can be read alone only."""
  if _TOKENIZER.value:
    tokenizer = Tokenizer.from_file(_TOKENIZER.value)
    strings = tokenizer.canonical_strings()
    return [strings[i] for i in np.flatnonzero(tokenizer.mask())]
  lengths = np.minimum(rng.poisson(5, _VOCAB.value), 24)
  letters = rng.zipf(1.3, int(lengths.sum())).clip(1, 18_000) + 0x60
  text = np.asarray(letters, np.uint32).tobytes().decode('utf-32-le')
  ends = np.cumsum(lengths)
  return [text[e - n : e] for e, n in zip(ends, lengths, strict=True)]


def _time(runs: Mapping[str, Callable[[], object]]) -> dict[str, float]:
  """Median seconds of each, run in turns after one run that compiles."""
  seconds: dict[str, list[float]] = {}
  for _ in range(_REPEATS.value):
    for name, run in runs.items():
      wall, cpu = time.perf_counter(), time.process_time()
      run()
      seconds.setdefault(f'{name}_s', []).append(time.perf_counter() - wall)
      seconds.setdefault(f'{name}_cpu_s', []).append(time.process_time() - cpu)
  return {name: round(statistics.median(x), 4) for name, x in seconds.items()}


def main(argv: list[str]) -> None:
  del argv  # Flags only.
  rng = np.random.default_rng(0)
  strings = _vocabulary(rng)
  shape = _FEATURES.value, _K.value
  top_ids = rng.integers(0, len(strings), shape, dtype=np.int32)
  on_device = jnp.asarray(top_ids)

  def edit_distance() -> np.ndarray:
    return measures.mean_pairwise_edit_distance(on_device, strings)

  runs: dict[str, Callable[[], object]] = {'edit_distance': edit_distance}
  if _WIDTH.value:
    key = jax.random.key(0)
    rows = jax.random.normal(key, (len(strings), _WIDTH.value), jnp.bfloat16)
    space = measures.token_space(rows, np.ones(len(rows), bool))
    runs['cosine'] = lambda: np.asarray(
        measures.mean_pairwise_cosine(on_device, space)
    )
    runs['cosine']()
  result = {
      'features': shape[0],
      'k': shape[1],
      'vocab': len(strings),
      'longest': max(map(len, strings)),
      'width': _WIDTH.value,
      'device': str(jax.devices()[0]),
  }
  print(json.dumps(result | _time(runs)))


if __name__ == '__main__':
  app.run(main)
