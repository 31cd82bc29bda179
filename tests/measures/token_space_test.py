"""Token spaces against float64 NumPy, and the invariances they are for."""

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec
import numpy as np

from ooc_jax import circuits
from ooc_jax import measures
from ooc_jax._errors import InputError
from ooc_jax.circuits.numerics import RowBlocks
from ooc_jax.measures import _token_space

_V, _D = 137, 13
# Float32 rounding of unit rows. Whitening multiplies it by the spread of the
# roots of the variances, 55 here; measured: 1.3e-5, and 1e-6 in the others.
_ATOL = {'whitened': 3e-5, 'top_removed': 3e-6, 'centred': 3e-6}


def _table(seed=0, num_rows=_V, num_dims=_D):
  """Rows with a mean, correlations and one wide direction, as real ones.

  The variances span a factor of 3000, as those of two trained tables do.
  """
  rng = np.random.default_rng(seed)
  basis, _ = np.linalg.qr(rng.normal(size=(num_dims, num_dims)))
  spread = np.geomspace(1.0, 6.0, num_dims)
  spread[-1] = 55.0
  x = (rng.normal(size=(num_rows, num_dims)) * spread) @ basis
  return (x + 5.0 * rng.normal(size=num_dims)).astype(np.float32)


def _keep(seed=1, num_rows=_V):
  return np.random.default_rng(seed).random(num_rows) < 0.8


def _oracle(u, keep, kind):
  u = np.asarray(u, np.float64)
  kept = u[keep]
  mean = kept.mean(0)
  cov = np.zeros((u.shape[1],) * 2)
  for row in kept:
    cov += np.outer(row - mean, row - mean) / len(kept)
  x = u - mean
  if kind == 'whitened':
    # Newton's iteration for the inverse root: no eigendecomposition.
    y, z = cov / np.trace(cov), np.eye(len(cov))
    for _ in range(60):
      t = 1.5 * np.eye(len(cov)) - 0.5 * z @ y
      y, z = y @ t, t @ z
    x = x @ z
  elif kind == 'top_removed':
    left, _, _ = np.linalg.svd((kept - mean).T)
    for component in left.T[: max(1, u.shape[1] // 100)]:
      x = x - np.outer(x @ component, component)
  return x / np.linalg.norm(x, axis=1, keepdims=True)


def _vocab_mesh(axis_size):
  return jax.make_mesh(
      (axis_size,),
      ('vocab',),
      axis_types=(jax.sharding.AxisType.Auto,),
      devices=jax.devices()[:axis_size],
  )


def _rows(space):
  """[V, D] of every token; all that is compared is free of the basis."""
  return np.asarray(space.directions(np.arange(len(space.norms))))


def _gram(rows):
  rows = np.asarray(rows, np.float64)
  return rows @ rows.T


def _lowered(mesh, num_rows, size, dtype):
  """The norms, lowered for a table of that many rows."""

  def like(shape, dtype, sharded=False):
    if mesh is None:
      return jax.ShapeDtypeStruct(shape, dtype)
    spec = PartitionSpec('vocab') if sharded else PartitionSpec()
    sharding = NamedSharding(mesh, spec)
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)

  shards = 1 if mesh is None else mesh.size
  whole = jax.ShapeDtypeStruct((_D, _D), jnp.float32)
  parts = jax.eval_shape(_token_space._parts, whole)
  return _token_space._row_norms.lower(
      like((num_rows, _D), dtype, sharded=True),
      like((_D,), jnp.float32),
      [like(x.shape, x.dtype) for x in parts],
      blocks=RowBlocks(shards, num_rows // shards, size),
  )


class TokenSpaceTest(parameterized.TestCase):

  @parameterized.product(
      kind=measures.TOKEN_SPACES,
      dtype=(jnp.float32, jnp.bfloat16),
      block_size=(17, 137, 4096),  # A remainder, exact, more than there is.
  )
  def test_equals_the_definition(self, kind, dtype, block_size):
    u = jnp.asarray(_table(), dtype)
    keep = _keep()
    space = measures.token_space(u, keep, kind, block_size=block_size)
    want = _oracle(u.astype(jnp.float32), keep, kind)
    got = _rows(space)
    np.testing.assert_allclose(_gram(got), _gram(want), atol=_ATOL[kind])
    self.assertEqual(got.dtype, jnp.float32)
    self.assertEqual(space.kind, kind)
    # The table is held as it is, once.
    self.assertIs(space.table, u)

  def test_default_is_whitened(self):
    u, keep = jnp.asarray(_table()), _keep()
    space = measures.token_space(u, keep)
    self.assertEqual(space.kind, 'whitened')

  def test_whitened_rows_have_no_mean_and_one_variance(self):
    u, keep = _table(), _keep()
    table = _rows(measures.token_space(jnp.asarray(u), keep))
    root = np.linalg.inv(np.linalg.cholesky(np.cov(u[keep].T, ddof=0)))
    lengths = np.linalg.norm((u - u[keep].mean(0)) @ root.T, axis=1)
    white = table[keep] * lengths[keep, None]
    np.testing.assert_allclose(white.mean(0), 0.0, atol=1e-5)
    cov = white.T @ white / keep.sum()
    np.testing.assert_allclose(cov, np.eye(_D), atol=1e-4)

  def test_whitened_cosines_survive_any_linear_map(self):
    """What makes it the causal inner product: no basis is special."""
    rng = np.random.default_rng(4)
    u, keep = _table(), _keep()
    left, right = (np.linalg.qr(rng.normal(size=(_D, _D)))[0] for _ in range(2))
    map_ = left @ np.diag(rng.permutation(np.geomspace(0.3, 3.0, _D))) @ right
    shift = rng.normal(size=_D)
    mapped = (u @ map_ + shift).astype(np.float32)

    def cosines(x, kind):
      table = _rows(measures.token_space(jnp.asarray(x), keep, kind))
      return table @ table.T

    # The map's condition number, 10, times the tolerance of one table.
    np.testing.assert_allclose(
        cosines(u, 'whitened'), cosines(mapped, 'whitened'), atol=3e-4
    )
    moved = np.abs(cosines(u, 'centred') - cosines(mapped, 'centred')).max()
    self.assertGreater(moved, 0.3)

  @parameterized.parameters(*measures.TOKEN_SPACES)
  def test_cosines_survive_a_rotation_a_scale_and_a_shift(self, kind):
    rng = np.random.default_rng(3)
    u, keep = _table(), _keep()
    rotation, _ = np.linalg.qr(rng.normal(size=(_D, _D)))
    moved = (2.5 * u @ rotation + rng.normal(size=_D)).astype(np.float32)
    a = _rows(measures.token_space(jnp.asarray(u), keep, kind))
    b = _rows(measures.token_space(jnp.asarray(moved), keep, kind))
    np.testing.assert_allclose(a @ a.T, b @ b.T, atol=2 * _ATOL[kind])

  @parameterized.parameters(*measures.TOKEN_SPACES)
  def test_other_rows_do_not_enter_but_are_mapped(self, kind):
    u, keep = _table(), _keep()
    other = u.copy()
    other[~keep] *= 100.0
    a, b = (
        _rows(measures.token_space(jnp.asarray(x), keep, kind, block_size=17))
        for x in (u, other)
    )
    np.testing.assert_array_equal(a[keep], b[keep])
    np.testing.assert_allclose(np.linalg.norm(b, axis=1), 1.0, rtol=1e-5)

  def test_fewer_kept_rows_than_dimensions(self):
    """Whitened, n rows that span n - 1 dimensions are a regular simplex."""
    u = _table(num_rows=29, num_dims=23)
    keep = np.arange(29) % 4 == 1
    n = int(keep.sum())
    table = _rows(measures.token_space(jnp.asarray(u), keep))
    self.assertTrue(np.isfinite(table).all())
    want = np.full((n, n), -1 / (n - 1))
    np.fill_diagonal(want, 1.0)
    np.testing.assert_allclose(table[keep] @ table[keep].T, want, atol=1e-5)

  def test_a_column_that_does_not_vary_is_dropped(self):
    u, keep = _table(), _keep()
    wide = np.insert(u, 5, 0.25, axis=1)
    a = _rows(measures.token_space(jnp.asarray(u), keep))
    b = _rows(measures.token_space(jnp.asarray(wide), keep))
    np.testing.assert_allclose(a @ a.T, b @ b.T, atol=1e-5)

  def test_first_hundredth_of_the_components_is_removed(self):
    num_dims = 207
    u = _table(num_rows=411, num_dims=num_dims)
    keep = _keep(num_rows=411)
    rows = _rows(measures.token_space(jnp.asarray(u), keep, 'top_removed'))
    np.testing.assert_allclose(
        _gram(rows), _gram(_oracle(u, keep, 'top_removed')), atol=1e-5
    )
    _, singular, _ = np.linalg.svd(rows.astype(np.float64))
    self.assertEqual((singular < 1e-4).sum(), 2)

  def test_wide_tables_take_another_way_to_the_same(self):
    """By Cholesky, of blocks of the triangle; half way to the floor, too."""
    num_dims, rng = 411, np.random.default_rng(5)
    basis, _ = np.linalg.qr(rng.normal(size=(num_dims, num_dims)))
    spread = np.geomspace(1.0, 55.0, num_dims)
    u = (rng.normal(size=(900, num_dims)) * spread) @ basis + 3.0
    u = jnp.asarray(u, jnp.bfloat16)
    keep = _keep(num_rows=900)
    space = measures.token_space(u, keep)
    x = np.asarray(u, np.float64) - np.asarray(u, np.float64)[keep].mean(0)
    root = np.linalg.inv(np.linalg.cholesky(x[keep].T @ x[keep] / keep.sum()))
    want = x @ root.T
    norms = np.linalg.norm(want, axis=1)
    np.testing.assert_allclose(space.norms, norms, rtol=3e-5)
    want /= norms[:, None]
    np.testing.assert_allclose(_gram(_rows(space)), _gram(want), atol=3e-5)
    np.testing.assert_array_equal(space.map, np.triu(space.map))

  @parameterized.parameters((1.5e-6, 0), (0.7e-6, 1), (0.0, 1))
  def test_variances_under_the_floor_are_dropped(self, least, lost):
    rng = np.random.default_rng(6)
    for num_dims in (31, 201):
      basis, _ = np.linalg.qr(rng.normal(size=(num_dims, num_dims)))
      variance = np.geomspace(0.1, 1.0, num_dims)
      variance[3] = least
      covariance = (basis * variance) @ basis.T
      found = _token_space._triangular_map(covariance, 'whitened')
      np.testing.assert_array_equal(found, np.triu(found))
      self.assertEqual(np.linalg.matrix_rank(found, 1e-3), num_dims - lost)
      kept = np.delete(np.arange(num_dims), [3] if lost else [])
      want = (basis[:, kept] / variance[kept]) @ basis[:, kept].T
      np.testing.assert_allclose(found @ found.T, want, rtol=1e-6, atol=1e-2)

  def test_a_row_at_the_mean_stays_zero(self):
    u = np.array([[1, 2], [3, 2], [2, 5], [2, -1], [2, 2]], np.float32)
    space = measures.token_space(jnp.asarray(u), np.ones(5, bool), 'centred')
    np.testing.assert_array_equal(_rows(space)[4], 0.0)
    np.testing.assert_allclose(_rows(space)[0], [-1.0, 0.0], atol=1e-7)

  @parameterized.parameters(*measures.TOKEN_SPACES)
  def test_sharded_rows_give_the_same_and_stay_sharded(self, kind):
    u, keep = _table(num_rows=8 * 19), _keep(num_rows=8 * 19)
    rows = NamedSharding(_vocab_mesh(8), PartitionSpec('vocab', None))
    sharded = measures.token_space(
        jax.device_put(u, rows), keep, kind, block_size=5
    )
    self.assertTrue(sharded.table.sharding.is_equivalent_to(rows, 2))
    whole = measures.token_space(jnp.asarray(u), keep, kind)
    np.testing.assert_allclose(_rows(sharded), _rows(whole), atol=_ATOL[kind])

  @parameterized.parameters(jnp.float32, jnp.bfloat16)
  def test_memory_is_bounded_by_the_block(self, dtype):
    num_rows, size = 40_000, 256
    lowered = _lowered(None, num_rows, size, dtype)
    memory = lowered.compile().memory_analysis()
    self.assertLess(memory.temp_size_in_bytes, 8 * 4 * size * _D)

  def test_sharded_rows_are_not_gathered(self):
    lowered = _lowered(_vocab_mesh(8), 8 * 190, 32, jnp.float32)
    text = lowered.compile().as_text()
    self.assertNotIn('all-gather', text)
    self.assertNotIn('all-to-all', text)

  @parameterized.parameters(*measures.TOKEN_SPACES)
  def test_moments_of_the_lens_serve(self, kind):
    u, keep = jnp.asarray(_table()), _keep()
    moments = circuits.table_moments(u, keep)
    got = measures.token_space(u, keep, kind, moments=moments)
    want = measures.token_space(u, keep, kind)
    np.testing.assert_allclose(_rows(got), _rows(want), atol=_ATOL[kind])
    # And they are what is read.
    moved = moments.replace(mean=moments.mean + 10.0)
    other = measures.token_space(u, keep, kind, moments=moved)
    self.assertGreater(np.abs(_rows(other) - _rows(want)).max(), 0.1)

  def test_moments_without_a_covariance(self):
    u, keep = jnp.asarray(_table()), _keep()
    moments = circuits.table_moments(u, keep, covariance=False)
    measures.token_space(u, keep, 'centred', moments=moments)
    with self.assertRaisesRegex(InputError, 'covariance=True'):
      measures.token_space(u, keep, moments=moments)

  def test_is_a_pytree_with_a_static_kind(self):
    space = measures.token_space(jnp.asarray(_table()), _keep(), 'centred')
    shapes = jax.eval_shape(lambda x: x, space)
    self.assertEqual(shapes.table.shape, (_V, _D))
    self.assertEqual(shapes.kind, 'centred')

  def test_unknown_kind(self):
    with self.assertRaisesRegex(InputError, "did you mean 'whitened'"):
      measures.token_space(jnp.asarray(_table()), _keep(), 'whitend')

  def test_nothing_kept(self):
    with self.assertRaisesRegex(InputError, 'keeps 1 of 137 tokens'):
      measures.token_space(jnp.asarray(_table()), np.arange(_V) == 4)

  def test_row_that_is_not_finite(self):
    u, keep = _table(), _keep()
    u[np.flatnonzero(keep)[3], 2] = np.nan
    with self.assertRaisesRegex(InputError, 'not finite'):
      measures.token_space(jnp.asarray(u), keep)

  def test_masked_row_that_is_not_finite(self):
    """Refused as the lens refuses it: their moments are the same."""
    u, keep = _table(), _keep()
    u[np.flatnonzero(~keep)[3], 2] = np.nan
    with self.assertRaisesRegex(InputError, 'not finite'):
      measures.token_space(jnp.asarray(u), keep)


if __name__ == '__main__':
  absltest.main()
