"""`explore` and `export`, which need neither JAX nor weights to begin."""

import dataclasses

from ooc_jax import export
from ooc_jax._cli._flags import Given
from ooc_jax._cli._main import Command
from ooc_jax._errors import InputError
from ooc_jax._settings import setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class _ExploreSettings:
  """Where the pages are served."""

  port: int = setting(
      0, help='To listen at on this machine; 0 takes a free one.', least=0
  )


def _explore(given: Given) -> None:
  try:
    from ooc_jax import explore  # Its packages are an extra.
  except ModuleNotFoundError as error:
    raise InputError(
        f'The pages need the package {error.name!r}: pip install'
        " 'ooc_jax[web]'."
    ) from error
  library = explore.Library(given.words)
  explore.serve(
      library,
      port=given['port'],
      started=lambda address: print(f'{address}  (Ctrl-C ends it)', flush=True),
  )


def _export(given: Given) -> None:
  config = export.Export(**given.of(export.Export))
  try:
    run = export.run
  except ModuleNotFoundError as error:
    raise InputError(
        f"Exports need the package {error.name!r}: pip install 'ooc_jax[web]'."
    ) from error
  done = run(given.words, config)
  for note in done.notes:
    print(note)
  print(f'{done.folder}: {done.files} files')


COMMANDS = {
    'explore': Command(
        doc=(
            'Shows results folders as pages in a browser, on this machine'
            ' only.\n\nFolders are given as words; one that holds results'
            ' folders stands for them.'
        ),
        settings={'explore': _ExploreSettings},
        main=_explore,
        words=True,
        interrupted='nothing was changed.',
        computes=False,
    ),
    'export': Command(
        doc=(
            'Writes what others can import of results folders of one'
            ' dictionary, which are\ngiven as words: pages, tables, files for'
            ' Neuronpedia, or vectors.'
        ),
        settings={'export': export.Export},
        main=_export,
        words=True,
        interrupted='nothing is left of it; the same command starts anew.',
        computes=False,
    ),
}
