r"""Times both experiments at the shapes of Gemma-2-2B, with random weights.

Example:
  python benchmarks/gemma2_2b.py --stages=preparation
  python benchmarks/gemma2_2b.py --stages=preparation,null,layer,head \
      --vocab=64000 --features=2048

Prints one JSON object. Every stage runs once, compilation included, with its
seconds, its processor seconds (of all threads: they say more on a busy
machine), the peak of resident memory and by how much that is above what was
resident before the stage, table included. 'bare' is [V, D] x [D, D] in float32
and nothing else, in this process, before the stages and after: 'ratio' is
seconds over that. A layer's readouts, the null and the heads are given over
their own bare products too, [V, D] x [D, F], and [F, H] x [H, F] of each head
for the dictionary and three nulls, whose seconds follow from smaller ones.
"""

from collections.abc import Callable
import functools
import json
import pathlib
import resource
import statistics
import tempfile
import time

import _attention_cases
import _lens_cases
from absl import app
from absl import flags
import jax
import jax.numpy as jnp
import numpy as np
import tokenizers

import ooc_jax
from ooc_jax import circuits
from ooc_jax import measures
from ooc_jax.dictionaries import random_dictionary
from ooc_jax.experiments import OutputPrediction
from ooc_jax.experiments import output_prediction
from ooc_jax.model import Model
from ooc_jax.model import Tokenizer

_STAGES = flags.DEFINE_list(
    'stages',
    ['preparation'],
    'Of parts (of the preparation, one by one), preparation, null, layer and'
    ' head.',
)
_VOCAB = flags.DEFINE_integer('vocab', 256_000, 'V.')
_WIDTH = flags.DEFINE_integer('width', 2_304, 'D.')
_FEATURES = flags.DEFINE_integer('features', 16_384, 'F.')
_NULL = flags.DEFINE_integer('null', 4_096, 'Random directions of the null.')
_PRECISION = flags.DEFINE_string('precision', 'exact', 'Of the lens.')
_HEAD_WIDTH = 256
# Queries of the bare product of a head; the rest follows.
_HEAD_ROWS = 2_048
_UNUSED = 99


class _Stages:
  """Runs one stage after the other and keeps what each took."""

  def __init__(self):
    self.found: dict[str, dict[str, float]] = {}

  def run(self, name: str, stage: Callable[[], object]) -> object:
    """What the stage gives, which is ready."""
    before = _lens_cases.reset_peak()
    start, cpu = time.perf_counter(), time.process_time()
    result = jax.block_until_ready(stage())
    self.found[name] = {
        'seconds': round(time.perf_counter() - start, 2),
        'cpu_seconds': round(time.process_time() - cpu, 2),
        'peak_mb': round(_lens_cases.peak() / 1e6),
        'extra_mb': round((_lens_cases.peak() - before) / 1e6),
    }
    return result


@jax.jit
def _product(table, matrix):
  """table @ matrix in float32, a block of rows at a time, reduced at once."""
  rows = next(n for n in range(2048, 0, -1) if not len(table) % n)

  def step(best, b):
    # Or XLA:CPU casts the whole table to float32 ahead of the loop.
    whole, b = jax.lax.optimization_barrier((table, b))
    block = jax.lax.dynamic_slice_in_dim(whole, b * rows, rows)
    product = jnp.einsum(
        'vd,de->ve', block.astype(jnp.float32), matrix, precision='highest'
    )
    return jnp.maximum(best, product.max(axis=0)), None

  blocks = jnp.arange(len(table) // rows, dtype=jnp.int32)
  return jax.lax.scan(step, jnp.zeros(matrix.shape[1]), blocks)[0]


def _tokenizer() -> Tokenizer:
  """Words of the lengths of Gemma's, and some that no text holds."""
  rng = np.random.default_rng(0)
  count = _VOCAB.value - _UNUSED
  letters = rng.integers(97, 123, (count, 12), dtype=np.uint8)
  lengths = rng.integers(1, 8, count)
  words = {f'<unused{i}>': i for i in range(_UNUSED)}
  for i, (row, n) in enumerate(zip(letters, lengths, strict=True)):
    # The number, in letters, makes it unlike every other.
    own = ''.join(chr(97 + int(digit)) for digit in str(i))
    words[row[:n].tobytes().decode() + 'z' + own] = i + _UNUSED
  model = tokenizers.models.WordLevel(words, unk_token='<unused0>')
  made = tokenizers.Tokenizer(model)
  return Tokenizer(lambda: made, lambda: made, _VOCAB.value)


def _model() -> Model:
  """One layer of random weights, the table in bfloat16."""
  config = _attention_cases.gemma(8, 4, _WIDTH.value, _VOCAB.value)
  shape = (_VOCAB.value, _WIDTH.value)
  draw = lambda seed, heads: _lens_cases.random_rows(  # noqa: E731
      seed, (_WIDTH.value, heads * _HEAD_WIDTH), jnp.float32, shape[1] ** -0.5
  ).reshape(_WIDTH.value, heads, _HEAD_WIDTH)
  params = {
      'embedding': _lens_cases.random_rows(
          1, shape, jnp.bfloat16, shape[1] ** -0.5
      ),
      'final_norm': {'weight': jnp.zeros(shape[1])},
      'layer_0': {
          'attention_norm': {'weight': jnp.zeros(shape[1])},
          'attention': {'query': draw(2, 8), 'key': draw(3, 4)},
      },
  }
  return Model(config, params, _tokenizer())


def _run_tokenizer(stages: _Stages, tokenizer: Tokenizer | None) -> None:
  """A tokenizer.json, parsed and read through; and what is kept of it."""

  def start() -> int:
    read = Tokenizer.from_file(path, vocab_size=_VOCAB.value)
    return len(read.token_strings()) + read.mask().size

  assert tokenizer is not None
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / 'tokenizer.json'
    tokenizer.save(path)
    stages.run('tokenizer, nothing kept', start)
    ooc_jax.set_cache_dir(folder)
    stages.run('tokenizer, made and kept', start)
    stages.run('tokenizer, the second time', start)
    ooc_jax.set_cache_dir(None)


def _run_parts(stages: _Stages, model: Model) -> None:
  """What a preparation is made of."""
  table = circuits.unembedding_table(model)
  _run_tokenizer(stages, model.tokenizer)
  stages.run('strings', lambda: len(measures.model_strings(model)))
  mask = stages.run('mask', lambda: circuits.readable_mask(model))
  moments = stages.run('moments', lambda: circuits.table_moments(table, mask))
  stages.run(
      'token space',
      lambda: jax.tree.leaves(
          measures.token_space(table, mask, moments=moments)
      ),
  )


def _run_lens(stages: _Stages, model: Model) -> None:
  """Preparation as an experiment makes it, null and layer."""
  config = OutputPrediction(
      model='random',
      layers='0',
      precision=_PRECISION.value,
      null_size=_NULL.value,
  )
  isotropic = np.asarray(
      measures.isotropic_directions(_NULL.value, _WIDTH.value, seed=0)
  )
  prepare = lambda: output_prediction.DictionaryReader(model, config)  # noqa: E731
  with tempfile.TemporaryDirectory() as folder:
    ooc_jax.set_cache_dir(folder)  # As the scripts do.
    reader = stages.run('preparation', prepare)
    reader = stages.run('preparation, the second time', prepare)
    ooc_jax.set_cache_dir(None)
  dictionary = random_dictionary(model, 0, size=_FEATURES.value)
  if 'null' in _STAGES.value:
    stages.run(
        'null',
        lambda: reader.directions(-1, [0], {0: dictionary}, isotropic).num_rows,
    )
  if 'layer' in _STAGES.value:
    for readout in ('output', 'input'):
      stages.run(
          f'layer, {readout} readout',
          lambda readout=readout: reader.read(
              readout, dictionary, 'top', (5, 10, 20, 50)
          )[0].entropy,
      )
    stages.run(
        'layer, nearest features',
        lambda: circuits.nearest_directions(
            dictionary.decoder, config.neighbours
        ).ids,
    )


def _run_heads(stages: _Stages, model: Model) -> float:
  """All heads for four dictionaries; and the seconds of their bare products.

  The features and three nulls. Products are those of scores, whose seconds are
  measured, and those that make queries and keys, which follow from their size.
  """
  F, heads = _FEATURES.value, model.config.num_heads
  vectors = [
      _lens_cases.random_rows(seed, (F, _HEAD_WIDTH), jnp.float32, 2.0)
      for seed in range(2)
  ]
  rows = min(_HEAD_ROWS, F)
  bare = _attention_cases.row_maxima(vectors[0][:rows], vectors[1])
  seconds = _lens_cases.measure({'': bare}, 3)['']['seconds'] * F / rows
  read = functools.partial(circuits.attention_statistics, model, layer=0)
  stages.run(
      'heads with nulls',
      lambda: [
          read(random_dictionary(model, 0, size=F, seed=seed), offset=1).entropy
          for seed in range(4)
      ],
  )
  made = heads + model.config.num_kv_heads
  return 4 * seconds * (heads + made * _WIDTH.value / F)


def main(argv: list[str]) -> None:
  del argv  # Flags only.
  stages = _Stages()
  model = _model()
  table = circuits.unembedding_table(model)
  matrix = _lens_cases.random_rows(7, (_WIDTH.value,) * 2, jnp.float32)
  times, cpu_times = [], []

  def bare() -> None:
    start, cpu = time.perf_counter(), time.process_time()
    jax.block_until_ready(_product(table, matrix))
    times.append(time.perf_counter() - start)
    cpu_times.append(time.process_time() - cpu)

  jax.block_until_ready(_product(table[:2048], matrix))
  bare()
  if 'parts' in _STAGES.value:
    _run_parts(stages, model)
    bare()
  if {'preparation', 'null', 'layer'} & set(_STAGES.value):
    _run_lens(stages, model)
    bare()
  seconds = statistics.median(times)
  own = {
      'null': seconds * 2 * _NULL.value / _WIDTH.value,
      'layer, output readout': seconds * _FEATURES.value / _WIDTH.value,
      'layer, input readout': seconds * _FEATURES.value / _WIDTH.value,
  }
  if 'head' in _STAGES.value:
    own['heads with nulls'] = _run_heads(stages, model)
  for name, stage in stages.found.items():
    stage['ratio'] = round(stage['seconds'] / seconds, 3)
    stage['cpu_ratio'] = round(
        stage['cpu_seconds'] / statistics.median(cpu_times), 3
    )
    if name in own:
      stage['ratio_to_own'] = round(stage['seconds'] / own[name], 3)
  flops = 2 * _VOCAB.value * _WIDTH.value**2
  result = {
      'vocab': _VOCAB.value,
      'width': _WIDTH.value,
      'features': _FEATURES.value,
      'null': _NULL.value,
      'precision': _PRECISION.value,
      'device': str(jax.devices()[0]),
      'table_mb': round(table.nbytes / 1e6),
      'bare_seconds': [round(x, 2) for x in times],
      'bare_cpu_seconds': [round(x, 2) for x in cpu_times],
      'bare_gflops': round(flops / seconds / 1e9, 1),
      'stages': stages.found,
      'peak_rss_mb': round(
          resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
      ),
  }
  print(json.dumps(result, indent=2))


if __name__ == '__main__':
  app.run(main)
