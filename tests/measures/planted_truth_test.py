"""A dictionary of known features, through the lens and the default settings."""

import functools

from absl.testing import absltest
from absl.testing import parameterized
import jax.numpy as jnp
import numpy as np
import pytest

from ooc_jax import circuits
from ooc_jax import measures

_V, _D, _K = 3_000, 256, 20
_CLUSTERS = 40  # Of each kind, with a top-k of tokens each.
_SUFFIXES = (
    '', 's', 'ed', 'ing', 'er', 'ers', 'able', 'less', 'ful', 'ly', 'ish', 'y',
    'ness', 'ment', 'ism', 'ist', 'ize', 'dom', 'let', 'hood',
)  # fmt: skip
_SYLLABLES = [c + v for c in 'bdfgklmnprstvz' for v in 'aeiou']


def _word(rng):
  return ''.join(rng.choice(_SYLLABLES, rng.integers(2, 5)))


class _World:
  """A vocabulary with families of words, and families of meanings.

  Tokens: 40 words in 20 forms each, whose embeddings have nothing in common;
  40 clusters of 20 embeddings, whose words have nothing in common; and 1400
  words with neither.
  """

  def __init__(self, seed):
    rng = np.random.default_rng(seed)
    forms = _CLUSTERS * _K
    self.strings = []
    for _ in range(_CLUSTERS):
      stem = _word(rng) + rng.choice(_SYLLABLES)
      self.strings += [stem + suffix for suffix in _SUFFIXES]
    self.strings += [_word(rng) for _ in range(_V - forms)]
    self.table = rng.normal(size=(_V, _D))
    self.families = np.arange(2 * forms).reshape(2 * _CLUSTERS, _K)
    for family in self.families[_CLUSTERS:]:
      self.table[family] += 1.5 * rng.normal(size=_D)
    # Of one norm, as otherwise the largest are at the top of everything.
    norms = np.linalg.norm(self.table, axis=1, keepdims=True)
    self.table *= np.sqrt(_D) / norms
    self.space = measures.token_space(
        jnp.asarray(self.table, jnp.float32), np.ones(_V, bool)
    )
    self._rng = rng

  def planted(self, count):
    """Directions of unit norm, each towards one family."""
    rows = []
    for i in range(count):
      family = self.table[self.families[i % len(self.families)]]
      # The direction with equal logits for all of it, and a little noise.
      d = np.linalg.pinv(family) @ np.ones(_K)
      noise = self._rng.normal(size=_D)
      rows.append(d / np.linalg.norm(d) + 0.2 * noise / np.linalg.norm(noise))
    return np.stack(rows)

  def coherence(self, directions):
    directions = jnp.asarray(directions, jnp.float32)
    norms = jnp.linalg.norm(directions, axis=1, keepdims=True)
    lens = circuits.unembedding_lens(
        np.sqrt(_D).astype(np.float32) * directions / norms,
        np.ones(_D, np.float32),
        self.table.astype(np.float32),
        np.ones(_V, bool),
        k=_K,
        precision='exact',
    )
    return measures.lens_coherence(
        lens, self.strings, self.space, measures=measures.MEASURES[:3]
    )


@functools.cache
def _random():
  """Random directions as features, and those of a null."""
  world = _World(2)
  features = np.random.default_rng(3).normal(size=(2_048, _D))
  directions = measures.isotropic_directions(4_096, _D, seed=2)
  return world.coherence(features), world.coherence(directions)


class PlantedTruthTest(parameterized.TestCase):

  @parameterized.parameters(0, 1)
  def test_a_planted_quarter_is_found(self, seed):
    world = _World(seed)
    rng = np.random.default_rng(100 + seed)
    true = np.arange(1_024) < 256
    features = world.coherence(
        np.concatenate([world.planted(256), rng.normal(size=(768, _D))])
    )
    null = world.coherence(measures.isotropic_directions(4_096, _D, seed=seed))
    thresholds = measures.null_thresholds(null)
    found = measures.is_semantic(features, thresholds)
    self.assertGreaterEqual(found[true].mean(), 0.95)
    # 1 % of the 768 others are expected: a precision of 0.97.
    self.assertGreaterEqual(true[found].mean(), 0.95)
    # Each kind by its own measure, and not by the other.
    passed = measures.passes_by_measure(features, thresholds)
    forms = np.arange(256) % (2 * _CLUSTERS) < _CLUSTERS
    self.assertGreater(passed['levenshtein'][:256][forms].mean(), 0.95)
    self.assertLess(passed['levenshtein'][:256][~forms].mean(), 0.1)
    self.assertGreater(passed['cosine'][:256][~forms].mean(), 0.95)
    excess = measures.excess_interval(
        found, measures.is_semantic(null, thresholds)
    )
    self.assertBetween(0.24, excess.low, excess.high)
    # Also as discoveries: of those with q <= 0.05, few are false.
    called = measures.q_values(measures.rule_p_values(features, null)) <= 0.05
    self.assertGreaterEqual(called[true].mean(), 0.95)
    self.assertGreaterEqual(true[called].mean(), 0.93)

  @parameterized.parameters(*measures.RULES)
  def test_random_directions_are_chance(self, rule):
    features, null = _random()
    thresholds = measures.null_thresholds(null, rule=rule)
    self.assertBetween(thresholds.null_share, 0.009, 0.01)
    found = measures.is_semantic(features, thresholds, rule)
    excess = measures.excess_interval(
        found, measures.is_semantic(null, thresholds, rule)
    )
    self.assertBetween(0.0, excess.low, excess.high)

  @pytest.mark.slow
  def test_matched_directions_are_chance_for_a_dictionary_of_their_kind(self):
    """A dictionary with a mean of its own: chance is another for it."""
    world = _World(4)
    rng = np.random.default_rng(5)
    lean = 2.0 * world.planted(_CLUSTERS + 1)[-1]
    decoder = rng.normal(size=(2_048, _D)) / 16.0 + lean
    features = world.coherence(decoder)
    shares = {}
    for name, directions in (
        ('isotropic', measures.isotropic_directions(4_096, _D, seed=4)),
        (
            'matched',
            measures.matched_directions(
                decoder.astype(np.float32), 4_096, seed=4
            ),
        ),
    ):
      cuts = measures.null_thresholds(world.coherence(directions))
      shares[name] = measures.is_semantic(features, cuts).mean()
    self.assertGreater(shares['isotropic'], 0.5)
    self.assertBetween(shares['matched'], 0.003, 0.018)


if __name__ == '__main__':
  absltest.main()
