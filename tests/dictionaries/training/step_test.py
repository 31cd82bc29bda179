"""SAE training against definitions, planted truths and its own laws."""

import dataclasses

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from ooc_jax.dictionaries import DictionarySite
from ooc_jax.dictionaries import training
from ooc_jax.dictionaries.training import TrainingRecipe
from ooc_jax.dictionaries.training import _recipe
from ooc_jax.dictionaries.training import _step as _step_module

SITE = DictionarySite(3, 'resid_post')
S, D, F = 2, 20, 32
SMALL = {
    'width': F,
    'steps': 40,
    'l0': 3.0,
    'start_ratio': 1.5,
    'chunk': 32,
    'warmup': 4,
}


_TO_4 = TrainingRecipe(**SMALL | {'steps': 200, 'l0': 4.0})


def _draw(shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape)


class Planted:
  """Sparse sums of known directions, far from the origin."""

  def __init__(self, directions, active, offset=3.0, seed=0):
    self.directions = _draw((directions, D), seed)
    self.directions /= np.linalg.norm(self.directions, axis=1, keepdims=True)
    self._share, self._offset = active / directions, offset

  def batch(self, index, size=256):
    rng = np.random.default_rng([11, index])
    shape = (S, size, len(self.directions))
    a = (rng.random(shape) < self._share) * rng.uniform(1, 2, shape)
    x = 5 * (a @ self.directions) + self._offset
    return jnp.asarray(x, jnp.float32)

  def found(self, decoder):
    """Largest cosine of each direction with a row of `decoder` [F, D]."""
    return (self.directions @ np.asarray(decoder, np.float64).T).max(axis=1)


def _step(recipe, state, x):
  """A compiled step that leaves the state that it is given alone."""
  copy = jax.tree.map(jnp.copy, state)
  return training.make_sae_step(recipe)(copy, x)


def train(recipe, planted, steps=None):
  state = training.init_sae_state(recipe, planted.batch(10**6, 512))
  step = training.make_sae_step(recipe)
  losses = None
  for i in range(recipe.steps if steps is None else steps):
    state, losses = step(state, planted.batch(i))
  return state, losses


class PlantedTruthTest(absltest.TestCase):

  def test_directions_are_recovered(self):
    planted = Planted(24, active=1.5)
    recipe = TrainingRecipe(
        **SMALL | {'steps': 500, 'rate': 1e-2, 'l0': 2.0, 'redraw_every': 50}
    )
    before = training.init_sae_state(recipe, planted.batch(10**6, 512))
    state, losses = train(recipe, planted)
    for i in range(S):
      dictionary = training.to_dictionary(state, i, site=SITE, name='x')
      found = planted.found(dictionary.decoder)
      self.assertGreater((found > 0.9).mean(), 0.8)
      # Without training it is not so.
      untrained = planted.found(np.asarray(before.params.decoder[i]).T)
      self.assertLess((untrained > 0.9).mean(), 0.1)
      # The dictionary, in the units of the data, explains other data.
      x = planted.batch(12345)[i]
      error = np.asarray(dictionary.decode(dictionary.encode(x)) - x)
      variance = np.asarray(x).var(axis=0).sum()
      self.assertLess((error**2).sum(axis=1).mean() / variance, 0.1)
    np.testing.assert_allclose(losses.l0, recipe.l0, rtol=0.15)


def _bits(tree):
  return [np.asarray(x).tobytes() for x in jax.tree.leaves(tree)]


class StepTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.planted = Planted(24, active=2)
    self.recipe = TrainingRecipe(**SMALL)
    self.start = training.init_sae_state(
        self.recipe, self.planted.batch(0, 512)
    )

  def test_decoder_keeps_norm_1(self):
    state, _ = train(self.recipe, self.planted, steps=12)
    decoder = np.asarray(state.params.decoder, np.float64)
    norms = np.linalg.norm(decoder, axis=1)
    # Float32 rounds the sum, its root and the quotient, in an order of the
    # compiler's: 2 of its steps of 1.2e-7.
    np.testing.assert_allclose(norms, 1, rtol=2.4e-7)
    moved = state.params.decoder - self.start.params.decoder
    self.assertGreater(np.linalg.norm(moved, axis=1).min(), 1e-3)

  def test_what_reaches_adam_keeps_the_norm(self):
    params = jax.tree.map(lambda y: y[0], self.start.params)
    x = self.planted.batch(1)[0] - self.start.mean[0][None]
    gradient, _ = _step_module._site_gradient(
        self.recipe, jnp.float32(1.0), params, x / self.start.scale[0]
    )
    radial = (gradient.decoder * params.decoder).sum(axis=0)
    size = np.linalg.norm(gradient.decoder, axis=0)
    self.assertGreater(size.min(), 1e-4)
    np.testing.assert_array_less(np.abs(radial), 1e-5 * size)

  def test_start(self):
    x = np.asarray(self.planted.batch(0, 512), np.float64)
    start = self.start
    np.testing.assert_allclose(start.mean, x.mean(axis=1), rtol=1e-5)
    centred = x - x.mean(axis=1, keepdims=True)
    scale = np.sqrt((centred**2).mean(axis=(1, 2)))
    np.testing.assert_allclose(start.scale, scale, rtol=1e-5)
    np.testing.assert_array_equal(start.params.encoder, start.params.decoder)
    unit = centred / scale[:, None, None]
    pre = unit @ np.asarray(start.params.encoder, np.float64)
    fires = pre > np.exp(np.asarray(start.params.log_threshold))[:, None]
    # Quantiles of 512 activations of bfloat16 factors.
    self.assertBetween(fires.sum(axis=2).mean(), 4.4, 4.6)
    self.assertFalse(
        np.array_equal(start.params.encoder[0], start.params.encoder[1])
    )

  def test_a_step_is_a_pure_function(self):
    x = self.planted.batch(1)
    first = _step(self.recipe, self.start, x)
    again = _step(self.recipe, self.start, x)
    self.assertEqual(_bits(first), _bits(again))
    self.assertEqual(int(first[0].step), 1)

  def test_sites_do_not_touch_each_other(self):
    """One site alone becomes what it becomes beside another."""
    state, x = self.start, self.planted.batch(1)
    both, losses = _step(self.recipe, state, x)
    alone = state._replace(
        params=jax.tree.map(lambda y: y[1:], state.params),
        adam=state.adam._replace(
            mu=jax.tree.map(lambda y: y[1:], state.adam.mu),
            nu=jax.tree.map(lambda y: y[1:], state.adam.nu),
        ),
        mean=state.mean[1:],
        scale=state.scale[1:],
        silent=state.silent[1:],
    )
    one, its = _step(self.recipe, alone, x[1:])
    for ours, theirs in zip(one.params, both.params, strict=True):
      # Sums may be cut otherwise; Adam's first step is a sign, almost.
      np.testing.assert_allclose(ours[0], theirs[1], rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(its.fvu[0], losses.fvu[1], rtol=1e-5)
    self.assertGreater(abs(losses.fvu[0] - losses.fvu[1]), 1e-3)

  def test_seed(self):
    same, _ = train(self.recipe, self.planted, steps=3)
    again, _ = train(self.recipe, self.planted, steps=3)
    self.assertEqual(_bits(same), _bits(again))
    other = training.init_sae_state(
        dataclasses.replace(self.recipe, seed=1), self.planted.batch(0, 512)
    )
    self.assertEqual(_bits(other.mean), _bits(self.start.mean))
    cosines = (other.params.encoder * self.start.params.encoder).sum(axis=1)
    self.assertLess(np.abs(cosines).mean(), 0.4)

  def test_units_do_not_matter(self):
    """4 x: the same weights, bit for bit. 4 x + 3: nearly."""

    class Moved(Planted):
      shift = 0.0

      def batch(self, index, size=256):
        return 4 * super().batch(index, size) + self.shift

    moved = Moved(24, active=2)
    state, _ = train(self.recipe, self.planted, steps=5)
    larger, _ = train(self.recipe, moved, steps=5)
    self.assertEqual(_bits(state.params), _bits(larger.params))
    x = self.planted.batch(99)[0]
    one = training.to_dictionary(state, 0, site=SITE, name='x')
    four = training.to_dictionary(larger, 0, site=SITE, name='x')
    a = one.encode(x)
    self.assertGreater((a != 0).mean(), 0.05)
    np.testing.assert_array_equal(four.encode(4 * x), 4 * a)
    np.testing.assert_array_equal(four.decode(4 * a), 4 * one.decode(a))
    moved.shift = 3.0
    shifted, _ = train(self.recipe, moved, steps=5)
    for ours, theirs in zip(shifted.params, state.params, strict=True):
      # Five steps of 4e-3, which rounding moves by some parts in a hundred
      # where a gradient is near zero.
      error = np.abs(np.asarray(ours - theirs))
      self.assertLess(np.median(error), 1e-5)
      self.assertLess(error.max(), 0.04)

  def test_rates_rise_stay_and_fall_to_zero(self):
    recipe = TrainingRecipe(**SMALL | {'steps': 100, 'decay': 0.25})
    shares = [
        float(_recipe.rate_share(recipe, jnp.float32(i))) for i in range(101)
    ]
    np.testing.assert_allclose(shares[:5], [0.2, 0.4, 0.6, 0.8, 1], rtol=1e-6)
    np.testing.assert_array_equal(shares[4:76], 1)
    np.testing.assert_allclose(shares[99:], [0.04, 0], atol=1e-7)

  def test_penalty_rises(self):
    recipe = TrainingRecipe(**SMALL | {'sparsity_warmup': 0.25})
    shares = [
        float(_recipe.penalty_share(recipe, jnp.float32(i)))
        for i in (0, 4, 9, 10, 39)
    ]
    np.testing.assert_allclose(shares, [0.1, 0.5, 1, 1, 1], rtol=1e-6)

  def test_l0_comes_near_its_target_from_both_sides(self):
    step = training.make_sae_step(_TO_4)
    for ratio in (0.4, 2.2):
      start = dataclasses.replace(_TO_4, start_ratio=ratio)
      state = training.init_sae_state(start, self.planted.batch(0, 512))
      first = last = None
      for i in range(_TO_4.steps):
        state, last = step(state, self.planted.batch(i))
        first = last if first is None else first
      np.testing.assert_allclose(last.l0, 4.0, rtol=0.15)
      np.testing.assert_allclose(first.l0, 4 * ratio, rtol=0.2)


class RedrawTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.planted = Planted(24, active=2)
    self.recipe = TrainingRecipe(
        **SMALL
        | {'redraw_every': 7, 'silent_steps': 5, 'redraw_until': 0.5}
        # So that the weights are those before the step, but for the redrawn.
        | {'rate': 1e-12, 'threshold_rate': 1e-12, 'bfloat16': False}
    )
    state = training.init_sae_state(self.recipe, self.planted.batch(0, 512))
    # Feature 3 of site 0 and feature 8 of site 1 can never fire.
    theta = state.params.log_threshold.at[0, 3].set(50.0).at[1, 8].set(50.0)
    ones = jax.tree.map(jnp.ones_like, state.params)
    self.state = state._replace(
        params=state.params._replace(log_threshold=theta),
        adam=state.adam._replace(mu=ones, nu=ones),
    )

  def after(self, done, silent):
    counts = self.state.silent.at[0, 3].set(silent).at[1, 8].set(silent)
    state = self.state._replace(silent=counts, step=jnp.int32(done))
    self.x = self.planted.batch(5)
    return _step(self.recipe, state, self.x)[0]

  def test_silent_features_start_anew(self):
    state = self.after(done=6, silent=4)
    for site, f in ((0, 3), (1, 8)):
      x = np.asarray(self.x[site], np.float64)
      x = (x - np.asarray(state.mean[site])) / float(state.scale[site])
      p = jax.tree.map(lambda y, i=site: np.asarray(y[i]), self.state.params)
      pre = x @ p.encoder + p.encoder_bias
      a = np.where(pre > np.exp(p.log_threshold.astype(np.float64)), pre, 0)
      error = x - a @ p.decoder.T - p.decoder_bias
      error /= np.linalg.norm(error, axis=1, keepdims=True)
      column = np.asarray(state.params.decoder[site, :, f])
      # It is the error of one token.
      self.assertGreater((error @ column).max(), 1 - 1e-5)
      np.testing.assert_array_equal(state.params.encoder[site, :, f], column)
      others = np.delete(p.log_threshold, f)
      np.testing.assert_allclose(
          state.params.log_threshold[site, f], others.mean(), rtol=1e-5
      )
      self.assertEqual(float(state.params.encoder_bias[site, f]), 0)
      self.assertEqual(int(state.silent[site, f]), 0)
      for moments in (state.adam.mu, state.adam.nu):
        np.testing.assert_array_equal(moments.encoder[site, :, f], 0)
        self.assertGreater(np.abs(moments.decoder_bias[site]).min(), 0)
    # Nothing else moved.
    keep = np.ones(F, bool)
    keep[[3, 8]] = False
    for name in ('encoder', 'decoder', 'log_threshold'):
      ours = np.asarray(getattr(state.params, name))[..., keep]
      theirs = np.asarray(getattr(self.state.params, name))[..., keep]
      np.testing.assert_allclose(ours, theirs, rtol=1e-6)
      self.assertGreater(
          np.abs(np.asarray(getattr(state.adam.mu, name))[..., keep]).min(), 0
      )

  def test_only_when_due(self):
    for done, silent in ((5, 4), (6, 3), (20, 30), (27, 30)):
      state = self.after(done, silent)
      self.assertAlmostEqual(float(state.params.log_threshold[0, 3]), 50.0)
      self.assertEqual(int(state.silent[0, 3]), silent + 1)
    # The counts themselves: of features that fired they are zero.
    self.assertEqual(int(state.silent[0].min()), 0)


if __name__ == '__main__':
  absltest.main()
