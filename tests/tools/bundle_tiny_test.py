"""What comes with the package, from what the trainings leave."""

import dataclasses
import json
import pathlib
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

import ooc_jax
from ooc_jax.dictionaries import training
from ooc_jax.dictionaries.training import _corpus
from tests.tiny import make_checkpoint
from tools.bundle import bundle_tiny
from tools.bundle._kneser_ney import Trigram
from tools.bundle._tiny_models import VOCABULARY

_WORDS = 'king river north house walk talk cold sea small old'.split()
_HASHES = {'corpus.txt': 'ab12'}


def _metrics(**changes):
  numbers = {f.name: 0.25 for f in dataclasses.fields(training.Metrics)}
  return numbers | {'tokens': 1234, 'predictions': 77} | changes


class BundleTinyTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir().full_path)
    self.trained, self.saes = self.root / 'trained', self.root / 'saes'
    self.source = make_checkpoint(self.trained / 'tiny-gemma2', 'gemma2')
    self._write(
        self.trained / 'losses.json',
        {
            'parameters': 31_337,
            'train_tokens': 8_100_000,
            'tokens_seen': 9_600,
            'held_out_tokens': 4_321,
            'held_out_loss': 3.625,
        },
    )
    self._write(
        self.trained / 'settings.json',
        {'corpus': _HASHES, 'batch_tokens': 96},
    )
    self._write(
        self.saes / 'metrics.json',
        {
            'sites': {
                'embedding': _metrics(fvu=0.125),
                'layer_1': _metrics(dead=0.031, l0=19.5),
            }
        },
    )
    self._write(
        self.saes / 'settings.json',
        {
            'steps': 300,
            'batch_tokens': 2048,
            'width': 1024,
            'l0': 20.0,
            'dtype': 'bfloat16',
        },
    )
    for site in ('embedding', 'layer_1'):
      for file in ('cfg.json', 'sae_weights.safetensors'):
        (self.saes / site).mkdir(exist_ok=True)
        (self.saes / site / file).write_bytes(f'{site} {file}'.encode())
    rng = np.random.default_rng(3)
    text = '\n\n'.join(' '.join(rng.choice(_WORDS, 12)) for _ in range(500))
    self.corpus = self.root / 'corpus.txt'
    self.corpus.write_text(text)
    patch = mock.patch.object(_corpus, '_BLOCK_CHARACTERS', 900)
    patch.start()
    self.addCleanup(patch.stop)

  def _write(self, path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))

  def _run(self, name='tiny_gemma2'):
    return bundle_tiny.run(
        name,
        self.trained,
        self.saes,
        [str(self.corpus)],
        'two cores',
        self.root / 'bundled',
    )

  def test_files_are_those_that_were_trained(self):
    folder = self._run()
    for file in ('config.json', 'model.safetensors', 'tokenizer.json'):
      self.assertEqual(
          (folder / file).read_bytes(), (self.source / file).read_bytes()
      )
    for site in ('embedding', 'layer_1'):
      for file in ('cfg.json', 'sae_weights.safetensors'):
        self.assertEqual(
            (folder / 'sae' / site / file).read_text(), f'{site} {file}'
        )
    self.assertLen(list((folder / 'sae').iterdir()), 2)

  def test_the_card_gives_losses_and_commands(self):
    tokenizer = ooc_jax.load_model(self.source).tokenizer
    texts = training.read_corpus([str(self.corpus)])
    trigram = Trigram(training.encode(texts.train, tokenizer), VOCABULARY).loss(
        training.encode(texts.held_out, tokenizer)
    )
    card = (self._run() / 'README.md').read_text()
    for text in (
        '| this model (bfloat16 weights, float32 computation) | 3.625 |',
        f'| interpolated Kneser-Ney trigram, same tokens | {trigram:.3f} |',
        f'| difference | {trigram - 3.625:.3f} |',
        'Trained on two cores: 0.0 M tokens of a stream\n  of 8.1 M',
        '31,337 parameters (tied',
        '| layer_1 | 0.250 | 19.5 | 3.1% |',
        '1024 features, trained on 0.6 M',
        '--steps=100\n',
        '--steps=300 --l0=20 \\\n    --dtype=bfloat16',
        '- `corpus.txt` SHA-256 ab12',
    ):
      self.assertIn(text, card)

  def test_nothing_is_left_half_done(self):
    (self.saes / 'layer_1' / 'cfg.json').unlink()
    (self.saes / 'embedding' / 'sae_weights.safetensors').unlink()
    with self.assertRaises(ooc_jax.InputError):
      self._run()
    self.assertFalse((self.root / 'bundled' / 'tiny_gemma2').exists())

  def test_refusals(self):
    with self.assertRaisesRegex(ooc_jax.InputError, 'none of tiny_gemma2'):
      self._run('tiny-gemma2')
    self._run()
    with self.assertRaisesRegex(ooc_jax.InputError, 'bundled/tiny_gemma2'):
      self._run()
    (self.saes / 'metrics.json').unlink()
    with self.assertRaisesRegex(ooc_jax.InputError, 'metrics.json is missing'):
      self._run()


if __name__ == '__main__':
  absltest.main()
