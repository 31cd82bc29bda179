"""Directions to explain: SAEs, neurons, token embeddings, random directions.

`load_dictionary` finds what a name means (built in, a release of the registry,
a path here, a path on the hub), has one of `FORMATS` read the files as they
are, maps the result to the residual stream, where the site needs it with the
model's weights, and puts it on the devices. `from_arrays` takes arrays in
memory, `save_dictionary` writes what any of them gave, and the room `training`
makes new ones.
"""

from ooc_jax.dictionaries._builtin import RANDOM_SIZE
from ooc_jax.dictionaries._builtin import mlp_dictionary
from ooc_jax.dictionaries._builtin import random_dictionary
from ooc_jax.dictionaries._builtin import token_dictionary
from ooc_jax.dictionaries._dictionary import HOOKS
from ooc_jax.dictionaries._dictionary import Dictionary
from ooc_jax.dictionaries._dictionary import DictionarySite
from ooc_jax.dictionaries._from_arrays import from_arrays
from ooc_jax.dictionaries._listing import listing
from ooc_jax.dictionaries._load import load_dictionary
from ooc_jax.dictionaries._registry import DictionaryPlan
from ooc_jax.dictionaries._registry import Named
from ooc_jax.dictionaries._registry import find_entry
from ooc_jax.dictionaries._registry import list_dictionaries
from ooc_jax.dictionaries._registry import model_parts
from ooc_jax.dictionaries._registry import pasted_name
from ooc_jax.dictionaries._registry import plan_dictionary
from ooc_jax.dictionaries.formats import FORMATS
from ooc_jax.dictionaries.formats import OPTIONS
from ooc_jax.dictionaries.formats import Format
from ooc_jax.dictionaries.formats import Release
from ooc_jax.dictionaries.formats import save_dictionary

__all__ = tuple(x for x in dir() if not x.startswith('_'))
