"""The studied models: files of `configs/`, and what overrides them.

The folder at the top of the repository is the one copy; it is installed as
the package `ooc_jax.experiments.configs`.
"""

from collections.abc import Mapping
import importlib
import pathlib
import pkgutil
from typing import Any, TypeVar

from ooc_jax._errors import InputError
from ooc_jax._settings import settings_of
from ooc_jax._text import nearest

DEFAULT_MODEL = 'tiny_gemma2'
_PACKAGE = 'ooc_jax.experiments.configs'
_ALIASES = {'gemma2': 'gemma2_2b', 'llama3': 'llama3_1_8b'}
_C = TypeVar('_C')


def config_names() -> tuple[str, ...]:
  """What `load_config` takes, in order, without the short names."""
  folder = importlib.import_module(_PACKAGE).__path__
  return tuple(sorted(module.name for module in pkgutil.iter_modules(folder)))


def load_config(name: str, overrides: Mapping[str, Any], kind: type[_C]) -> _C:
  """The settings of `configs/NAME.py`, and what the command line gave.

  A file is of experiment 1; an entry such as 'attention' holds what is set
  otherwise by the class whose `CONFIG_ENTRY` that is.

  Args:
    name: 'smollm2'; 'gemma2' and 'llama3' are short for their smallest.
    overrides: Setting -> value.
    kind: `OutputPrediction`, `AttentionParticipation` or another such class.

  Raises:
    InputError: There is no such file, or a setting is unknown or wrong.
  """
  # Here, because experiments import this module.
  from ooc_jax.experiments.output_prediction import OutputPrediction

  known = config_names()
  stem = _ALIASES.get(name, name)
  if stem not in known:
    hint = nearest(name, known)
    if pathlib.Path(name).exists():
      hint = f'; a model that is here is given as --weights={name}.'
    raise InputError(f'There is no config {name!r} in configs/{hint}')
  module = importlib.import_module(f'{_PACKAGE}.{stem}')
  settings = module.get_config()
  entries = {k: v for k, v in settings.items() if isinstance(v, Mapping)}
  settings = {k: v for k, v in settings.items() if k not in entries}
  _check_known(f'configs/{stem}.py', settings, OutputPrediction)
  entry = getattr(kind, 'CONFIG_ENTRY', None)
  if entry in entries:
    _check_known(f'{entry!r} of configs/{stem}.py', entries[entry], kind)
    settings |= entries[entry]
  fields = settings_of(kind)
  settings = {k: v for k, v in settings.items() if k in fields}
  return kind(**{**settings, **overrides})


def _check_known(where: str, settings: Mapping[str, Any], kind: type) -> None:
  fields = settings_of(kind)
  for key in settings:
    if key not in fields:
      raise InputError(
          f'{where}: unknown setting {key!r}{nearest(key, fields)}'
      )
