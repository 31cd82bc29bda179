"""Experiment 2 with features on the mean of the stream."""

import dataclasses
import functools

from absl.testing import absltest
from absl.testing import parameterized
import jax.numpy as jnp
import numpy as np

import ooc_jax
from ooc_jax import circuits
from ooc_jax import measures
from ooc_jax.dictionaries import DictionarySite
from ooc_jax.experiments import AttentionParticipation
from ooc_jax.experiments import attention_participation
from ooc_jax.model import PARTS
from ooc_jax.model import mean_stream
from ooc_jax.results import tables
from tests import finished
from tests.circuits import qk_oracle

_CONFIG = AttentionParticipation(
    model='tiny',
    context=9,
    pairs=4,
    partners=2,
    alpha=0.1,
    write_tokens=0,
    nulls='none',
)
_HEAD = 4


@functools.cache
def _model():
  return ooc_jax.load_model(finished.checkpoint('gemma2'))


def _neurons(layer):
  return ooc_jax.load_dictionary('mlp', model=_model(), layer=layer)


def _sae(bias, layer=0, hook='resid_post'):
  """The neurons as if they were features of the stream."""
  neurons = _neurons(layer)
  return dataclasses.replace(
      neurons,
      decoder_bias=jnp.asarray(bias, jnp.float32),
      site=DictionarySite(layer, hook),
  )


def _computed(dictionary, **settings):
  config = dataclasses.replace(_CONFIG, **settings)
  return attention_participation.compute(_model(), {0: dictionary}, config)


def _bias():
  return np.random.default_rng(0).normal(size=20)


def _expected(bias, rows, length):
  """Float64 scores [F, F] of the head, and what the mean is in it."""
  model = _model()
  unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)  # noqa: E731
  x = np.asarray(rows, np.float64)
  if length is not None:
    x = unit(np.asarray(bias, np.float64)) + length * unit(x)
  q, k, _ = qk_oracle.head_vectors(model, x, 1, _HEAD)
  mean_q, mean_k, _ = qk_oracle.head_vectors(
      model, np.asarray(bias)[None], 1, _HEAD
  )
  scale = model.config.attention_scale
  capped = lambda y: 50 * np.tanh(scale * y / 50)  # noqa: E731
  return capped(q @ k.T), capped(q @ mean_k[0]), capped(k @ mean_q[0])


class StreamTest(parameterized.TestCase):

  @parameterized.parameters(('alone', None), ('on_bias', 0.3))
  def test_the_bias_of_a_dictionary_of_the_stream(self, stream, length):
    bias = _bias()
    sae = _sae(bias)
    found = _computed(
        sae, stream=stream, feature_length=0.3, nulls='random,permuted'
    )
    table = found.features[1]
    array = lambda name: tables.ATTENTION_FEATURES.array(table, name)[_HEAD]  # noqa: E731
    scores, query, key = _expected(bias, sae.decoder, length)
    close = functools.partial(np.testing.assert_allclose, rtol=2e-4, atol=2e-5)
    close(array('query_max'), scores.max(axis=1))
    close(array('query_bias'), query)
    close(array('key_bias'), key)
    row = found.heads[1].to_pylist()[_HEAD]
    self.assertEqual(row['bias'], 'dictionary')
    self.assertAlmostEqual(row['query_bias_mean'], query.mean(), delta=1e-4)
    self.assertAlmostEqual(row['key_bias_std'], key.std(), delta=1e-4)
    profiles = circuits.bias_profiles(
        _model(), jnp.asarray(bias), 1, range(6), context=9
    )
    self.assertEqual(row['bias_offset'], int(profiles.preferred[_HEAD]))
    close(row['bias_profile'], profiles.mean[_HEAD])
    close(row['bias_score'], row['bias_profile'][0])
    # Chance stands where the features stand.
    rows = measures.isotropic_directions(36, 20, seed=1)
    chance, _, _ = _expected(bias, rows, length)
    null = tables.null_statistic(found.nulls[1], 'random', 'query_pre')
    close(null[_HEAD], chance.max(axis=1))
    permuted = tables.null_statistic(found.nulls[1], 'permuted', 'query_pre')
    x = (
        sae.decoder
        if length is None
        else circuits.on_bias(
            _model(), sae.decoder, bias.astype(np.float32), length
        )
    )
    q, k, _ = qk_oracle.head_vectors(_model(), x, 1, _HEAD)
    k = np.random.default_rng((0, 1, _HEAD // 3)).permuted(k, axis=0)
    y = 50 * np.tanh(_model().config.attention_scale * q @ k.T / 50)
    close(permuted[_HEAD], y.max(axis=1))

  def test_an_estimate_for_what_has_no_bias(self):
    alone = _computed(_neurons(0))
    for name in ('query_bias', 'key_bias'):
      self.assertNotIn(name, alone.features[1].column_names)
    self.assertNotIn('bias', alone.heads[1].column_names)
    on = _computed(_neurons(0), stream='on_bias')
    self.assertEqual(set(on.heads[1]['bias'].to_pylist()), {'estimate'})
    mask = np.asarray(circuits.readable_mask(_model()))
    bias = mean_stream(_model(), mask, seed=0)[1]
    expected, query, _ = _expected(bias, _neurons(0).decoder, 0.5)
    array = lambda name: tables.ATTENTION_FEATURES.array(  # noqa: E731
        on.features[1], name
    )[_HEAD]
    np.testing.assert_allclose(
        array('query_max'), expected.max(axis=1), rtol=2e-4
    )
    np.testing.assert_allclose(array('query_bias'), query, rtol=2e-4, atol=1e-4)

  def test_whose_bias_is_the_mean_of_the_stream(self):
    own_mean = attention_participation.own_mean
    bias = _bias()
    for hook in ('resid_pre', 'resid_post', 'embedding'):
      np.testing.assert_allclose(
          own_mean(_sae(bias, hook=hook)), bias, rtol=1e-6
      )
    for hook in ('mlp_out', 'attn_out', 'mlp_in', 'resid_mid'):
      self.assertIsNone(own_mean(_sae(bias, hook=hook)), hook)
    self.assertIsNone(own_mean(_sae(0 * bias)))

  def test_the_mean_may_be_known_at_some_layers_only(self):
    config = dataclasses.replace(_CONFIG, examples=12)
    found = attention_participation.compute(
        _model(), {0: _sae(_bias()), 1: _neurons(1)}, config
    )
    summary = attention_participation.summarise(found, config)
    heads = summary.tables['heads'].to_pylist()
    self.assertEqual(
        [row['bias'] for row in heads], 6 * ['dictionary'] + 6 * [None]
    )
    self.assertEqual(summary.summary['mean_stream']['heads'], 6)
    lines = attention_participation.text(summary.summary, config)
    at = lines.index('Most selective heads:')
    self.assertRegex(lines[at + 1], 'F +selectivity +diagonal +copy +distance')
    shown = {line.split()[0]: line.split()[5] for line in lines[at + 2 :]}
    for row in heads:
      offset = row['bias_offset']
      self.assertEqual(
          shown[f'{row["layer"]}.{row["head"]}'],
          '-' if offset is None else str(offset),
      )

  def test_says_so(self):
    config = dataclasses.replace(
        _CONFIG, stream='on_bias', nulls='random', examples=2
    )
    found = attention_participation.compute(_model(), {0: _neurons(0)}, config)
    summary = attention_participation.summarise(found, config)
    lines = attention_participation.text(summary.summary, config)
    self.assertIn('heads (query pre)', lines[0])
    text = '\n'.join(lines)
    self.assertIn('on the mean of the stream, with a length of 0.5', text)
    self.assertIn('Mean of the stream (estimated): of 6 heads', text)
    self.assertRegex(text, 'One key takes at most .*% of the weight in a head')
    self.assertRegex(text, 'F +selectivity +÷ chance')
    number = r'[+-]\d+\.\d%'
    self.assertRegex(
        text,
        rf'% to \d+\.\d%\) participate; by chance random \d+\.\d%; over random'
        rf' {number} \({number} to {number}\)',
    )

  def test_selectivity_by_that_of_as_many_random_directions(self):
    config = dataclasses.replace(_CONFIG, nulls='random,tokens')
    found = attention_participation.compute(
        _model(), {0: _neurons(0), 1: _neurons(1)}, config
    )
    heads = attention_participation.summarise(found, config).tables['heads']
    for row in heads.to_pylist():
      for null in ('random', 'tokens'):
        own = tables.null_statistic(
            found.nulls[row['layer']], null, 'query_post'
        )[row['head']]
        self.assertAlmostEqual(
            row[f'selectivity_{null}_null'], own.mean() * own.size, delta=1e-4
        )
      self.assertAlmostEqual(
          row['relative_selectivity'],
          row['selectivity'] / row['selectivity_random_null'],
      )

  def test_parts_and_length(self):
    config = dataclasses.replace(_CONFIG, dictionary='random')
    self.assertNotIn('mlp', config.parts)
    self.assertIsNone(config.length)
    config = dataclasses.replace(config, stream='on_bias')
    self.assertEqual(config.parts, PARTS)
    self.assertEqual(config.length, 0.5)
    with self.assertRaisesRegex(ooc_jax.InputError, 'feature_length=0.0 must'):
      dataclasses.replace(config, feature_length=0.0)
    with self.assertRaisesRegex(ooc_jax.InputError, "stream='on' is unknown"):
      dataclasses.replace(config, stream='on')


if __name__ == '__main__':
  absltest.main()
