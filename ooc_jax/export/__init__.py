"""What others can import of a results folder.

`run(folders, Export(to=...))` writes one folder, whole or not at all:

  _config       the settings
  _choice       which runs and which features
  _tables       csv, jsonl: every table as it is
  _neuronpedia  the batch files that Neuronpedia's importer reads
  _vectors      decoder rows as safetensors; alone in needing weights and JAX
  _run          the folder, and `export.json`, which says what is in it

`html`, a site that opens from a file, is made by `ooc_jax.explore`, whose pages
it has. The schema of everything is in `docs/results.md`. Needs the extra `web`.
"""

import importlib
from typing import Any

from ooc_jax.export._config import FORMATS
from ooc_jax.export._config import Export

__all__ = ('Export', 'Exported', 'FORMATS', 'run')


def __getattr__(name: str) -> Any:
  """What needs the extra, once it is asked for."""
  if name in ('Exported', 'run'):
    return getattr(importlib.import_module('ooc_jax.export._run'), name)
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
