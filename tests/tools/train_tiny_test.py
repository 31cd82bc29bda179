"""Training of the tiny models: it learns, repeats, and resumes to the bit."""

import dataclasses
import pathlib
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ooc_jax
from ooc_jax import results
from ooc_jax.dictionaries import training
from ooc_jax.dictionaries.training import _corpus
from tools.bundle import _pretraining
from tools.bundle import _tiny_models
from tools.bundle import train_tiny

_SIZES = {
    'hidden_size': 20,
    'intermediate_size': 28,
    'num_hidden_layers': 2,
    'num_attention_heads': 4,
    'num_key_value_heads': 2,
    'head_dim': 6,
}
_RECIPE = _pretraining.Recipe(
    steps=6, batch_tokens=96, context=24, short_context=12, warmup=2, seed=5
)


def _small(name):
  tiny = _tiny_models.TINY_MODELS[name]
  return dataclasses.replace(tiny, config={**tiny.config, **_SIZES})


def _text(seed):
  rng = np.random.default_rng(seed)
  words = [
      ''.join(rng.choice(list('abcdefghijklmnop'), rng.integers(2, 8)))
      for _ in range(400)
  ]
  lines = [' '.join(rng.choice(words, 40)) + '.' for _ in range(500)]
  return '\n\n'.join(lines)


@pytest.mark.slow
class TrainTinyTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    # Optax multiplies step counts by rates.
    self.enterContext(jax.numpy_dtype_promotion('standard'))
    self.folder = pathlib.Path(self.create_tempdir().full_path)
    self.corpus = [str(self.folder / 'corpus.txt')]
    pathlib.Path(self.corpus[0]).write_text(_text(1), encoding='utf-8')
    small = {name: _small(name) for name in _tiny_models.TINY_MODELS}
    for patch in (
        mock.patch.object(_corpus, '_BLOCK_CHARACTERS', 900),
        mock.patch.object(train_tiny, 'TINY_MODELS', small),
        mock.patch.object(train_tiny, 'VOCABULARY', 700),
    ):
      patch.start()
      self.addCleanup(patch.stop)
    for tiny in small.values():
      tiny.config['vocab_size'] = 700

  def _weights(self, out, name):
    model = ooc_jax.load_model(out / name.replace('_', '-'))
    return jax.tree.leaves(model.params)

  @parameterized.parameters('tiny_gemma2', 'tiny_llama3')
  def test_stopped_half_way_it_ends_with_the_same_bits(self, name):
    whole = self.folder / 'whole'
    train_tiny.run(name, self.corpus, whole, _RECIPE, every=2)

    killed = self.folder / 'killed'
    real = _pretraining.batch

    def batch(tokens, bos, recipe, step):
      if step == 3:
        raise KeyboardInterrupt
      return real(tokens, bos, recipe, step)

    with mock.patch.object(_pretraining, 'batch', batch):
      with self.assertRaises(KeyboardInterrupt):
        train_tiny.run(name, self.corpus, killed, _RECIPE, every=2)
    self.assertFalse((killed / name.replace('_', '-')).exists())
    train_tiny.run(name, self.corpus, killed, _RECIPE, every=2)
    for a, b in zip(
        self._weights(whole, name), self._weights(killed, name), strict=True
    ):
      np.testing.assert_array_equal(a, b)
    for file in ('losses.json', 'losses.jsonl', 'loss.png', 'tokenizer.json'):
      self.assertEqual(
          (whole / file).read_bytes(), (killed / file).read_bytes(), file
      )

  def test_the_loss_falls_and_is_that_of_the_written_weights(self):
    out = self.folder / 'out'
    recipe = dataclasses.replace(_RECIPE, steps=40, rate=0.02)
    summary = train_tiny.run('tiny_llama3', self.corpus, out, recipe, every=10)
    losses = [line['train'] for line in summary['curve']]
    self.assertLess(losses[-1], losses[0] - 0.5)

    model = ooc_jax.load_model(out / 'tiny-llama3')
    (bos,) = model.tokenizer.encode('')
    texts = training.read_corpus(self.corpus)
    ids = training.encode(texts.held_out, model.tokenizer)
    rows = training.held_out_windows(ids, recipe.context, bos)
    logits = np.asarray(
        ooc_jax.forward(model, jnp.asarray(rows[:, :-1])), np.float64
    )
    logits -= logits.max(axis=-1, keepdims=True)
    log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    picked = np.take_along_axis(log_p, rows[:, 1:, None], axis=-1)
    self.assertAlmostEqual(summary['held_out_loss'], -picked.mean(), places=5)
    self.assertEqual(summary['held_out_tokens'], rows[:, 1:].size)

  def test_longer_is_allowed_until_the_rates_fall(self):
    out = self.folder / 'out'
    train_tiny.run('tiny_gemma2', self.corpus, out, _RECIPE, every=2)
    longer = dataclasses.replace(_RECIPE, steps=9)
    with self.assertRaisesRegex(ooc_jax.InputError, 'past the point'):
      train_tiny.run('tiny_gemma2', self.corpus, out, longer, every=2)

  def test_other_settings_are_refused(self):
    out = self.folder / 'out'
    recipe = dataclasses.replace(_RECIPE, steps=2)
    train_tiny.run('tiny_gemma2', self.corpus, out, recipe, every=2)
    other = dataclasses.replace(recipe, seed=6)
    with self.assertRaisesRegex(ooc_jax.InputError, 'other settings.*seed'):
      train_tiny.run('tiny_gemma2', self.corpus, out, other, every=2)
    with self.assertRaisesRegex(ooc_jax.InputError, 'is none of'):
      train_tiny.run('tiny_gemma', self.corpus, out, recipe)

  def test_a_damaged_checkpoint_is_named(self):
    out = self.folder / 'out'
    recipe = dataclasses.replace(_RECIPE, steps=2)
    train_tiny.run('tiny_gemma2', self.corpus, out, recipe, every=2)
    for file in (out / 'checkpoints').rglob('*'):
      if file.is_file():
        file.write_bytes(b'')
    with self.assertRaisesRegex(ooc_jax.InputError, 'damaged'):
      train_tiny.run('tiny_gemma2', self.corpus, out, recipe, every=2)


class TokenizersTest(parameterized.TestCase):

  @parameterized.parameters('tiny_gemma2', 'tiny_llama3')
  def test_every_text_round_trips(self, name):
    tiny = _tiny_models.TINY_MODELS[name]
    trained = tiny.train_tokenizer([_text(2)], 600)
    path = pathlib.Path(self.create_tempdir().full_path) / 'tokenizer.json'
    trained.save(str(path))
    tokenizer = ooc_jax.model.Tokenizer.from_file(path)
    self.assertEqual(tokenizer.size, 600)
    for text in ('abc def, 1923.\nNew', 'é 漢字 \U0001f600', ''):
      ids = tokenizer.encode(text)
      self.assertEqual(tokenizer.decode(ids[:1]), tiny.bos)
      self.assertEqual(tokenizer.decode(ids[1:]), text)

  def test_the_two_styles(self):
    gemma, llama = (
        t.train_tokenizer([_text(2)], 600)
        for t in _tiny_models.TINY_MODELS.values()
    )
    self.assertTrue(any(t.startswith('\u2581') for t in gemma.get_vocab()))
    self.assertTrue(any(t.startswith('\u0120') for t in llama.get_vocab()))
    self.assertIsNotNone(gemma.token_to_id('<0xE6>'))
    self.assertEqual(results.plain({'a': np.float32(1)}), {'a': 1.0})


class MuonTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.enterContext(jax.numpy_dtype_promotion('standard'))

  def test_each_matrix_is_read_on_its_input_side(self):
    config = ooc_jax.model.config_from_hf(_small('tiny_llama3').config)
    state = jax.eval_shape(lambda: _pretraining.initial_state(config, _RECIPE))
    found = _pretraining._muon_dimensions(state.params)
    layer = found['layer_0']
    self.assertIsNone(found['embedding'])
    self.assertIsNone(found['unembedding'])
    self.assertIsNone(found['final_norm']['weight'])
    self.assertEqual(layer['attention']['query'].output_axis, (1, 2))
    self.assertEqual(layer['attention']['output'].reduction_axis, (0, 1))
    self.assertEqual(layer['attention']['output'].output_axis, (2,))
    self.assertEqual(layer['mlp']['down'].reduction_axis, 0)


if __name__ == '__main__':
  absltest.main()
