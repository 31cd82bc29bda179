"""The nearest directions beside float64, planted ones, and many devices."""

import contextlib
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ooc_jax
from ooc_jax import circuits
from ooc_jax.circuits import _nearest

_AUTO = jax.sharding.AxisType.Auto


def _cosines(rows):
  """Of all pairs in float64; -inf of a row with itself."""
  rows = np.asarray(rows).astype(np.float64)
  norms = np.linalg.norm(rows, axis=1, keepdims=True)
  unit = np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)
  cosines = unit @ unit.T
  np.fill_diagonal(cosines, -np.inf)
  return cosines


def _rows(size, width=19, seed=0):
  rng = np.random.default_rng([seed, size])
  # Of other lengths: a product that is not normed has another order.
  lengths = np.exp(rng.normal(size=(size, 1)))
  return np.float32(rng.normal(size=(size, width)) * lengths)


@contextlib.contextmanager
def _small_blocks(**sizes):
  _nearest._nearest.clear_cache()
  with mock.patch.multiple(_nearest, **sizes):
    yield
  _nearest._nearest.clear_cache()


class NearestTest(parameterized.TestCase):

  def _check(self, rows, found, k):
    cosines = _cosines(rows)
    k = min(k, len(rows) - 1)
    ids = np.argsort(-cosines, axis=1, kind='stable')[:, :k]
    self.assertEqual(found.ids.shape, (len(rows), k))
    np.testing.assert_array_equal(found.ids, ids)
    expected = np.take_along_axis(cosines, ids, 1)
    np.testing.assert_allclose(found.cosines, expected, atol=3e-7)

  @parameterized.parameters((2, 10), (11, 10), (12, 10), (500, 10), (500, 1))
  def test_agrees_with_float64(self, size, k):
    rows = _rows(size)
    self._check(rows, circuits.nearest_directions(rows, k), k)

  @parameterized.parameters(
      {'_MOST_ROWS': 50},
      {'_TILE': 4000},
      {'_MOST_ROWS': 16, '_TILE': 1},
      {'_BLOCK': 19},
  )
  def test_blocks_make_no_difference(self, **sizes):
    rows = _rows(203)
    with _small_blocks(**sizes):
      self._check(rows, circuits.nearest_directions(rows), 10)

  def test_dtypes_and_lengths(self):
    rows = _rows(60)
    for dtype in (jnp.bfloat16, np.float16):
      low = jnp.asarray(rows).astype(dtype)
      self._check(low, circuits.nearest_directions(low), 10)
    far = rows * np.float32(2) ** np.arange(-60, 60, 2)[:, None]
    one = circuits.nearest_directions(rows)
    other = circuits.nearest_directions(np.float32(far))
    jax.tree.map(np.testing.assert_array_equal, one, other)

  @pytest.mark.any_compiler
  def test_planted_rows(self):
    rows = _rows(80)
    rows[[7, 40, 61]] = rows[23]
    rows[30] = 2 * rows[23]
    rows[50] = -rows[23]
    rows[[3, 70]] = 0
    found = circuits.nearest_directions(rows)
    same = [7, 23, 30, 40, 61]
    for row in same:
      others = [x for x in same if x != row]
      self.assertEqual(found.ids[row][:4].tolist(), others)
      np.testing.assert_allclose(found.cosines[row][:4], 1, atol=1e-7)
      self.assertNotIn(50, found.ids[row].tolist())
    self.assertFalse(set(same) & set(found.ids[50].tolist()))
    # Zeros have cosine 0 with all, so the lowest ids are theirs.
    self.assertEqual(found.ids[3].tolist(), [0, 1, 2, *range(4, 11)])
    np.testing.assert_array_equal(found.cosines[3], 0)
    # Where there is nothing else, what is opposite is the nearest.
    two = circuits.nearest_directions(rows[[23, 50]])
    self.assertEqual(two.ids.tolist(), [[1], [0]])
    np.testing.assert_allclose(two.cosines, -1, atol=1e-7)

  def test_ties_go_to_the_lower_row(self):
    # Of -1, 0 and 1: many cosines are equal, and float32 has them exactly.
    rows = np.float32(np.random.default_rng(1).integers(-1, 2, (120, 5)))
    found = circuits.nearest_directions(rows, 4)
    cosines = np.round(_cosines(rows), 9)
    np.testing.assert_allclose(
        found.cosines, -np.sort(-cosines, axis=1)[:, :4], atol=3e-7
    )
    for row, ids in enumerate(np.asarray(found.ids)):
      own = np.asarray(found.cosines[row])
      for value in np.unique(own):
        at = ids[own == value]
        self.assertEqual(at.tolist(), sorted(at))

  @pytest.mark.any_compiler
  def test_of_some(self):
    rows = _rows(90)
    whole = circuits.nearest_directions(rows, 4)
    some = circuits.nearest_directions(rows, 4, of=[17, 3, 89])
    np.testing.assert_array_equal(some.ids, whole.ids[np.array([17, 3, 89])])
    np.testing.assert_array_equal(
        some.cosines, whole.cosines[np.array([17, 3, 89])]
    )

  def test_devices_make_no_difference(self):
    self._check_devices(feature=8)

  @parameterized.parameters({'feature': 2, 'vocab': 4}, {'vocab': 2})
  @pytest.mark.any_compiler
  def test_other_axes_make_no_difference(self, **axes):
    self._check_devices(**axes)

  def _check_devices(self, **axes):
    count = int(np.prod(list(axes.values())))
    mesh = jax.make_mesh(
        tuple(axes.values()), tuple(axes), (_AUTO,) * len(axes),
        devices=jax.devices()[:count],
    )  # fmt: skip
    rows = _rows(203)
    rows[[150, 190]] = rows[20]
    one = circuits.nearest_directions(rows)
    for sizes in ({'_SPARE': 6}, {'_MOST_ROWS': 60, '_TILE': 4000}):
      with _small_blocks(**sizes):
        many = circuits.nearest_directions(rows, mesh=mesh)
      self.assertLen(many.ids.devices(), count)
      jax.tree.map(np.testing.assert_array_equal, one, many)
    if 'feature' in axes:  # As a dictionary that is loaded over a mesh.
      lies = jax.NamedSharding(mesh, jax.P('feature'))
      spread = jax.device_put(rows[:200], lies)
      jax.tree.map(
          np.testing.assert_array_equal,
          circuits.nearest_directions(rows[:200]),
          circuits.nearest_directions(spread),
      )

  def test_under_jit(self):
    rows = _rows(40)
    found = jax.jit(circuits.nearest_directions)(rows)
    self._check(rows, found, 10)

  def test_memory_is_bounded(self):
    shape = jax.ShapeDtypeStruct((32_768, 64), jnp.float32)
    own = jax.ShapeDtypeStruct((32_768,), jnp.int32)
    lowered = _nearest._nearest.lower(shape, own, shape, k=10, mesh=None)
    memory = lowered.compile().memory_analysis()
    self.assertLess(memory.temp_size_in_bytes, 150e6)  # [F, F]: 4.3 GB.

  @parameterized.parameters(
      ({'directions': np.zeros((1, 4), np.float32)}, 'at least two rows'),
      ({'k': 0}, 'k of at least 1'),
      ({'of': [5]}, 'there are 5 rows'),
      ({'of': []}, 'give some of their numbers'),
      ({'of': [True, False, True, True, True]}, 'give some of their numbers'),
      ({'directions': np.full((5, 4), np.nan, np.float32)}, 'not finite'),
  )
  @pytest.mark.any_compiler
  def test_refusals(self, given, message):
    rows = given.pop('directions', _rows(5))
    with self.assertRaisesRegex(ooc_jax.InputError, message):
      circuits.nearest_directions(rows, **given)


if __name__ == '__main__':
  absltest.main()
