"""Each layer against its definition, one number at a time, in float64."""

import dataclasses
import math

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from ooc_jax.model import _layers
from ooc_jax.model import apply_rope
from ooc_jax.model import Llama3Scaling
from ooc_jax.model import ModelConfig
from ooc_jax.model import Rope
from ooc_jax.model import rope_frequencies
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
    attention_scale=0.4,
    rope=Rope(base=500.0),
    windows=(None, None),
)
_LENGTH = 13
_BATCH = 4


def _rng(seed=0):
  return np.random.default_rng(seed)


def _rms(x, weight, offset, eps):
  """x / sqrt(mean(x²) + eps) · (offset + weight), of one vector."""
  scale = math.sqrt(sum(v * v for v in x) / len(x) + eps)
  return [v / scale * (offset + w) for v, w in zip(x, weight, strict=True)]


def _rotated(x, position, base):
  """Pairs (i, i + H/2) as complex numbers, turned by position · base^(-2i/H)."""
  half = len(x) // 2
  turned = [
      complex(x[i], x[i + half])
      * np.exp(1j * position * base ** (-2 * i / len(x)))
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
        if config.family == 'gemma3':
          q = _rms(q, p['query_norm']['weight'], 1, config.norm_eps)
          k = _rms(k, p['key_norm']['weight'], 1, config.norm_eps)
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
              'family': 'gemma2',
              'attention_softcap': 1.5,
              'windows': (None, 5),
          },
      ),
      (
          'gemma3',
          {
              'family': 'gemma3',
              'windows': (None, 5),
              'local_rope': Rope(base=30.0),
          },
      ),
      ('window_of_one', {'family': 'gemma2', 'windows': (None, 1)}),
      ('window_over_all', {'family': 'gemma2', 'windows': (None, 99)}),
  )
  def test_matches_definition(self, changes):
    config = dataclasses.replace(_CONFIG, **changes)
    rng = _rng()
    x = rng.normal(size=(_BATCH, _LENGTH, config.embed_dim)).astype(np.float32)
    positions = jnp.broadcast_to(jnp.arange(_LENGTH), (_BATCH, _LENGTH))
    for layer in range(2):
      module = _layers.Attention(config, layer)
      params = jax.tree.map(
          lambda a: jnp.asarray(0.4 * rng.normal(size=a.shape), jnp.float32),
          module.init(jax.random.key(0), x, positions)['params'],
      )
      actual = jax.jit(module.apply)({'params': params}, x, positions)
      expected = _slow_attention(config, params, x.astype(np.float64), layer)
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
    rng = _rng(1)
    x = (100 * rng.normal(size=(2, 3, 5))).astype(np.float32)
    x[0, 0] = 1e-3 * x[0, 0]  # Small enough for eps to count.
    weight = rng.normal(size=5).astype(np.float32)
    norm = _layers.RMSNorm(eps=1e-2, offset=offset)
    actual = norm.apply({'params': {'weight': jnp.asarray(weight)}}, x)
    for index in np.ndindex(2, 3):
      expected = _rms(x[index].astype(float), weight, offset, 1e-2)
      np.testing.assert_allclose(actual[index], expected, rtol=1e-5, atol=1e-6)

  @parameterized.parameters(0.0, 1.0)
  def test_a_new_norm_has_gain_one(self, offset):
    norm = _layers.RMSNorm(eps=1e-9, offset=offset)
    x = jnp.asarray(_rng(2).normal(size=(3, 40)), jnp.float32)
    y = norm.apply(norm.init(jax.random.key(0), x), x)
    np.testing.assert_allclose(jnp.mean(y**2, axis=-1), 1.0, rtol=1e-5)

  def test_bfloat16_norm_is_computed_in_float32(self):
    """257 elements of 1 and one gain of 1 + 1/256: bfloat16 rounds both."""
    norm = _layers.RMSNorm(eps=1e-6, offset=1.0)
    x = jnp.ones((1, 257), jnp.bfloat16)
    y = norm.apply({'params': {'weight': jnp.full(257, 3 / 512)}}, x)
    self.assertEqual(y.dtype, jnp.bfloat16)
    # 1 + 3/512 lies between the bfloat16 numbers 1 and 1 + 1/128: rounded once
    # it is 1 + 1/128.
    np.testing.assert_array_equal(y.astype(jnp.float32), 1 + 1 / 128)

  @parameterized.parameters('llama', 'gemma2')
  def test_mlp_matches_definition(self, family):
    config = dataclasses.replace(_CONFIG, family=family)
    rng = _rng(3)
    D, M = config.embed_dim, config.mlp_dim
    x = rng.normal(size=(2, 3, D)).astype(np.float32)
    params = {
        name: rng.normal(size=shape).astype(np.float32) / 3
        for name, shape in (('gate', (D, M)), ('up', (D, M)), ('down', (M, D)))
    }
    actual = _layers.MLP(config).apply({'params': params}, x)
    for index in np.ndindex(2, 3):
      gate = x[index].astype(float) @ params['gate'].astype(float)
      if family == 'llama':
        active = gate / (1 + np.exp(-gate))
      else:
        inner = math.sqrt(2 / math.pi) * (gate + 0.044715 * gate**3)
        active = 0.5 * gate * (1 + np.tanh(inner))
      hidden = active * (x[index].astype(float) @ params['up'].astype(float))
      np.testing.assert_allclose(
          actual[index],
          hidden @ params['down'].astype(float),
          rtol=1e-5,
          atol=1e-5,
      )


class RopeTest(parameterized.TestCase):

  @parameterized.parameters((8, 1e4), (64, 1e5), (128, 5e5), (256, 1e6))
  def test_plain_frequencies(self, head_dim, base):
    expected = [base ** (-2 * i / head_dim) for i in range(head_dim // 2)]
    actual = rope_frequencies(Rope(base=base), head_dim)
    self.assertEqual(actual.dtype, np.float64)
    np.testing.assert_allclose(actual, expected, rtol=1e-13)
    linear = rope_frequencies(Rope(base=base, linear_factor=8.0), head_dim)
    np.testing.assert_allclose(linear, np.divide(expected, 8), rtol=1e-13)

  def _llama31(self):
    return Rope(
        base=5e5,
        llama3=Llama3Scaling(
            factor=8.0,
            low_frequency_factor=1.0,
            high_frequency_factor=4.0,
            original_context=8192,
        ),
    )

  def test_frequencies_of_llama_3_1(self):
    """By wavelength, as the paper's code has it, for the real 8B model."""
    actual = rope_frequencies(self._llama31(), 128)
    regimes = []
    for i in range(64):
      frequency = 5e5 ** (-2 * i / 128)
      wavelength = 2 * math.pi / frequency
      if wavelength < 8192 / 4:
        regimes.append('kept')
      elif wavelength > 8192 / 1:
        regimes.append('divided')
        frequency /= 8
      else:
        regimes.append('interpolated')
        smooth = (8192 / wavelength - 1) / (4 - 1)
        frequency = (1 - smooth) * frequency / 8 + smooth * frequency
      np.testing.assert_allclose(actual[i], frequency, rtol=1e-13)
    counts = [regimes.count(r) for r in ('kept', 'interpolated', 'divided')]
    self.assertEqual(counts, [29, 6, 29])

  def test_divisors_are_another_way_to_say_it(self):
    """GGUF files store the Llama 3.1 scaling as one divisor per pair."""
    scaled = rope_frequencies(self._llama31(), 128)
    plain = rope_frequencies(Rope(base=5e5), 128)
    divisors = plain / scaled
    self.assertEqual((divisors[0], round(divisors[-1], 9)), (1.0, 8.0))
    rope = Rope(base=5e5, divisors=tuple(divisors.tolist()))
    np.testing.assert_allclose(rope_frequencies(rope, 128), scaled, rtol=1e-13)

  def test_rotation_matches_definition(self):
    x = _rng(4).normal(size=(2, 3, 5, 8)).astype(np.float32)
    positions = np.array([[0, 7, 1000], [3, 599, 2]], np.int32)
    actual = apply_rope(
        jnp.asarray(x),
        jnp.asarray(positions),
        rope_frequencies(Rope(base=500.0), 8),
    )
    for b, t, n in np.ndindex(2, 3, 5):
      expected = _rotated(x[b, t, n].astype(float), positions[b, t], 500.0)
      # At position 1000 a float32 angle is off by 3e-5.
      np.testing.assert_allclose(actual[b, t, n], expected, rtol=0, atol=2e-4)

  def test_one_quarter_turn(self):
    """Pair (i, i + H/2), counter-clockwise: the first half goes to -second."""
    x = jnp.asarray([[[[1.0, 0.0, 2.0, 0.0]]]])
    turned = apply_rope(
        x, jnp.ones((1, 1), jnp.int32), np.array([math.pi / 2, 0.0])
    )
    np.testing.assert_allclose(turned[0, 0, 0], [-2, 0, 1, 0], atol=1e-6)

  def test_only_the_distance_counts(self):
    rng = _rng(5)
    q, k = rng.normal(size=(2, 1, 1, 1, 16)).astype(np.float32)
    frequencies = rope_frequencies(Rope(base=1e4), 16)

    def score(t, s):
      at = lambda p: jnp.full((1, 1), p, jnp.int32)
      return jnp.vdot(
          apply_rope(jnp.asarray(q), at(t), frequencies),
          apply_rope(jnp.asarray(k), at(s), frequencies),
      )

    np.testing.assert_allclose(score(9, 4), score(105, 100), rtol=1e-4)
    self.assertGreater(abs(float(score(9, 4) - score(4, 9))), 0.1)

  def test_bfloat16_keeps_far_positions_apart(self):
    """4097 is no bfloat16: angles must be float32 whatever x is."""
    x = jnp.ones((1, 2, 1, 4), jnp.bfloat16)
    positions = jnp.asarray([[4096, 4097]], jnp.int32)
    y = apply_rope(x, positions, np.array([1.0, 0.01]))
    self.assertEqual(y.dtype, jnp.bfloat16)
    expected = math.cos(4097) - math.sin(4097)
    # bfloat16 has 8 bits.
    np.testing.assert_allclose(float(y[0, 1, 0, 0]), expected, rtol=4e-3)
    self.assertGreater(abs(float(y[0, 1, 0, 0] - y[0, 0, 0, 0])), 0.5)


if __name__ == '__main__':
  absltest.main()
