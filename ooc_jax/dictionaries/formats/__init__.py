"""Dictionaries on disk: a `Format` record each, in a file of its own.

To add a format, write its file and put its record into `FORMATS`. The files
are recognised by their names, and by the names of their arrays where those do
not decide; `read_dictionary` opens what the record names, asks the record for
layer and hook and compares them with what the caller says, and then has it
read the arrays.
"""

from ooc_jax.dictionaries.formats._arrays import open_archive
from ooc_jax.dictionaries.formats._dictionary_learning import (
    DICTIONARY_LEARNING,
)
from ooc_jax.dictionaries.formats._format import Entry
from ooc_jax.dictionaries.formats._format import Format
from ooc_jax.dictionaries.formats._format import Release
from ooc_jax.dictionaries.formats._gemma_scope import GEMMA_SCOPE
from ooc_jax.dictionaries.formats._gemma_scope import GEMMA_SCOPE_TRANSCODERS
from ooc_jax.dictionaries.formats._gemma_scope import width_of
from ooc_jax.dictionaries.formats._gemma_scope_2 import GEMMA_SCOPE_2
from ooc_jax.dictionaries.formats._llama_scope import LLAMA_SCOPE
from ooc_jax.dictionaries.formats._llama_scope_r1 import LLAMA_SCOPE_R1
from ooc_jax.dictionaries.formats._one_file import GOODFIRE
from ooc_jax.dictionaries.formats._one_file import HOOK_Z
from ooc_jax.dictionaries.formats._one_file import QRESEARCH
from ooc_jax.dictionaries.formats._own import OWN
from ooc_jax.dictionaries.formats._own import save_dictionary
from ooc_jax.dictionaries.formats._qwen_scope import QWEN_SCOPE
from ooc_jax.dictionaries.formats._reading import options_of
from ooc_jax.dictionaries.formats._reading import read_dictionary
from ooc_jax.dictionaries.formats._sae_lens import SAE_LENS
from ooc_jax.dictionaries.formats._source import LoadHints
from ooc_jax.dictionaries.formats._source import Option
from ooc_jax.dictionaries.formats._source import RawDictionary
from ooc_jax.dictionaries.formats._sparsify import SPARSIFY
from ooc_jax.dictionaries.formats._transcoder_files import (
    CROSS_LAYER_TRANSCODER,
)
from ooc_jax.dictionaries.formats._transcoder_files import TRANSCODER_FILES

# In the order in which a folder of the hub is asked for their files.
FORMATS = (
    GEMMA_SCOPE,
    GEMMA_SCOPE_2,
    SAE_LENS,
    SPARSIFY,
    LLAMA_SCOPE,
    DICTIONARY_LEARNING,
    LLAMA_SCOPE_R1,
    QWEN_SCOPE,
    TRANSCODER_FILES,
    CROSS_LAYER_TRANSCODER,
    GOODFIRE,
    OWN,
)
# Of which no file says by itself that it is of them: only the list does.
LISTED_FORMATS = (*FORMATS, GEMMA_SCOPE_TRANSCODERS, QRESEARCH, HOOK_Z)
# Name -> choice between readings, of whichever format has it.
OPTIONS = {option.name: option for f in LISTED_FORMATS for option in f.options}

__all__ = (
    'Entry',
    'FORMATS',
    'Format',
    'LISTED_FORMATS',
    'LoadHints',
    'OPTIONS',
    'OWN',
    'Option',
    'RawDictionary',
    'Release',
    'open_archive',
    'options_of',
    'read_dictionary',
    'save_dictionary',
    'width_of',
)
