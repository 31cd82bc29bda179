"""`export` from the command line."""

from ooc_jax import export
from ooc_jax._cli._flags import Given
from ooc_jax._cli._main import Command
from ooc_jax._errors import InputError


def _main(given: Given) -> None:
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
    'export': Command(
        doc=(
            'Writes what others can import of results folders of one'
            ' dictionary, which are\ngiven as words: pages, tables, files for'
            ' Neuronpedia, or vectors.'
        ),
        settings={'export': export.Export},
        main=_main,
        words=True,
        interrupted='nothing is left of it; the same command starts anew.',
        computes=False,
    )
}
