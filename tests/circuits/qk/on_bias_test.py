"""Features on the mean of the stream, against float64 NumPy."""

import functools

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ooc_jax import InputError
from ooc_jax import circuits
from ooc_jax.dictionaries import random_dictionary
from tests.circuits import attention_models
from tests.circuits import qk_oracle
from tests.model import golden_files

_LAYER, _HEAD, _K = 1, 4, 5


def _unit(x):
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


def _mean(width):
  """Of a stream: some direction, of any length."""
  x = np.random.default_rng(8).normal(size=width) + 0.3
  return (7.0 * x).astype(np.float32)


def _on(mean, rows, length):
  return _unit(mean.astype(np.float64)) + length * _unit(
      np.asarray(rows, np.float64)
  )


@functools.cache
def _case(family):
  model = attention_models.tiny_model(family)
  dictionary = attention_models.dictionary(model, _LAYER)
  return model, dictionary, _mean(model.config.embed_dim)


def _largest_difference(one, two):
  """Over all statistics that are no ids."""
  pairs = zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True)
  return max(
      float(np.abs(np.asarray(x) - np.asarray(y)).max())
      for x, y in pairs
      if np.asarray(x).dtype == np.float32
  )


@pytest.mark.any_compiler
class OnBiasTest(parameterized.TestCase):

  @parameterized.product(
      # Gemma 2 has a softcap, Gemma 3 norms of queries and keys.
      family=('llama3', 'gemma2', 'gemma3'),
      offset=(0, 7),
      length=(None, 0.5),
  )
  def test_matches_definition(self, family, offset, length):
    model, dictionary, mean = _case(family)
    rows = dictionary.decoder
    found = circuits.attention_statistics(
        model,
        dictionary,
        _LAYER,
        heads=(_HEAD,),
        offset=offset,
        k=_K,
        bias=mean,
        length=length,
    )
    x = rows if length is None else _on(mean, rows, length)
    cap = model.config.attention_softcap
    capped = lambda y: y if cap is None else cap * np.tanh(y / cap)  # noqa: E731
    scores = qk_oracle.scores(model, x, _LAYER, _HEAD, offset)
    expected = qk_oracle.head_statistics(scores, _K, softcap=cap)
    statistics = attention_models.of_head(found, 0)
    qk_oracle.assert_agrees(statistics, expected, 1e-4)
    q, k, _ = qk_oracle.head_vectors(model, x, _LAYER, _HEAD, offset)
    mean_q, mean_k, _ = qk_oracle.head_vectors(
        model, mean[None], _LAYER, _HEAD, offset
    )
    scale = model.config.attention_scale
    for name, value in {
        'query': q @ mean_k[0],
        'key': k @ mean_q[0],
        'own': mean_q[0] @ mean_k[0],
    }.items():
      np.testing.assert_allclose(
          getattr(found.bias, name)[0],
          capped(scale * value),
          rtol=1e-5,
          atol=1e-5,
          err_msg=name,
      )

  def test_the_definition_tells_faults(self):
    """With lengths of its own, or the parts read apart, scores are others."""
    model, dictionary, mean = _case('gemma2')
    right = qk_oracle.scores(
        model, _on(mean, dictionary.decoder, 0.5), _LAYER, _HEAD
    )
    rows = np.asarray(dictionary.decoder, np.float64)
    vectors = lambda x: qk_oracle.head_vectors(model, x, _LAYER, _HEAD)  # noqa: E731
    q, k = (
        of_mean + 0.5 * of_feature
        for of_mean, of_feature in zip(
            vectors(mean[None])[:2], vectors(rows)[:2], strict=True
        )
    )
    faults = {
        'no lengths': qk_oracle.scores(model, mean + rows, _LAYER, _HEAD),
        'apart': model.config.attention_scale * q @ k.T,
    }
    for name, wrong in faults.items():
      off = np.abs(wrong - right).max() / np.abs(right).max()
      self.assertGreater(off, 0.02, name)

  @parameterized.parameters('llama', 'gemma2', 'gemma3')
  def test_without_a_mean_it_is_the_feature_alone(self, family):
    model, dictionary, mean = _case(family)
    alone, on = (
        circuits.attention_statistics(
            model, dictionary, _LAYER, heads=(_HEAD,), k=_K, **settings
        )
        for settings in ({}, {'bias': np.zeros_like(mean), 'length': 0.5})
    )
    np.testing.assert_array_equal(alone.query.top_ids, on.query.top_ids)
    self.assertLess(
        _largest_difference(alone, on.replace(bias=None)),
        1e-4 * float(alone.query.maximum.max()),
    )
    np.testing.assert_array_equal(on.bias.query, 0)

  @parameterized.parameters('llama', 'gemma2')
  def test_lengths_do_not_count(self, family):
    model, dictionary, mean = _case(family)
    lengths = np.random.default_rng(3).uniform(0.01, 50, size=(77, 1))
    scaled = dictionary.replace(
        decoder=dictionary.decoder * jnp.asarray(lengths, jnp.float32)
    )
    one, two = (
        circuits.attention_statistics(
            model, d, _LAYER, heads=(_HEAD,), k=_K, bias=b, length=0.5
        )
        for d, b in ((dictionary, mean), (scaled, 1e-3 * mean))
    )
    np.testing.assert_array_equal(one.key.top_ids, two.key.top_ids)
    self.assertLess(_largest_difference(one, two), 1e-3)

  def test_a_dead_feature_is_the_mean(self):
    model, dictionary, mean = _case('gemma2')
    rows = circuits.on_bias(model, dictionary.decoder[:2] * 0, mean)
    np.testing.assert_allclose(rows, np.tile(_unit(mean), (2, 1)), atol=1e-6)

  @parameterized.parameters('gpt2', 'qwen2')
  def test_biases_of_a_head_belong_to_the_mean(self, name):
    model = golden_files.load(name).model
    dictionary = random_dictionary(model, _LAYER, size=9)
    c = model.config
    mean = _mean(c.embed_dim)
    read = lambda path: np.asarray(  # noqa: E731
        functools.reduce(lambda x, n: x[n], path.split('/'), model.params),
        np.float64,
    )
    centred = lambda x: (  # noqa: E731
        x - x.mean(axis=-1, keepdims=True) if c.layer_norm else x
    )
    at = f'layer_{_LAYER}'
    rows = centred(np.asarray(dictionary.decoder, np.float64))
    for length in (None, 0.5):
      found = circuits.attention_statistics(
          model,
          dictionary,
          _LAYER,
          heads=(0,),
          k=2,
          bias=mean,
          length=length,
      )
      m = centred(mean.astype(np.float64)[None])
      x = rows if length is None else _unit(m) + length * _unit(rows)
      vectors = {}
      for role in ('query', 'key'):
        constant = read(f'{at}/attention/{role}_bias')[0]
        if c.layer_norm:
          weight = read(f'{at}/attention/{role}')[:, 0]
          constant += read(f'{at}/attention_norm/bias') @ weight
        for key, value in (('x', x), ('m', m)):
          normed = _unit(value) * np.sqrt(c.embed_dim)
          normed = normed * read(f'{at}/attention_norm/weight')
          out = normed @ read(f'{at}/attention/{role}')[:, 0]
          with_bias = key == 'm' or length is not None
          vectors[role, key] = out + constant * with_bias
      scale = c.attention_scale
      scores = scale * vectors['query', 'x'] @ vectors['key', 'x'].T
      mine = scale * vectors['query', 'x'] @ vectors['key', 'm'][0]
      np.testing.assert_allclose(
          found.query.maximum[0], scores.max(axis=1), rtol=1e-4, atol=1e-5
      )
      np.testing.assert_allclose(found.bias.query[0], mine, rtol=1e-4)


class DigitsTest(parameterized.TestCase):

  @parameterized.parameters(1e-24, 1e19)
  def test_any_length_that_has_a_float32(self, size):
    model, dictionary, mean = _case('llama')
    rows = circuits.on_bias(
        model, dictionary.decoder[:5] * size, mean / np.float32(size), 0.3
    )
    expected = _on(mean, dictionary.decoder[:5], 0.3)
    np.testing.assert_allclose(rows, expected, rtol=1e-5, atol=1e-6)

  def test_a_head_may_have_keys_of_its_own(self):
    model, dictionary, _ = _case('llama')
    counts = np.random.default_rng(0).random((2, dictionary.size)) < 0.7
    both = circuits.attention_statistics(
        model, dictionary, _LAYER, heads=(0, 5), k=_K, counts=counts
    )
    for i, head in enumerate((0, 5)):
      one = circuits.attention_statistics(
          model, dictionary, _LAYER, heads=(head,), k=_K, counts=counts[i]
      )
      np.testing.assert_array_equal(both.received[i], one.received[0])
      np.testing.assert_array_equal(both.received[i, ~counts[i]], 0)
    with self.assertRaisesRegex(InputError, '2, 77.* for 3 heads'):
      circuits.attention_statistics(
          model, dictionary, _LAYER, heads=(0, 1, 2), k=_K, counts=counts
      )


@pytest.mark.any_compiler
class BiasProfileTest(parameterized.TestCase):

  @parameterized.parameters(('llama3', 1), ('gemma2', 3), ('llama', 0))
  def test_a_head_that_was_built_for_a_distance(self, family, distance):
    """The mean asks so far back; what features do there is another matter."""
    model, dictionary, mean = _case(family)
    c = model.config
    gain = attention_models.gain(model, _LAYER, 'attention_norm')
    b = _unit(mean.astype(np.float64))
    # Blind for the mean, and then with it planted.
    apart = np.eye(c.embed_dim) - np.outer(b, b)
    apart = apart / gain[:, None] * gain[None, :]
    q = _unit(np.random.default_rng(5).uniform(0.5, 1.5, size=c.head_dim))
    angles = qk_oracle.angles(c, _LAYER) * distance
    k = qk_oracle.turned(q[None], angles)[0]
    read = b / gain / np.sqrt(c.embed_dim)
    query = attention_models.weight(model, _LAYER, 'query')
    key = attention_models.weight(model, _LAYER, 'key')
    group = _HEAD // c.group_size
    query[:, _HEAD] = 3 * apart @ query[:, _HEAD] + np.outer(read, q)
    key[:, group] = 3 * apart @ key[:, group] + np.outer(read, k)
    planted = attention_models.with_weights(model, _LAYER, query=query, key=key)
    found = circuits.bias_profiles(planted, mean, _LAYER, range(6), context=200)
    self.assertEqual(found.scores.shape[:2], (6, 1))
    self.assertEqual(int(found.preferred[_HEAD]), distance)
    # As a dictionary whose one feature is the mean.
    one = dictionary.replace(decoder=jnp.asarray(mean)[None])
    pair = circuits.rope_profile(
        planted, one, _LAYER, _HEAD, np.array([[0, 0]]), context=200
    )
    np.testing.assert_allclose(found.scores[_HEAD], pair.scores, atol=1e-5)
    peak = c.attention_scale
    np.testing.assert_allclose(
        found.mean[_HEAD, distance], peak, rtol=1e-3, atol=1e-5
    )

  def test_pairs_on_the_mean(self):
    model, dictionary, mean = _case('gemma2')
    attention = circuits.attention_statistics(
        model, dictionary, _LAYER, k=_K, offset=3, bias=mean, length=0.5
    )
    profiles = circuits.head_profiles(
        model, dictionary, attention, pairs=3, context=9, bias=mean
    )
    # The offset of the run has the scores of the run.
    np.testing.assert_allclose(
        np.sort(np.asarray(profiles.scores[:, :, 3]), axis=1),
        np.sort(np.asarray(attention.query.maximum), axis=1)[:, -3:],
        rtol=1e-4,
    )


@pytest.mark.any_compiler
class RefusalsTest(parameterized.TestCase):

  @parameterized.parameters(
      ({'length': 0.5}, 'there is no mean; give bias='),
      ({'bias': np.ones(3, np.float32)}, 'bias has shape .3,.*20 finite'),
      ({'bias': np.full(20, np.nan, np.float32)}, 'finite numbers'),
      ({'bias': np.ones(20, np.float32), 'length': 0.0}, 'length is 0.0'),
  )
  def test_refused(self, settings, message):
    model, dictionary, _ = _case('llama')
    with self.assertRaisesRegex(InputError, message):
      circuits.attention_statistics(model, dictionary, _LAYER, k=_K, **settings)


if __name__ == '__main__':
  absltest.main()
