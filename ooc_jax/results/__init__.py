"""What a run leaves: schema, atomic resumable store, safe text.

`ResultsFolder` is the store. The module `tables` is imported by itself
(`from ooc_jax.results import tables`): it says what every file of a folder
holds, and needs JAX, which reading a folder does not.
"""

from ooc_jax._files import atomic_file
from ooc_jax._files import atomic_write
from ooc_jax._files import plain
from ooc_jax._files import read_json
from ooc_jax._files import sha256_file
from ooc_jax._files import write_json
from ooc_jax._text import display_width
from ooc_jax._text import figure_text
from ooc_jax._text import printable
from ooc_jax._text import quoted
from ooc_jax.results._claim import FIGURES
from ooc_jax.results._figure import save_figure
from ooc_jax.results._figure import write_figure
from ooc_jax.results._parquet import StoredTable
from ooc_jax.results._schema import SCHEMA_VERSION
from ooc_jax.results._schema import Example
from ooc_jax.results._schema import LayerSummary
from ooc_jax.results._schema import Share
from ooc_jax.results._schema import Summary
from ooc_jax.results._schema import features_table
from ooc_jax.results._store import ResultsFolder

__all__ = (
    'Example',
    'FIGURES',
    'LayerSummary',
    'ResultsFolder',
    'SCHEMA_VERSION',
    'Share',
    'StoredTable',
    'Summary',
    'atomic_file',
    'atomic_write',
    'display_width',
    'features_table',
    'figure_text',
    'plain',
    'printable',
    'quoted',
    'read_json',
    'save_figure',
    'sha256_file',
    'write_figure',
    'write_json',
)
