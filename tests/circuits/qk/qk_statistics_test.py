"""A head's statistics against float64 NumPy that holds the whole [F, F]."""

from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ooc_jax import InputError
from ooc_jax import circuits
from ooc_jax.circuits import numerics
from ooc_jax.circuits.qk import _layout
from tests.circuits import qk_oracle


def _draw(F, H, Q=None, seed=0, size=1.0):
  """Queries and keys with means that are not zero, and a mask of keys."""
  rng = np.random.default_rng(seed)
  queries = size * (rng.normal(size=(Q or F, H)) + 0.2)
  keys = size * (rng.normal(size=(F, H)) - 0.3)
  return (
      queries.astype(np.float32),
      keys.astype(np.float32),
      rng.random(F) > 0.1,
  )


def _scores(queries, keys, scale):
  return scale * queries.astype(np.float64) @ keys.astype(np.float64).T


def _assert_agrees(queries, keys, scale, k, *, softcap=None, counts=None, **kw):
  statistics = circuits.qk_statistics(
      queries, keys, scale=scale, softcap=softcap, k=k, counts=counts, **kw
  )
  expected = qk_oracle.head_statistics(
      _scores(queries, keys, scale), k, softcap=softcap, counts=counts
  )
  qk_oracle.assert_agrees(statistics, expected)
  return statistics


class QkStatisticsTest(parameterized.TestCase):

  @parameterized.named_parameters(
      # F is padded to 128 keys, 8 segments and groups of 8 queries.
      ('one_small_block', 40, None, 6, 3, None, False),
      ('softcap_mask_and_fewer_queries', 300, 123, 16, 5, 5.0, True),
      # 128 queries a segment, and few partners: the two-stage searches.
      ('whole_blocks', 1024, None, 24, 2, None, False),
      ('one_row_over_and_mask', 1025, None, 11, 10, None, True),
  )
  def test_matches_definition(self, F, Q, H, k, softcap, masked):
    queries, keys, counts = _draw(F, H, Q, size=1.7)
    statistics = _assert_agrees(
        queries, keys, H**-0.5, k, softcap=softcap,
        counts=counts if masked else None,
    )  # fmt: skip
    self.assertEqual(statistics.self_weight is None, Q is not None)
    # Weights of a query sum to one, and so do those received by all keys.
    np.testing.assert_allclose(statistics.received.sum(), Q or F, rtol=1e-5)

  def test_large_scores(self):
    # Without the running peak, exp(300) is infinite.
    queries, keys, _ = _draw(200, 8, size=7.0)
    scores = _scores(queries, keys, 1.0)
    self.assertGreater(scores.max(), 300)
    statistics = circuits.qk_statistics(queries, keys, scale=1.0, k=9)
    expected = qk_oracle.head_statistics(scores, 9)
    # Weights are exp of float32 scores, whose last bit is 3e-5 here.
    qk_oracle.assert_agrees(statistics, expected, 1e-4)

  @pytest.mark.any_compiler
  def test_many_searches_of_group_maxima(self):
    # Sixteen tiles, of which the maxima of two at once are searched.
    queries, keys, _ = _draw(500, 8)
    with mock.patch.object(_layout, '_MAXIMA', 2 * 4 * 512):
      self.assertEqual(_layout.Layout.of(500, 500, 1).tiles_at_once(1), 2)
      _assert_agrees(queries, keys, 0.3, 10)

  def test_ties_go_to_the_lower_id(self):
    rng = np.random.default_rng(0)
    few = rng.integers(-2, 3, size=(7, 8)).astype(np.float32)
    queries = few[rng.integers(0, 7, size=200)]
    keys = few[rng.integers(0, 7, size=200)]
    _assert_agrees(queries, keys, 1.0, 9)

  def test_feature_of_zeros(self):
    # A dead feature: everyone scores 0 with it, and its weights are even.
    queries, keys, _ = _draw(200, 8)
    queries[3] = keys[3] = 0
    statistics = _assert_agrees(queries, keys, 1.0, 9)
    np.testing.assert_allclose(statistics.entropy[3], np.log(200), rtol=1e-6)
    np.testing.assert_array_equal(statistics.key.std[3], 0)

  def test_keys_that_do_not_count(self):
    queries, keys, counts = _draw(200, 8)
    keys[~counts] *= 30  # By far the largest scores.
    statistics = _assert_agrees(queries, keys, 0.5, 9, counts=counts)
    self.assertFalse(
        np.isin(statistics.query.top_ids, np.flatnonzero(~counts)).any()
    )
    np.testing.assert_array_equal(statistics.received[~counts], 0)
    np.testing.assert_array_equal(statistics.largest_received[~counts], 0)
    np.testing.assert_array_equal(statistics.self_weight[~counts], 0)
    # Their own scores are still there.
    self.assertGreater(
        statistics.key.maximum[~counts].mean(),
        3 * statistics.key.maximum[counts].mean(),
    )

  def test_bfloat16_is_read_exactly(self):
    queries, keys, _ = (jnp.asarray(x, jnp.bfloat16) for x in _draw(200, 8))
    statistics = circuits.qk_statistics(queries, keys, scale=0.7, k=9)
    scores = _scores(np.asarray(queries), np.asarray(keys), 0.7)
    qk_oracle.assert_agrees(statistics, qk_oracle.head_statistics(scores, 9))

  @pytest.mark.any_compiler
  def test_under_jit(self):
    queries, keys, _ = _draw(200, 8)
    fn = lambda q, k: circuits.qk_statistics(q, k, scale=0.5, k=4)  # noqa: E731
    statistics = jax.jit(fn)(queries, keys)
    expected = qk_oracle.head_statistics(_scores(queries, keys, 0.5), 4)
    qk_oracle.assert_agrees(statistics, expected)

  @pytest.mark.slow
  def test_devices_make_no_difference(self):
    queries, keys, counts = _draw(432, 13)
    found = {}
    for n in (1, 2, 4, 8):
      mesh = jax.make_mesh(
          (n,), ('feature',), devices=jax.devices()[:n],
          axis_types=(jax.sharding.AxisType.Auto,),
      )  # fmt: skip
      rows = jax.NamedSharding(mesh, jax.P('feature'))
      found[n] = circuits.qk_statistics(
          jax.device_put(queries, rows),
          jax.device_put(keys, rows),
          scale=0.4,
          softcap=3.0,
          counts=counts,
      )
      self.assertLen(found[n].query.top_ids.devices(), n)
    for n in (2, 4, 8):
      jax.tree.map(np.testing.assert_array_equal, found[1], found[n])


@pytest.mark.any_compiler
class LayoutTest(parameterized.TestCase):

  @parameterized.product(
      queries=(5, 64, 1000, 16_384), devices=(1, 2, 3, 8, 16)
  )
  def test_cut_and_join_are_inverses(self, queries, devices):
    layout = _layout.Layout.of(queries, 300, devices)
    x = np.arange(queries * 2, dtype=np.float32).reshape(queries, 2)
    ids = np.arange(queries, dtype=np.int32)

    @jax.jit  # One program, where step by step it would be a dozen.
    def both_ways(x, ids):
      cut, positions = layout.cut(x), layout.positions(ids)
      back = layout.join(cut), layout.ids(positions)
      return cut, positions, *back, layout.real().sum()

    cut, positions, joined, same, real = map(np.asarray, both_ways(x, ids))
    np.testing.assert_array_equal(joined, x)
    self.assertEqual(cut.shape[0] % devices, 0)
    np.testing.assert_array_equal(same, ids)
    np.testing.assert_array_equal(cut.reshape(-1, 2)[positions], x)
    self.assertEqual(int(real), queries)

  def test_blocks_do_not_grow_with_features(self):
    for F in (16_384, 131_072, 1_048_576):
      layout = _layout.Layout.of(F, F, 1)
      self.assertLessEqual(layout.rows * F, 2**25)
      self.assertEqual(layout.segments * layout.width, F)  # No padding.
      held = layout.tiles_at_once(1) * layout.rows // 8 * F
      self.assertLessEqual(held, 2**25)

  def test_column_topk_is_topk(self):
    rng = np.random.default_rng(0)
    for g, n in ((5, 9), (37, 4), (400, 3)):
      x = rng.integers(0, 50, size=(g, 23)).astype(np.float32)
      values, rows = numerics.column_topk(jnp.asarray(x), n)
      expected = np.argsort(-x.T, axis=1, kind='stable')[:, :n]
      np.testing.assert_array_equal(rows, expected)
      np.testing.assert_array_equal(
          values, np.take_along_axis(x.T, expected, axis=1)
      )


@pytest.mark.any_compiler
class RefusalTest(parameterized.TestCase):

  @parameterized.named_parameters(
      ('other_width', 'do not fit', {'keys': np.ones((9, 3), np.float32)}),
      ('k_zero', 'k=0', {'k': 0}),
      ('k_above', 'k=10', {'k': 10}),
      ('k_above_counts', '3 keys', {'k': 4, 'counts': np.arange(9) < 3}),
      ('counts_shape', 'counts is', {'counts': np.ones(8, bool)}),
      ('counts_dtype', 'counts is', {'counts': np.ones(9, np.int32)}),
      ('scale', 'scale is 0', {'scale': 0.0}),
      ('softcap', 'softcap is -1', {'softcap': -1.0}),
  )
  def test_refused(self, message, change):
    kwargs = {'queries': np.ones((9, 4), np.float32), 'scale': 1.0, 'k': 2}
    kwargs |= {'keys': np.ones((9, 4), np.float32)} | change
    # In these tests shapes are checked before the function is entered.
    qk_oracle.without_shape_checks(self)
    with self.assertRaisesRegex(InputError, message):
      circuits.qk_statistics(
          kwargs.pop('queries'), kwargs.pop('keys'), **kwargs
      )

  def test_mesh_of_other_axes_is_refused(self):
    mesh = jax.make_mesh(
        (1,), ('data',), axis_types=(jax.sharding.AxisType.Auto,)
    )
    x = np.ones((9, 4), np.float32)
    with self.assertRaisesRegex(InputError, "none is 'feature'"):
      circuits.qk_statistics(x, x, scale=1.0, k=2, mesh=mesh)


if __name__ == '__main__':
  absltest.main()
