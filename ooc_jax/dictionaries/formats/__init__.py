"""Dictionaries on disk: a `Format` record each, in a file of its own.

To add a format, write its file and put its record into `FORMATS`. The files
are recognised by their names, and by the names of their arrays where those do
not decide; `read_dictionary` opens what the record names, asks the record for
layer and hook and compares them with what the caller says, and then has it
read the arrays.
"""

from ooc_jax.dictionaries.formats._format import Entry
from ooc_jax.dictionaries.formats._format import Format
from ooc_jax.dictionaries.formats._format import LoadHints
from ooc_jax.dictionaries.formats._format import Option
from ooc_jax.dictionaries.formats._format import RawDictionary
from ooc_jax.dictionaries.formats._format import Release
from ooc_jax.dictionaries.formats._gemma_scope import GEMMA_SCOPE
from ooc_jax.dictionaries.formats._gemma_scope_2 import GEMMA_SCOPE_2
from ooc_jax.dictionaries.formats._llama_scope import LLAMA_SCOPE
from ooc_jax.dictionaries.formats._own import OWN
from ooc_jax.dictionaries.formats._own import save_dictionary
from ooc_jax.dictionaries.formats._reading import read_dictionary
from ooc_jax.dictionaries.formats._sae_lens import SAE_LENS
from ooc_jax.dictionaries.formats._sparsify import SPARSIFY

# In the order in which a folder of the hub is asked for their files.
FORMATS = (GEMMA_SCOPE, GEMMA_SCOPE_2, SAE_LENS, SPARSIFY, LLAMA_SCOPE, OWN)

__all__ = (
    'Entry',
    'FORMATS',
    'Format',
    'LoadHints',
    'OWN',
    'Option',
    'RawDictionary',
    'Release',
    'read_dictionary',
    'save_dictionary',
)
