r"""Times reading features on text beside bare forward passes of the same text.

Example:
  python benchmarks/validation.py --model=tiny-gemma2
  python benchmarks/validation.py --model=smollm2 --dictionary=mlp \
      --layers=0,5,11,17,22,29 --windows=16

Prints one JSON object, medians in one process, run in turns: tokens a second,
by the clock and by processor time (which says more on a busy machine), of
  forward: the layers up to the last one that is read, without logits;
  logits: the whole forward pass;
  activations: counts, means, best windows and health of all features.
`share` is activations over forward in tokens a second, `share_of_logits` over
logits, and `bound` is what share the FLOPs of the matrix products leave: all of
the forward pass, the encoders, and the decoders on the windows that are decoded
for the health.
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

import ooc_jax
from ooc_jax import Site
from ooc_jax import validation

_MODEL = flags.DEFINE_string('model', 'tiny-gemma2', 'As of `load_model`.')
_DICTIONARY = flags.DEFINE_string(
    'dictionary', 'tiny-gemma2-res/layer_{layer}', 'As of `load_dictionary`.'
)
_LAYERS = flags.DEFINE_list('layers', [str(i) for i in range(8)], 'Which.')
_WINDOWS = flags.DEFINE_integer('windows', 256, 'Of the default corpus.')
_LENGTH = flags.DEFINE_integer('length', 128, 'Tokens of a window.')
_REPEATS = flags.DEFINE_integer('repeats', 5, 'Runs of each; medians count.')
_BATCH = 16  # Windows at once, on both sides.
_DECODED = 64  # As `collect_activations` decodes of a text, or a few more.


def _forward(
    model: ooc_jax.Model, windows: np.ndarray, last: int, *, logits: bool
) -> Callable[[], object]:
  """A bare pass over the windows, batch by batch."""
  key = (Site.RESID_POST, last)

  @jax.jit
  def program(params, tokens):
    def apply(tokens, tap):
      module = ooc_jax.Transformer(model.config)
      return module.apply({'params': params}, tokens, tap=tap)

    out, saved = ooc_jax.run_with_taps(apply, tokens, save=[key])
    # Not all of what is made is brought out, as it is not of the other side.
    return (out if logits else saved[key]).max(axis=(0, 1))

  def run() -> object:
    starts = range(0, len(windows), _BATCH)
    outs = [program(model.params, windows[i : i + _BATCH]) for i in starts]
    return jax.block_until_ready(outs)

  return run


def _bound(
    model: ooc_jax.Model,
    dictionaries: Mapping[int, ooc_jax.Dictionary],
    windows: int,
) -> dict[str, float]:
  """FLOPs a token of each part, and the share that they leave."""
  config = model.config
  depth = (max(dictionaries) + 1) / config.num_layers
  own = validation.cost(config, 1, window=_LENGTH.value, encoded=False)
  forward = own.a_token * depth
  encode = decode = 0.0
  decoded = len(range(0, windows, max(1, windows // _DECODED))) / windows
  for own in dictionaries.values():
    if not validation.is_signed(own, config):
      encode += 2.0 * own.encoder.size
      decode += 2.0 * own.decoder.size * decoded
  return {
      'forward_flops': forward,
      'encode_flops': encode,
      'decode_flops': decode,
      'bound': round(forward / (forward + encode + decode), 3),
  }


def _measure(
    runs: Mapping[str, Callable[[], object]],
) -> dict[str, list[float]]:
  """Median seconds and processor seconds of each, after one that compiles."""
  for run in runs.values():
    run()
  found = {name: [] for name in runs}
  for _ in range(_REPEATS.value):
    for name, run in runs.items():
      wall, cpu = time.perf_counter(), time.process_time()
      run()
      found[name].append(
          (time.perf_counter() - wall, time.process_time() - cpu)
      )
  return {
      name: [statistics.median(x) for x in zip(*times, strict=True)]
      for name, times in found.items()
  }


def main(argv: list[str]) -> None:
  del argv  # Flags only.
  model = ooc_jax.load_model(_MODEL.value)
  layers = [int(x) for x in _LAYERS.value]
  dictionaries = {
      i: ooc_jax.load_dictionary(_DICTIONARY.value, model=model, layer=i)
      for i in layers
  }
  assert model.tokenizer is not None
  start = time.perf_counter()
  windows = validation.read_windows(
      'default', model.tokenizer, length=_LENGTH.value, limit=_WINDOWS.value
  )
  reading = time.perf_counter() - start
  times = _measure({
      'forward': _forward(model, windows, max(layers), logits=False),
      'logits': _forward(model, windows, max(layers), logits=True),
      'activations': lambda: validation.collect_activations(
          model, dictionaries, windows, batch=_BATCH
      ),
  })
  result = {
      'model': _MODEL.value,
      'layers': layers,
      'features': [x.size for x in dictionaries.values()],
      'windows': list(windows.shape),
      'device': str(jnp.zeros(()).device),
      'read_and_tokenise_s': round(reading, 2),
      **_bound(model, dictionaries, len(windows)),
  }
  for i, kind in enumerate(('', 'cpu_')):
    for name, seconds in times.items():
      result[f'{name}_tokens_per_{kind}s'] = round(windows.size / seconds[i])
    own = times['activations'][i]
    result[f'{kind}share'] = round(times['forward'][i] / own, 3)
    result[f'{kind}share_of_logits'] = round(times['logits'][i] / own, 3)
  print(json.dumps(result, indent=2))


if __name__ == '__main__':
  app.run(main)
