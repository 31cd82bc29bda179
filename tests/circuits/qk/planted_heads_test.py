"""Heads built to do one thing: found at their role, head and offset."""

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ooc_jax import circuits
from tests.circuits import attention_models
from tests.circuits import qk_oracle

pytestmark = pytest.mark.any_compiler

_LAYER, _HEAD, _READER, _READ = 1, 4, 7, 31
_K = 5


def _unit(x):
  return x / np.linalg.norm(x)


def _plant(family, *, distance=0, others=0.02, strength=6.0):
  """A head by which one feature attends to another, so many tokens before.

  Its query is along one vector as far as the reading feature is there, its key
  along the same vector, turned, as far as the feature that is read is.

  Args:
    family: Of the model.
    distance: At which the score is largest.
    others: Factor on the queries of the other heads.
    strength: Length of query and key where a feature is the planted one.
  """
  model = attention_models.tiny_model(family)
  dictionary = attention_models.dictionary(model, _LAYER)
  config = model.config
  rows = np.asarray(dictionary.decoder, np.float64)
  gain = attention_models.gain(model, _LAYER, 'attention_norm')
  half = config.head_dim // 2
  q = _unit(np.random.default_rng(5).uniform(0.5, 1.5, size=2 * half))
  angles = qk_oracle.angles(config, _LAYER) * distance
  k = qk_oracle.turned(q[None], angles)[0]
  read = lambda i: _unit(rows[i]) / gain / np.sqrt(config.embed_dim)  # noqa: E731
  query = others * attention_models.weight(model, _LAYER, 'query')
  key = attention_models.weight(model, _LAYER, 'key')
  query[:, _HEAD] = strength * np.outer(read(_READER), q)
  key[:, _HEAD // config.group_size] = strength * np.outer(read(_READ), k)
  return (
      attention_models.with_weights(model, _LAYER, query=query, key=key),
      dictionary,
  )


class PlantedHeadTest(parameterized.TestCase):

  @parameterized.parameters('llama', 'gemma2')
  def test_attends_at_the_right_head_and_role(self, family):
    model, dictionary = _plant(family)
    found = jax.tree.map(
        np.asarray, circuits.attention_statistics(model, dictionary, 1, k=_K)
    )
    # Who asks: the reader, there only, and it asks for the other one.
    where = np.unravel_index(
        found.query.maximum.argmax(), found.query.maximum.shape
    )
    self.assertEqual(where, (_HEAD, _READER))
    self.assertEqual(found.query.top_ids[where][0], _READ)
    self.assertEqual(found.largest_weight[_HEAD].argmax(), _READER)
    self.assertGreater(found.largest_weight[where], 0.5)
    self.assertEqual(found.entropy[_HEAD].argmin(), _READER)
    # Who is found: the other way round.
    where = np.unravel_index(
        found.key.maximum.argmax(), found.key.maximum.shape
    )
    self.assertEqual(where, (_HEAD, _READ))
    self.assertEqual(found.key.top_ids[where][0], _READER)
    self.assertEqual(found.received[_HEAD].argmax(), _READ)
    self.assertEqual(found.largest_received[_HEAD].argmax(), _READ)
    self.assertLess(found.self_weight[_HEAD, _READER], 0.1)
    # No feature of another head comes near.
    rest = np.delete(found.largest_weight, _HEAD, axis=0)
    self.assertLess(rest.max(), 0.5 * found.largest_weight[_HEAD, _READER])

  @parameterized.parameters(
      ('llama', 1), ('llama3', 1), ('gemma2', 1), ('gemma2', 3), ('llama', 0)
  )
  def test_offset_of_a_previous_token_head(self, family, distance):
    model, dictionary = _plant(family, distance=distance)
    offset = distance
    found = circuits.attention_statistics(
        model, dictionary, 1, k=_K, offset=offset
    )
    profiles = circuits.head_profiles(
        model, dictionary, found, pairs=1, context=200
    )
    self.assertEqual(int(profiles.preferred[_HEAD]), distance)
    self.assertEqual(int(found.query.maximum[_HEAD].argmax()), _READER)
    self.assertEqual(int(found.query.top_ids[_HEAD, _READER, 0]), _READ)
    # |q||k| there, which no other distance reaches.
    scores = np.asarray(profiles.scores[_HEAD, 0])
    peak = 36 * model.config.attention_scale
    if model.config.attention_softcap is not None:
      peak = 50 * np.tanh(peak / 50)
    np.testing.assert_allclose(scores[distance], peak, rtol=1e-5)
    self.assertLess(np.delete(scores, distance).max(), 0.999 * peak)

  def test_offset_is_the_query_after_the_key(self):
    # A head for the next token instead: seen at no offset.
    model, dictionary = _plant('llama', distance=-1)
    profile = circuits.rope_profile(
        model, dictionary, 1, _HEAD, np.array([[_READER, _READ]]), context=200
    )
    peak = 36 * model.config.attention_scale
    self.assertLess(float(profile.scores.max()), 0.999 * peak)
    turned = circuits.rope_profile(
        model.replace(params=_plant('llama', distance=1)[0].params),
        dictionary, 1, _HEAD, np.array([[_READER, _READ]]), context=200,
    )  # fmt: skip
    self.assertEqual(int(turned.preferred), 1)

  def test_writes_where_it_was_built_to(self):
    # Reads feature 7, raises feature 31: through the planted head only.
    model = attention_models.tiny_model('gemma2')
    dictionary = attention_models.dictionary(model, _LAYER)
    rows = np.asarray(dictionary.decoder, np.float64)
    encoder = np.array(dictionary.encoder, np.float64)
    pre = attention_models.gain(model, _LAYER, 'attention_norm')
    post = attention_models.gain(model, _LAYER, 'post_attention_norm')
    v = _unit(np.random.default_rng(5).normal(size=8))
    value = attention_models.weight(model, _LAYER, 'value')
    output = 0.01 * attention_models.weight(model, _LAYER, 'output')
    value[:, _HEAD // 3] = np.outer(_unit(rows[_READER]) / pre, v)
    output[_HEAD] = np.outer(v, _unit(encoder[_READ]) / post)
    model = attention_models.with_weights(
        model, _LAYER, value=value, output=output
    )
    raised = []
    for head in range(6):
      writes = circuits.ov_writes(
          model, dictionary, dictionary, _LAYER, head, k=2
      )
      raised.append(float(writes.top_values[_READER, 0]))
      if head == _HEAD:
        self.assertEqual(int(writes.top_ids[_READER, 0]), _READ)
        self.assertEqual(
            int(jnp.argmax(jnp.abs(writes.top_values[:, 0]))), _READER
        )
    self.assertEqual(int(np.argmax(raised)), _HEAD)
    expected = np.sqrt(20) * np.linalg.norm(encoder[_READ])
    np.testing.assert_allclose(raised[_HEAD], expected, rtol=1e-5)

  def test_predicts_the_token_it_was_built_for(self):
    model = attention_models.tiny_model('llama')
    dictionary = attention_models.dictionary(model, _LAYER, size=37)
    mask = np.asarray(circuits.readable_mask(model))
    token = int(np.flatnonzero(mask)[11])
    row = np.asarray(circuits.unembedding_table(model), np.float64)[token]
    final = np.asarray(circuits.final_gain(model), np.float64)
    pre = attention_models.gain(model, _LAYER, 'attention_norm')
    feature = np.asarray(dictionary.decoder, np.float64)[_READER]
    v = _unit(np.random.default_rng(5).normal(size=8))
    value = attention_models.weight(model, _LAYER, 'value')
    output = attention_models.weight(model, _LAYER, 'output')
    value[:, _HEAD // 3] = np.outer(_unit(feature) / pre, v)
    # Towards the token, whatever the final gain.
    output[_HEAD] = np.outer(v, row * final)
    model = attention_models.with_weights(
        model, _LAYER, value=value, output=output
    )
    lens = circuits.ov_lens(
        model, dictionary, _LAYER, _HEAD, k=3, convention='cosine'
    )
    w = row * final**2
    table = np.asarray(circuits.unembedding_table(model), np.float64)
    cosine = table @ w / np.linalg.norm(table, axis=1) / np.linalg.norm(w)
    best = np.argsort(-np.where(mask, cosine, -2))[:3]
    np.testing.assert_array_equal(lens.top_ids[_READER], best)
    self.assertEqual(int(lens.top_ids[_READER, 0]), token)
    # Some other heads of the same kv head do otherwise.
    other = circuits.ov_lens(
        model, dictionary, _LAYER, 3, k=3, convention='cosine'
    )
    self.assertNotEqual(int(other.top_ids[_READER, 0]), token)


if __name__ == '__main__':
  absltest.main()
