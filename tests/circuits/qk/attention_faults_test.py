"""Each trap of published attention code, planted: the oracle must notice.

A test that compares with the oracle is only as good as the oracle's eye for
these. Each fault here is one line of a wrong implementation.
"""

import dataclasses
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax.numpy as jnp
import numpy as np
import pytest

from ooc_jax import circuits
from ooc_jax.circuits.ov import _ov_lens
from ooc_jax.circuits.qk import _attention
from ooc_jax.circuits.qk import _head_vectors
from ooc_jax.circuits.qk import _rope_profile
from ooc_jax.model import parameter
from tests.circuits import attention_models
from tests.circuits import qk_oracle

pytestmark = pytest.mark.any_compiler

_HEAD, _LAYER, _OFFSET, _K = 1, 1, 7, 5
# What the comparison of a right implementation allows: weights are exp of
# float32 scores as large as 100.
_TOLERANCE = 1e-4


def _differences(model, fault=None, offset=_OFFSET):
  """What the oracle of `model` says of the statistics under a fault."""
  dictionary = attention_models.dictionary(model, _LAYER)
  wrong = model if fault is None else fault(model)
  found = circuits.attention_statistics(
      wrong, dictionary, _LAYER, heads=(_HEAD,), offset=offset, k=_K
  )
  scores = qk_oracle.scores(model, dictionary.decoder, _LAYER, _HEAD, offset)
  expected = qk_oracle.head_statistics(
      scores, _K, softcap=model.config.attention_softcap
  )
  return qk_oracle.differences(attention_models.of_head(found, 0), expected)


def _interleaved(model, layer, x, offset):
  """Turns pairs (2i, 2i + 1), as in GGUF and the original Llama code."""
  cos, sin = _head_vectors.rotation(model, layer, np.array([offset]))
  even, odd = x[:, 0::2], x[:, 1::2]
  turned = [even * cos - odd * sin, odd * cos + even * sin]
  return jnp.stack(turned, axis=2).reshape(x.shape)


def _backwards(model, layer, x, offset):
  cos, sin = _head_vectors.rotation(model, layer, np.array([offset]))
  first, second = jnp.split(x, 2, axis=1)
  return jnp.concatenate(
      [first * cos + second * sin, second * cos - first * sin], axis=1
  )


def _config(**changes):
  return lambda model: model.replace(
      config=dataclasses.replace(model.config, **changes)
  )


def _stored_weight(model, path):
  """The gain of Llama, where Gemma's is 1 + weight."""
  return parameter(model, f'{path}/weight').astype(jnp.float32)


def _wrong_kv_head(name):
  """n % K instead of n // G."""

  def vectors(model, directions, layer, head, **settings):
    right = getattr(_head_vectors, f'head_{name}')
    kv_head = head % model.config.num_kv_heads
    head = kv_head * model.config.group_size
    return right(model, directions, layer, head, **settings)

  return vectors


class QkFaultsTest(parameterized.TestCase):

  def _assert_noticed(self, differences):
    # Not by a hair, and not in one number only.
    wrong = [x for x in differences.values() if x > 100 * _TOLERANCE]
    self.assertGreater(len(wrong), 10, differences)
    self.assertGreater(differences['entropy'], 100 * _TOLERANCE)
    self.assertGreater(differences['query.top_ids'], 0)

  @parameterized.parameters('llama', 'llama3', 'gemma2', 'gemma3')
  def test_without_a_fault(self, family):
    model = attention_models.tiny_model(family)
    differences = _differences(model)
    self.assertLess(max(differences.values()), _TOLERANCE)

  @parameterized.parameters(_interleaved, _backwards)
  def test_rotation(self, rotate):
    model = attention_models.tiny_model('llama')
    with mock.patch.object(_head_vectors, 'rotate', rotate):
      self._assert_noticed(_differences(model))

  def test_frequencies_without_scaling(self):
    model = attention_models.tiny_model('llama3')
    rope = dataclasses.replace(model.config.rope, llama3=None)
    # Pairs that matter there are slow: seen from afar.
    differences = _differences(model, _config(rope=rope), offset=60)
    self._assert_noticed(differences)

  def test_global_frequencies_in_a_sliding_layer(self):
    model = attention_models.tiny_model('gemma3')
    self.assertIsNotNone(model.config.windows[0])
    dictionary = attention_models.dictionary(model, 0)
    wrong = _config(local_rope=None)(model)
    scores = [
        np.asarray(circuits.head_queries(m, dictionary.decoder, 0, 0, offset=7))
        for m in (model, wrong)
    ]
    q, _, _ = qk_oracle.head_vectors(model, dictionary.decoder, 0, 0, 7)
    np.testing.assert_allclose(scores[0], q, rtol=1e-4, atol=1e-4)
    self.assertGreater(np.abs(scores[1] - q).max(), 0.1)

  @parameterized.parameters('llama', 'gemma2')
  def test_kv_head(self, family):
    model = attention_models.tiny_model(family)
    with mock.patch.object(_attention, 'head_keys', _wrong_kv_head('keys')):
      self._assert_noticed(_differences(model))

  @parameterized.parameters('gemma2', 'gemma3')
  def test_gain_without_one(self, family):
    model = attention_models.tiny_model(family)
    with mock.patch.object(_head_vectors, 'norm_gain', _stored_weight):
      self._assert_noticed(_differences(model))

  def test_no_gain(self):
    model = attention_models.tiny_model('llama')
    with mock.patch.object(_head_vectors, 'norm_gain', lambda *_: jnp.ones(20)):
      self._assert_noticed(_differences(model))

  def test_no_softcap(self):
    # Ids do not see it: the cap is monotone.
    differences = _differences(
        attention_models.tiny_model('gemma2'), _config(attention_softcap=None)
    )
    self.assertEqual(differences['query.top_ids'], 0)
    for name in ('query.maximum', 'key.std', 'entropy', 'received'):
      self.assertGreater(differences[name], 100 * _TOLERANCE)

  @parameterized.parameters('llama', 'gemma2', 'gemma3')
  def test_scale(self, family):
    # Of another head width, where Gemma says query_pre_attn_scalar.
    model = attention_models.tiny_model(family)
    scale = 8**-0.5 if model.config.post_norms else 11**-0.5
    differences = _differences(model, _config(attention_scale=scale))
    for name in ('query.maximum', 'key.mean', 'entropy', 'received'):
      self.assertGreater(differences[name], 100 * _TOLERANCE)

  def test_no_query_norm(self):
    model = attention_models.tiny_model('gemma3')
    with mock.patch.object(_head_vectors, '_head_norm', lambda x, *_: x):
      self._assert_noticed(_differences(model))

  def test_queries_and_keys_swapped(self):
    model = attention_models.tiny_model('llama')
    right = _attention.qk_statistics
    with mock.patch.object(
        _attention,
        'qk_statistics',
        lambda queries, keys, **kwargs: right(keys, queries, **kwargs),
    ):
      self._assert_noticed(_differences(model))

  def test_directions_that_are_not_normed(self):
    model = attention_models.tiny_model('llama')

    def not_normed(directions, gain, weight, *, centered):
      del centered
      return directions @ (gain[:, None] * weight)

    with mock.patch.object(_head_vectors, '_normed_product', not_normed):
      self._assert_noticed(_differences(model))


class OvFaultsTest(parameterized.TestCase):

  def _written(self, model):
    """Relative error of what a head writes of each feature."""
    decoder = attention_models.dictionary(model, _LAYER).decoder
    written = np.asarray(
        _ov_lens.head_values(model, decoder, _LAYER, _HEAD)
        @ _ov_lens.head_output(model, _LAYER, _HEAD)
    )
    expected = qk_oracle.writes(model, decoder, _LAYER, _HEAD)
    return np.abs(written - expected).max() / np.abs(expected).max()

  @parameterized.parameters('llama', 'gemma2', 'gemma3')
  def test_without_a_fault(self, family):
    model = attention_models.tiny_model(family)
    self.assertLess(self._written(model), _TOLERANCE)

  @parameterized.parameters('llama', 'gemma2')
  def test_kv_head(self, family):
    model = attention_models.tiny_model(family)
    with mock.patch.object(_ov_lens, 'head_values', _wrong_kv_head('values')):
      self.assertGreater(self._written(model), 0.1)

  def test_gains_without_one(self):
    model = attention_models.tiny_model('gemma2')
    for module in (_ov_lens, _head_vectors):
      with mock.patch.object(module, 'norm_gain', _stored_weight):
        self.assertGreater(self._written(model), 0.1)

  def test_no_post_attention_gain(self):
    model = attention_models.tiny_model('gemma2')
    with mock.patch.object(_ov_lens, 'norm_gain', lambda *_: jnp.ones(20)):
      self.assertGreater(self._written(model), 0.1)


class ProfileFaultsTest(parameterized.TestCase):

  def _profile(self, model):
    dictionary = attention_models.dictionary(model, _LAYER)
    found = circuits.rope_profile(
        model, dictionary, _LAYER, _HEAD, np.array([[3, 5], [9, 1]]), context=14
    )
    worst = 0.0
    for offset in range(14):
      scores = qk_oracle.scores(
          model, dictionary.decoder, _LAYER, _HEAD, offset
      )
      expected = scores[[3, 9], [5, 1]]
      actual = np.asarray(found.scores[:, offset])
      worst = max(worst, np.abs(actual - expected).max())
    return worst

  def test_without_a_fault(self):
    self.assertLess(self._profile(attention_models.tiny_model('llama3')), 1e-3)

  def test_interleaved_pairs(self):
    def scores(queries, keys, cos, sin):
      q, k = (
          x.reshape(len(x), -1, 2).swapaxes(1, 2).reshape(len(x), -1)
          for x in (queries, keys)
      )
      return right(q, k, cos, sin)

    right = _rope_profile._scores
    with mock.patch.object(_rope_profile, '_scores', scores):
      self.assertGreater(
          self._profile(attention_models.tiny_model('llama3')), 1.0
      )

  def test_backwards(self):
    right = _rope_profile._scores
    with mock.patch.object(
        _rope_profile, '_scores', lambda q, k, cos, sin: right(q, k, cos, -sin)
    ):
      self.assertGreater(
          self._profile(attention_models.tiny_model('llama3')), 1.0
      )


if __name__ == '__main__':
  absltest.main()
