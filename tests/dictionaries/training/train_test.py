"""Training of SAEs: whole, killed, resumed, and what it measures."""

import dataclasses
import json
import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ooc_jax
from ooc_jax.checkpoints import TrainingCheckpoints
from ooc_jax.dictionaries import DictionarySite
from ooc_jax.dictionaries import training
from ooc_jax.dictionaries.training import TrainingRecipe
from ooc_jax.dictionaries.training import _corpus
from ooc_jax.dictionaries.training import _train
from ooc_jax.dictionaries.training import stream_sites
from ooc_jax.dictionaries.training import train_saes
from tests.tiny import make_checkpoint

_WORDS = (
    'king river north house walk talk cold sea small old nothing her'.split()
)
_RECIPE = TrainingRecipe(
    width=40,
    steps=6,
    l0=4.0,
    start_ratio=1.5,
    chunk=33,
    warmup=2,
    redraw_every=2,
    silent_steps=1,
)
_SMALLEST = dataclasses.asdict(_RECIPE) | {'steps': 1}
_BOS = 1
_WIDTH = 20


def _write_corpus(folder: pathlib.Path) -> str:
  rng = np.random.default_rng(3)
  text = '\n\n'.join(' '.join(rng.choice(_WORDS, 12)) for _ in range(500))
  (folder / 'corpus.txt').write_text(text)
  return str(folder / 'corpus.txt')


def _dictionary(site, *, encoder, decoder, **changes):
  F, D = decoder.shape
  settings = {
      'encoder_bias': np.zeros(F),
      'decoder_bias': np.zeros(D),
      'threshold': np.zeros(F),
      **changes,
  }
  arrays = {k: jnp.asarray(x, jnp.float32) for k, x in settings.items()}
  return ooc_jax.Dictionary(
      encoder=jnp.asarray(encoder, jnp.float32),
      decoder=jnp.asarray(decoder, jnp.float32),
      **arrays,
      site=site,
      name='x',
  )


class SaeCase(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    folder = tempfile.TemporaryDirectory()
    cls.addClassCleanup(folder.cleanup)
    root = pathlib.Path(folder.name)
    cls.model_folder = make_checkpoint(root / 'model', 'gemma2')
    cls.model = ooc_jax.load_model(cls.model_folder)
    cls.corpus = _write_corpus(root)
    rng = np.random.default_rng(5)
    rows = rng.integers(2, 100, (6, 12)).astype(np.int32)
    rows[:, 0] = _BOS
    cls.rows = rows

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir().full_path)
    # Blocks of the real length would need a megabyte of text.
    patch = mock.patch.object(_corpus, '_BLOCK_CHARACTERS', 200)
    patch.start()
    self.addCleanup(patch.stop)

  def run_in(self, name, recipe=_RECIPE, model=None, corpus=None, **changes):
    settings = {
        'sites': stream_sites(3, [1]),
        'context': 11,
        'batch_tokens': 66,
        'bos': _BOS,
    }
    return train_saes(
        self.model if model is None else model,
        [self.corpus] if corpus is None else corpus,
        recipe,
        self.root / name,
        name='x',
        every=2,
        held_out_windows=16,
        spliced_windows=8,
        **settings | changes,
    )


class RunTest(SaeCase):

  def test_resumed_steps_give_the_same_bits(self):
    recipe = TrainingRecipe(**_SMALLEST | {'steps': 2})
    ids = np.random.default_rng(2).integers(2, 100, 4000).astype(np.int32)
    windows = training.Windows(ids, 11, _BOS, 0)

    def run(name):
      folder = self.root / name
      folder.mkdir(exist_ok=True)
      return _train._train(
          self.model,
          stream_sites(3, []),
          windows,
          recipe,
          folder,
          batch_tokens=66,
          every=1,
      )

    whole = run('whole')
    save = TrainingCheckpoints.save

    def save_first(checkpoints, step, state):
      if step == 2:
        raise KeyboardInterrupt
      save(checkpoints, step, state)

    with mock.patch.object(
        TrainingCheckpoints, 'save', save_first
    ), self.assertRaises(KeyboardInterrupt):
      run('killed')
    resumed = run('killed')
    for a, b in zip(
        jax.tree.leaves(whole), jax.tree.leaves(resumed), strict=True
    ):
      self.assertEqual(np.asarray(a).tobytes(), np.asarray(b).tobytes())
    # And where nothing is left to do, the last state is read.
    again = run('killed')
    np.testing.assert_array_equal(again.params.encoder, whole.params.encoder)

  @pytest.mark.slow
  def test_killed_run_ends_with_the_same_bits(self):
    whole = self.run_in('whole')
    save = TrainingCheckpoints.save

    def save_then_die(checkpoints, step, state):
      # Killed at the worst moment: the log has the step, the state has not.
      if step == 4:
        raise KeyboardInterrupt
      save(checkpoints, step, state)

    with mock.patch.object(
        TrainingCheckpoints, 'save', save_then_die
    ), self.assertRaises(KeyboardInterrupt):
      self.run_in('killed')
    self.assertFalse((self.root / 'killed/layer_1').exists())
    resumed = self.run_in('killed')
    self.assertEqual(resumed, whole)
    for name in (
        'layer_1/sae_weights.safetensors',
        'layer_1/cfg.json',
        'embedding/sae_weights.safetensors',
        'losses.jsonl',
        'metrics.json',
    ):
      ours = (self.root / 'killed' / name).read_bytes()
      self.assertEqual(ours, (self.root / 'whole' / name).read_bytes(), name)
    lines = (self.root / 'whole/losses.jsonl').read_text().splitlines()
    self.assertEqual([json.loads(x)['step'] for x in lines], [2, 4, 6])

    # A third time nothing is left to do, and what is there stays.
    before = (self.root / 'whole/layer_1/cfg.json').stat().st_mtime_ns
    self.assertEqual(self.run_in('whole'), whole)
    after = (self.root / 'whole/layer_1/cfg.json').stat().st_mtime_ns
    self.assertEqual(before, after)
    with self.assertRaisesRegex(ooc_jax.InputError, r'\(dtype\)'):
      self.run_in('whole', dtype='bfloat16')

    # Every folder says where it is of, and loads.
    for name, layer, hook in (
        ('layer_1', 1, 'resid_post'),
        ('embedding', 0, 'embedding'),
    ):
      dictionary = ooc_jax.load_dictionary(
          self.root / 'whole' / name, model=self.model
      )
      self.assertEqual(dictionary.site, DictionarySite(layer, hook))
      self.assertEqual(dictionary.size, 40)
      norms = np.linalg.norm(dictionary.decoder, axis=1)
      np.testing.assert_allclose(norms, 1, rtol=1e-6)
    table = training.table(whole)
    self.assertLen(table, 3)
    self.assertIn(f'{whole["layer_1"].fvu:.3f}', table[2])

  @parameterized.named_parameters(
      ('bos', {'bos': None}, 'puts 0 tokens before a text'),
      ('bos_id', {'bos': 9999}, 'bos=9999 is no id of the model'),
      ('corpus', {'corpus': ('no.txt',)}, 'no.txt'),
      ('dtype', {'dtype': 'float16'}, 'is none of float32, bfloat16'),
      ('batch', {'batch_tokens': 100}, 'must be a multiple of context=11'),
  )
  def test_refusals(self, changes, message):
    with self.assertRaisesRegex(ooc_jax.InputError, message):
      self.run_in('x', **changes)

  def test_model_without_tokenizer(self):
    with self.assertRaisesRegex(ooc_jax.InputError, 'has no tokenizer.json'):
      self.run_in('x', model=self.model.replace(tokenizer=None))

  def test_weights_without_files_are_told_apart(self):
    recipe = TrainingRecipe(**_SMALLEST)
    model = self.model.replace(files=())
    self.run_in('x', recipe, model=model)
    other = model.replace(params=jax.tree.map(lambda x: 2 * x, model.params))
    with self.assertRaisesRegex(ooc_jax.InputError, r'\(model\)'):
      self.run_in('x', recipe, model=other)


class ActivationsTest(SaeCase):

  def test_sites(self):
    for sites, names in (
        (stream_sites(3), ['embedding', 'layer_0', 'layer_1', 'layer_2']),
        (stream_sites(3, embedding=False), ['layer_0', 'layer_1', 'layer_2']),
        (stream_sites(3, []), ['embedding']),
        (stream_sites(3, [0, 2]), ['embedding', 'layer_0', 'layer_2']),
    ):
      self.assertEqual([*map(training.folder_name, sites)], names)
    with self.assertRaisesRegex(ooc_jax.InputError, 'layers 0 to 2, and 3'):
      stream_sites(3, [1, 3])
    with self.assertRaisesRegex(ooc_jax.InputError, 'no site'):
      stream_sites(3, [], embedding=False)

  def test_they_are_the_streams_without_bos(self):
    sites = stream_sites(3, [1])
    actual = training.make_activations(self.model.config, sites)(
        self.model.params, self.rows
    )
    self.assertEqual(actual.shape, (2, 6 * 11, _WIDTH))
    table = np.asarray(self.model.params['embedding'], np.float64)
    embedded = table[self.rows[:, 1:]] * _WIDTH**0.5
    np.testing.assert_allclose(
        actual[0], embedded.reshape(-1, _WIDTH), rtol=1e-6
    )
    seen = {}

    def tap(site, layer, x):
      seen[str(site), layer] = x
      return x

    ooc_jax.forward(self.model, jnp.asarray(self.rows), tap=tap)
    stream = np.asarray(seen['resid_post', 1])[:, 1:].reshape(-1, _WIDTH)
    scale = np.abs(stream).max()
    np.testing.assert_allclose(actual[1], stream, atol=1e-5 * scale)
    self.assertGreater(np.abs(actual[1] - actual[0]).max(), 0.1 * scale)


class EvaluationTest(SaeCase):

  def evaluate(self, *dictionaries):
    return training.evaluate(
        self.model, dictionaries, self.rows, spliced_rows=6, size=3
    )

  def losses(self, edit):
    """Float64 cross-entropies with `edit` of the stream after layer 1."""

    def tap(site, layer, x):
      if (str(site), layer) != ('resid_post', 1):
        return x
      new = np.array(x, np.float64)
      new[:, 1:] = edit(new[:, 1:])
      return jnp.asarray(new, jnp.float32)

    logits = ooc_jax.forward(
        self.model, jnp.asarray(self.rows[:, :-1]), tap=tap
    )
    logits = np.asarray(logits, np.float64)[:, 1:]
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    picked = np.take_along_axis(logs, self.rows[:, 2:, None], axis=-1)
    return -picked.mean()

  def stream(self):
    sites = (DictionarySite(1, 'resid_post'),)
    x = training.make_activations(self.model.config, sites)(
        self.model.params, self.rows
    )
    return np.asarray(x[0], np.float64)

  def test_against_definitions(self):
    x = self.stream()
    rng = np.random.default_rng(8)
    rows = rng.normal(size=(31, _WIDTH))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    mean, size = x.mean(axis=0), x.std()
    bias = rng.normal(size=31) * size - rows @ mean
    theta = rng.uniform(1.0, 3.0, 31) * size
    theta[4] = 1e6 * size  # Fires nowhere.
    center = mean + 0.3 * size
    wide = (rows, rows * 0.4, bias, center, theta)
    encoder, decoder, bias, center, theta = (
        np.asarray(y, np.float32).astype(np.float64) for y in wide
    )

    def encode(y):
      pre = y @ encoder.T + bias
      return np.where(pre > theta, pre, 0)

    a = encode(x)
    error = a @ decoder + center - x
    fvu = (error**2).sum() / ((x - mean) ** 2).sum()
    (found,) = self.evaluate(
        _dictionary(
            DictionarySite(1, 'resid_post'),
            encoder=encoder,
            decoder=decoder,
            encoder_bias=bias,
            decoder_bias=center,
            threshold=theta,
        )
    )
    self.assertEqual(found.tokens, 66)
    self.assertEqual(found.predictions, 60)
    np.testing.assert_allclose(found.fvu, fvu, rtol=1e-5)
    np.testing.assert_allclose(found.l0, (a != 0).sum() / len(a), rtol=1e-6)
    dead = ~(a != 0).any(axis=0)
    self.assertBetween(dead.sum(), 1, 30)
    self.assertAlmostEqual(found.dead, dead.mean())
    expected = {
        'ce_clean': self.losses(lambda y: y),
        'ce_spliced': self.losses(lambda y: encode(y) @ decoder + center),
        'ce_zero': self.losses(np.zeros_like),
        'ce_mean': self.losses(lambda y: np.broadcast_to(mean, y.shape)),
    }
    values = list(expected.values())
    self.assertGreater(np.abs(np.diff(sorted(values))).min(), 1e-3)
    for name, value in expected.items():
      np.testing.assert_allclose(getattr(found, name), value, rtol=2e-5)
    clean, spliced, zero, mean = values
    np.testing.assert_allclose(
        found.recovered, (zero - spliced) / (zero - clean), rtol=1e-3
    )
    np.testing.assert_allclose(
        found.recovered_mean, (mean - spliced) / (mean - clean), rtol=1e-3
    )

  def test_identity_recovers_all_and_nothing_recovers_nothing(self):
    eye = np.eye(_WIDTH)
    both = np.concatenate([eye, -eye])
    found = self.evaluate(
        _dictionary(DictionarySite(0, 'embedding'), encoder=both, decoder=both),
        _dictionary(
            DictionarySite(0, 'resid_post'), encoder=both, decoder=both
        ),
        _dictionary(
            DictionarySite(2, 'resid_post'), encoder=eye, decoder=0 * eye
        ),
    )
    for metrics in found[:2]:
      self.assertAlmostEqual(metrics.recovered, 1, places=5)
      self.assertAlmostEqual(metrics.fvu, 0, places=9)
      self.assertAlmostEqual(metrics.l0, _WIDTH, places=3)
      self.assertGreater(abs(metrics.ce_zero - metrics.ce_clean), 1e-2)
    self.assertAlmostEqual(found[2].recovered, 0, places=6)
    self.assertEqual(found[2].ce_spliced, found[2].ce_zero)
    # About the mean: a reconstruction of zero leaves more than all of it.
    self.assertGreater(found[2].fvu, 1)

  def test_too_few_windows(self):
    eye = np.eye(_WIDTH)
    with self.assertRaisesRegex(ooc_jax.InputError, 'fewer than a batch of 7'):
      training.evaluate(
          self.model,
          [
              _dictionary(
                  DictionarySite(1, 'resid_post'), encoder=eye, decoder=eye
              )
          ],
          self.rows,
          spliced_rows=7,
          size=7,
      )


if __name__ == '__main__':
  absltest.main()
