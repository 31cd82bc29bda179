"""What every experiment's command line shares."""

from collections.abc import Iterable, Iterator, Mapping
import importlib.metadata
import pathlib
import platform
import sys
import time
from typing import Any, TypeVar

import _app
from _study import Study
from _study import load_study
from absl import flags
from absl import logging
import tqdm

DEFAULT_MODEL = 'tiny_gemma2'
_T = TypeVar('_T')

_WEIGHTS = flags.DEFINE_string(
    'weights',
    None,
    'A local copy of the model, instead of the hub: a .gguf or .safetensors'
    ' file, or a folder.',
)
DRY_RUN = flags.DEFINE_boolean(
    'dry_run',
    False,
    'Say what would be downloaded, computed, held and written.',
)
# Flags that override a setting of the config file, in every experiment. None
# means: not given.
_SHARED = {
    'revision': _app.REVISION,
    'dictionary': _app.DICTIONARY,
    'layers': flags.DEFINE_string(
        'layers', None, "'all', or numbers and ranges: 0,5,10-20."
    ),
    'examples': flags.DEFINE_integer(
        'examples', None, 'How many features to show at the end.'
    ),
    'alpha': flags.DEFINE_float(
        'alpha', None, 'Share of chance directions that a null lets pass.'
    ),
    'null': flags.DEFINE_string(
        'null', None, "Random directions: 'isotropic' or 'matched'."
    ),
    'control': flags.DEFINE_string(
        'control', None, "'none', or 'random_weights': drawn anew."
    ),
    'seed': flags.DEFINE_integer(
        'seed', None, 'Of random directions, bootstrap and control.'
    ),
}


def _model_name() -> str:
  return _app.MODEL.value or DEFAULT_MODEL


def study_from_flags(
    own: Mapping[str, flags.FlagHolder[Any]], kind: type[_T] = Study
) -> tuple[_T, str | None]:
  """The study that the command line describes, and a local copy if given.

  Args:
    own: Flags of this kind of study, by the setting they override.
    kind: `Study` or `AttentionStudy`.
  """
  overrides = {
      name: holder.value for name, holder in {**_SHARED, **own}.items()
  }
  return load_study(_model_name(), overrides, kind), _WEIGHTS.value


def out_folder(experiment: str, dictionary: str) -> pathlib.Path:
  """`--out`, or a folder named after the experiment and what is studied."""
  if _app.OUT.value is not None:
    return pathlib.Path(_app.OUT.value).expanduser()
  # 'release/layer_{layer}' names the release: all its layers are read.
  shown = '/'.join(x for x in dictionary.split('/') if '{layer}' not in x)
  names = [experiment, _model_name(), shown or 'dictionary']
  return pathlib.Path('results') / '-'.join(
      name.replace('/', '_').strip('.') for name in names
  )


def provenance() -> dict[str, str]:
  """Versions that the numbers depend on."""
  packages = ('jax', 'jaxlib', 'flax', 'numpy', 'ooc_jax')
  return {
      'python': platform.python_version(),
      **{name: importlib.metadata.version(name) for name in packages},
  }


def progress(items: Iterable[_T], total: int, unit: str) -> Iterator[_T]:
  """A bar on a terminal, a log line an item elsewhere."""
  if sys.stderr.isatty():
    yield from tqdm.tqdm(items, total=total, unit=unit, leave=False)
    return
  start = time.monotonic()
  for done, item in enumerate(items, 1):
    yield item
    seconds = time.monotonic() - start
    logging.info('%s %s: %d of %d, %.0f s', unit, item, done, total, seconds)
