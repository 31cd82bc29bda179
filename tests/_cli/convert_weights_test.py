"""The command that converts, and the list that it prints."""

import os
import pathlib
import subprocess
import sys

from absl.testing import absltest
from absl.testing import parameterized
import jax
import numpy as np

import ooc_jax
from ooc_jax import _cli
from ooc_jax._cli import _convert_weights
from tests.experiments import scripts
from tests.tiny import make_checkpoint

_SCRIPT = pathlib.Path(__file__).parents[2] / 'experiments/convert_weights.py'


def _run(*args):
  _cli.run('convert_weights', ['convert_weights', *map(str, args)], 'x')


class FolderTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    root = pathlib.Path(self.create_tempdir().full_path)
    self.source, self.ours = root / 'source', root / 'to' / 'ours'
    self.back = root / 'back'


class DictionaryTest(FolderTest):

  @parameterized.parameters('mlp', 'random')
  def test_there_and_back_bit_for_bit(self, kind):
    make_checkpoint(self.source, 'gemma2')
    _run(
        f'--model={self.source}',
        f'--out={self.ours}',
        f'--dictionary={kind}',
        '--layer=1',
    )
    _run(f'--out={self.back}', f'--dictionary={self.ours}', '--to=safetensors')
    model = ooc_jax.load_model(self.source)
    expected = ooc_jax.load_dictionary(kind, model=model, layer=1)
    for folder in (self.ours, self.back):
      again = ooc_jax.load_dictionary(folder)
      for a, b in zip(
          jax.tree.leaves(again), jax.tree.leaves(expected), strict=True
      ):
        self.assertEqual(a.dtype, b.dtype)
        self.assertEqual(np.asarray(a).tobytes(), np.asarray(b).tobytes())
      self.assertEqual(again.site, expected.site)
      self.assertEqual(again.name, expected.name)


class CommandTest(FolderTest):

  def _run(self, *args):
    return subprocess.run(
        [sys.executable, str(_SCRIPT), *map(str, args)],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {'HF_HUB_OFFLINE': '1', 'JAX_PLATFORMS': 'cpu'},
    )

  def test_converts(self):
    make_checkpoint(self.source, 'llama')
    done = self._run(f'--model={self.source}', f'--out={self.ours}')
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertIn(f'{self.ours}: 0.0', done.stdout)
    self.assertTrue((self.ours / 'source_config.json').is_file())

  def test_bad_input_is_one_sentence(self):
    done = scripts.run_here(
        'convert_weights', '--model=gemma2-2', f'--out={self.ours}'
    )
    self.assertEqual(done.returncode, 2, done.stderr)
    self.assertIn("did you mean 'gemma2-2b'?", done.stderr)
    self.assertNotIn('Traceback', done.stderr)

  def test_list(self):
    done = scripts.run_here('convert_weights', '--list')
    self.assertEqual(done.returncode, 0, done.stderr)
    for text in ('gemma2-9b', 'meta-llama/Llama-3.1-8B', 'llama_scope_lxr_8x',
                 'gemma-scope-2b-pt-res-canonical'):  # fmt: skip
      self.assertIn(text, done.stdout)
    few = '\n'.join(_convert_weights.listing('LXR 32x'))
    self.assertIn('llama_scope_lxr_32x/l31r_32x', few)
    self.assertNotIn('gemma', few)
    of_model = '\n'.join(_convert_weights.listing('', 'gemma2-2b'))
    self.assertIn('gemma-scope-2b-pt-res-canonical', of_model)
    self.assertNotIn('llama', of_model)
    self.assertNotIn('9b', of_model)
    with self.assertRaisesRegex(ooc_jax.InputError, 'of gpt5 holds'):
      _convert_weights.listing('', 'gpt5')
    with self.assertRaisesRegex(ooc_jax.InputError, 'fewer words'):
      _convert_weights.listing('gpt5')


if __name__ == '__main__':
  absltest.main()
