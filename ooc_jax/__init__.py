"""Explains features of language models from the weights alone.

The method is "out of context" (arXiv 2601.22447): directions of a dictionary
are contracted with embedding, unembedding and attention weights; no text and
no activation is needed.

Axis letters, in shapes, names and einsum strings of the whole package:
  F features of a dictionary     N query heads            B batch
  V tokens of the vocabulary     K key/value heads        T query positions
  D width of the residual stream G = N / K                S key positions
  L layers                       H width of a head        k top k
                                 M width of the MLP
Any other axis is a word, as in `Float[Array, 'pairs offsets']`. A letter counts
what the function is given: under `shard_map` one shard of it.
"""

import importlib
import typing
from typing import Any

if typing.TYPE_CHECKING:
  from ooc_jax import checkpoints
  from ooc_jax import circuits
  from ooc_jax import dictionaries
  from ooc_jax import measures
  from ooc_jax import model
  from ooc_jax._cache import set_cache_dir
  from ooc_jax._errors import InputError
  from ooc_jax.checkpoints import load_model
  from ooc_jax.checkpoints import save_model
  from ooc_jax.circuits import AttentionStatistics
  from ooc_jax.circuits import Lens
  from ooc_jax.circuits import attention_statistics
  from ooc_jax.circuits import input_lens
  from ooc_jax.circuits import output_lens
  from ooc_jax.circuits import ov_lens
  from ooc_jax.dictionaries import Dictionary
  from ooc_jax.dictionaries import load_dictionary
  from ooc_jax.measures import Coherence
  from ooc_jax.measures import coherence
  from ooc_jax.model import Model
  from ooc_jax.model import ModelConfig
  from ooc_jax.model import Site
  from ooc_jax.model import Transformer
  from ooc_jax.model import forward
  from ooc_jax.model import generate
  from ooc_jax.model import run_with_taps

# Room -> the names that are its own. JAX takes a second to import, and what
# reads results does without.
_NAMES = {
    '_cache': ('set_cache_dir',),
    '_errors': ('InputError',),
    'checkpoints': (
        'load_model',
        'save_model',
    ),
    'circuits': (
        'AttentionStatistics',
        'Lens',
        'attention_statistics',
        'input_lens',
        'output_lens',
        'ov_lens',
    ),
    'dictionaries': (
        'Dictionary',
        'load_dictionary',
    ),
    'measures': (
        'Coherence',
        'coherence',
    ),
    'model': (
        'Model',
        'ModelConfig',
        'Site',
        'Transformer',
        'forward',
        'generate',
        'run_with_taps',
    ),
}

__all__ = (
    'checkpoints',
    'circuits',
    'dictionaries',
    'measures',
    'model',
    *(name for names in _NAMES.values() for name in names),
)


def __getattr__(name: str) -> Any:
  """A public name, imported when it is asked for."""
  if name not in __all__:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  for room, names in _NAMES.items():
    if name in names:
      return getattr(importlib.import_module(f'{__name__}.{room}'), name)
  return importlib.import_module(f'{__name__}.{name}')


def __dir__() -> list[str]:
  return sorted(__all__)
