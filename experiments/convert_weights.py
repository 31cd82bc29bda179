r"""Converts a model or a dictionary to Orbax, or back to safetensors.

Every bit is kept unless --dtype says otherwise. A small group of parameters is
in memory at a time, never the model.

Example:
  python experiments/convert_weights.py --model=gemma2-2b
  python experiments/convert_weights.py --model=model.gguf --out=converted
  python experiments/convert_weights.py --model=converted --to=safetensors \
      --out=hugging_face
  python experiments/convert_weights.py --list gemma-scope-2b

Without --out, a model of the hub goes where later runs of every experiment
find it: $OOC_JAX_CACHE/models, ~/.cache/ooc_jax/models by default.
"""

import pathlib

import _app
import _mesh
from absl import flags
from absl import logging

import ooc_jax

_LAYER = flags.DEFINE_integer(
    'layer', None, 'Of the dictionary, where its files do not say it.'
)
_TO = flags.DEFINE_string(
    'to', 'orbax', "'orbax', or 'safetensors' with Hugging Face's names."
)
_DTYPE = flags.DEFINE_string(
    'dtype', None, 'Of the parameters; the default keeps every bit.'
)
_SHARD_SIZE = flags.DEFINE_integer(
    'shard_size', 2 * 10**9, 'Bytes of a safetensors file.'
)
_LIST = flags.DEFINE_boolean(
    'list', False, 'Print the models and dictionaries that have names, and end.'
)


def listing(words: str) -> list[str]:
  """A table of the models and releases whose line holds all of `words`."""
  models = [
      (name, entry.repo or 'comes with ooc_jax')
      for name, entry in ooc_jax.checkpoints.MODELS.items()
  ]
  suites = [
      (release.name, release.model, _layers(release), str(len(release.entries)))
      for release in ooc_jax.dictionaries.list_dictionaries()
  ]
  lines = []
  for head, rows in (
      (('MODEL', 'REPOSITORY'), models),
      (('RELEASE OF DICTIONARIES', 'MODEL', 'LAYERS', 'IDS'), suites),
  ):
    rows = [row for row in rows if _holds(row, words)]
    if not rows:
      continue
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines += [''] if lines else []
    for row in (head, *rows):
      cells = [x.ljust(n) for x, n in zip(row, widths, strict=True)]
      lines.append('  '.join(cells).rstrip())
  chosen = [
      release
      for release in ooc_jax.dictionaries.list_dictionaries()
      if _holds((release.name,), words) and words
  ]
  if len(chosen) == 1:
    lines += ['', *(f'{chosen[0].name}/{name}' for name in chosen[0].entries)]
  if not lines:
    raise ooc_jax.InputError(
        f'Nothing in the list holds {words!r}; give fewer words, or none.'
    )
  return lines


def _holds(row: tuple[str, ...], words: str) -> bool:
  text = ' '.join(row).lower()
  return all(word in text for word in words.lower().split())


def _layers(release: ooc_jax.dictionaries.Release) -> str:
  layers = sorted({entry.site.layer for entry in release.entries.values()})
  if layers == list(range(layers[0], layers[-1] + 1)):
    return f'{layers[0]}-{layers[-1]}'
  return ','.join(map(str, layers))


def run(
    source: str,
    out: str | None = None,
    *,
    dictionary: str | None = None,
    layer: int | None = None,
    to: str = 'orbax',
    dtype: str | None = None,
    mesh: str | None = None,
    revision: str | None = None,
    shard_size: int = 2 * 10**9,
) -> pathlib.Path:
  """The conversion. Touches no flag, so a test or a notebook may call it.

  Args:
    source: The model; with a dictionary, the model it is of, or ''.
    out: Folder, new; None is the place in the cache.
    dictionary: Converted in place of the model.
    layer: Of the dictionary.
    to: 'orbax' or 'safetensors'.
    dtype: Of the parameters; None keeps every bit.
    mesh: 'feature:4,vocab:2'.
    revision: Of what is converted.
    shard_size: Bytes of a safetensors file.

  Returns:
    The folder.

  Raises:
    InputError: For anything that a user can cause.
  """
  devices = _mesh.make_mesh(mesh)
  if dictionary is None:
    return ooc_jax.checkpoints.convert_model(
        source,
        out,
        to=to,
        dtype=dtype,
        mesh=devices,
        revision=revision,
        shard_size=shard_size,
    )
  if out is None:
    raise ooc_jax.InputError('A converted dictionary needs --out=FOLDER.')
  parts = ooc_jax.dictionaries.model_parts(dictionary)
  loaded = ooc_jax.load_dictionary(
      dictionary,
      model=ooc_jax.load_model(source, parts=parts) if source else None,
      layer=layer,
      dtype=dtype,
      mesh=devices,
      revision=revision,
  )
  return ooc_jax.dictionaries.save_dictionary(loaded, out, to=to)


def main(words: list[str]) -> None:
  # Orbax tells of every folder that it makes.
  logging.set_verbosity(logging.WARNING)
  if _LIST.value:
    print('\n'.join(listing(' '.join(words))))
    return
  _app.no_words(words)
  if _app.MODEL.value is None and _app.DICTIONARY.value is None:
    raise ooc_jax.InputError(
        'Say what to convert: --model=NAME_OR_PATH or --dictionary=ID_OR_PATH;'
        ' --list prints the names.'
    )
  folder = run(
      _app.MODEL.value or '',
      _app.OUT.value,
      dictionary=_app.DICTIONARY.value,
      layer=_LAYER.value,
      to=_TO.value,
      dtype=_DTYPE.value,
      mesh=_app.MESH.value,
      revision=_app.REVISION.value,
      shard_size=_SHARD_SIZE.value,
  )
  size = sum(f.stat().st_size for f in folder.rglob('*') if f.is_file())
  print(f'{folder}: {size / 1e9:.3f} GB')


if __name__ == '__main__':
  _app.start_with_words(
      main, interrupted='nothing is left of it; the same command starts anew.'
  )
