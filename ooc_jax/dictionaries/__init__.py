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
from ooc_jax.dictionaries._model_parts import model_parts
from ooc_jax.dictionaries._registry import list_dictionaries
from ooc_jax.dictionaries._releases import Release
from ooc_jax.dictionaries._saved import is_saved_dictionary
from ooc_jax.dictionaries._saved import restore_dictionary
from ooc_jax.dictionaries._saved import save_dictionary
from ooc_jax.dictionaries._training import init_sae_state
from ooc_jax.dictionaries._training import make_sae_step
from ooc_jax.dictionaries._training import sae_step
from ooc_jax.dictionaries._training_recipe import TrainingRecipe
from ooc_jax.dictionaries._training_save import to_dictionary
from ooc_jax.dictionaries._training_save import write_sae_lens
from ooc_jax.dictionaries._training_state import SaeLosses
from ooc_jax.dictionaries._training_state import SaeParams
from ooc_jax.dictionaries._training_state import SaeState

__all__ = (
    'RANDOM_SIZE',
    'Dictionary',
    'DictionarySite',
    'HOOKS',
    'Release',
    'SaeLosses',
    'SaeParams',
    'SaeState',
    'TrainingRecipe',
    'from_arrays',
    'init_sae_state',
    'is_saved_dictionary',
    'list_dictionaries',
    'load_dictionary',
    'make_sae_step',
    'mlp_dictionary',
    'model_parts',
    'random_dictionary',
    'restore_dictionary',
    'sae_step',
    'save_dictionary',
    'to_dictionary',
    'token_dictionary',
    'write_sae_lens',
)
