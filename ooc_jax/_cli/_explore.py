"""`explore` from the command line."""

import dataclasses

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


def _main(given: Given) -> None:
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


COMMANDS = {
    'explore': Command(
        doc=(
            'Shows results folders as pages in a browser, on this machine'
            ' only.\n\nFolders are given as words; one that holds results'
            ' folders stands for them.'
        ),
        settings={'explore': _ExploreSettings},
        main=_main,
        words=True,
        interrupted='nothing was changed.',
        computes=False,
    )
}
