"""Each layer against its definition, one number at a time, in float64."""

import dataclasses
import math

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from ooc_jax.model import ModelConfig
from ooc_jax.model import Rope
from ooc_jax.model import _layers
from ooc_jax.model import softcap

_CONFIG = ModelConfig(
    family='llama',
    vocab_size=97,
    embed_dim=22,
    mlp_dim=34,
    num_layers=2,
    num_heads=6,
    num_kv_heads=2,
    head_dim=8,
    norm_eps=1e-3,
    tied=True,
    activation='silu',
    norm_offset=0.0,
    scale_embedding=False,
    attention_scale=0.4,
    rope=Rope(base=500.0),
    windows=(None, None),
)
_LENGTH = 13
_BATCH = 3


def _normal(rng, *shape):
  return jnp.asarray(rng.normal(size=shape), jnp.float32)


def _rms(x, weight, offset, eps):
  """x / sqrt(mean(x²) + eps) · (offset + weight), of one vector."""
  scale = math.sqrt(sum(v * v for v in x) / len(x) + eps)
  return [v / scale * (offset + w) for v, w in zip(x, weight, strict=True)]


def _rotated(x, t, base):
  """Pairs (i, i + H/2) as complex numbers, turned by t · base^(-2i/H)."""
  half = len(x) // 2
  turned = [
      complex(x[i], x[i + half]) * np.exp(1j * t * base ** (-2 * i / len(x)))
      for i in range(half)
  ]
  return [z.real for z in turned] + [z.imag for z in turned]


def _slow_attention(config, params, x, layer):
  """Written from the definition."""
  p = jax.tree.map(lambda a: np.asarray(a, np.float64), params)
  N, G = config.num_heads, config.num_heads // config.num_kv_heads
  window, rope = config.windows[layer], config.rope
  if window is not None and config.local_rope is not None:
    rope = config.local_rope
  out = np.zeros(x.shape)
  for b in range(x.shape[0]):
    for n in range(N):
      queries, keys, values = [], [], []
      for t in range(x.shape[1]):
        q = x[b, t] @ p['query'][:, n]
        k = x[b, t] @ p['key'][:, n // G]
        if config.qk_norm:
          offset, eps = config.norm_offset, config.norm_eps
          q = _rms(q, p['query_norm']['weight'], offset, eps)
          k = _rms(k, p['key_norm']['weight'], offset, eps)
        queries.append(_rotated(q, t, rope.base))
        keys.append(_rotated(k, t, rope.base))
        values.append(x[b, t] @ p['value'][:, n // G])
      for t in range(x.shape[1]):
        seen = range(0 if window is None else max(0, t - window + 1), t + 1)
        logits = [
            config.attention_scale * np.dot(queries[t], keys[s]) for s in seen
        ]
        if config.attention_softcap is not None:
          cap = config.attention_softcap
          logits = [cap * math.tanh(logit / cap) for logit in logits]
        weights = [math.exp(logit) for logit in logits]
        total = sum(weights)
        mixed = sum(
            w / total * values[s] for w, s in zip(weights, seen, strict=True)
        )
        out[b, t] += mixed @ p['output'][n]
  return out


class AttentionTest(parameterized.TestCase):

  @parameterized.named_parameters(
      ('grouped', {}),
      ('multi_head', {'num_kv_heads': 6}),
      ('multi_query', {'num_kv_heads': 1}),
      (
          'gemma2',
          {
              'attention_softcap': 1.5,
              'windows': (None, 5),
          },
      ),
      (
          'gemma3',
          {
              'norm_offset': 1.0,
              'qk_norm': True,
              'windows': (None, 5),
              'local_rope': Rope(base=30.0),
          },
      ),
      ('window_of_one', {'windows': (None, 1)}),
      ('window_over_all', {'windows': (None, 99)}),
  )
  def test_matches_definition(self, changes):
    config = dataclasses.replace(_CONFIG, **changes)
    rng = np.random.default_rng(0)
    x = _normal(rng, _BATCH, _LENGTH, config.embed_dim)
    positions = jnp.broadcast_to(jnp.arange(_LENGTH), (_BATCH, _LENGTH))
    for layer in range(2):
      module = _layers.Attention(config, layer)
      params = jax.tree.map(
          lambda a: 0.4 * _normal(rng, *a.shape),
          module.init(jax.random.key(0), x, positions)['params'],
      )
      actual = jax.jit(module.apply)({'params': params}, x, positions)
      expected = _slow_attention(
          config, params, np.asarray(x, np.float64), layer
      )
      self.assertGreater(np.abs(expected).min(axis=-1).max(), 0.05)
      np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=2e-5)

  def test_mask_is_causal_and_slides(self):
    for window in (None, 1, 3, 20):
      mask = _layers.attention_mask(7, window)
      for t, s in np.ndindex(7, 7):
        sees = s <= t and (window is None or t - s < window)
        self.assertEqual(bool(mask[t, s]), sees)

  @parameterized.parameters(50.0, 2.0)
  def test_softcap_is_a_bound(self, cap):
    x = np.linspace(-300, 300, 41, dtype=np.float32)
    actual = softcap(jnp.asarray(x), cap)
    expected = [cap * math.tanh(v / cap) for v in x.astype(float)]
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)
    self.assertLessEqual(float(jnp.abs(actual).max()), cap)
    np.testing.assert_array_equal(softcap(jnp.asarray(x), None), x)


class NormAndMLPTest(parameterized.TestCase):

  @parameterized.parameters(0.0, 1.0)
  def test_rms_norm_matches_definition(self, offset):
    rng = np.random.default_rng(1)
    # Some rows are small enough for eps to count.
    x = _normal(rng, 2, 3, 5) * jnp.asarray([[[100.0], [0.1], [1.0]]])
    weight = _normal(rng, 5)
    norm = _layers.RMSNorm(eps=1e-2, offset=offset)
    actual = norm.apply({'params': {'weight': weight}}, x)
    weight = np.asarray(weight, np.float64)
    for index in np.ndindex(2, 3):
      row = np.asarray(x[index], np.float64)
      expected = _rms(row, weight, offset, 1e-2)
      np.testing.assert_allclose(actual[index], expected, rtol=1e-5, atol=1e-6)

  @parameterized.parameters(0.0, 1.0)
  def test_a_new_norm_has_gain_one(self, offset):
    norm = _layers.RMSNorm(eps=1e-9, offset=offset)
    x = jnp.asarray(np.random.default_rng(2).normal(size=(3, 40)), jnp.float32)
    y = norm.apply(norm.init(jax.random.key(0), x), x)
    np.testing.assert_allclose(jnp.mean(y**2, axis=-1), 1.0, rtol=1e-5)

  def test_bfloat16_norm_is_rounded_once(self):
    """Computed in float32: a product of rounded factors is often 1 ulp off."""
    rng = np.random.default_rng(6)
    x, weight = _normal(rng, 1, 999).astype(jnp.bfloat16), _normal(rng, 999)
    norm = _layers.RMSNorm(eps=1e-6, offset=1.0)
    y = norm.apply({'params': {'weight': weight}}, x)
    self.assertEqual(y.dtype, jnp.bfloat16)
    exact = _rms(
        np.asarray(x[0], np.float64), np.asarray(weight, np.float64), 1, 1e-6
    )
    rounded = jnp.asarray(exact, jnp.float32).astype(jnp.bfloat16)
    # float32 may fall on the other side of a tie, hardly ever.
    self.assertLess(int((y[0] != rounded).sum()), 5)

  @parameterized.parameters('silu', 'gelu_tanh')
  def test_mlp_matches_definition(self, activation):
    config = dataclasses.replace(_CONFIG, activation=activation)
    rng = np.random.default_rng(3)
    D, M = config.embed_dim, config.mlp_dim
    x = _normal(rng, 2, 3, D)
    params = {
        name: _normal(rng, *shape) / 3
        for name, shape in (('gate', (D, M)), ('up', (D, M)), ('down', (M, D)))
    }
    actual = _layers.MLP(config).apply({'params': params}, x)
    x, params = jax.tree.map(lambda a: np.asarray(a, np.float64), (x, params))
    for index in np.ndindex(2, 3):
      gate = x[index] @ params['gate']
      if activation == 'silu':
        active = gate / (1 + np.exp(-gate))
      else:
        inner = math.sqrt(2 / math.pi) * (gate + 0.044715 * gate**3)
        active = 0.5 * gate * (1 + np.tanh(inner))
      expected = (active * (x[index] @ params['up'])) @ params['down']
      np.testing.assert_allclose(actual[index], expected, rtol=1e-5, atol=1e-5)


_AXES = {'B': 2, 'T': 5, 'S': 7, 'D': 300, 'N': 6, 'K': 3, 'G': 4, 'H': 8}
_SPECS = (
    'BTD,DNH->BTNH',
    'BTKGH,BSKH->BKGTS',
    'BKGTS,BSKH->BTKGH',
    'BTNH,NHD->BTD',
)


def _operands(spec, dtype, seed=0):
  rng = np.random.default_rng(seed)
  return [
      jnp.asarray(rng.normal(size=[_AXES[a] for a in axes]), dtype)
      for axes in spec.split('->')[0].split(',')
  ]


def _float64(*arrays):
  return [np.asarray(x, np.float64) for x in arrays]


class ProductTest(parameterized.TestCase):

  @parameterized.product(
      spec=_SPECS, dtype=(jnp.float32, jnp.bfloat16, jnp.float16)
  )
  def test_against_float64(self, spec, dtype):
    x, w = _operands(spec, dtype)
    found = _layers.product(spec, x, w)
    self.assertEqual(found.dtype, jnp.float32)
    # Products of narrow numbers are exact in float32, so only sums round.
    np.testing.assert_allclose(
        found, np.einsum(spec, *_float64(x, w)), rtol=1e-5, atol=2e-5
    )

  @parameterized.parameters(*_SPECS)
  def test_gradient_of_narrow_operands(self, spec):
    x, w = _operands(spec, jnp.bfloat16)
    shape = jax.eval_shape(lambda: _layers.product(spec, x, w)).shape
    # Exact in bfloat16, so that the cotangent is not rounded.
    g = np.random.default_rng(1).integers(-8, 9, shape).astype(np.float32)
    dx, dw = jax.grad(
        lambda x, w: (_layers.product(spec, x, w) * g).sum(), argnums=(0, 1)
    )(x, w)
    self.assertEqual((dx.dtype, dw.dtype), (jnp.bfloat16, jnp.bfloat16))
    inputs, out = spec.split('->')
    a, b = inputs.split(',')
    g = g.astype(np.float64)
    want_x = np.einsum(f'{out},{b}->{a}', g, *_float64(w), optimize=True)
    want_w = np.einsum(f'{out},{a}->{b}', g, *_float64(x), optimize=True)
    # One rounding to 8 bits, at the end.
    for found, want in ((dx, want_x), (dw, want_w)):
      np.testing.assert_allclose(
          *_float64(found), want, rtol=2**-8, atol=1e-4 * np.abs(want).max()
      )

  def test_a_long_sum_keeps_small_terms(self):
    """Summed in bfloat16, ones would stop counting at 256."""
    x = jnp.ones((1, 1, 3000), jnp.bfloat16)
    self.assertEqual(
        _layers.product('BTD,DM->BTM', x, x.reshape(3000, 1)), 3000
    )


if __name__ == '__main__':
  absltest.main()
