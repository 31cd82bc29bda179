"""Directions to explain: SAEs, neurons, token embeddings, random directions."""

from ooc_jax.dictionaries._builtin import RANDOM_SIZE
from ooc_jax.dictionaries._builtin import mlp_dictionary
from ooc_jax.dictionaries._builtin import random_dictionary
from ooc_jax.dictionaries._builtin import token_dictionary
from ooc_jax.dictionaries._dictionary import HOOKS
from ooc_jax.dictionaries._dictionary import Dictionary
from ooc_jax.dictionaries._dictionary import DictionarySite
from ooc_jax.dictionaries._from_arrays import from_arrays
from ooc_jax.dictionaries._load import load_dictionary
from ooc_jax.dictionaries._load import restore_dictionary
from ooc_jax.dictionaries._registry import DictionaryPlan
from ooc_jax.dictionaries._registry import is_saved_dictionary
from ooc_jax.dictionaries._registry import list_dictionaries
from ooc_jax.dictionaries._registry import model_parts
from ooc_jax.dictionaries._registry import plan_dictionary
from ooc_jax.dictionaries.formats import FORMATS
from ooc_jax.dictionaries.formats import Format
from ooc_jax.dictionaries.formats import Release
from ooc_jax.dictionaries.formats import save_dictionary

__all__ = (
    'RANDOM_SIZE',
    'Dictionary',
    'DictionaryPlan',
    'DictionarySite',
    'FORMATS',
    'Format',
    'HOOKS',
    'Release',
    'from_arrays',
    'is_saved_dictionary',
    'list_dictionaries',
    'load_dictionary',
    'mlp_dictionary',
    'model_parts',
    'plan_dictionary',
    'random_dictionary',
    'restore_dictionary',
    'save_dictionary',
    'token_dictionary',
)
