"""Steering against passes made by hand, and on models of known effects."""

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

import ooc_jax
from ooc_jax import validation
from ooc_jax.dictionaries import DictionarySite
from ooc_jax.dictionaries import from_arrays
from ooc_jax.model import config_from_hf
from ooc_jax.model import parameter_shapes
from tests import finished
from tests import tiny

_TOKENS = 1200
_WIDTH = 48


def _prefixes(model, rows=6, length=5, seed=0):
  rng = np.random.default_rng(seed)
  tokens = rng.integers(0, model.config.vocab_size, (rows, length))
  at = [(i, t) for i in range(rows) for t in range(1, length)]
  return validation.Prefixes(tokens.astype(np.int32), *np.asarray(at).T)


def _by_hand(model, site, prefixes, vector):
  """Log-probabilities, float64, at the prefixes with a vector added."""
  tap = validation.addition(site, model.config, jnp.asarray(vector))
  logits = ooc_jax.forward(model, jnp.asarray(prefixes.tokens), tap=tap)
  z = np.asarray(logits, np.float64)[prefixes.rows, prefixes.positions]
  return z - np.log(np.exp(z).sum(axis=1, keepdims=True))


def _planted(seed=0):
  """A model of two layers that add nothing, and its unembedding's blocks.

  Axes 0 to 7 of the stream are empty, and no embedding reaches them.
  """
  config = config_from_hf(
      tiny.CONFIGS['llama']
      | {
          'vocab_size': _TOKENS,
          'hidden_size': _WIDTH,
          'num_hidden_layers': 2,
      }
  )
  rng = np.random.default_rng(seed)
  params = {}
  for path, shape in parameter_shapes(config).items():
    *parents, name = path.split('/')
    node = params
    for parent in parents:
      node = node.setdefault(parent, {})
    fill = 1.0 if name == 'weight' else 0.0
    node[name] = np.full(shape, fill, np.float32)
  for name in ('embedding', 'unembedding'):
    table = rng.normal(size=params[name].shape) * _WIDTH**-0.5
    table[:, :8] = 0.0
    params[name] = table.astype(np.float32)
  return ooc_jax.Model(config, params)


def _on_device(model):
  return model.replace(params=jax.tree.map(jnp.asarray, model.params))


def _write_tokens(model, axes):
  """Gives each axis 25 tokens that it raises, and returns their ids."""
  rng = np.random.default_rng(9)
  ids = 100 + rng.permutation(_TOKENS - 100)[: 25 * len(axes)]
  ids = ids.reshape(len(axes), 25)
  for axis, own in zip(axes, ids, strict=True):
    model.params['unembedding'][own, axis] = 1.0
  return ids


class SteeringTest(parameterized.TestCase):

  @parameterized.product(
      family=('llama', 'gemma2'),
      site=(
          DictionarySite(0, 'resid_pre'),
          DictionarySite(1, 'resid_post'),
          DictionarySite(2, 'resid_post'),
          DictionarySite(1, 'resid_mid'),
          DictionarySite(1, 'attn_z'),
          DictionarySite(1, 'mlp_neuron'),
          DictionarySite(0, 'embedding'),
      ),
  )
  def test_logits_are_those_of_a_whole_pass(self, family, site):
    model = ooc_jax.load_model(finished.checkpoint(family))
    prefixes = _prefixes(model)
    vectors = np.random.default_rng(1).normal(size=(3, model.config.embed_dim))
    vectors = vectors.astype(np.float32)
    steering = validation.Steering(model, prefixes)
    found = list(steering.logits(site, vectors, block=2))
    for vector, logits in zip(vectors, found, strict=True):
      expected = _by_hand(model, site, prefixes, vector)
      logits = logits - logits.max()
      logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
      np.testing.assert_allclose(logits, expected, rtol=2e-4, atol=2e-4)

  @parameterized.parameters('llama', 'gemma2')
  def test_effects_are_those_of_passes_at_the_strengths_found(self, family):
    model = ooc_jax.load_model(finished.checkpoint(family))
    site = DictionarySite(0, 'resid_post')
    prefixes = _prefixes(model)
    rng = np.random.default_rng(2)
    directions = rng.normal(size=(11, model.config.embed_dim))
    directions *= 10.0 ** rng.uniform(-3, 3, (11, 1))
    directions[5] = 0.0
    mask = rng.random(model.config.vocab_size) < 0.8
    kept = np.flatnonzero(mask)
    steering = validation.Steering(model, prefixes)
    effects = list(steering.effects(site, directions, mask, block=4))
    self.assertLen(effects, 11)
    plain = _by_hand(model, site, prefixes, np.zeros_like(directions[0]))

    def places(z):
      """From 0 at the largest of the tokens that count."""
      return (z[:, kept, None] < z[:, None, kept]).sum(axis=2).mean(axis=0)

    for f, (direction, effect) in enumerate(
        zip(directions, effects, strict=True)
    ):
      if f == 5:
        self.assertTrue(np.isnan(effect.divergences).all())
        np.testing.assert_array_equal(effect.raised(3), [-1, -1, -1])
        continue
      unit = direction / np.linalg.norm(direction)
      total = 0.0
      for i, target in enumerate(validation.TARGETS):
        z = _by_hand(model, site, prefixes, effect.strengths[i] * unit)
        kl = (np.exp(plain) * (plain - z)).sum(axis=1).mean()
        self.assertLess(abs(kl / target - 1), 0.02)
        self.assertAlmostEqual(kl, effect.divergences[i], places=3)
        total += (places(plain) - places(z)) / kept.size / 2
      np.testing.assert_allclose(effect.rise[kept], total, atol=1e-3)
      self.assertTrue(np.isnan(effect.rise[~mask]).all())
      raised = effect.raised(10)
      self.assertGreaterEqual(
          effect.rise[raised].min(),
          np.delete(effect.rise, raised)[np.delete(mask, raised)].max(),
      )

  def test_a_feature_that_writes_into_the_unembedding_is_read_by_the_lens(
      self,
  ):
    model = _planted()
    _write_tokens(model, range(8))
    model = _on_device(model)
    sae = from_arrays(
        np.eye(8, _WIDTH, dtype=np.float32), None, layer=1, name='planted'
    )
    mask = np.ones(_TOKENS, bool)
    lens = ooc_jax.output_lens(model, sae, k=25, mask=jnp.asarray(mask))
    steering = validation.Steering(model, _prefixes(model, rows=12, length=7))
    raised = np.stack(
        [x.raised(25) for x in steering.effects(sae.site, sae.decoder, mask)]
    )
    readout = np.asarray(lens.top_ids)
    own = validation.share_of(raised, readout)
    chance = validation.permuted(raised, readout)
    self.assertGreaterEqual(own.min(), 0.95)
    error = np.sqrt(25 / _TOKENS / (25 * 8 * 7))
    self.assertLessEqual(chance.mean(), 25 / _TOKENS + 3 * error)

  def test_a_feature_that_a_head_carries_on_is_missed_by_the_lens(self):
    model = _planted()
    # What it does is written on axis 1, and axis 0 is read by no token.
    (ids,) = _write_tokens(model, (1,))
    attention = model.params['layer_1']['attention']
    attention['value'][0, 0, 0] = 1.0
    attention['output'][0, 0, 1] = 3.0
    model = _on_device(model)
    sae = from_arrays(
        np.eye(1, _WIDTH, dtype=np.float32), None, layer=0, name='carried'
    )
    self.assertEqual(sae.site.hook, 'resid_post')
    mask = np.ones(_TOKENS, bool)
    lens = ooc_jax.output_lens(model, sae, k=25, mask=jnp.asarray(mask))
    steering = validation.Steering(model, _prefixes(model, rows=12, length=7))
    (effect,) = steering.effects(sae.site, sae.decoder, mask)
    raised = effect.raised(25)
    self.assertGreaterEqual(np.isin(raised, ids).mean(), 0.95)
    missed = validation.share_of(raised[None], np.asarray(lens.top_ids))
    self.assertLessEqual(missed[0], 0.05)

  @parameterized.parameters('resid_pre', 'attn_out', 'resid_post')
  def test_continuations_are_those_of_whole_passes(self, hook):
    model = ooc_jax.load_model(finished.checkpoint('gemma2'))
    site = DictionarySite(2, hook)
    rng = np.random.default_rng(4)
    vectors = 3 * rng.normal(size=(2, model.config.embed_dim))
    start = rng.integers(0, model.config.vocab_size, 4)
    found = validation.continuations(model, site, vectors, start, 5)

    @jax.jit
    def read(vector, text):
      tap = validation.addition(site, model.config, vector)
      return ooc_jax.forward(model, text, tap=tap)

    for vector, own in zip(vectors.astype(np.float32), found, strict=True):
      text = np.zeros((1, 9), np.int32)  # What is after a token is not seen.
      text[0, :4] = start
      for i in range(4, 9):
        text[0, i] = read(vector, text)[0, i - 1].argmax()
      self.assertEqual(text[0, 4:].tolist(), own.tolist())

  def test_prefixes_share_rows_and_lose_nothing(self):
    model = ooc_jax.load_model('tiny-gemma2', parts=('embedding',))
    prefixes = validation.make_prefixes(model.tokenizer)
    self.assertLen(prefixes.rows, 100)
    self.assertLen(prefixes.tokens, 20)
    first = prefixes.tokens[prefixes.rows[1], : prefixes.positions[1] + 1]
    self.assertEqual(first.tolist(), model.tokenizer.encode('The people in'))
    apart = validation.make_prefixes(
        model.tokenizer, ('one two', 'six'), (1, 2)
    )
    self.assertLen(apart.tokens, 2)
    self.assertLen(apart.rows, 4)


if __name__ == '__main__':
  absltest.main()
