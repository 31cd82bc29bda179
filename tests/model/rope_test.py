"""Rotary frequencies and rotations against their definitions, in float64."""

import math

from absl.testing import absltest
from absl.testing import parameterized
import jax.numpy as jnp
import numpy as np

from ooc_jax.model import Llama3Scaling
from ooc_jax.model import Rope
from ooc_jax.model import apply_rope
from ooc_jax.model import rope_frequencies

_LLAMA31 = Rope(
    base=5e5,
    llama3=Llama3Scaling(
        factor=8.0,
        low_frequency_factor=1.0,
        high_frequency_factor=4.0,
        original_context=8192,
    ),
)


def _rotated(x, t, base):
  """Pairs (i, i + H/2) as complex numbers, turned by t · base^(-2i/H)."""
  half = len(x) // 2
  turned = [
      complex(x[i], x[i + half]) * np.exp(1j * t * base ** (-2 * i / len(x)))
      for i in range(half)
  ]
  return [z.real for z in turned] + [z.imag for z in turned]


class RopeTest(parameterized.TestCase):

  @parameterized.parameters((8, 1e4), (64, 1e5), (128, 5e5), (256, 1e6))
  def test_plain_frequencies(self, head_dim, base):
    expected = [base ** (-2 * i / head_dim) for i in range(head_dim // 2)]
    actual = rope_frequencies(Rope(base=base), head_dim)
    self.assertEqual(actual.dtype, np.float64)
    np.testing.assert_allclose(actual, expected, rtol=1e-13)
    linear = rope_frequencies(Rope(base=base, linear_factor=8.0), head_dim)
    np.testing.assert_allclose(linear, np.divide(expected, 8), rtol=1e-13)

  def test_frequencies_of_llama_3_1(self):
    """By wavelength, as the reference has it, for the real 8B model."""
    actual = rope_frequencies(_LLAMA31, 128)
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
    scaled = rope_frequencies(_LLAMA31, 128)
    plain = rope_frequencies(Rope(base=5e5), 128)
    divisors = plain / scaled
    self.assertEqual((divisors[0], round(divisors[-1], 9)), (1.0, 8.0))
    rope = Rope(base=5e5, divisors=tuple(divisors.tolist()))
    np.testing.assert_allclose(rope_frequencies(rope, 128), scaled, rtol=1e-13)

  def test_rotation_matches_definition(self):
    x = np.random.default_rng(4).normal(size=(2, 3, 5, 8)).astype(np.float32)
    positions = np.array([[0, 7, 1000], [3, 599, 2]], np.int32)
    frequencies = rope_frequencies(Rope(base=500.0), 8)
    actual = apply_rope(jnp.asarray(x), jnp.asarray(positions), frequencies)
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
    rng = np.random.default_rng(5)
    q, k = rng.normal(size=(2, 1, 1, 1, 16)).astype(np.float32)
    frequencies = rope_frequencies(Rope(base=1e4), 16)

    def at(x, position):
      positions = jnp.full((1, 1), position, jnp.int32)
      return apply_rope(jnp.asarray(x), positions, frequencies)

    def score(t, s):
      return jnp.vdot(at(q, t), at(k, s))

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
