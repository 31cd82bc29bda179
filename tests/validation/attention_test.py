"""Attention predicted from features, against float64 NumPy with loops."""

import dataclasses
import functools
import pathlib

from absl.testing import absltest
from absl.testing import parameterized
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

import ooc_jax
from ooc_jax import Site
from ooc_jax import model as models
from ooc_jax import validation
from tests import finished

_GOLDEN = pathlib.Path(__file__).parents[1] / 'model' / 'golden'
_LAYER, _PAIRS, _SEED = 1, 30, 3


def _model(name):
  golden = name in ('gpt2', 'qwen2')
  return ooc_jax.load_model(
      _GOLDEN / name if golden else finished.checkpoint(name)
  )


def _sae(model, size=40, seed=0):
  rng = np.random.default_rng(seed)
  D = model.config.embed_dim
  sae = ooc_jax.dictionaries.from_arrays(
      rng.normal(size=(size, D)).astype(np.float32),
      rng.normal(size=(size, D)).astype(np.float32),
      layer=_LAYER - 1,
      name='own',
  )
  return dataclasses.replace(
      sae,
      encoder_bias=jnp.asarray(rng.normal(size=size).astype(np.float32)),
      decoder_bias=jnp.asarray(3 * rng.normal(size=D).astype(np.float32)),
      threshold=jnp.asarray(rng.uniform(1, 4, size).astype(np.float32)),
  )


def _taps(model, windows, save):
  forward = functools.partial(
      models.Transformer(model.config).apply, {'params': model.params}
  )
  _, saved = models.run_with_taps(forward, jnp.asarray(windows), save=save)
  return [np.asarray(saved[key], np.float64) for key in save]


def _pairs(rng, model, windows, pairs):
  """Row, query and key of each pair that is drawn."""
  W, T = windows.shape
  i = rng.integers(1, T, (W, pairs))
  seen = model.config.windows[_LAYER] or T
  j = rng.integers(np.maximum(i - seen + 1, 1), i + 1)
  return np.arange(W)[:, None], i, j


def _spearman(predicted, true):
  # Rounded, as the same two features have one score at any place.
  shown = np.round(np.ravel(predicted) / np.std(predicted), 5)
  return scipy.stats.spearmanr(shown, np.ravel(true)).statistic


class _Heads:
  """Queries and keys of a layer in float64, from the definition."""

  def __init__(self, model):
    self.c = model.config
    self.gain, self.norm_bias = self._norm(model, 'attention_norm')
    own = model.params[f'layer_{_LAYER}']['attention']
    self.own = {
        name: np.asarray(x, np.float64)
        for name, x in own.items()
        if not isinstance(x, dict)
    }
    self.head_norms = {
        name: self._norm(model, f'attention/{name}_norm')[0]
        for name in ('query', 'key')
        if self.c.qk_norm
    }

  def _norm(self, model, path):
    node = model.params[f'layer_{_LAYER}']
    for name in path.split('/'):
      node = node[name]
    gain = np.asarray(node['weight'], np.float64) + self.c.norm_offset
    return gain, np.asarray(node['bias'], np.float64) if 'bias' in node else 0.0

  def project(self, x, name, head, real=True):
    """[..., D] through one head's query, key or value; real: with biases."""
    if self.c.layer_norm:
      x = x - x.mean(-1, keepdims=True)
    eps = self.c.norm_eps if real else 0
    x = x / np.sqrt(np.square(x).mean(-1, keepdims=True) + eps) * self.gain
    if real:
      x = x + self.norm_bias
    i = head if name == 'query' else head // self.c.group_size
    y = x @ self.own[name][:, i]
    if real and self.c.qkv_bias:
      y = y + self.own[f'{name}_bias'][i]
    if name in self.head_norms:
      size = np.sqrt(np.square(y).mean(-1, keepdims=True) + self.c.norm_eps)
      y = y / size * self.head_norms[name]
    return y

  def turned(self, x, position):
    rope = self.c.rope_of(_LAYER)
    if rope is None:
      return x
    width = rope.rotary_dim or self.c.head_dim
    half = width // 2
    x = np.broadcast_to(x, np.broadcast_shapes(x.shape, position.shape + (1,)))
    angle = position[..., None] * rope.base ** (-np.arange(half) * 2 / width)
    a, b = x[..., :half], x[..., half:width]
    return np.concatenate(
        [
            a * np.cos(angle) - b * np.sin(angle),
            b * np.cos(angle) + a * np.sin(angle),
            x[..., width:],
        ],
        -1,
    )

  def score(self, q, k, head, i, j, real=True):
    """Scores of streams q at i with streams k at j."""
    q = self.turned(self.project(q, 'query', head, real), i)
    k = self.turned(self.project(k, 'key', head, real), j)
    return (q * k).sum(-1) * self.c.attention_scale


class AttentionTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.rng = np.random.default_rng(1)

  def _windows(self, model, windows=7, length=24):
    V = model.config.vocab_size
    return self.rng.integers(0, V, (windows, length)).astype(np.int32)

  @parameterized.parameters('gemma2', 'gemma3', 'gpt2', 'qwen2')
  def test_the_oracles_true_scores_give_what_the_heads_gave(self, name):
    model = _model(name)
    c, heads = model.config, _Heads(model)
    windows = self._windows(model, 2, 20)
    x, z = _taps(
        model, windows, [(Site.RESID_PRE, _LAYER), (Site.ATTN_Z, _LAYER)]
    )
    i, j = np.indices((20, 20))
    seen = c.windows[_LAYER] or 20
    mask = (j <= i) & (i - j < seen)
    for head in range(c.num_heads):
      s = heads.score(x[:, :, None], x[:, None], head, i, j)
      if c.attention_softcap:
        s = c.attention_softcap * np.tanh(s / c.attention_softcap)
      weights = scipy.special.softmax(np.where(mask, s, -np.inf), -1)
      out = weights @ heads.project(x, 'value', head)
      own = z[..., head * c.head_dim : (head + 1) * c.head_dim]
      np.testing.assert_allclose(out, own, rtol=1e-3, atol=1e-4 * own.std())

  def test_correlations_are_those_of_float64(self):
    self._check_correlations('gemma2')

  @parameterized.parameters('gemma3', 'gpt2', 'qwen2')
  @pytest.mark.slow
  def test_correlations_of_others(self, name):
    self._check_correlations(name)

  def _check_correlations(self, name):
    model = _model(name)
    sae = _sae(model)
    windows = self._windows(model)
    found = validation.attention_agreement(
        model,
        sae,
        windows,
        _LAYER,
        pairs=_PAIRS,
        permutations=2,
        draws=4,
        batch=3,
        seed=_SEED,
    )
    expected, null = self._expected(model, sae, windows)
    self.assertEqual(found.pairs, len(windows) * _PAIRS)
    self.assertEqual(tuple(expected), validation.ATTENTION_PREDICTORS)
    for predictor, values in expected.items():
      own = found.predictors[predictor]
      np.testing.assert_allclose(own.spearman, values, atol=2e-4)
      self.assertAlmostEqual(own.mean[0], values.mean(), delta=2e-4)
      if predictor == 'distance':
        self.assertIsNone(own.null)
      else:
        np.testing.assert_allclose(own.null, null[predictor], atol=2e-4)

  def _expected(self, model, sae, windows):
    """Predictor -> [N], and of the null -> [N, 2]."""
    c, heads = model.config, _Heads(model)
    rng = np.random.default_rng((_SEED, _LAYER))
    rows, i, j = _pairs(rng, model, windows, _PAIRS)
    orders = [rng.permutation(sae.size) for _ in range(2)]
    ids = np.unique(windows)
    others = [rng.permutation(ids) for _ in range(2)]
    (x,) = _taps(model, windows, [(Site.RESID_PRE, _LAYER)])
    decoder, bias, encoder, encoder_bias, threshold = (
        np.asarray(y, np.float64)
        for y in (
            sae.decoder,
            sae.decoder_bias,
            sae.encoder,
            sae.encoder_bias,
            sae.threshold,
        )
    )
    pre = x @ encoder.T + encoder_bias
    a = np.where(pre > threshold, pre, 0)
    best = (a * np.linalg.norm(decoder, axis=1)).argmax(-1)
    table = np.asarray(model.params['embedding'], np.float64)

    def scores(order, tokens):
      moved = decoder[order]
      streams = {
          'strongest': moved[best],
          'sum': a @ moved,
          'biased_sum': a @ moved + bias,
          'tokens': table[tokens] - table.mean(0),
      }
      out = {}
      for end, key in (('', i), ('_turned', j)):
        for name, y in streams.items():
          out[name + end] = [
              heads.score(y[rows, i], y[rows, j], head, i, key, real=False)
              for head in range(c.num_heads)
          ]
      return out

    true = [
        heads.score(x[rows, i], x[rows, j], head, i, j)
        for head in range(c.num_heads)
    ]

    def correlations(predictions):
      return np.array(
          [_spearman(p, t) for p, t in zip(predictions, true, strict=True)]
      )

    own = scores(np.arange(sae.size), windows)
    expected = {name: correlations(p) for name, p in own.items()}
    expected['distance'] = correlations([j - i] * c.num_heads)
    moved = [
        scores(order, to[np.searchsorted(ids, windows)])
        for order, to in zip(orders, others, strict=True)
    ]
    null = {
        name: np.stack([correlations(m[name]) for m in moved], 1)
        for name in own
    }
    return expected, null

  def test_features_that_are_the_stream_predict_it(self):
    # An identity of either sign: the sum of what is active is the stream.
    model = _model('gemma2')
    D = model.config.embed_dim
    both = np.concatenate([np.eye(D), -np.eye(D)]).astype(np.float32)
    sae = ooc_jax.dictionaries.from_arrays(both, both, layer=_LAYER - 1)
    found = validation.attention_agreement(
        model, sae, self._windows(model), _LAYER, draws=50
    )
    own = found.predictors['sum_turned']
    np.testing.assert_allclose(own.spearman, 1, atol=1e-5)
    self.assertTrue((own.low > 0.99).all())
    # The null of a random model knows nothing.
    self.assertLess(abs(own.null.mean()), 0.1)
    self.assertLess(found.predictors['sum'].spearman.max(), 0.95)

  def test_neurons_write_with_their_sign(self):
    model = _model('gemma2')
    neurons = ooc_jax.load_dictionary('mlp', model=model, layer=_LAYER - 1)
    windows = self._windows(model)
    found = validation.attention_agreement(
        model, neurons, windows, _LAYER, permutations=2, draws=4
    )
    # As a dictionary of what the MLP adds, each coordinate with either sign.
    D = model.config.embed_dim
    both = np.concatenate([np.eye(D), -np.eye(D)]).astype(np.float32)
    sae = ooc_jax.dictionaries.from_arrays(both, both, layer=_LAYER - 1)
    site = ooc_jax.dictionaries.DictionarySite(_LAYER - 1, Site.MLP_OUT)
    expected = validation.attention_agreement(
        model,
        dataclasses.replace(sae, site=site),
        windows,
        _LAYER,
        permutations=2,
        draws=4,
    )
    for name in ('sum', 'sum_turned', 'biased_sum_turned'):
      np.testing.assert_allclose(
          found.predictors[name].spearman,
          expected.predictors[name].spearman,
          atol=1e-5,
      )
    x, a = _taps(
        model,
        windows,
        [(Site.RESID_PRE, _LAYER), (Site.MLP_NEURON, _LAYER - 1)],
    )
    rows, i, j = _pairs(np.random.default_rng((0, _LAYER)), model, windows, 64)
    decoder = np.asarray(neurons.decoder, np.float64)
    best = (np.abs(a) * np.linalg.norm(decoder, axis=1)).argmax(-1)
    sign = np.sign(np.take_along_axis(a, best[..., None], -1))
    y, heads = decoder[best] * sign, _Heads(model)
    for head, own in enumerate(found.predictors['strongest'].spearman):
      true = heads.score(x[rows, i], x[rows, j], head, i, j)
      s = heads.score(y[rows, i], y[rows, j], head, i, i, real=False)
      self.assertAlmostEqual(own, _spearman(s, true), delta=2e-4)

  def test_refusals(self):
    model = _model('gemma2')
    sae = _sae(model)
    windows = self._windows(model)
    with self.assertRaisesRegex(ooc_jax.InputError, 'read by the attention'):
      validation.attention_agreement(model, sae, windows, 2)
    with self.assertRaisesRegex(ooc_jax.InputError, 'at least two'):
      validation.attention_agreement(model, sae, windows[:1], _LAYER)
    blind = dataclasses.replace(sae, encoder=None)
    with self.assertRaisesRegex(ooc_jax.InputError, 'no encoder'):
      validation.attention_agreement(model, blind, windows, _LAYER)


if __name__ == '__main__':
  absltest.main()
