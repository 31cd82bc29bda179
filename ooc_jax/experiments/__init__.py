"""The studies, from Python.

Each experiment is a module with `compute` (pure: model, dictionaries,
settings and mesh in, tables out), `summarise` (tables in, further tables and
the summary out), `text` (what the script prints), and `run`, which does all
of it in a folder that is resumed. Its settings are a frozen dataclass, in
which each setting is described once.
"""

import importlib
from typing import Any

from ooc_jax._settings import Setting
from ooc_jax._settings import setting
from ooc_jax._settings import settings_of
from ooc_jax.experiments import attention_participation
from ooc_jax.experiments import output_prediction
from ooc_jax.experiments import semantic_attention
from ooc_jax.experiments import validation
from ooc_jax.experiments._configs import DEFAULT_MODEL
from ooc_jax.experiments._configs import config_names
from ooc_jax.experiments._configs import load_config
from ooc_jax.experiments._devices import check_devices
from ooc_jax.experiments._devices import make_mesh
from ooc_jax.experiments._processes import is_first_process
from ooc_jax.experiments._processes import join
from ooc_jax.experiments._runtime import Run
from ooc_jax.experiments._self_test import check_arithmetic
from ooc_jax.experiments._self_test import self_test
from ooc_jax.experiments._settings import DictionarySettings
from ooc_jax.experiments._settings import parse_layers
from ooc_jax.experiments.attention_participation import AttentionParticipation
from ooc_jax.experiments.output_prediction import OutputPrediction
from ooc_jax.experiments.semantic_attention import SemanticAttention
from ooc_jax.experiments.validation import Validation

__all__ = (
    'AttentionParticipation',
    'DEFAULT_MODEL',
    'DictionarySettings',
    'OutputPrediction',
    'Run',
    'SemanticAttention',
    'Setting',
    'Validation',
    'attention_participation',
    'check_arithmetic',
    'check_devices',
    'compare',
    'config_names',
    'cost',
    'explain',
    'intrusion',
    'is_first_process',
    'join',
    'load_config',
    'make_mesh',
    'output_prediction',
    'parse_layers',
    'self_test',
    'semantic_attention',
    'setting',
    'settings_of',
    'validation',
)


def __getattr__(name: str) -> Any:
  """What draws, once it is asked for: Matplotlib is slow to import."""
  if name in ('compare', 'cost', 'explain', 'intrusion'):
    return importlib.import_module(f'ooc_jax.experiments.{name}')
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
