"""A file or folder here that is called as something that has a name."""

import contextlib
import pathlib
import shutil

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

import ooc_jax
from ooc_jax import InputError
from ooc_jax.experiments import OutputPrediction
from ooc_jax.experiments import load_config
from tests import tiny
from tests.dictionaries import written
from tests.dictionaries.models import tiny_model
from tests.experiments import scripts


class NamesTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir().full_path)
    self.enter_context(contextlib.chdir(self.root))

  @parameterized.parameters(
      ('gemma2-2b', 'for the model of that name give google/gemma-2-2b'),
      ('tiny-gemma2', 'comes before the registry.'),
  )
  def test_a_model_that_is_here_comes_first_and_is_said(self, name, text):
    tiny.make_checkpoint(self.root / name, 'llama')
    with self.assertLogs(level='WARNING') as logs:
      model = ooc_jax.load_model(name)
    self.assertEqual(model.config.embed_dim, tiny.CONFIGS['llama'][
        'hidden_size'
    ])  # fmt: skip
    self.assertIn(f'{self.root / name} is read from here', logs.output[0])
    self.assertIn(text, logs.output[0])

  def test_a_folder_without_a_model_is_said_too(self):
    (self.root / 'gpt2').mkdir()
    with self.assertLogs(level='WARNING') as logs:
      with self.assertRaises(InputError):
        ooc_jax.load_model('gpt2')
    self.assertIn('give openai-community/gpt2', logs.output[0])

  def test_any_other_folder_is_not(self):
    tiny.make_checkpoint(self.root / 'mine', 'llama')
    with self.assertNoLogs(level='WARNING'):
      ooc_jax.load_model('mine')
      ooc_jax.load_dictionary('tiny-gemma2-res/layer_1')

  def test_a_dictionary_that_is_here_comes_before_a_release(self):
    name = 'tiny-gemma2-res/layer_1'
    written.write_npz(self.root / name, written.draw())
    with self.assertLogs(level='WARNING') as logs:
      dictionary = ooc_jax.load_dictionary(name)
    np.testing.assert_array_equal(dictionary.decoder, written.draw()['W_dec'])
    self.assertIn('comes before a release', logs.output[0])

  def test_what_is_made_of_the_model_comes_first(self):
    model = tiny_model('gemma2')
    written.write_npz(self.root / 'mlp', written.draw())
    with self.assertLogs(level='WARNING') as logs:
      neurons = ooc_jax.load_dictionary('mlp', model=model, layer=1)
    self.assertEqual(neurons.size, model.config.mlp_dim)
    self.assertIn('give ./mlp for that', logs.output[0])
    with self.assertNoLogs(level='WARNING'):
      stored = ooc_jax.load_dictionary('./mlp', model=model, layer=1)
    self.assertEqual(stored.size, written.F)

  def test_model_is_the_name_of_a_config(self):
    shutil.rmtree(tiny.make_checkpoint(self.root / 'gone'))
    tiny.make_checkpoint(self.root / 'tiny_gemma2')
    flags = ('--dry_run', '--dictionary=random')
    with self.assertLogs(level='WARNING') as logs:
      done = scripts.run_here(
          'output_prediction', '--model=tiny_gemma2', *flags
      )
    self.assertIn('F 4096 at 8 layers', done.stdout)
    self.assertIn('--weights=tiny_gemma2 reads that', logs.output[0])
    with self.assertNoLogs(level='WARNING'):
      done = scripts.run_here(
          'output_prediction', '--weights=tiny_gemma2', *flags
      )
    self.assertNotIn('at 8 layers', done.stdout)
    with self.assertRaisesRegex(InputError, 'given as --weights=./tiny_gemma2'):
      load_config('./tiny_gemma2', {}, OutputPrediction)


if __name__ == '__main__':
  absltest.main()
