"""Continuations with a cache are those without one, in every family."""

from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ooc_jax
from ooc_jax import model as room
from ooc_jax.model import Site
from ooc_jax.model import Transformer
from ooc_jax.model import _layers
from tests.model import golden_files

# Past the windows of 64 that some of them have.
_PROMPT, _STEPS = 60, 9
_FAMILIES = 'gemma2', 'gemma3', 'gpt2', 'gpt_neox', 'llama'


def _in_pieces(model, tokens, sizes):
  """Logits [B, T, V] of a text that is read piece by piece, with a cache."""
  module = Transformer(model.config, cached=tokens.shape[1])
  # One compilation a size of piece.
  read = jax.jit(
      lambda variables, piece, start: module.apply(
          variables, piece, start, mutable=['cache']
      )
  )
  variables, start, out = {'params': model.params}, 0, []
  for size in sizes:
    piece = tokens[:, start : start + size]
    logits, cache = read(variables, piece, start)
    variables, start = variables | cache, start + size
    out.append(np.asarray(logits))
  return np.concatenate(out, axis=1)


def _without_cache(model, tokens, steps, **settings):
  """Greedy, the whole text anew for every token, always of one length."""
  T = tokens.shape[1]
  padded = np.zeros((tokens.shape[0], T + steps), np.int32)
  padded[:, :T] = tokens
  read = jax.jit(lambda model, x: ooc_jax.forward(model, x, **settings))
  for i in range(T, T + steps):
    # What is after position i - 1 cannot reach it.
    logits = read(model, jnp.asarray(padded))
    padded[:, i] = np.asarray(logits)[:, i - 1].argmax(-1)
  return padded


class GenerateTest(parameterized.TestCase):

  @parameterized.parameters(*_FAMILIES)
  def test_a_cache_changes_nothing(self, name):
    self._check_cache(name)

  @parameterized.parameters(*sorted({*golden_files.NAMES} - {*_FAMILIES}))
  @pytest.mark.slow
  def test_a_cache_changes_nothing_in_others(self, name):
    self._check_cache(name)

  def _check_cache(self, name):
    golden = golden_files.load(name)
    model, tokens = golden.model, golden.tokens[:, :_PROMPT]
    expected = _without_cache(model, tokens, _STEPS)
    actual = ooc_jax.generate(model, tokens, _STEPS)
    np.testing.assert_array_equal(actual, expected)

  @parameterized.parameters(*_FAMILIES)
  def test_reading_in_pieces_gives_the_logits_of_transformers(self, name):
    golden = golden_files.load(name)
    golden = golden.short(90)
    logits = _in_pieces(golden.model, golden.tokens, [50, 1, 7, *[1] * 32])
    # As far as parity_test goes without a cache.
    np.testing.assert_allclose(
        logits[:, golden.positions], golden.logits, rtol=0, atol=5e-5
    )

  def test_a_cache_that_forgets_the_window_is_seen(self):
    golden = golden_files.load('gemma2').short(90)

    def past(distance, _):
      return distance >= 0

    with mock.patch.object(_layers, '_is_seen', past):
      logits = _in_pieces(golden.model, golden.tokens, [60, *[1] * 30])
    off = np.abs(logits[:, golden.positions] - golden.logits).max()
    self.assertGreater(off, 0.01)

  def test_an_edit_acts_on_every_position(self):
    golden = golden_files.load('gemma2')
    model, tokens = golden.model, golden.tokens[:, :_PROMPT]
    rng = np.random.default_rng(0)
    direction = rng.normal(size=(1, 1, model.config.embed_dim)) * 3.0
    direction = direction.astype(np.float32)

    def steer(site, layer, x):
      return x + direction if (site, layer) == (Site.RESID_POST, 0) else x

    actual = ooc_jax.generate(model, tokens, _STEPS, tap=steer)
    expected = _without_cache(model, tokens, _STEPS, tap=steer)
    np.testing.assert_array_equal(actual, expected)
    plain = np.asarray(ooc_jax.generate(model, tokens, _STEPS))
    self.assertFalse(np.array_equal(actual, plain))

  def test_works_under_jit(self):
    golden = golden_files.load('gpt2')
    tokens = golden.tokens[:, :_PROMPT]
    compiled = jax.jit(lambda model, x: ooc_jax.generate(model, x, 4))
    np.testing.assert_array_equal(
        compiled(golden.model, tokens),
        ooc_jax.generate(golden.model, tokens, 4),
    )

  def test_draws_have_the_model_s_probabilities(self):
    golden = golden_files.load('llama')
    model, count, temperature = golden.model, 4096, 1.5
    prompt = golden.tokens[:1, :7]
    tokens = jnp.tile(prompt, (count, 1))
    mask = np.arange(model.config.vocab_size) % 3 > 0
    drawn = np.asarray(
        ooc_jax.generate(
            model,
            tokens,
            2,
            key=jax.random.key(1),
            temperature=temperature,
            mask=mask,
        )
    )[:, prompt.shape[1] :]
    self.assertTrue(mask[drawn].all())
    logits = np.asarray(ooc_jax.forward(model, prompt))[0, -1]
    logits = np.where(mask, logits.astype(np.float64), -np.inf) / temperature
    p = np.exp(logits - logits.max())
    p /= p.sum()
    observed = np.bincount(drawn[:, 0], minlength=len(p)) / count
    error = np.sqrt(p * (1 - p) / count)
    self.assertLess(np.max(np.abs(observed - p) / np.maximum(error, 1e-3)), 5)
    # The steps are drawn apart.
    self.assertLess(np.mean(drawn[:, 0] == drawn[:, 1]), 0.9)

  def test_a_key_is_a_text(self):
    golden = golden_files.load('qwen3')
    tokens = golden.tokens[:, :_PROMPT]
    first, again, other = (
        np.asarray(
            ooc_jax.generate(
                golden.model, tokens, _STEPS, key=jax.random.key(seed)
            )
        )
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    self.assertFalse(np.array_equal(first, other))
    np.testing.assert_array_equal(first[:, :_PROMPT], tokens)

  @parameterized.parameters(
      ({'steps': -1}, 'steps from 0'),
      ({'temperature': 0.0}, 'a temperature over 0'),
      ({'mask': np.zeros(3, bool)}, 'mask has shape'),
      ({'steps': 10**6}, 'has learned'),
  )
  def test_refuses(self, changes, expected):
    golden = golden_files.load('gpt2')
    settings = {'steps': 2} | changes
    with self.assertRaisesRegex(ooc_jax.InputError, expected):
      ooc_jax.generate(golden.model, golden.tokens[:, :2], **settings)
    with self.assertRaisesRegex(ooc_jax.InputError, 'texts of one token'):
      room.generate(golden.model, golden.tokens[:, :0], 2)


if __name__ == '__main__':
  absltest.main()
