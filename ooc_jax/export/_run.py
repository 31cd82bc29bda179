"""An export into a folder, and `export.json`, which says what is in it."""

from collections.abc import Sequence
import dataclasses
import os
import pathlib

from ooc_jax import explore
from ooc_jax import results
from ooc_jax._errors import InputError
from ooc_jax._files import refusal
from ooc_jax._folders import new_folder
from ooc_jax._text import printable
from ooc_jax.export import _choice
from ooc_jax.export._config import Export
from ooc_jax.export._neuronpedia import write_neuronpedia
from ooc_jax.export._tables import write_tables
from ooc_jax.export._vectors import write_vectors

MANIFEST = 'export.json'
# Of what is written; raised when a reader of the one before would misread it.
VERSION = 1
_FORMAT = 'ooc_jax export'


@dataclasses.dataclass(frozen=True)
class Exported:
  """What was written.

  Attributes:
    folder: Where.
    files: How many, `export.json` among them.
    notes: Sentences about what is not in it.
  """

  folder: pathlib.Path
  files: int
  notes: tuple[str, ...]


def run(folders: Sequence[str | os.PathLike[str]], config: Export) -> Exported:
  """Exports the runs of one dictionary.

  Args:
    folders: Results folders, or one that holds them.
    config: The settings.

  Returns:
    Where it is. The folder appears whole or not at all.

  Raises:
    InputError: For anything that a user can cause.
  """
  try:
    return _run([os.fspath(x) for x in folders], config)
  except explore.Damaged as error:
    raise InputError(
        f'A table of these results cannot be read: {error}'
    ) from error


def _run(folders: Sequence[str], config: Export) -> Exported:
  study = _choice.study_of(folders)
  keys = _choice.features_of(study, config.features, config.best)
  if keys is None and config.to in ('html', 'vectors'):
    raise InputError(
        f'--to={config.to} is of chosen features: say --best=NUMBER of each'
        ' layer, or --features=LAYER/NUMBER,...'
    )
  if config.to == 'html':
    _choice.output_run(study, '--to=html')
  notes = [
      f'{printable(x.path.name)} has not finished: layers'
      f' {", ".join(map(str, x.layer_files()))} are exported.'
      for x in study.runs.values()
      if _choice.is_unfinished(x)
  ]
  name = f'results/export-{config.to}-{study.slug}'
  out = pathlib.Path(config.out or name).expanduser().absolute()
  own = _is_own(out)
  with new_folder(out, replace=own) as folder:
    if config.to == 'html':
      for file, data in explore.still_site(study, keys or ()):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(data)
    elif config.to == 'neuronpedia':
      write_neuronpedia(folder, study, keys, config)
      if study.validation is None:
        notes.append('There is no validation, so activations are left out.')
    elif config.to == 'vectors':
      write_vectors(folder, study, keys or (), config.weights)
    else:
      write_tables(folder, study, keys, config.to)
    files = _files(folder)
    results.write_json(
        folder / MANIFEST,
        {
            'format': _FORMAT,
            'version': VERSION,
            'to': config.to,
            'schema': results.SCHEMA_VERSION,
            'model': study.model,
            'dictionary': study.first.settings.get('dictionary'),
            'runs': {x: run.path.name for x, run in study.runs.items()},
            'features': None if keys is None else [f'{a}/{b}' for a, b in keys],
            'notes': notes,
            'files': files,
        },
    )
  return Exported(out, len(files) + 1, tuple(notes))


def _files(folder: pathlib.Path) -> list[str]:
  return sorted(
      path.relative_to(folder).as_posix()
      for path in folder.rglob('*')
      if not path.is_dir()
  )


def _is_own(out: pathlib.Path) -> bool:
  """Whether a folder is there that makes room: empty, or an export of ours.

  Raises:
    InputError: Something else is there.
  """
  shown = printable(str(out))
  try:
    if not os.path.lexists(out):
      return False
    if not out.is_dir() or out.is_symlink():
      raise InputError(f'{shown} is no folder; give another --out.')
    found = _files(out)
  except OSError as error:
    raise InputError(refusal('read', out, error)) from error
  if not found:
    return True
  about = {}
  if MANIFEST in found:
    about = results.read_json(
        out / MANIFEST, remedy='give another --out, or delete the folder'
    )
  if not isinstance(about, dict) or about.get('format') != _FORMAT:
    raise InputError(
        f'{shown} is not empty and no earlier export; give another --out.'
    )
  strange = sorted({*found} - {MANIFEST, *(about.get('files') or ())})
  if strange:
    raise InputError(
        f'{shown} holds {printable(strange[0], 80)!r}, which no export wrote;'
        ' move it away, or give another --out.'
    )
  return True
