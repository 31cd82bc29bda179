r"""Times all statistics of a head beside the bare product of queries and keys.

Example:
  python benchmarks/attention.py --features=16384 --width=256 --layer

Prints one JSON object. 'statistics' and 'with softcap' are `qk_statistics`,
pre and post softmax in both roles; 'row maxima' is the same product reduced to
the maximum of each row. Median seconds and CPU seconds, and
their ratios to the row maxima; all run in this process, in turns, so that a
noisy machine slows all of them. Then the memory that each took above its
inputs, and how time grows with features (4 is quadratic at twice as many) and
with heads (2 is linear at twice as many). `--layer` adds all 8 heads of a layer
of Gemma-2-2B's shape, and `--topology=v5e:2x4` what one chip of that TPU holds
at the shapes of Gemma-2-9B and Llama-3.1-8B (libtpu, in the extra 'tpu', must
be installed).
"""

import json

import _attention_cases
import _lens_cases
from absl import app
from absl import flags
import jax

_FEATURES = flags.DEFINE_integer('features', 16_384, 'F.')
_WIDTH = flags.DEFINE_integer('width', 256, 'H.')
_K = flags.DEFINE_integer('k', 10, 'Partners to keep.')
_REPEATS = flags.DEFINE_integer('repeats', 5, 'Runs of each; medians count.')
_GROWTH = flags.DEFINE_bool('growth', True, 'Also at half as many features.')
_LAYER = flags.DEFINE_bool('layer', False, 'Also a layer of 8 heads.')
_TOPOLOGY = flags.DEFINE_string('topology', None, 'Also compile for it.')


def main(argv: list[str]) -> None:
  del argv  # Flags only.
  features, width, k = _FEATURES.value, _WIDTH.value, _K.value
  queries, keys = _attention_cases.vectors(features, width)
  softcap = _attention_cases.SOFTCAP
  runs = {
      'statistics': _attention_cases.statistics(queries, keys, k, None),
      'with softcap': _attention_cases.statistics(queries, keys, k, softcap),
  }
  result = {
      'features': features,
      'width': width,
      'k': k,
      'device': str(jax.devices()[0]),
      'repeats': _REPEATS.value,
      'extra_memory_mb': {
          name: round(_lens_cases.extra_memory(run) / 1e6)
          for name, run in runs.items()
      },
  }
  runs['row maxima'] = _attention_cases.row_maxima(queries, keys)
  if _GROWTH.value:
    half = queries[: features // 2], keys[: features // 2]
    runs['half the features'] = _attention_cases.statistics(*half, k, None)
  times = _lens_cases.measure(runs, _REPEATS.value)
  bare, flops = times['row maxima'], 2 * features**2 * width
  result['runs'] = {
      name: (
          {key: round(value, 3) for key, value in time.items()}
          | {
              f'{prefix}ratio': round(time[key] / bare[key], 3)
              for prefix, key in (('', 'seconds'), ('cpu_', 'cpu_seconds'))
          }
      )
      for name, time in times.items()
  }
  result['bare_gflops'] = round(flops / bare['seconds'] / 1e9, 1)
  if _GROWTH.value:
    result['growth_with_features'] = round(
        times['statistics']['seconds'] / times['half the features']['seconds'],
        2,
    )
  if _LAYER.value:
    result['layer'] = _layer(features, k)
  if _TOPOLOGY.value:
    result['held_gb'] = _attention_cases.held(_TOPOLOGY.value, k)
  print(json.dumps(result, indent=2))


def _layer(features: int, k: int) -> dict:
  """Seconds of a Gemma-2-2B-shaped layer, by heads."""
  runs = {
      f'{heads} heads': _attention_cases.layer(features, heads, k)
      for heads in (2, 4, 8)
  }
  memory = _lens_cases.extra_memory(runs['8 heads'])
  times = _lens_cases.measure(runs, 1)
  return {
      'seconds': {
          name: round(time['seconds'], 2) for name, time in times.items()
      },
      'extra_memory_mb': round(memory / 1e6),
  }


if __name__ == '__main__':
  app.run(main)
