r"""Times the lens beside the bare matrix product of the same shapes.

Example:
  python benchmarks/output_lens.py --features=512 --vocab=256000 --width=2304

Prints one JSON object. For 'exact' and 'screened' with the table's moments
(found once a model, as the experiments do, and timed apart), for both with
moments found anew, for the bare products in float32 and bfloat16, and, where
torch can be imported (extra `parity`), for the plain PyTorch recipe: median
seconds, CPU seconds and their ratios to the bare float32 product; the memory
that each took above its inputs; whether both precisions gave the same ids and
values; how many features were recomputed. All run in this process, in turns,
so that a noisy machine slows all of them.

With --scaling, instead: e where the cost is c·n^e, for n features and for n
tokens over sixteen-fold ranges, and the memory at each size.
"""

import functools
import json

import _lens_cases
from absl import app
from absl import flags
import jax
import jax.numpy as jnp
import numpy as np

from ooc_jax import circuits

_FEATURES = flags.DEFINE_integer('features', 512, 'F.')
_VOCAB = flags.DEFINE_integer('vocab', 256_000, 'V.')
_WIDTH = flags.DEFINE_integer('width', 2_304, 'D.')
_K = flags.DEFINE_integer('k', 20, 'Top tokens.')
_DTYPE = flags.DEFINE_enum(
    'dtype', 'float32', ['float32', 'bfloat16'], 'Of the unembedding.'
)
_REPEATS = flags.DEFINE_integer('repeats', 5, 'Runs of each; medians count.')
_SCALING = flags.DEFINE_bool(
    'scaling', False, 'Only how cost and memory grow with F and with V.'
)
_RECIPE = flags.DEFINE_bool('recipe', True, 'Also in PyTorch, if it is there.')


def main(argv: list[str]) -> None:
  del argv  # Flags only.
  if _SCALING.value:
    found = {
        precision: _lens_cases.exponents(
            _WIDTH.value, _K.value, precision, _REPEATS.value
        )
        for precision in ('exact', 'screened')
    }
    print(json.dumps({'width': _WIDTH.value} | found, indent=2))
    return
  features, vocab, width = _FEATURES.value, _VOCAB.value, _WIDTH.value
  directions = _lens_cases.random_rows(0, (features, width), jnp.float32)
  table = _lens_cases.random_rows(1, (vocab, width), _DTYPE.value, width**-0.5)
  mask = jnp.arange(vocab) % 50 != 0
  inputs = (directions, table, mask, _K.value)
  find = functools.partial(circuits.table_moments, table, mask)
  moments = jax.block_until_ready(find())
  runs = {
      'exact': _lens_cases.lens(*inputs, 'exact', moments),
      'screened': _lens_cases.lens(*inputs, 'screened', moments),
      'exact, moments anew': _lens_cases.lens(*inputs, 'exact'),
      'screened, moments anew': _lens_cases.lens(*inputs, 'screened'),
  }
  result = {
      'features': features,
      'vocab': vocab,
      'width': width,
      'dtype': _DTYPE.value,
      'device': str(jax.devices()[0]),
      'repeats': _REPEATS.value,
      'moments': _lens_cases.measure({'': find}, 1)[''],
  }
  if _RECIPE.value and (
      recipe := _lens_cases.torch_recipe(directions, table, _K.value)
  ):
    runs['PyTorch recipe'] = recipe
  result['extra_memory_mb'] = {
      name: round(_lens_cases.extra_memory(run) / 1e6)
      for name, run in runs.items()
  }
  result |= _agreement(runs['exact'](), runs['screened']())
  for dtype in ('float32', 'bfloat16'):
    runs[f'bare {dtype}'] = _lens_cases.bare_product(
        directions, table, jnp.dtype(dtype)
    )
  if _REPEATS.value:
    times = _lens_cases.measure(runs, _REPEATS.value)
    bare = times['bare float32']
    flops = 2 * features * vocab * width
    result['runs'] = {
        name: (
            {key: round(value, 3) for key, value in time.items()}
            | {
                'ratio': round(time['seconds'] / bare['seconds'], 3),
                'cpu_ratio': round(
                    time['cpu_seconds'] / bare['cpu_seconds'], 3
                ),
                'gflops': round(flops / time['seconds'] / 1e9, 1),
            }
        )
        for name, time in times.items()
    }
  print(json.dumps(result, indent=2))


def _agreement(exact: circuits.Lens, screened: circuits.Lens) -> dict:
  ends = ('top_ids', 'top_logits', 'bottom_ids', 'bottom_logits')
  rest = ('mean', 'std', 'skewness', 'kurtosis', 'entropy', 'top_mass')
  return {
      'ends_identical': all(
          np.array_equal(getattr(exact, name), getattr(screened, name))
          for name in ends
      ),
      'recomputed': {
          'exact': int(exact.recomputed.sum()),
          'screened': int(screened.recomputed.sum()),
      },
      'largest_difference': {
          name: float(
              jnp.abs(getattr(exact, name) - getattr(screened, name)).max()
          )
          for name in rest
      },
  }


if __name__ == '__main__':
  app.run(main)
