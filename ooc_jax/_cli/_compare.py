"""`compare` from the command line."""

import dataclasses
import pathlib

from ooc_jax import measures
from ooc_jax._cli._flags import Given
from ooc_jax._cli._main import Command
from ooc_jax.experiments import compare
from ooc_jax.experiments import setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompareSettings:
  """What is compared, beside the folders."""

  out: str = setting('results/compare', help='Folder to write.')
  names: tuple[str, ...] | None = setting(
      None, help='Of the runs, in their order, with commas between.'
  )
  side: str = setting(
      'output',
      help="Of the features: 'output', 'input' or 'embedding'; of attention:"
      f' {", ".join(measures.CONTEXTS)}; of semantic_attention, the labels:'
      " 'output' or 'input'.",
  )


def _main(given: Given) -> None:
  out = pathlib.Path(given['out']).expanduser()
  comparison = compare.run(
      given.words, out=out, names=given['names'], side=given['side']
  )
  print('\n'.join(compare.text(comparison)))
  print(f'\n{out}: comparison.csv, comparison.md, figures/')


COMMAND = Command(
    doc=compare.__doc__ or '',
    settings={'compare': CompareSettings},
    main=_main,
    words=True,
    interrupted='the same command does it again.',
)
