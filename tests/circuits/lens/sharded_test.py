"""The lens over meshes of devices: the same answers, whatever divides."""

import math
import re

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
from jax.sharding import AxisType
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec
import numpy as np
import pytest

from ooc_jax import InputError
from ooc_jax import circuits
from ooc_jax.model import config_from_hf
from tests.tiny import CONFIGS

_F, _V, _D, _K = 29, 1_203, 14, 9
_ENDS = ('top_ids', 'top_logits', 'bottom_ids', 'bottom_logits', 'recomputed')
_STATISTICS = ('mean', 'std', 'skewness', 'kurtosis', 'entropy', 'top_mass',
               'top_entropy')  # fmt: skip


def _mesh(feature, vocab):
  return jax.make_mesh(
      (feature, vocab),
      ('feature', 'vocab'),
      axis_types=(AxisType.Auto,) * 2,
      devices=jax.devices()[: feature * vocab],
  )


def _arrays(copies=8):
  """Sizes that no mesh divides, with ties within and across shards.

  By default as few as one pass can prove beside the k others; which features
  need another pass, where there are more, depends on the shards.
  """
  rng = np.random.default_rng(4)
  directions = rng.normal(size=(_F, _D)).astype(np.float32)
  table = (rng.normal(size=(_V, _D)) + 0.4).astype(np.float32)
  table[rng.choice(_V, size=copies, replace=False)] = table[7]
  directions[3] = 0
  keep = rng.random(_V) > 0.1
  return directions, jnp.ones(_D), table, keep


def _lens(precision, mesh=None, arrays=None, **kwargs):
  return circuits.unembedding_lens(
      *(arrays or _arrays()),
      k=_K,
      precision=precision,
      softcap=3.0,
      mesh=mesh,
      **kwargs,
  )


class LensMeshTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.alone = {p: _lens(p) for p in ('exact', 'screened')}

  def _assert_same(self, lens, alone):
    for name in _ENDS:
      np.testing.assert_array_equal(
          getattr(lens, name), getattr(alone, name), name
      )
    for name in _STATISTICS:
      x, y = np.asarray(getattr(lens, name)), np.asarray(getattr(alone, name))
      rtol = 2e-5  # Sums of float32 in another order.
      np.testing.assert_allclose(
          x, y, rtol=rtol, atol=rtol * np.abs(y).max(), err_msg=name
      )

  @parameterized.parameters((8, 1), (1, 2))
  @pytest.mark.any_compiler  # Three other ones are slow, and compiled so.
  def test_a_mesh_gives_the_same(self, feature, vocab):
    lens = _lens('screened', _mesh(feature, vocab))
    self._assert_same(lens, self.alone['screened'])

  @parameterized.parameters((2, 1), (2, 2), (1, 8))
  @pytest.mark.slow
  def test_any_mesh_gives_the_same(self, feature, vocab):
    lens = _lens('screened', _mesh(feature, vocab))
    self._assert_same(lens, self.alone['screened'])

  def test_exact_over_both_axes(self):
    lens = _lens('exact', _mesh(4, 2))
    self._assert_same(lens, self.alone['exact'])

  def test_uncertain_features_over_both_axes(self):
    arrays = _arrays(copies=600)  # More than a pass keeps.
    alone = _lens('screened', arrays=arrays)
    self.assertTrue(np.asarray(alone.recomputed).any())
    self.assertFalse(np.asarray(alone.recomputed).all())
    self._assert_same(_lens('screened', _mesh(2, 4), arrays), alone)

  @pytest.mark.any_compiler
  def test_arrays_bring_their_mesh(self):
    directions, gain, table, keep = _arrays()
    mesh = _mesh(2, 4)
    # Rows that the axis divides lie spread; what is left is one device's.
    spread = NamedSharding(mesh, PartitionSpec('vocab'))
    table, keep = (
        jax.device_put(np.pad(x, [(0, 1)] + [(0, 0)] * (x.ndim - 1)), spread)
        for x in (table, keep)
    )
    lens = _lens('screened', arrays=(directions, gain, table, keep))
    self._assert_same(lens, self.alone['screened'])
    self.assertEqual(lens.mask.shape, (_V + 1,))

  def test_moments(self):
    _, _, table, keep = _arrays()
    whole, covariance = self._moments(table, keep)
    np.testing.assert_allclose(
        whole.covariance, covariance, rtol=1e-5, atol=1e-6
    )

  def _moments(self, table, keep):
    centred = table[keep] - table[keep].mean(axis=0, dtype=np.float64)
    covariance = centred.T @ centred / keep.sum()
    return circuits.table_moments(jnp.asarray(table), keep), covariance

  @pytest.mark.any_compiler
  def test_moments_over_a_mesh(self):
    directions, _, table, keep = _arrays()
    whole, covariance = self._moments(table, keep)
    mesh = _mesh(2, 4)
    parts = circuits.table_moments(jnp.asarray(table), keep, mesh=mesh)
    for name in ('mean', 'covariance', 'norms'):
      np.testing.assert_allclose(
          getattr(parts, name), getattr(whole, name), rtol=1e-5, atol=1e-6
      )
    for moments, where in ((whole, None), (parts, mesh)):
      for precision in ('exact', 'screened'):
        lens = _lens(precision, where, moments=moments)
        np.testing.assert_allclose(
            lens.std,
            np.sqrt(np.einsum('fd,de,fe->f', directions, covariance,
                              directions, dtype=np.float64)),
            rtol=1e-5,
        )  # fmt: skip

  @pytest.mark.any_compiler
  def test_logits_and_rows_stay_where_they_are(self):
    mesh = _mesh(2, 4)
    config = config_from_hf(CONFIGS['gemma2'] | {'vocab_size': 4_096})
    lowered = circuits.lower_lens(config, 64, mesh, k=_K, precision='screened')
    text = lowered.compile().as_text()
    # k candidates of each of 4 shards for 32 features, and what is smaller.
    shapes = re.findall(r'\[([\d,]+)\]\S* all-gather\(', text)
    sizes = [math.prod(map(int, shape.split(','))) for shape in shapes]
    self.assertNotEmpty(sizes)
    self.assertLessEqual(max(sizes), 2 * 32 * _K * 4)
    self.assertNotIn('all-to-all', text)

  @pytest.mark.any_compiler
  def test_a_mesh_of_other_axes_is_refused(self):
    mesh = jax.make_mesh((2,), ('data',), axis_types=(AxisType.Auto,))
    with self.assertRaisesRegex(InputError, "none is 'feature' or 'vocab'"):
      _lens('exact', mesh)


if __name__ == '__main__':
  absltest.main()
