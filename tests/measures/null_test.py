"""Random directions: uniform, or with a dictionary's mean and covariance."""

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec
import numpy as np

from ooc_jax import measures
from ooc_jax._errors import InputError

_D = 13


def _decoder(size=37, width=_D, seed=0):
  rng = np.random.default_rng(seed)
  rows = rng.normal(size=(size, width)) @ rng.normal(size=(width, width))
  return (rows + 3.0 * rng.normal(size=width)).astype(np.float32)


class IsotropicDirectionsTest(absltest.TestCase):

  def test_norm_one_and_no_direction_preferred(self):
    rows = np.asarray(measures.isotropic_directions(5_003, _D, seed=0))
    self.assertEqual(rows.shape, (5_003, _D))
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, rtol=1e-6)
    # Means of 5003 numbers of variance 1/13, to five standard errors.
    np.testing.assert_allclose(rows.mean(0), 0.0, atol=5 / np.sqrt(5_003 * _D))
    np.testing.assert_allclose(
        rows.T @ rows / 5_003, np.eye(_D) / _D, atol=0.1 / _D
    )
    # On a sphere in 13 dimensions a coordinate's fourth moment is 3/(13*15).
    np.testing.assert_allclose((rows**4).mean(), 3 / (13 * 15), rtol=0.03)

  def test_seed(self):
    a, b, c = (measures.isotropic_directions(7, 5, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    self.assertGreater(np.abs(np.asarray(a - c)).min(), 0.0)

  def test_norms_of_a_dictionary(self):
    norms = np.array([0.5, 2.0, 7.0], np.float32)
    rows = measures.isotropic_directions(3_001, _D, seed=3, norms=norms)
    got, counts = np.unique(
        np.round(np.linalg.norm(rows, axis=1), 4), return_counts=True
    )
    np.testing.assert_allclose(got, norms, rtol=1e-4)
    np.testing.assert_allclose(counts, 1_000, atol=130)  # Five deviations.
    alone = measures.isotropic_directions(3_001, _D, seed=3)
    np.testing.assert_allclose(
        rows / np.linalg.norm(rows, axis=1, keepdims=True), alone, atol=1e-6
    )

  def test_nothing_to_draw(self):
    with self.assertRaisesRegex(InputError, 'number of directions of 0'):
      measures.isotropic_directions(0, 3, seed=0)
    with self.assertRaisesRegex(InputError, 'norms of 0'):
      measures.isotropic_directions(3, 3, seed=0, norms=np.zeros(0, np.float32))


class MatchedDirectionsTest(parameterized.TestCase):

  def test_mean_and_covariance_are_the_dictionarys(self):
    decoder = _decoder()
    rows = np.asarray(measures.matched_directions(decoder, 60_001, seed=0))
    self.assertEqual(rows.shape, (60_001, _D))
    exact = decoder.astype(np.float64)
    cov = np.cov(exact.T, ddof=0)
    error = np.sqrt(np.diag(cov) / 60_001)
    np.testing.assert_array_less(
        np.abs(rows.mean(0) - exact.mean(0)), 5 * error
    )
    root = np.linalg.inv(np.linalg.cholesky(cov))
    # Whitened, entries of the covariance have an error of 1/sqrt(60001).
    np.testing.assert_allclose(
        root @ np.cov(rows.T) @ root.T, np.eye(_D), atol=5 * np.sqrt(2 / 60_001)
    )

  def test_is_normal_where_the_dictionary_is_not(self):
    rng = np.random.default_rng(4)
    decoder = np.where(rng.random((500, 3)) < 0.1, 3.0, 0.0).astype(np.float32)
    rows = np.asarray(measures.matched_directions(decoder, 20_000, seed=1))
    z = (rows - rows.mean(0)) / rows.std(0)
    np.testing.assert_allclose((z**3).mean(0), 0.0, atol=0.1)
    np.testing.assert_allclose((z**4).mean(0), 3.0, atol=0.2)

  def test_fewer_rows_than_dimensions_stay_in_their_span(self):
    decoder = _decoder(size=5)
    rows = np.asarray(measures.matched_directions(decoder, 301, seed=2))
    centred = (decoder - decoder.mean(0)).astype(np.float64)
    inside = np.linalg.pinv(centred) @ centred
    off = (rows - decoder.mean(0)) @ (np.eye(_D) - inside)
    np.testing.assert_allclose(off, 0.0, atol=1e-4)
    self.assertEqual(np.linalg.matrix_rank(rows - rows.mean(0), tol=1e-2), 4)

  @parameterized.parameters(1, 255, 256, 257)
  def test_any_number_and_the_same_seed_the_same(self, count):
    decoder = _decoder()
    a = measures.matched_directions(decoder, count, seed=5)
    self.assertEqual(a.shape, (count, _D))
    b = measures.matched_directions(jnp.asarray(decoder), count, seed=5)
    np.testing.assert_array_equal(a, b)
    c = measures.matched_directions(decoder, count, seed=6)
    self.assertGreater(np.abs(np.asarray(a - c)).max(), 0.1)

  def test_sharded_rows(self):
    decoder = _decoder(size=8 * 5)
    mesh = jax.make_mesh(
        (8,), ('feature',), axis_types=(jax.sharding.AxisType.Auto,)
    )
    rows = NamedSharding(mesh, PartitionSpec('feature'))
    np.testing.assert_allclose(
        measures.matched_directions(jax.device_put(decoder, rows), 300, seed=7),
        measures.matched_directions(decoder, 300, seed=7),
        atol=2e-5,  # Sums of 40 in another order.
    )

  def test_no_row(self):
    with self.assertRaisesRegex(InputError, 'rows of 0'):
      measures.matched_directions(np.zeros((0, 3), np.float32), 4, seed=0)


if __name__ == '__main__':
  absltest.main()
