"""Mean pairwise cosine against a loop over pairs."""

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec
import numpy as np

from ooc_jax import measures
from ooc_jax._errors import InputError
from ooc_jax.measures import _token_space

_V, _D, _F = 59, 11, 23


def _unit_rows(rng, num_rows=_V, num_dims=_D):
  x = rng.normal(size=(num_rows, num_dims)) + 0.5
  return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def _mean_over_pairs(rows):
  rows = rows.astype(np.float64)
  total, pairs = 0.0, 0
  for i, a in enumerate(rows):
    for b in rows[:i]:
      norms = np.linalg.norm(a) * np.linalg.norm(b)
      total += (a @ b) / norms if norms else 0.0
      pairs += 1
  return total / pairs


class MeanPairwiseCosineTest(parameterized.TestCase):

  @parameterized.product(num_top=(2, 3, 7), block_size=(1, 5, 23, 256))
  def test_equals_the_definition(self, num_top, block_size):
    rng = np.random.default_rng(num_top)
    table = _unit_rows(rng)
    ids = rng.integers(0, _V, (_F, num_top))
    got = measures.mean_pairwise_cosine(
        ids, jnp.asarray(table), block_size=block_size
    )
    want = [_mean_over_pairs(table[row]) for row in ids]
    np.testing.assert_allclose(got, want, atol=1e-6)
    self.assertGreater(np.std(want), 0.05)

  def test_a_zero_row_counts_as_cosine_zero(self):
    rng = np.random.default_rng(0)
    table = _unit_rows(rng)
    table[7] = 0.0
    ids = np.array([[7, 1, 2, 3], [7, 7, 7, 7], [7, 5, 7, 5]])
    got = measures.mean_pairwise_cosine(ids, jnp.asarray(table))
    want = [_mean_over_pairs(table[row]) for row in ids]
    np.testing.assert_allclose(got, want, atol=1e-6)
    np.testing.assert_allclose(got[2], 1 / 6, atol=1e-6)

  def test_limits(self):
    """One direction gives 1; a simplex the least there can be."""
    simplex = np.eye(5) - 1 / 5
    simplex /= np.linalg.norm(simplex, axis=1, keepdims=True)
    table = jnp.asarray(simplex, jnp.float32)
    ids = np.array([[2, 2, 2, 2, 2], [0, 1, 2, 3, 4]])
    got = measures.mean_pairwise_cosine(ids, table)
    np.testing.assert_allclose(got, [1.0, -1 / 4], atol=1e-6)

  @parameterized.parameters('whitened', 'top_removed')
  def test_planted_cluster_stands_out(self, kind):
    """Also where one direction that means nothing dominates all rows."""
    rng = np.random.default_rng(4)
    num_dims, members = 67, np.array([3, 8, 9, 21, 40, 58])
    u = rng.normal(size=(641, num_dims))
    u[members] = 2.0 * rng.normal(size=num_dims) + 0.8 * u[members]
    u += 20.0 * rng.normal(size=(641, 1)) * rng.normal(size=num_dims)
    ids = np.stack([members] + [rng.permutation(641)[:6] for _ in range(30)])

    def cosines(kind):
      space = measures.token_space(
          jnp.asarray(u, jnp.float32), np.ones(641, bool), kind
      )
      return np.asarray(measures.mean_pairwise_cosine(ids, space))

    got = cosines(kind)
    self.assertGreater(got[0], 0.4)
    self.assertLess(np.abs(got[1:]).max(), 0.2)
    # Why centring alone is not the default: there chance sets score too.
    self.assertGreater(cosines('centred')[1:].max(), 0.3)

  @parameterized.parameters(*measures.TOKEN_SPACES)
  def test_equals_the_definition_in_a_space(self, kind):
    """Over tokens of every k at once, some more than once, one at the mean."""
    rng = np.random.default_rng(7)
    num_dims = 301
    spread = np.geomspace(1.0, 30.0, num_dims)
    u = rng.normal(size=(701, num_dims)) * spread + 2.0
    u = np.array(jnp.asarray(u, jnp.bfloat16), np.float64)
    u[700] = u[:700].mean(0)
    mean, cov = u.mean(0), np.cov(u.T, ddof=0)
    variance, basis = np.linalg.eigh(cov)
    scale = np.ones(num_dims)
    if kind == 'whitened':
      scale = variance**-0.5
    elif kind == 'top_removed':
      scale[-3:] = 0.0
    rows = (u - mean) @ (basis * scale)
    rows[700] = 0.0
    rows[:700] /= np.linalg.norm(rows[:700], axis=1, keepdims=True)
    space = measures.token_space(
        jnp.asarray(u, jnp.float32), np.ones(701, bool), kind
    )
    # Of a mean in float32 nothing is at the mean but by rounding.
    space = space.replace(norms=space.norms.at[700].set(0.0))
    ids = rng.integers(0, 701, (_F, 9))
    ids[0, :3], ids[1, 4] = ids[0, 0], 700
    sizes = (5, 2, 9)
    got = _token_space.mean_pairwise_cosines(ids, space, sizes, block_size=5)
    for k, values in zip(sizes, got, strict=True):
      want = [_mean_over_pairs(rows[row[:k]]) for row in ids]
      np.testing.assert_allclose(values, want, atol=2e-6)

  def test_works_under_jit(self):
    rng = np.random.default_rng(5)
    table = jnp.asarray(_unit_rows(rng))
    ids = jnp.asarray(rng.integers(0, _V, (_F, 4)))
    np.testing.assert_allclose(
        jax.jit(measures.mean_pairwise_cosine)(ids, table),
        measures.mean_pairwise_cosine(ids, table),
        atol=1e-7,
    )

  def test_sharded_table_and_features(self):
    rng = np.random.default_rng(6)
    table, ids = _unit_rows(rng, 8 * 13), rng.integers(0, 8 * 13, (4 * 9, 5))
    mesh = jax.make_mesh(
        (4, 2),
        ('feature', 'vocab'),
        axis_types=(jax.sharding.AxisType.Auto,) * 2,
    )
    by_feature = NamedSharding(mesh, PartitionSpec('feature'))
    ids_F = jax.device_put(ids, by_feature)
    table_V = jax.device_put(table, NamedSharding(mesh, PartitionSpec('vocab')))
    got = measures.mean_pairwise_cosine(ids_F, table_V, block_size=7)
    want = [_mean_over_pairs(table[row]) for row in ids]
    np.testing.assert_allclose(got, want, atol=1e-6)
    self.assertTrue(got.sharding.is_equivalent_to(by_feature, 1))
    space = measures.TokenSpace(
        table_V, jnp.zeros(_D), jnp.eye(_D), jnp.ones(8 * 13), 'whitened'
    )
    lowered = _token_space._mean_cosines.lower(ids_F, space, (3,), 7, 4)
    self.assertNotIn('all-gather', lowered.compile().as_text())

  def test_no_features(self):
    table = jnp.asarray(_unit_rows(np.random.default_rng(0)))
    got = measures.mean_pairwise_cosine(np.empty((0, 3), int), table)
    self.assertEqual(got.shape, (0,))

  def test_memory_is_bounded_by_the_block(self):
    num_features, num_top, size, vocab = 5000, 20, 64, 100_000
    lowered = _token_space._mean_cosines.lower(
        jax.ShapeDtypeStruct((num_features, num_top), jnp.int32),
        measures.TokenSpace(
            jax.ShapeDtypeStruct((vocab, _D), jnp.bfloat16),
            jax.ShapeDtypeStruct((_D,), jnp.float32),
            jax.ShapeDtypeStruct((_D, _D), jnp.float32),
            jax.ShapeDtypeStruct((vocab,), jnp.float32),
            'whitened',
        ),
        (5, num_top),
        size,
        1,
    )
    temp = lowered.compile().memory_analysis().temp_size_in_bytes
    # The ids may be copied once to be cut into blocks; the rows may not.
    ids_bytes = 4 * num_features * num_top
    self.assertLess(temp, 2 * ids_bytes + 3 * 4 * size * num_top * _D)
    self.assertLess(temp, ids_bytes * _D / 2)
    self.assertLess(temp, 4 * vocab * _D / 2)  # No float32 copy of the table.

  def test_one_token_has_no_pair(self):
    table = jnp.asarray(_unit_rows(np.random.default_rng(0)))
    with self.assertRaisesRegex(InputError, 'k of at least 2'):
      measures.mean_pairwise_cosine(np.zeros((3, 1), int), table)


if __name__ == '__main__':
  absltest.main()
