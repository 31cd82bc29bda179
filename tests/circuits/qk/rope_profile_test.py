"""Scores over the distance, with every vector turned at its own position."""

import dataclasses

from absl.testing import absltest
from absl.testing import parameterized
import jax
import numpy as np
import pytest

from ooc_jax import InputError
from ooc_jax import circuits
from tests.circuits import attention_models
from tests.circuits import qk_oracle

_PAIRS = np.array([[3, 5], [3, 3], [76, 0]])


def _turned(x, angles):
  """A vector with pairs (i, i + H/2) turned, one 2 x 2 matrix after another."""
  x = x.copy()
  half = len(x) // 2
  for i, angle in enumerate(angles):
    matrix = [
        [np.cos(angle), -np.sin(angle)],
        [np.sin(angle), np.cos(angle)],
    ]
    x[[i, i + half]] = matrix @ x[[i, i + half]]
  return x


def _profile(model, dictionary, layer, head, pairs, offsets, position):
  """Scores of keys at `position`, and queries so many tokens after it."""
  config = model.config
  q, k, _ = qk_oracle.head_vectors(model, dictionary.decoder, layer, head)
  angles = qk_oracle.angles(config, layer)
  out = np.empty((len(pairs), len(offsets)))
  for p, (i, j) in enumerate(pairs):
    key = _turned(k[j], angles * position)
    for t, offset in enumerate(offsets):
      out[p, t] = _turned(q[i], angles * (position + offset)) @ key
  out *= config.attention_scale
  cap = config.attention_softcap
  return out if cap is None else cap * np.tanh(out / cap)


class RopeProfileTest(parameterized.TestCase):

  @parameterized.parameters(
      # Layers 0 and 2 slide over 16 tokens in Gemma.
      ('llama', 1, 300, 300),
      ('llama3', 1, 3000, 3000),
      ('gemma2', 1, 300, 300),
      ('gemma2', 2, 300, 16),
      ('gemma3', 1, 300, 300),
      ('gemma3', 2, 9, 9),
  )
  def test_matches_definition(self, family, layer, context, offsets):
    model = attention_models.tiny_model(family)
    dictionary = attention_models.dictionary(model, layer)
    profile = circuits.rope_profile(
        model, dictionary, layer, 4, _PAIRS, context=context
    )
    np.testing.assert_array_equal(profile.offsets, np.arange(offsets))
    at = np.unique(np.linspace(0, offsets - 1, 40).astype(int))
    # Only the distance counts, wherever the key is.
    expected = _profile(model, dictionary, layer, 4, _PAIRS, at, position=37)
    atol = 1e-5 * np.abs(expected).max()
    np.testing.assert_allclose(profile.scores[:, at], expected, atol=atol)
    mean = np.asarray(profile.scores).mean(axis=0)
    np.testing.assert_allclose(profile.mean, mean, atol=atol)
    self.assertEqual(profile.preferred, mean.argmax())

  @pytest.mark.any_compiler
  def test_scaled_frequencies_matter_here(self):
    # Otherwise the test above would prove nothing about them.
    model = attention_models.tiny_model('llama3')
    plain = dataclasses.replace(model.config.rope, llama3=None)
    other = model.replace(config=dataclasses.replace(model.config, rope=plain))
    dictionary = attention_models.dictionary(model, 1)
    one, two = (
        circuits.rope_profile(m, dictionary, 1, 4, _PAIRS, context=3000)
        for m in (model, other)
    )
    off = np.abs(np.asarray(one.scores - two.scores)).max(axis=0)
    self.assertLess(off[:2].max(), 0.1 * off.max())
    self.assertGreater(off.max(), 1.0)

  def test_is_what_attention_statistics_say_at_each_offset(self):
    model = attention_models.tiny_model('gemma2')
    dictionary = attention_models.dictionary(model, 1)
    found = circuits.attention_statistics(
        model, dictionary, 1, heads=(2,), offset=7, k=5
    )
    pairs = np.stack([np.arange(77), found.query.top_ids[0, :, 0]], axis=1)
    profile = circuits.rope_profile(model, dictionary, 1, 2, pairs, context=9)
    np.testing.assert_allclose(
        profile.scores[:, 7], found.query.maximum[0], rtol=1e-4, atol=1e-4
    )

  def test_offset_0_of_equal_ones_is_preferred(self):
    model = attention_models.tiny_model('llama')
    dictionary = attention_models.dictionary(model, 1)
    still = dictionary.replace(decoder=dictionary.decoder.at[4].set(0.0))
    profile = circuits.rope_profile(
        model, still, 1, 0, np.array([[4, 7]]), context=20
    )
    self.assertEqual(profile.preferred, 0)

  @parameterized.named_parameters(
      ('shape', {'pairs': np.array([1, 2])}, 'pairs has shape'),
      ('none', {'pairs': np.zeros((0, 2), int)}, 'pairs has shape'),
      ('id', {'pairs': np.array([[0, 77]])}, 'features 0 to 76'),
      ('negative', {'pairs': np.array([[-1, 7]])}, 'ids from -1'),
      ('context', {'context': 0}, 'context of 0'),
      ('head', {'head': 6}, 'no head 6'),
  )
  @pytest.mark.any_compiler
  def test_refusals(self, change, message):
    model = attention_models.tiny_model('llama')
    dictionary = attention_models.dictionary(model, 1)
    kwargs = {'head': 1, 'pairs': _PAIRS} | change
    # In these tests shapes are checked before the function is entered.
    qk_oracle.without_shape_checks(self)
    with self.assertRaisesRegex(InputError, message):
      circuits.rope_profile(model, dictionary, 1, **kwargs)


class HeadProfilesTest(parameterized.TestCase):

  def test_strongest_pairs_of_each_head(self):
    model = attention_models.tiny_model('gemma2')
    dictionary = attention_models.dictionary(model, 1)
    found = circuits.attention_statistics(
        model, dictionary, 1, heads=(5, 2), k=5
    )
    profiles = circuits.head_profiles(
        model, dictionary, found, pairs=4, context=21
    )
    self.assertEqual(profiles.scores.shape, (2, 4, 21))
    self.assertEqual(profiles.preferred.shape, (2,))
    self.assertEqual(profiles.offsets.shape, (21,))
    for n, head in enumerate((5, 2)):
      scores = qk_oracle.scores(model, dictionary.decoder, 1, head)
      queries = np.argsort(-scores.max(axis=1))[:4]
      pairs = np.stack([queries, scores[queries].argmax(axis=1)], axis=1)
      alone = circuits.rope_profile(
          model, dictionary, 1, head, pairs, context=21
      )
      one = jax.tree.map(np.asarray, profiles)
      np.testing.assert_allclose(
          one.scores[n], alone.scores, rtol=1e-5, atol=1e-5
      )
      self.assertEqual(one.preferred[n], alone.preferred)

  @pytest.mark.any_compiler
  def test_fewer_features_than_pairs(self):
    model = attention_models.tiny_model('llama')
    dictionary = attention_models.dictionary(model, 1)
    found = circuits.attention_statistics(model, dictionary, 1, heads=(0,), k=5)
    profiles = circuits.head_profiles(
        model, dictionary, found, pairs=500, context=3
    )
    self.assertEqual(profiles.scores.shape, (1, 77, 3))
    with self.assertRaisesRegex(InputError, '0 pairs a head'):
      circuits.head_profiles(model, dictionary, found, pairs=0)


if __name__ == '__main__':
  absltest.main()
