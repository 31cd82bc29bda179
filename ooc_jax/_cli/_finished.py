"""What finished runs are read for: `compare` and `intrusion`."""

import dataclasses
import pathlib

from ooc_jax import measures
from ooc_jax._cli._flags import Given
from ooc_jax._cli._main import Command
from ooc_jax._errors import InputError
from ooc_jax.experiments import setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class _CompareSettings:
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


def _compare(given: Given) -> None:
  from ooc_jax.experiments import compare  # Matplotlib is slow to import.

  out = pathlib.Path(given['out']).expanduser()
  comparison = compare.run(
      given.words, out=out, names=given['names'], side=given['side']
  )
  print('\n'.join(compare.text(comparison)))
  print(f'\n{out}: comparison.csv, comparison.md, figures/')


@dataclasses.dataclass(frozen=True, kw_only=True)
class _IntrusionSettings:
  """What is asked, beside the folder or the files."""

  out: str = setting('results/intrusion', help='Folder of the page.')
  score: bool = setting(
      False, help='Score the saved answers that are given instead.'
  )
  items: int = setting(24, help='Items of each kind of list.', least=1)
  weights: str | None = setting(
      None,
      help=(
          'A local copy of the model of the run, which reads the random'
          ' directions, instead of the hub.'
      ),
  )
  seed: int = setting(0, help='Of all choices.', least=0)


def _intrusion(given: Given) -> None:
  from ooc_jax.experiments import intrusion  # Matplotlib is slow to import.

  out = pathlib.Path(given['out']).expanduser()
  if given['score']:
    rows, answers = intrusion.score_files(given.words, out)
    print('\n'.join(intrusion.score_text(rows, answers)))
    print(f'\n{out}: scores.csv')
    return
  if len(given.words) != 1:
    raise InputError(
        f'{len(given.words)} folders are given; give one results folder, of'
        ' validation or output_prediction, or --score and saved answers.'
    )
  items = intrusion.make(
      given.words[0],
      out=out,
      model=given['weights'],
      items=given['items'],
      seed=given['seed'],
  )
  print('\n'.join(intrusion.text(items)))
  print(f'\n{out}: intrusion.html, key.json')


COMMANDS = {
    'compare': Command(
        doc=(
            'Compares the results folders of several runs of one experiment,'
            ' which are\ngiven as words.'
        ),
        settings={'compare': _CompareSettings},
        main=_compare,
        words=True,
        interrupted='the same command does it again.',
    ),
    'intrusion': Command(
        doc=(
            'Makes a page that asks people which token does not belong, from a'
            ' results\nfolder that is given as a word; --score scores the files'
            ' that it saved.'
        ),
        settings={'intrusion': _IntrusionSettings},
        main=_intrusion,
        words=True,
        interrupted='the same command does it again.',
    ),
}
