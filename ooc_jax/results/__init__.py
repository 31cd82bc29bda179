"""What a run leaves: schema of every file, atomic resumable store.

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
from ooc_jax.results._figure import save_figure
from ooc_jax.results._figure import write_figure
from ooc_jax.results._folder import ResultsFolder
from ooc_jax.results._parquet import StoredTable
from ooc_jax.results._summary import SCHEMA_VERSION
from ooc_jax.results._summary import Example
from ooc_jax.results._summary import LayerSummary
from ooc_jax.results._summary import Share
from ooc_jax.results._summary import Summary

__all__ = tuple(x for x in dir() if not x.startswith('_'))
