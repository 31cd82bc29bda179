"""Directions to explain: neurons, token embeddings, random directions."""

from ooc_jax.dictionaries._builtin import mlp_dictionary
from ooc_jax.dictionaries._builtin import random_dictionary
from ooc_jax.dictionaries._builtin import token_dictionary
from ooc_jax.dictionaries._dictionary import Dictionary
from ooc_jax.dictionaries._dictionary import DictionarySite
from ooc_jax.dictionaries._dictionary import HOOKS
from ooc_jax.dictionaries._load import load_dictionary

__all__ = (
    'Dictionary',
    'DictionarySite',
    'HOOKS',
    'load_dictionary',
    'mlp_dictionary',
    'random_dictionary',
    'token_dictionary',
)
