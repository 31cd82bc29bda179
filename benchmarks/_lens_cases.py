"""What the benchmarks of the lens run, and how they measure it."""

from collections.abc import Callable
import ctypes
import functools
import math
import pathlib
import statistics
import time

import jax
import jax.numpy as jnp

from ooc_jax import circuits

# Rows of the table at a time, for the bare product; the fastest one counts.
_BARE_BLOCKS = (2048, 8192)
SOFTCAP = 30.0


def random_rows(
    seed: int, shape: tuple[int, int], dtype, scale: float = 1.0
) -> jax.Array:
  """Normal numbers times `scale`, made a block at a time."""
  rows = next(n for n in range(1024, 0, -1) if shape[0] % n == 0)
  key = jax.random.key(seed)

  def block(i):
    x = jax.random.normal(
        jax.random.fold_in(key, i), (rows, shape[1]), jnp.float32
    )
    return (scale * x).astype(dtype)

  fill = jax.jit(
      lambda: jax.lax.map(block, jnp.arange(shape[0] // rows)).reshape(shape)
  )
  return jax.block_until_ready(fill())


def lens(
    directions: jax.Array,
    table: jax.Array,
    mask: jax.Array,
    k: int,
    precision: str,
    moments: circuits.TableMoments | None = None,
) -> Callable[[], circuits.Lens]:
  """All statistics and both ends, with a final softcap."""
  gain = jnp.ones(directions.shape[1])

  def run():
    return circuits.unembedding_lens(
        directions,
        gain,
        table,
        mask,
        k=k,
        precision=precision,
        softcap=SOFTCAP,
        moments=moments,
    )

  return run


def bare_product(
    directions: jax.Array, table: jax.Array, dtype
) -> Callable[[], jax.Array]:
  """directions @ table.T and nothing else, as fast as it goes here.

  A block of rows at a time, in one jitted loop; sixteen maxima a feature are
  kept of each block, so that no product can be skipped. The fastest size of
  block is taken.
  """
  precision = 'highest' if dtype == jnp.float32 else 'default'

  @functools.partial(jax.jit, static_argnums=2)
  def product(directions, table, rows):
    def step(best, b):
      whole, b = jax.lax.optimization_barrier((table, b))
      block = jax.lax.dynamic_slice_in_dim(whole, b * rows, rows)
      logits = jnp.einsum(
          'fd,vd->fv',
          directions.astype(dtype),
          block.astype(dtype),
          precision=precision,
          preferred_element_type=jnp.float32,
      )
      maxima = logits.reshape(len(directions), -1, 16).max(axis=1)
      return jnp.maximum(best, maxima), None

    start = jnp.zeros((len(directions), 16))
    blocks = jnp.arange(len(table) // rows, dtype=jnp.int32)
    best, _ = jax.lax.scan(step, start, blocks)
    done = len(table) // rows * rows
    if done < len(table):
      rest = jnp.einsum(
          'fd,vd->fv',
          directions.astype(dtype),
          table[done:].astype(dtype),
          precision=precision,
          preferred_element_type=jnp.float32,
      )
      best = best.at[:, 0].max(rest.max(axis=1))
    return best

  runs = [
      functools.partial(product, directions, table, min(rows, len(table)))
      for rows in _BARE_BLOCKS
  ]
  return min(runs, key=lambda run: measure({'': run}, 2)['']['seconds'])


def torch_recipe(
    directions: jax.Array, table: jax.Array, k: int
) -> Callable[[], object] | None:
  """What users of PyTorch run today, on all logits at once; None without it."""
  try:
    import torch
  except ImportError:
    return None
  torch.set_num_threads(2)
  w_dec, w_u = (
      torch.from_dlpack(x.astype(jnp.float32)) for x in (directions, table)
  )
  w_u = w_u.T

  @torch.no_grad()
  def run():
    logits = w_dec @ w_u
    mean = logits.mean(dim=1, keepdim=True)
    centred = logits - mean
    std = centred.pow(2).mean(dim=1).sqrt()
    skewness = centred.pow(3).mean(dim=1) / std**3
    kurtosis = centred.pow(4).mean(dim=1) / std**4 - 3
    ends = logits.topk(k, dim=1), logits.topk(k, dim=1, largest=False)
    return mean, std, skewness, kurtosis, ends

  return run


def measure(
    runs: dict[str, Callable[[], object]], repeats: int
) -> dict[str, dict[str, float]]:
  """Median seconds and CPU seconds of each, all run in turns.

  In turns, so that a noisy machine slows all of them; CPU seconds are of all
  threads, and tell little where other processes wait for the same cores.
  """
  for run in runs.values():
    jax.block_until_ready(run())
  times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
  for _ in range(repeats):
    for name, run in runs.items():
      start, cpu = time.perf_counter(), time.process_time()
      jax.block_until_ready(run())
      times[name].append(
          (time.perf_counter() - start, time.process_time() - cpu)
      )
  return {
      name: {
          'seconds': statistics.median(wall for wall, _ in pairs),
          'cpu_seconds': statistics.median(cpu for _, cpu in pairs),
      }
      for name, pairs in times.items()
  }


def exponents(
    width: int, k: int, precision: str, repeats: int
) -> dict[str, dict[str, object]]:
  """How cost and memory grow with F and with V, over sixteen-fold ranges.

  Cost is c·n^e, e by least squares over the medians of all sizes, which run in
  turns. What is found once a table, its moments, is found before.
  """
  factors = (1, 2, 4, 8, 16)
  directions = random_rows(0, (512 * factors[-1], width), jnp.float32)
  # Real vocabularies have 32,000 to 256,000 tokens.
  table = random_rows(1, (32_768 * factors[-1], width), jnp.float32)
  found = {}
  for name in ('features', 'vocab'):
    runs = {}
    for factor in factors:
      F, V = (
          (512 * factor, 8_192)
          if name == 'features'
          else (512, 32_768 * factor)
      )
      rows, mask = table[:V], jnp.ones(V, bool)
      moments = circuits.table_moments(rows, mask)
      runs[str(F if name == 'features' else V)] = lens(
          directions[:F], rows, mask, k, precision, moments
      )
    times = measure(runs, repeats)
    found[name] = {
        kind: round(_slope(times, kind), 3)
        for kind in ('seconds', 'cpu_seconds')
    } | {
        'extra_memory_mb': {
            size: round(extra_memory(run) / 1e6) for size, run in runs.items()
        }
    }
  return found


def _slope(times: dict[str, dict[str, float]], kind: str) -> float:
  """Of the logarithm of the cost over that of the size."""
  sizes = [math.log(float(size)) for size in times]
  costs = [math.log(time[kind]) for time in times.values()]
  return statistics.linear_regression(sizes, costs).slope


def extra_memory(run: Callable[[], object]) -> int:
  """Bytes by which the peak of this process grows while `run` runs."""
  before = reset_peak()
  jax.block_until_ready(run())
  return peak() - before


def reset_peak() -> int:
  """Bytes that are resident now, from which the peak counts anew."""
  ctypes.CDLL(None).malloc_trim(0)  # What earlier runs gave back.
  pathlib.Path('/proc/self/clear_refs').write_text('5')
  return _status('VmRSS')


def peak() -> int:
  """Most bytes that were resident since `reset_peak`."""
  return _status('VmHWM')


def _status(name: str) -> int:
  for line in pathlib.Path('/proc/self/status').read_text().splitlines():
    if line.startswith(name):
      return int(line.split()[1]) * 1024
  raise ValueError(name)
