"""What every experiment's command line shares."""

from collections.abc import Iterable, Iterator
import importlib.metadata
import pathlib
import platform
import sys
import time
from typing import TypeVar

import _app
import _sides
from _study import Study
from _study import load_study
from absl import flags
from absl import logging
import tqdm

import ooc_jax

DEFAULT_MODEL = 'smollm2'
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
# Flags that override a setting of the config file. None means: not given.
_OVERRIDES = {
    'revision': _app.REVISION,
    'dictionary': _app.DICTIONARY,
    'layers': flags.DEFINE_string(
        'layers', None, "'all', or numbers and ranges: 0,5,10-20."
    ),
    'k': flags.DEFINE_integer('k', None, 'Top tokens a feature.'),
    'convention': flags.DEFINE_string(
        'convention', None, f'One of {", ".join(ooc_jax.circuits.CONVENTIONS)}.'
    ),
    'centered': flags.DEFINE_boolean(
        'centered', None, 'Subtract the mean row of the unembedding.'
    ),
    'precision': flags.DEFINE_string(
        'precision', None, f'One of {", ".join(ooc_jax.circuits.PRECISIONS)}.'
    ),
    'token_space': flags.DEFINE_string(
        'token_space',
        None,
        f'Of the cosine: one of {", ".join(ooc_jax.measures.TOKEN_SPACES)}.',
    ),
    'rule': flags.DEFINE_string(
        'rule',
        None,
        f'Measures that must pass: {", ".join(ooc_jax.measures.RULES)}.',
    ),
    'thresholds': flags.DEFINE_string(
        'thresholds',
        None,
        "'null', 'quantile', 'quantile:0.9' or"
        " 'fixed:levenshtein=0.6,cosine=0.2,entropy=3'.",
    ),
    'examples': flags.DEFINE_integer(
        'examples', None, 'How many features to show at the end.'
    ),
    'alpha': flags.DEFINE_float(
        'alpha', None, "Share of random directions that 'null' lets pass."
    ),
    'null': flags.DEFINE_string(
        'null', None, "Random directions: 'isotropic' or 'matched'."
    ),
    'null_size': flags.DEFINE_integer('null_size', None, 'How many of them.'),
    'sides': flags.DEFINE_string(
        'sides', None, f"'all', or some of {', '.join(_sides.SIDES)}."
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


def study_from_flags() -> tuple[Study, str | None]:
  """The study that the command line describes, and a local copy if given."""
  overrides = {name: holder.value for name, holder in _OVERRIDES.items()}
  return load_study(_model_name(), overrides), _WEIGHTS.value


def out_folder(experiment: str, study: Study) -> pathlib.Path:
  """`--out`, or a folder named after the experiment and what is studied."""
  if _app.OUT.value is not None:
    return pathlib.Path(_app.OUT.value).expanduser()
  names = [experiment, _model_name(), study.dictionary]
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
