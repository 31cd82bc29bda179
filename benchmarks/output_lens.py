r"""Times the lens beside the bare matrix product of the same shapes.

Example:
  python benchmarks/output_lens.py --features=512 --vocab=256000 --width=2304

Prints one JSON object: seconds (median), their ratio, and the memory that the
lens took above its inputs. Both run in this process, in turns, so that a noisy
machine slows both.
"""

import json
import pathlib
import statistics
import time

from absl import app
from absl import flags
import jax
import jax.numpy as jnp

from ooc_jax import circuits

_FEATURES = flags.DEFINE_integer('features', 512, 'F.')
_VOCAB = flags.DEFINE_integer('vocab', 256_000, 'V.')
_WIDTH = flags.DEFINE_integer('width', 2_304, 'D.')
_K = flags.DEFINE_integer('k', 20, 'Top tokens.')
_SOFTCAP = flags.DEFINE_float('softcap', 30.0, 'Final softcap; 0 for none.')
_DTYPE = flags.DEFINE_enum(
    'dtype', 'float32', ['float32', 'bfloat16'], 'Of the unembedding.'
)
_REPEATS = flags.DEFINE_integer('repeats', 5, 'Runs of each; medians count.')
# The product alone is never held whole either: its row maximum is taken, a
# block of the vocabulary at a time.
_BLOCK = 8_000


def _random(
    key: jax.Array, shape: tuple[int, int], dtype, scale: float = 1.0
) -> jax.Array:
  """Normal numbers times `scale`, made a block at a time."""
  rows = next(n for n in range(1024, 0, -1) if shape[0] % n == 0)
  fill = jax.jit(
      lambda k: jax.lax.map(
          lambda i: (
              scale
              * jax.random.normal(
                  jax.random.fold_in(k, i), (rows, shape[1]), jnp.float32
              )
          ).astype(dtype),
          jnp.arange(shape[0] // rows),
      ).reshape(shape)
  )
  return jax.block_until_ready(fill(key))


@jax.jit
def _bare(directions: jax.Array, table: jax.Array) -> jax.Array:
  """The product of one block, reduced so that it cannot be skipped."""
  logits = jnp.einsum(
      'fd,vd->fv', directions, table.astype(jnp.float32), precision='highest'
  )
  return logits.max(axis=1)


def _bare_all(directions: jax.Array, table: jax.Array) -> None:
  for start in range(0, table.shape[0], _BLOCK):
    for first in range(0, directions.shape[0], 512):
      block = directions[first : first + 512]
      _bare(block, table[start : start + _BLOCK]).block_until_ready()


def _memory(name: str) -> int:
  """Bytes of a line of /proc/self/status."""
  for line in pathlib.Path('/proc/self/status').read_text().splitlines():
    if line.startswith(name):
      return int(line.split()[1]) * 1024
  raise ValueError(name)


def main(argv: list[str]) -> None:
  del argv  # Flags only.
  features, vocab, width = _FEATURES.value, _VOCAB.value, _WIDTH.value
  directions = _random(jax.random.key(0), (features, width), jnp.float32)
  table = _random(jax.random.key(1), (vocab, width), _DTYPE.value, width**-0.5)
  gain, mask = jnp.ones(width), jnp.arange(vocab) % 50 != 0

  def lens() -> None:
    jax.block_until_ready(
        circuits.unembedding_lens(
            directions,
            gain,
            table,
            mask,
            k=_K.value,
            precision='exact',
            softcap=_SOFTCAP.value or None,
        )
    )

  before = _memory('VmRSS')
  pathlib.Path('/proc/self/clear_refs').write_text('5')  # Resets the peak.
  start = time.perf_counter()
  lens()
  first = time.perf_counter() - start
  extra = _memory('VmHWM') - before
  if _REPEATS.value:
    _bare_all(directions, table)
  times: dict[str, list[float]] = {'lens': [], 'product': []}
  for _ in range(_REPEATS.value):
    for name, run in (
        ('product', lambda: _bare_all(directions, table)),
        ('lens', lens),
    ):
      start = time.perf_counter()
      run()
      times[name].append(time.perf_counter() - start)
  result = {
      'features': features,
      'vocab': vocab,
      'width': width,
      'dtype': _DTYPE.value,
      'device': str(jax.devices()[0]),
      'first_call_s': round(first, 3),
      'extra_memory_mb': round(extra / 1e6),
  }
  if _REPEATS.value:
    medians = {name: statistics.median(ts) for name, ts in times.items()}
    flops = 2 * features * vocab * width
    result |= {
        'lens_s': round(medians['lens'], 3),
        'product_s': round(medians['product'], 3),
        'ratio': round(medians['lens'] / medians['product'], 3),
        'product_gflops': round(flops / medians['product'] / 1e9, 1),
    }
  print(json.dumps(result))


if __name__ == '__main__':
  app.run(main)
