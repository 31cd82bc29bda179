"""`train_sae` from the command line."""

import dataclasses
import pathlib
import time

from ooc_jax._cli._flags import Given
from ooc_jax._cli._main import Command
from ooc_jax._errors import InputError
from ooc_jax.checkpoints import load_model
from ooc_jax.dictionaries import DictionarySite
from ooc_jax.dictionaries import training
from ooc_jax.experiments import check_devices
from ooc_jax.experiments import parse_layers
from ooc_jax.experiments import setting

_RECIPE = dataclasses.make_dataclass(
    'Recipe',
    [
        (f.name, f.type, setting(f.default, help=f.metadata['help']))
        for f in dataclasses.fields(training.TrainingRecipe)
    ],
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainSettings:
  """What is trained on what, and how often it is written."""

  model: str | None = setting(
      None, help='A name of the registry, a hub id, a folder or a file.'
  )
  corpus: tuple[str, ...] | None = setting(None, help='Text files, UTF-8.')
  out: str | None = setting(None, help='Folder, new or of the same run.')
  layers: str = setting(
      'embedding,all',
      help=(
          "'all', or layers and ranges, and 'embedding', the stream before"
          ' layer 0: embedding,0,3-5.'
      ),
  )
  context: int = setting(256, help='T, tokens of a window after BOS.')
  batch_tokens: int = setting(
      2048, help='Tokens of a step, a multiple of context.'
  )
  dtype: str = setting(
      'float32',
      help='Of the matrices that are written.',
      choices=training.DTYPES,
  )
  bos: int | None = setting(
      None, help='Id before each window, if the tokenizer adds none.'
  )
  every: int = setting(200, help='Steps between two checkpoints.')
  held_out_windows: int = setting(
      512, help='Windows that are reconstructed at the end.'
  )
  spliced_windows: int = setting(
      64, help='Windows that the cross-entropies are of.'
  )
  revision: str | None = setting(
      None, help='Branch, tag or commit of the hub repository.'
  )


def parse_sites(text: str, num_layers: int) -> tuple[DictionarySite, ...]:
  """'embedding,0,3-5' as sites: the stream before layer 0, and after layers."""
  items = [item.strip() for item in text.split(',')]
  layers = ','.join(item for item in items if item != 'embedding')
  embedding = 'embedding' in items
  chosen = []
  if layers or not embedding:
    chosen = parse_layers(layers, num_layers)
  return training.stream_sites(num_layers, chosen, embedding)


def _main(given: Given) -> None:
  if not (given['corpus'] and given['out'] and given['model']):
    raise InputError(
        'Say what to train on what and where: --model=NAME_OR_PATH'
        ' --corpus=FILE,FILE --out=FOLDER.'
    )
  check_devices()
  start = time.monotonic()
  recipe = training.TrainingRecipe(**given.of(_RECIPE))
  model = load_model(given['model'], revision=given['revision'])
  out = pathlib.Path(given['out']).expanduser()
  metrics = training.train_saes(
      model,
      given['corpus'],
      recipe,
      out,
      name=pathlib.Path(given['model']).name,
      sites=parse_sites(given['layers'], model.config.num_layers),
      context=given['context'],
      batch_tokens=given['batch_tokens'],
      dtype=given['dtype'],
      bos=given['bos'],
      every=given['every'],
      held_out_windows=given['held_out_windows'],
      spliced_windows=given['spliced_windows'],
  )
  print('\n'.join(training.table(metrics)))
  print(f'\n{out}: {len(metrics)} SAEs ({time.monotonic() - start:.0f} s)')


COMMANDS = {
    'train_sae': Command(
        doc=(
            'Trains JumpReLU SAEs on the residual stream of any model, all at'
            ' once.\n\nLeaves a folder a site in the format of SAELens,'
            ' metrics.json and\nlosses.jsonl. Stopped at any moment, the same'
            ' command continues.'
        ),
        settings={'train_sae': TrainSettings, 'recipe': _RECIPE},
        main=_main,
    )
}
