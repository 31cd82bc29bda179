"""Checkpoints of a training that goes on later."""

import gc
import pathlib
import shutil
import subprocess
import sys
import time

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ooc_jax import InputError
from ooc_jax.checkpoints import TrainingCheckpoints


class TrainingCheckpointsTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path) / 'new'

  def state(self, seed):
    """What optimizers have: named tuples, empty ones, numbers without axes."""
    x = np.random.default_rng(seed).normal(size=(5, 7)).astype(np.float32)
    adam = optax.ScaleByAdamState(
        jnp.int32(seed), {'a': jnp.asarray(x)}, {'a': jnp.asarray(x + 1)}
    )
    return (adam, optax.EmptyState(), jnp.asarray(x[0], jnp.bfloat16))

  def test_the_last_two_are_kept_bit_for_bit(self):
    with TrainingCheckpoints(self.folder) as checkpoints:
      self.assertIsNone(checkpoints.newest())
      for step in (2, 4, 9):
        checkpoints.save(step, self.state(step))
    with TrainingCheckpoints(self.folder) as checkpoints:
      self.assertEqual(checkpoints.newest(), 9)
      for step in (4, 9):
        again = checkpoints.load(step, self.state(0))
        expected = self.state(step)
        self.assertEqual(
            jax.tree.structure(again), jax.tree.structure(expected)
        )
        for a, b in zip(
            jax.tree.leaves(again), jax.tree.leaves(expected), strict=True
        ):
          self.assertEqual(a.dtype, b.dtype)
          self.assertEqual(np.asarray(a).tobytes(), np.asarray(b).tobytes())
    self.assertCountEqual([p.name for p in self.folder.iterdir()], ['4', '9'])

  @pytest.mark.filterwarnings('ignore')
  def test_damage_names_the_checkpoint_to_delete(self):
    with TrainingCheckpoints(self.folder) as checkpoints:
      for step in (2, 4):
        checkpoints.save(step, self.state(step))
    for file in (self.folder / '4').rglob('*'):
      if file.is_file():
        file.write_bytes(b'')
    with TrainingCheckpoints(self.folder) as checkpoints:
      with self.assertRaisesRegex(InputError, 'new/4 is damaged .*; delete it'):
        checkpoints.load(4, self.state(0))
    shutil.rmtree(self.folder / '4')
    with TrainingCheckpoints(self.folder) as checkpoints:
      self.assertEqual(checkpoints.newest(), 2)
    gc.collect()

  @pytest.mark.slow
  def test_killed_at_any_moment_the_newest_is_whole(self):
    code = (
        'import pathlib, sys; import jax.numpy as jnp;'
        ' from ooc_jax.checkpoints import TrainingCheckpoints\n'
        'with TrainingCheckpoints(pathlib.Path(sys.argv[1])) as c:\n'
        '  step = c.newest() or 0\n'
        '  while True:\n'
        '    step += 1\n'
        '    c.save(step, {"x": jnp.full((300, 700), step, jnp.int32)})\n'
    )
    rng = np.random.default_rng(4)
    like = {'x': jnp.zeros((300, 700), jnp.int32)}
    done = 0
    for _ in range(4):
      process = subprocess.Popen([sys.executable, '-c', code, self.folder])
      deadline = time.monotonic() + 120
      while not (self.folder / str(done + 2)).exists():
        self.assertIsNone(process.poll())
        self.assertLess(time.monotonic(), deadline)
        time.sleep(0.01)
      time.sleep(rng.uniform(0, 0.2))
      process.kill()
      process.wait()
      with TrainingCheckpoints(self.folder) as checkpoints:
        newest = checkpoints.newest()
        self.assertGreaterEqual(newest, done + 2)
        x = checkpoints.load(newest, like)['x']
      np.testing.assert_array_equal(x, newest)
      done = newest

  def test_place_that_cannot_be_written(self):
    self.folder.write_text('a file where the folder should be')
    with self.assertRaisesRegex(InputError, 'Cannot write .*/new: '):
      TrainingCheckpoints(self.folder)


if __name__ == '__main__':
  absltest.main()
