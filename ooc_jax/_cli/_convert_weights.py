"""`convert_weights` from the command line, and the list of what has a name."""

import dataclasses
import pathlib

from absl import logging

from ooc_jax import dictionaries
from ooc_jax import experiments
from ooc_jax._cli._flags import Given
from ooc_jax._cli._main import Command
from ooc_jax._errors import InputError
from ooc_jax.checkpoints import MODELS
from ooc_jax.checkpoints import convert_model
from ooc_jax.checkpoints import load_model
from ooc_jax.experiments import setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvertSettings(experiments.DictionarySettings):
  """What is converted to what."""

  model: str | None = setting(
      None,
      help=(
          'A name of the registry, a hub id (owner/name), a folder or a file;'
          ' with --dictionary, the model that it is of.'
      ),
  )
  dictionary: str | None = setting(
      None,
      help=(
          "In place of the model: 'mlp', 'tokens', 'random', an id of --list, a"
          ' hub id, a folder or a file.'
      ),
  )
  layer: int | None = setting(
      None, help='Of the dictionary, where its files do not say it.'
  )
  to: str = setting(
      'orbax',
      help="Orbax arrays, or safetensors with Hugging Face's names.",
      choices=('orbax', 'safetensors'),
  )
  dtype: str | None = setting(
      None, help='Of the parameters; the default keeps every bit.'
  )
  shard_size: int = setting(
      2 * 10**9, help='Bytes of a safetensors file.', least=1
  )
  revision: str | None = setting(
      None, help='Branch, tag or commit of the hub repository.'
  )
  mesh: str | None = setting(
      None, help="Devices to spread over: 'feature:4,vocab:2'."
  )
  out: str | None = setting(
      None,
      help=(
          'Folder to write, new; by default, of a model of the hub, where'
          ' later runs find it.'
      ),
  )
  list: bool = setting(
      False,
      help=(
          'Print the models and dictionaries that have names, by model, and'
          ' end; with --model, what is of it.'
      ),
  )


def listing(words: str, model: str | None = None) -> list[str]:
  """Models and releases whose line holds all of `words`, by model.

  Args:
    words: Or an id or the address of its page.
    model: A name of the registry or a hub id: only what is of it.

  Raises:
    InputError: There is none.
  """
  rows = [
      (name, entry.repo or 'comes with ooc_jax')
      for name, entry in MODELS.items()
      if model is None and _holds((name, entry.repo or ''), words)
  ]
  lines: list[str] = []
  if rows:
    rows = [('MODEL', 'REPOSITORY'), *rows]
    width = max(len(name) for name, _ in rows)
    lines = [f'{name.ljust(width)}  {repo}' for name, repo in rows]
  of = model
  if model in MODELS:
    of = MODELS[model].repo or model
  releases = dictionaries.listing(words, of)
  lines += [*([''] if lines and releases else []), *releases]
  if not lines:
    of_model = f' of {model}' if model else ''
    raise InputError(
        f'Nothing in the list{of_model} holds {words!r}; give fewer words, or'
        ' none.'
    )
  return lines


def _holds(row: tuple[str, ...], words: str) -> bool:
  text = ' '.join(row).lower()
  return all(word in text for word in words.lower().split())


def _convert(given: Given) -> pathlib.Path:
  experiments.check_devices()
  source, mesh = given['model'], experiments.make_mesh(given['mesh'])
  dtype, revision = given['dtype'], given['revision']
  if (name := given['dictionary']) is None:
    return convert_model(
        source,
        given['out'],
        to=given['to'],
        dtype=dtype,
        mesh=mesh,
        revision=revision,
        shard_size=given['shard_size'],
    )
  if given['out'] is None:
    raise InputError('A converted dictionary needs --out=FOLDER.')
  model = None
  if source is not None:
    # It maps some dictionaries to the stream: see `load_dictionary`.
    model = load_model(source, parts=dictionaries.model_parts(name))
  loaded = dictionaries.load_dictionary(
      name,
      model=model,
      layer=given['layer'],
      dtype=dtype,
      mesh=mesh,
      revision=revision,
      **given.of(experiments.DictionarySettings),
  )
  return dictionaries.save_dictionary(loaded, given['out'], to=given['to'])


def _main(given: Given) -> None:
  # Orbax tells of every folder that it makes.
  logging.set_verbosity(logging.WARNING)
  if given['list']:
    print('\n'.join(listing(' '.join(given.words), given['model'])))
    return
  if given.words:
    raise InputError(
        f'Unexpected arguments {list(given.words)}; settings are given as'
        ' --name=value.'
    )
  if given['model'] is None and given['dictionary'] is None:
    raise InputError(
        'Say what to convert: --model=NAME_OR_PATH or --dictionary=ID_OR_PATH;'
        ' --list prints the names.'
    )
  folder = _convert(given)
  size = sum(f.stat().st_size for f in folder.rglob('*') if f.is_file())
  print(f'{folder}: {size / 1e9:.3f} GB')


COMMANDS = {
    'convert_weights': Command(
        doc=(
            'Converts a model or a dictionary to Orbax, or back to'
            ' safetensors.\n\nEvery bit is kept unless --dtype says otherwise.'
            ' A small group of\nparameters is in memory at a time, never the'
            ' model. --list WORDS\nprints the names that hold them, or what a'
            ' pasted id or address of\nNeuronpedia means; --list --model=NAME,'
            ' what is of that model.'
        ),
        settings={'convert_weights': ConvertSettings},
        main=_main,
        words=True,
        interrupted='nothing is left of it; the same command starts anew.',
    )
}
