"""Two runs at a time on a CPU, as the calling thread would have run them."""

import functools
import threading
import time

from absl.testing import absltest
import jax
from jax import enable_x64
import jax.numpy as jnp
import numpy as np

from ooc_jax.circuits.numerics import side_by_side


class SideBySideTest(absltest.TestCase):

  def test_two_at_a_time_in_their_order(self):
    met, names = threading.Barrier(2, timeout=60), []

    def run(i):
      met.wait()  # For the other one.
      names.append(threading.get_ident())
      return i

    runs = [functools.partial(run, i) for i in (3, 5)]
    self.assertEqual(side_by_side(runs, jnp.ones(3), None), [3, 5])
    self.assertLen(set(names), 2)

  def test_one_after_the_other_on_several_devices(self):
    mesh = jax.make_mesh((2,), ('feature',), (jax.sharding.AxisType.Auto,))
    spread = jax.device_put(
        jnp.ones(4), jax.NamedSharding(mesh, jax.P('feature'))
    )
    for on, over in ((spread, None), (jnp.ones(3), mesh)):
      with self.subTest(over=over):
        names = side_by_side([threading.get_ident] * 3, on, over)
        self.assertEqual(names, [threading.get_ident()] * 3)

  def test_no_more_than_two_wait_in_memory(self):
    now, most, lock = [], [], threading.Lock()

    def run():
      with lock:
        now.append(1)
        most.append(len(now))
      time.sleep(0.01)
      with lock:
        now.pop()
      return jnp.ones(2)

    self.assertLen(side_by_side([run] * 7, jnp.ones(3), None), 7)
    self.assertLessEqual(max(most), 2)

  def test_under_jit(self):
    @jax.jit
    def f(x):
      runs = [functools.partial(jnp.multiply, x, i) for i in (2.0, 3.0)]
      return sum(side_by_side(runs, x, None))

    np.testing.assert_array_equal(f(jnp.asarray([1.0, 4.0])), [5.0, 20.0])

  def test_settings_of_the_calling_thread(self):
    run = functools.partial(jnp.arange, 3.0, dtype=float)
    second = jax.devices()[1]
    with enable_x64(True), jax.default_device(second):
      for x in side_by_side([run] * 3, jnp.ones(3), None):
        self.assertEqual(x.dtype, jnp.float64)
        self.assertEqual(x.devices(), {second})
    self.assertEqual(run().dtype, jnp.float32)

  def test_an_error_comes_through(self):
    def fail():
      raise KeyError('of a run')

    with self.assertRaisesRegex(KeyError, 'of a run'):
      side_by_side([fail, fail, fail], jnp.ones(3), None)


if __name__ == '__main__':
  absltest.main()
