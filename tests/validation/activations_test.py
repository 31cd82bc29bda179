"""The streamed pass against float64 NumPy that holds everything."""

import dataclasses
import functools
import pathlib
import re

from absl.testing import absltest
from absl.testing import parameterized
import jax.numpy as jnp
import numpy as np
import pytest

import ooc_jax
from ooc_jax import Site
from ooc_jax import validation
from ooc_jax.dictionaries import DictionarySite
from ooc_jax.validation import _activations
from tests import finished


def _sae(model, site, size=30, seed=0, width=None, **fields):
  rng = np.random.default_rng(seed)
  width = width or model.config.embed_dim
  encoder = rng.normal(size=(size, width)).astype(np.float32)
  D = model.config.embed_dim
  sae = ooc_jax.dictionaries.from_arrays(
      rng.normal(size=(size, D)).astype(np.float32),
      encoder if width == D else None,
      layer=site.layer,
      name='own',
  )
  return dataclasses.replace(
      sae,
      encoder=jnp.asarray(encoder),
      site=site,
      encoder_bias=jnp.asarray(rng.normal(size=size).astype(np.float32)),
      decoder_bias=jnp.asarray(rng.normal(size=D).astype(np.float32)),
      threshold=jnp.asarray(rng.uniform(1, 6, size).astype(np.float32)),
      **fields,
  )


def _oracle(activations, windows, n):
  """Counts, means, maxima and the best windows of [W, T, F] float64."""
  a = activations[:, 1:]
  fires = (a != 0).sum((0, 1))
  peak = a.max(1)
  order = np.argsort(-peak, axis=0, kind='stable')[:n].T
  values = np.take_along_axis(peak, order.T, 0).T
  place = np.take_along_axis(a.argmax(1), order.T, 0).T + 1
  tokens = windows[order, place]
  none = values <= 0
  return fires, a.sum((0, 1)), values, np.where(none, -1, tokens)


class ActivationsTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.model = ooc_jax.load_model(finished.checkpoint('gemma2'))
    rng = np.random.default_rng(1)
    size = self.model.config.vocab_size
    self.windows = rng.integers(0, size, (23, 9)).astype(np.int32)

  def _saved(self, *keys):
    _, saved = ooc_jax.run_with_taps(
        functools.partial(ooc_jax.forward, self.model),
        jnp.asarray(self.windows),
        save=keys,
    )
    return [np.asarray(saved[key], np.float64) for key in keys]

  @parameterized.named_parameters(
      ('after a layer', DictionarySite(1, 'resid_post'), Site.RESID_POST),
      ('between', DictionarySite(1, 'resid_mid'), Site.RESID_MID),
      ('attention output', DictionarySite(2, 'attn_out'), Site.ATTN_OUT),
      ('MLP output', DictionarySite(0, 'mlp_out'), Site.MLP_OUT),
      ('transcoder', DictionarySite(1, 'mlp_in'), Site.MLP_IN, Site.MLP_OUT),
      ('heads', DictionarySite(1, 'attn_z'), Site.ATTN_Z),
      ('TopK', DictionarySite(1, 'resid_post'), Site.RESID_POST, None, 4),
  )
  def test_against_a_pass_that_holds_everything(
      self, site, reads, writes=None, top_k=None
  ):
    width = 48 if reads == Site.ATTN_Z else None
    sae = _sae(self.model, site, width=width, top_k=top_k)
    (found,) = validation.collect_activations(
        self.model, {7: sae}, self.windows, peaks=5, batch=4
    ).values()
    x, y = self._saved((reads, site.layer), (writes or reads, site.layer))
    pre = x @ np.asarray(sae.encoder, np.float64).T
    pre += np.asarray(sae.encoder_bias)
    fires = pre > np.asarray(sae.threshold)
    if top_k:
      least = np.sort(pre, axis=-1)[..., [-top_k]]
      fires &= pre >= least
    a = np.where(fires, pre, 0.0)
    fired, sums, values, tokens = _oracle(a, self.windows, 5)
    np.testing.assert_array_equal(found.fires, fired)
    np.testing.assert_allclose(
        np.nan_to_num(found.mean) * fired, sums, rtol=1e-5
    )
    np.testing.assert_allclose(found.peaks.values, values, rtol=1e-5)
    np.testing.assert_array_equal(found.peaks.tokens, tokens)
    np.testing.assert_allclose(found.max, values[:, 0], rtol=1e-5)
    self.assertEqual(found.health.tokens, 23 * 8)
    self.assertAlmostEqual(found.health.l0, fired.sum() / (23 * 8), places=9)
    self.assertAlmostEqual(found.health.dead, (fired == 0).mean(), places=9)
    if reads == Site.ATTN_Z:
      self.assertIsNone(found.health.fvu)
      return
    y, a = y[:, 1:].reshape(-1, y.shape[-1]), a[:, 1:].reshape(len(y) * 8, -1)
    rest = a @ np.asarray(sae.decoder) + np.asarray(sae.decoder_bias) - y
    fvu = np.square(rest).sum() / np.square(y - y.mean(0)).sum()
    np.testing.assert_allclose(found.health.fvu, fvu, rtol=1e-4)

  def test_neurons_keep_both_signs(self):
    neurons = ooc_jax.load_dictionary('mlp', model=self.model, layer=1)
    (found,) = validation.collect_activations(
        self.model, {1: neurons}, self.windows, peaks=5, batch=10
    ).values()
    (a,) = self._saved((Site.MLP_NEURON, 1))
    for sign, peaks in ((1, found.peaks), (-1, found.low_peaks)):
      _, _, values, tokens = _oracle(sign * a, self.windows, 5)
      np.testing.assert_allclose(sign * peaks.values, values, 1e-4, 1e-6)
      np.testing.assert_array_equal(peaks.tokens, tokens)
    np.testing.assert_allclose(found.mean, a[:, 1:].mean((0, 1)), 1e-4, 1e-6)
    self.assertIsNone(found.fires)
    self.assertIsNone(found.health.l0)
    high, low = (
        np.sort(np.maximum(sign * a[:, 1:], 0).max(1), axis=0)[-5:].sum(0)
        for sign in (1, -1)
    )
    signs = np.where(high >= low, 1, -1)
    np.testing.assert_array_equal(found.signs, signs)
    turned = found.turned(signs)
    _, _, values, tokens = _oracle(a * signs, self.windows, 5)
    np.testing.assert_allclose(turned.peaks.values, values, 1e-4, 1e-6)
    np.testing.assert_array_equal(turned.peaks.tokens, tokens)
    np.testing.assert_array_equal(turned.max, turned.peaks.values[:, 0])
    np.testing.assert_array_equal(turned.turned(signs).max, found.max)

  def test_batches_and_company_change_nothing(self):
    saes = {
        i: _sae(self.model, DictionarySite(i, 'resid_post'), seed=i)
        for i in range(3)
    }
    alone = validation.collect_activations(
        self.model, {1: saes[1]}, self.windows, batch=23
    )[1]
    together = validation.collect_activations(
        self.model, saes, self.windows, batch=5
    )[1]
    np.testing.assert_array_equal(alone.fires, together.fires)
    np.testing.assert_array_equal(alone.peaks.tokens, together.peaks.tokens)
    np.testing.assert_allclose(alone.mean, together.mean, rtol=1e-5)

  def test_what_cannot_be_read_is_refused(self):
    sae = _sae(self.model, DictionarySite(1, 'resid_post'))
    with self.assertRaisesRegex(ooc_jax.InputError, 'at least one'):
      validation.collect_activations(
          self.model, {1: sae}, np.zeros((0, 9), np.int32)
      )
    with self.assertRaisesRegex(ooc_jax.InputError, 'no encoder'):
      validation.collect_activations(
          self.model, {1: dataclasses.replace(sae, encoder=None)}, self.windows
      )


class BundledTest(parameterized.TestCase):

  @parameterized.parameters('gemma2', 'llama3')
  def test_against_a_pass_that_holds_everything(self, kind):
    model = ooc_jax.load_model(f'tiny-{kind}')
    sae = ooc_jax.load_dictionary(f'tiny-{kind}-res', model=model, layer=3)
    windows = validation.read_windows('default', model.tokenizer, limit=9)
    own = validation.collect_activations(model, {3: sae}, windows, peaks=5)[3]
    _, saved = ooc_jax.run_with_taps(
        functools.partial(ooc_jax.forward, model),
        jnp.asarray(windows),
        save=[(Site.RESID_POST, 3)],
    )
    (x,) = (np.asarray(x, np.float64) for x in saved.values())
    pre = x @ np.asarray(sae.encoder, np.float64).T
    pre += np.asarray(sae.encoder_bias, np.float64)
    threshold = np.asarray(sae.threshold, np.float64)
    a = np.where(pre > threshold, pre, 0.0)
    _, sums, values, tokens = _oracle(a, windows, 5)
    # Either way where float32 cannot tell.
    least, most = (
        (pre[:, 1:] > threshold + d).sum((0, 1)) for d in (1e-4, -1e-4)
    )
    self.assertTrue(((least <= own.fires) & (own.fires <= most)).all())
    self.assertLess((most - least).sum(), 0.001 * most.sum())
    sure = least == most
    np.testing.assert_allclose(
        (np.nan_to_num(own.mean) * own.fires)[sure], sums[sure], 1e-4, 1e-4
    )
    found = own.peaks
    np.testing.assert_allclose(
        found.values[sure], values[sure], rtol=1e-4, atol=1e-4
    )
    # Of two that are as large within float32, either may stand first.
    self.assertGreater((found.tokens == tokens)[sure].mean(), 0.999)


class HealthTest(parameterized.TestCase):

  def test_intervals_hold_what_they_say(self):
    """Ratios of sums over windows that differ, 400 texts of 60 windows."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
      wholes = rng.gamma(20, size=60)
      parts = wholes * 0.08 * rng.gamma(8, 1 / 8, size=60)
      ratio, low, high = _activations._ratio(parts, wholes)
      self.assertBetween(ratio, low, high)
      hits += low <= 0.08 <= high
    self.assertBetween(hits / 400, 0.91, 0.975)
    self.assertEqual(
        _activations._ratio(np.ones(1), np.full(1, 4.0)), (0.25, None, None)
    )

  def test_a_sample_of_a_long_text_is_decoded(self):
    model = ooc_jax.load_model(finished.checkpoint('gemma2'))
    rng = np.random.default_rng(1)
    windows = rng.integers(0, model.config.vocab_size, (150, 5)).astype('int32')
    sae = _sae(model, DictionarySite(1, 'resid_post'))
    long = validation.collect_activations(model, {0: sae}, windows)[0].health
    # One of two.
    own = validation.collect_activations(model, {0: sae}, windows[::2])[0]
    self.assertAlmostEqual(long.fvu, own.health.fvu, places=5)
    self.assertNotAlmostEqual(long.l0, own.health.l0, places=3)

  @pytest.mark.slow
  def test_bundled_saes_do_on_the_default_corpus_as_their_card_says(self):
    self._check_card('gemma2')

  @pytest.mark.slow
  def test_those_of_the_other_model_do(self):
    self._check_card('llama3')

  def _check_card(self, kind):
    """The card is of held-out text of the training corpus, of other books.

    There all 16 SAEs agree within their intervals but for rounding (see
    BUILD_NOTES). Here the late ones of llama3 leave 8 % more unexplained.
    """
    model = ooc_jax.load_model(f'tiny-{kind}')
    folder = pathlib.Path(model.files[0]).parent
    card = (folder / 'README.md').read_text()
    rows = re.findall(r'\| layer_(\d) \| ([\d.]+) \| ([\d.]+) \|', card)
    expected = {int(i): (float(fvu), float(l0)) for i, fvu, l0 in rows}
    # What a run reads.
    windows = validation.read_windows('default', model.tokenizer, limit=256)
    saes = {
        i: ooc_jax.load_dictionary(f'tiny-{kind}-res', model=model, layer=i)
        for i in (0, 7)
    }
    found = validation.collect_activations(model, saes, windows)
    for layer, own in found.items():
      health, (fvu, l0) = own.health, expected[layer]
      self.assertLess(abs(health.l0 / l0 - 1), 0.08)
      if (kind, layer) == ('llama3', 7):
        self.assertBetween(health.fvu / fvu, 1.0, 1.15)
      else:
        rounding = 0.0005
        self.assertLess(health.fvu_low - rounding, fvu)
        self.assertGreater(health.fvu_high + rounding, fvu)
      self.assertLess(health.fvu_high - health.fvu_low, 0.1 * fvu)


if __name__ == '__main__':
  absltest.main()
