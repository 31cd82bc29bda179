"""Under-trained tokens: planted and found, and not found where none are."""

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec
import numpy as np
import pytest

from ooc_jax._errors import InputError
from ooc_jax.circuits import undertrained_at
from ooc_jax.circuits import undertrained_tokens
from ooc_jax.circuits.lens import _vocabulary
from ooc_jax.circuits.numerics import _blocks

_V, _D = 8 * 113, 31
_NUM_UNSEEN, _NUM_SEEDS = 43, 9


def _planted(spread=0.3):
  """A table of seen tokens, and unseen ones in a cone; some of them known."""
  rng = np.random.default_rng(0)
  u = rng.normal(size=(_V, _D)) + 2.0 * rng.normal(size=_D)
  unseen = rng.permutation(_V)[:_NUM_UNSEEN]
  pole = rng.normal(size=_D)
  u[unseen] = 2.0 * pole + spread * u[unseen]
  seeds = np.zeros(_V, bool)
  seeds[unseen[:_NUM_SEEDS]] = True
  return u.astype(np.float32), seeds, np.isin(np.arange(_V), unseen)


def _oracle(u, seeds, cosine, rounds=2):
  u = np.asarray(u, np.float64)
  mean = sum(u) / len(u)
  near = list(np.flatnonzero(seeds))
  for _ in range(rounds):
    r = sum((u[i] - mean for i in near), np.zeros(u.shape[1])) / len(near)
    near = []
    for i, row in enumerate(u):
      x = row - mean
      if x @ r / np.sqrt((x @ x) * (r @ r)) > cosine:
        near.append(i)
  return np.isin(np.arange(len(u)), near)


def _lowered(u, seeds, block_size):
  """The passes over this table, lowered."""
  rows = jnp.zeros((2, u.shape[1]), jnp.float32)
  blocks = _blocks.RowBlocks.of(u, block_size)
  seeds = np.stack([seeds, seeds], axis=1)
  yield _vocabulary._mean_rows.lower(u, seeds, blocks=blocks)
  yield _vocabulary._near.lower(u, rows[0], rows, jnp.ones(2), blocks=blocks)


class UndertrainedTokensTest(parameterized.TestCase):

  def test_planted_tokens_are_found_and_no_others(self):
    u, seeds, unseen = _planted()
    got = undertrained_tokens(jnp.asarray(u), seeds)
    np.testing.assert_array_equal(got, unseen)

  @parameterized.product(
      cosine=(0.3, 0.5, 0.6, 0.8),
      dtype=(jnp.float32, jnp.bfloat16),
      block_size=(85, 4096),
  )
  def test_equals_the_definition(self, cosine, dtype, block_size):
    """With a wide cone, so that the cut goes through it."""
    u, seeds, _ = _planted(spread=1.3)
    u = jnp.asarray(u, dtype)
    got = undertrained_tokens(u, seeds, cosine=cosine, block_size=block_size)
    want = _oracle(u.astype(jnp.float32), seeds, cosine)
    self.assertBetween(want.sum(), 10, _V // 2)
    np.testing.assert_array_equal(got, want)

  def test_several_levels_at_once(self):
    u, seeds, _ = _planted(spread=1.3)
    u = jnp.asarray(u)
    levels = (0.6, 0.3, 0.8)
    got = undertrained_at(u, seeds, levels)
    for i, cosine in enumerate(levels):
      np.testing.assert_array_equal(got[:, i], _oracle(u, seeds, cosine))

  def test_the_direction_is_refined_once(self):
    u, seeds, _ = _planted(spread=1.3)
    refined = _oracle(u, seeds, 0.3)
    for rounds in (1, 3):
      self.assertFalse((refined == _oracle(u, seeds, 0.3, rounds)).all())
    got = undertrained_tokens(jnp.asarray(u), seeds, cosine=0.3)
    np.testing.assert_array_equal(got, refined)

  def test_no_seeds_nothing_flagged(self):
    u, seeds, _ = _planted()
    for table in (u, np.abs(u) + 5.0):
      got = undertrained_tokens(
          jnp.asarray(table), np.zeros_like(seeds), cosine=0.0
      )
      self.assertFalse(np.asarray(got).any())

  def test_seeds_that_share_no_direction_flag_nothing(self):
    rng = np.random.default_rng(1)
    u = rng.normal(size=(_V, _D)) + rng.normal(size=_D)
    seeds = np.arange(_V) % 9 == 4
    got = undertrained_tokens(jnp.asarray(u, jnp.float32), seeds)
    self.assertFalse(np.asarray(got).any())

  def test_a_seed_that_is_used_is_not_flagged(self):
    u, seeds, unseen = _planted()
    used = np.flatnonzero(~unseen)[5]
    seeds[used] = True
    got = undertrained_tokens(jnp.asarray(u), seeds)
    np.testing.assert_array_equal(got, unseen)

  def test_shift_scale_and_rotation_change_nothing(self):
    rng = np.random.default_rng(2)
    u, seeds, _ = _planted(spread=1.3)
    rotation, _ = np.linalg.qr(rng.normal(size=(_D, _D)))
    moved = 0.3 * u @ rotation + rng.normal(size=_D)
    np.testing.assert_array_equal(
        undertrained_tokens(jnp.asarray(u), seeds),
        undertrained_tokens(jnp.asarray(moved, jnp.float32), seeds),
    )

  def test_a_row_at_the_mean_is_not_flagged(self):
    u = np.array([[1, 2], [3, 2], [2, 5], [2, -1], [2, 2]], np.float32)
    got = undertrained_tokens(jnp.asarray(u), np.arange(5) == 1)
    np.testing.assert_array_equal(got, [False, True, False, False, False])

  def test_sharded_rows_give_the_same_without_a_gather(self):
    mesh = jax.make_mesh(
        (8,), ('vocab',), axis_types=(jax.sharding.AxisType.Auto,)
    )
    u, seeds, unseen = _planted()
    u = jax.device_put(u, NamedSharding(mesh, PartitionSpec('vocab')))
    np.testing.assert_array_equal(undertrained_tokens(u, seeds), unseen)
    for lowered in _lowered(u, seeds, block_size=32):
      self.assertNotIn('all-gather', lowered.compile().as_text())

  @parameterized.parameters(jnp.float32, jnp.bfloat16)
  def test_memory_is_bounded_by_the_block(self, dtype):
    u = jnp.ones((40_000, _D), dtype)
    for lowered in _lowered(u, np.ones(40_000, bool), block_size=256):
      temp = lowered.compile().memory_analysis().temp_size_in_bytes
      # What is marked is there twice: a byte for each token and level.
      self.assertLess(temp, 8 * 4 * 256 * _D + 2 * 2 * 40_000)

  @pytest.mark.any_compiler
  def test_row_that_is_not_finite(self):
    u, seeds, _ = _planted()
    u[17, 3] = np.nan
    with self.assertRaisesRegex(InputError, 'not finite'):
      undertrained_tokens(jnp.asarray(u), seeds)

  @parameterized.parameters(1.0, -0.1, 60.0, float('nan'))
  @pytest.mark.any_compiler
  def test_cosine_out_of_range(self, cosine):
    u, seeds, _ = _planted()
    with self.assertRaisesRegex(InputError, 'from 0 to below 1'):
      undertrained_tokens(jnp.asarray(u), seeds, cosine=cosine)


if __name__ == '__main__':
  absltest.main()
