"""Compiling is told apart from running."""

import time

from absl.testing import absltest
import jax
import jax.numpy as jnp

from ooc_jax.experiments import _clock

_STEP = '/jax/core/compile/backend_compile_duration'


class ClockTest(absltest.TestCase):

  def test_only_new_programs_are_compiled(self):
    def double(x):
      return x * 2

    fn, x = jax.jit(double), jnp.ones(7)
    with _clock.timed() as first:
      fn(x).block_until_ready()
      time.sleep(0.05)
    self.assertGreater(first.compiling, 0)
    self.assertGreater(first.seconds, 0.04)
    with _clock.timed() as second:
      fn(x).block_until_ready()
    self.assertEqual(second.compiling, 0)
    stopped = first.seconds
    jax.jit(lambda x: x + 3)(x)  # Nobody listens any more.
    self.assertEqual(first.seconds, stopped)

  def test_a_step_in_another_is_counted_once(self):
    with _clock.timed() as clock:
      time.sleep(0.03)
      clock(_STEP, 0.01)
      clock('/jax/of/something/else', 0.02)
      inner = clock.compiling
      clock(_STEP, 0.025)
      self.assertGreater(clock.compiling, inner)
      self.assertLess(clock.compiling, 0.028)
      clock(_STEP, 99.0)  # Begun before.
    self.assertLessEqual(clock.seconds, 0.01)
    self.assertGreaterEqual(clock.seconds, 0)


if __name__ == '__main__':
  absltest.main()
