"""The command that trains SAEs: its sites, its settings, its refusals."""

import contextlib
import io
import pathlib
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized

from ooc_jax import InputError
from ooc_jax import _cli
from ooc_jax._cli import _train_sae
from ooc_jax.dictionaries import training
from ooc_jax.dictionaries.training import TrainingRecipe
from tests.tiny import make_checkpoint


def _run(*args):
  _cli.run('train_sae', ['train_sae', *map(str, args)], 'x')


class SitesTest(parameterized.TestCase):

  @parameterized.parameters(
      ('all', ['layer_0', 'layer_1', 'layer_2']),
      ('embedding', ['embedding']),
      ('2,embedding,0', ['embedding', 'layer_0', 'layer_2']),
      ('embedding,all', ['embedding', 'layer_0', 'layer_1', 'layer_2']),
  )
  def test_sites(self, text, names):
    sites = _train_sae.parse_sites(text, 3)
    self.assertEqual([*map(training.folder_name, sites)], names)

  def test_layer_that_is_not_there(self):
    with self.assertRaisesRegex(InputError, "has layers 0 to 2, and '3'"):
      _train_sae.parse_sites('3', 3)


class CommandTest(absltest.TestCase):

  def test_what_is_missing_is_said(self):
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
      with self.assertRaises(SystemExit) as caught:
        _run('--model=x', '--corpus=y')
    self.assertEqual(caught.exception.code, 2)
    self.assertIn('error: Say what to train on what and where', said.getvalue())

  def test_flags_reach_the_training(self):
    model = make_checkpoint(
        pathlib.Path(self.create_tempdir().full_path) / 'm', 'gemma2'
    )
    with mock.patch.object(training, 'train_saes', return_value={}) as train:
      _run(
          f'--model={model}',
          '--corpus=a.txt,b.txt',
          '--out=saes',
          '--layers=embedding,1-2',
          '--steps=7',
          '--l0=4.5',
          '--dtype=bfloat16',
          '--bos=3',
      )
    (_, corpus, recipe, out), others = train.call_args
    self.assertEqual(list(corpus), ['a.txt', 'b.txt'])
    self.assertEqual(recipe, TrainingRecipe(steps=7, l0=4.5))
    self.assertEqual(out, pathlib.Path('saes'))
    self.assertEqual(
        [*map(training.folder_name, others.pop('sites'))],
        ['embedding', 'layer_1', 'layer_2'],
    )
    self.assertEqual(
        others,
        {
            'name': 'm',
            'context': 256,
            'batch_tokens': 2048,
            'dtype': 'bfloat16',
            'bos': 3,
            'every': 200,
            'held_out_windows': 512,
            'spliced_windows': 64,
        },
    )

  def test_help_says_each_setting_of_the_recipe(self):
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
      _run('--help')
    for text in ('--corpus=', '--redraw_until=', 'Weight of the L0 penalty'):
      self.assertIn(text, said.getvalue())


if __name__ == '__main__':
  absltest.main()
