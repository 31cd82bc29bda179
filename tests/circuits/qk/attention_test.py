"""All heads of a layer against float64 NumPy that holds each [F, F]."""

import dataclasses

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ooc_jax import InputError
from ooc_jax import circuits
from ooc_jax.dictionaries import token_dictionary
from tests.circuits import attention_models
from tests.circuits import qk_oracle

_K = 5


def _assert_agrees(model, dictionary, layer, found, *, offset=0, counts=None):
  """Every head of `found` is that of the definition."""
  # Weights are exp of float32 scores as large as 100, whose last bit is 8e-6.
  tolerance = 1e-4
  for n, head in enumerate(found.heads):
    scores = qk_oracle.scores(model, dictionary.decoder, layer, head, offset)
    expected = qk_oracle.head_statistics(
        scores,
        found.query.top_ids.shape[-1],
        softcap=model.config.attention_softcap,
        counts=counts,
    )
    statistics = attention_models.of_head(found, n)
    qk_oracle.assert_agrees(statistics, expected, tolerance)


class AttentionStatisticsTest(parameterized.TestCase):

  @parameterized.product(
      family=('llama', 'llama3', 'gemma2', 'gemma3'),
      # Even layers slide in Gemma 2; in Gemma 3 with frequencies of their own.
      layer_and_offset=((1, 0), (1, 7), (2, 11)),
  )
  def test_matches_definition(self, family, layer_and_offset):
    layer, offset = layer_and_offset
    model = attention_models.tiny_model(family)
    dictionary = attention_models.dictionary(model, layer)
    found = circuits.attention_statistics(
        model, dictionary, layer, offset=offset, k=_K
    )
    self.assertEqual(found.heads, tuple(range(6)))
    self.assertEqual((found.layer, found.offset), (layer, offset))
    self.assertEqual(found.query.top_ids.shape, (6, dictionary.size, _K))
    _assert_agrees(model, dictionary, layer, found, offset=offset)

  @parameterized.parameters('llama', 'gemma2')
  def test_tokens_at_layer_0(self, family):
    model = attention_models.tiny_model(family)
    tokens = token_dictionary(model)
    found = circuits.attention_statistics(model, tokens, 0, k=_K, heads=(4,))
    _assert_agrees(model, tokens, 0, found)

  def test_some_heads_in_their_order(self):
    model = attention_models.tiny_model('llama')
    dictionary = attention_models.dictionary(model, 1)
    found = circuits.attention_statistics(
        model, dictionary, 1, heads=[5, 0, 3], k=_K
    )
    self.assertEqual(found.heads, (5, 0, 3))
    _assert_agrees(model, dictionary, 1, found)

  def test_sinks_left_out(self):
    model = attention_models.tiny_model('gemma2')
    dictionary = attention_models.dictionary(model, 1)
    counts = np.arange(dictionary.size) % 9 != 4
    found = circuits.attention_statistics(
        model, dictionary, 1, heads=(2,), k=_K, counts=counts
    )
    _assert_agrees(model, dictionary, 1, found, counts=counts)
    np.testing.assert_array_equal(found.received[0, ~counts], 0)
    # Weights of the others are larger than with the sinks.
    whole = circuits.attention_statistics(
        model, dictionary, 1, heads=(2,), k=_K
    )
    less = np.asarray(whole.log_partition - found.log_partition)
    self.assertGreater(less.min(), -1e-5)
    self.assertGreater((less > 1e-3).mean(), 0.2)

  def test_partners_are_all_features(self):
    model = attention_models.tiny_model('llama')
    dictionary = attention_models.dictionary(model, 1)
    F = dictionary.size
    found = circuits.attention_statistics(model, dictionary, 1, heads=(3,), k=F)
    _assert_agrees(model, dictionary, 1, found)
    for role in (found.query, found.key):
      np.testing.assert_array_equal(
          np.sort(role.top_ids[0], axis=1), np.tile(np.arange(F), (F, 1))
      )

  def test_only_the_direction_counts(self):
    model = attention_models.tiny_model('gemma3')
    dictionary = attention_models.dictionary(model, 1)
    scale = jnp.asarray(np.random.default_rng(3).uniform(0.01, 50, size=77))
    scaled = dictionary.replace(
        decoder=dictionary.decoder * scale[:, None].astype(jnp.float32)
    )
    one, two = (
        circuits.attention_statistics(model, d, 1, heads=(1,), k=_K)
        for d in (dictionary, scaled)
    )
    np.testing.assert_array_equal(one.query.top_ids, two.query.top_ids)
    np.testing.assert_allclose(one.entropy, two.entropy, atol=1e-5)

  @parameterized.parameters('llama', 'gemma3')
  def test_dead_feature(self, family):
    # In Gemma 3 its query passes through a norm, which must not divide by 0.
    model = attention_models.tiny_model(family)
    dictionary = attention_models.dictionary(model, 1)
    dead = dictionary.replace(decoder=dictionary.decoder.at[6].set(0.0))
    found = circuits.attention_statistics(model, dead, 1, heads=(1,), k=_K)
    np.testing.assert_allclose(found.entropy[0, 6], np.log(77), rtol=1e-6)
    np.testing.assert_allclose(found.largest_weight[0, 6], 1 / 77, rtol=1e-6)
    np.testing.assert_array_equal(found.query.top_scores[0, 6], 0)
    np.testing.assert_array_equal(found.query.top_ids[0, 6], np.arange(_K))
    for leaf in jax.tree.leaves(found):
      self.assertTrue(np.isfinite(leaf).all())

  def test_bfloat16_is_read_exactly(self):
    model = attention_models.tiny_model('gemma2')
    half = lambda tree: jax.tree.map(  # noqa: E731
        lambda x: x.astype(jnp.bfloat16), tree
    )
    model = model.replace(params=half(model.params))
    dictionary = half(attention_models.dictionary(model, 1))
    found = circuits.attention_statistics(
        model, dictionary, 1, heads=(5,), k=_K
    )
    _assert_agrees(model, dictionary, 1, found)

  @pytest.mark.any_compiler
  def test_under_jit(self):
    model = attention_models.tiny_model('llama')
    dictionary = attention_models.dictionary(model, 1)
    traced = jax.jit(
        lambda m, d: circuits.attention_statistics(m, d, 1, heads=(2,), k=_K)
    )
    found = traced(model, dictionary)
    self.assertEqual(found.heads, (2,))
    _assert_agrees(model, dictionary, 1, found)


@pytest.mark.any_compiler
class SiteTest(parameterized.TestCase):

  @parameterized.parameters(
      ('resid_pre', 3, 3),
      ('resid_mid', 3, None),
      ('resid_post', 3, 4),
      ('mlp_in', 3, 4),
      ('mlp_neuron', 3, 4),
      ('mlp_out', 3, 4),
      ('attn_z', 3, 4),
      ('attn_out', 3, 4),
      ('embedding', 0, None),
  )
  def test_layer_that_reads(self, hook, layer, expected):
    site = attention_models.DictionarySite(layer, hook)
    self.assertEqual(circuits.attention_layer(site), expected)

  @parameterized.named_parameters(
      ('same_layer', 1, 'resid_post', 1, 'give a dictionary at resid_post of'),
      ('layer_0', 1, 'resid_post', 0, 'at resid_pre, or another layer'),
      ('later', 0, 'resid_pre', 2, 'attention of layer 0, not of layer 2'),
      ('read_by_none', 1, 'resid_mid', 1, 'attention of no layer'),
  )
  def test_other_layers_are_refused(self, at, hook, layer, message):
    model = attention_models.tiny_model('llama')
    dictionary = attention_models.dictionary(model, 1)
    dictionary = attention_models.at_site(dictionary, at, hook)
    with self.assertRaisesRegex(InputError, message):
      circuits.attention_statistics(model, dictionary, layer, k=_K)


@pytest.mark.any_compiler
class RefusalTest(parameterized.TestCase):

  @parameterized.named_parameters(
      ('layer', {'layer': 3}, 'no layer 3'),
      ('negative_layer', {'layer': -1}, 'no layer -1'),
      ('head', {'heads': (6,)}, 'no head 6'),
      ('no_head', {'heads': ()}, 'No head of layer 1'),
      ('k', {'k': 78}, 'k=78'),
      ('offset', {'offset': -1}, 'offset is -1'),
  )
  def test_setting(self, change, message):
    model = attention_models.tiny_model('llama')
    dictionary = attention_models.dictionary(model, 1)
    kwargs = {'layer': 1, 'k': _K} | change
    with self.assertRaisesRegex(InputError, message):
      circuits.attention_statistics(
          model, dictionary, kwargs.pop('layer'), **kwargs
      )

  @parameterized.parameters('gemma2', 'gemma3')
  def test_offset_outside_the_window(self, family):
    model = attention_models.tiny_model(family)
    sliding = [l for l, w in enumerate(model.config.windows) if w is not None]
    whole = [l for l, w in enumerate(model.config.windows) if w is None]
    self.assertTrue(sliding and whole)
    for layer in sliding:
      dictionary = attention_models.dictionary(model, layer)
      with self.assertRaisesRegex(InputError, 'slides over 16 tokens'):
        circuits.attention_statistics(model, dictionary, layer, offset=16)
      circuits.head_queries(model, dictionary.decoder, layer, 0, offset=15)
    dictionary = attention_models.dictionary(model, whole[0])
    circuits.head_queries(model, dictionary.decoder, whole[0], 0, offset=16)

  def test_directions_of_another_model(self):
    model = attention_models.tiny_model('llama')
    dictionary = attention_models.dictionary(model, 1)
    narrow = dictionary.replace(decoder=dictionary.decoder[:, :19])
    with self.assertRaisesRegex(InputError, 'width 19.*stream of 20'):
      circuits.attention_statistics(model, narrow, 1)

  def test_attention_that_was_not_loaded(self):
    model = attention_models.tiny_model('llama')
    dictionary = attention_models.dictionary(model, 1)
    layer = {
        k: v for k, v in model.params['layer_1'].items() if k != 'attention'
    }
    model = model.replace(params=model.params | {'layer_1': layer})
    with self.assertRaisesRegex(InputError, "'attention' in parts"):
      circuits.attention_statistics(model, dictionary, 1)

  @parameterized.parameters(np.nan, np.inf)
  def test_directions_that_are_not_finite(self, value):
    model = attention_models.tiny_model('llama')
    dictionary = attention_models.dictionary(model, 1)
    dictionary = dictionary.replace(
        decoder=dictionary.decoder.at[8, 2].set(value)
    )
    with self.assertRaisesRegex(InputError, 'first of them 8, are not finite'):
      circuits.attention_statistics(model, dictionary, 1, k=_K)

  def test_scores_that_overflow(self):
    model = attention_models.tiny_model('llama')
    model = attention_models.with_weights(
        model, 1, query=1e16 * attention_models.weight(model, 1, 'query')
    )
    dictionary = attention_models.dictionary(model, 1)
    with self.assertRaisesRegex(InputError, 'overflow float32'):
      circuits.attention_statistics(model, dictionary, 1, k=_K)

  def test_settings_are_static(self):
    # Results of different layers or offsets are no leaves of one tree.
    model = attention_models.tiny_model('llama')
    found = circuits.attention_statistics(
        model, attention_models.dictionary(model, 1), 1, heads=(0,), k=_K
    )
    other = dataclasses.replace(found, offset=3)
    self.assertNotEqual(jax.tree.structure(found), jax.tree.structure(other))


if __name__ == '__main__':
  absltest.main()
