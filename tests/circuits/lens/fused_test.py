"""The walk in one kernel against the plain one, and against the definition.

Kernels are interpreted: that of a TPU as it is on a CPU, and that of a GPU in
its place. Tiles are small, so that every loop goes round.
"""

import contextlib
import functools
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax
from jax.experimental import pallas as pl
import jax.numpy as jnp
from jax.sharding import AxisType
import numpy as np
import pytest
import scipy.stats

from ooc_jax import InputError
from ooc_jax import circuits
from ooc_jax.circuits.lens import _fused
from ooc_jax.circuits.lens import _gpu_walk
from ooc_jax.circuits.lens import _kernel
from ooc_jax.circuits.lens import _lens
from ooc_jax.circuits.lens import _prepare
from ooc_jax.circuits.lens import _scan
from ooc_jax.circuits.lens import _sharded
from ooc_jax.circuits.lens import _sums
from ooc_jax.circuits.lens import _tile
from ooc_jax.circuits.lens import _tpu_walk
from ooc_jax.circuits.lens import _unembedding_lens
from ooc_jax.circuits.numerics import Blocks

# Nobody interprets a kernel but tests.
pytestmark = pytest.mark.any_compiler

# No multiple of a tile, a group or a block of features.
_F, _V, _D, _K = 37, 1_403, 19, 9
_IDS = ('top_ids', 'top_logits', 'bottom_ids', 'bottom_logits')
_STATISTICS = ('mean', 'std', 'skewness', 'kurtosis', 'entropy',
               'bottom_entropy', 'top_mass', 'top_entropy')  # fmt: skip
_GRIDS = ('tpu', 'gpu')


def _arrays(dtype='float32', ties=True):
  rng = np.random.default_rng(3)
  directions = rng.normal(size=(_F, _D)).astype(np.float32)
  table = rng.normal(size=(_V, _D)) * rng.lognormal(sigma=0.4, size=(_V, 1))
  table = np.array(jnp.asarray(table + 0.3, dtype).astype(jnp.float32))
  keep = rng.random(_V) > 0.1
  keep[-3:] = True, False, True  # In the last block, as anywhere.
  keep[200:330] = False
  if ties:
    table[rng.choice(_V, 6, replace=False)] = table[7]
    directions[5] = 0
    # The end that would be forgotten: the longest row is the last.
    table[-1] = 3 * np.sign(directions[0])
  return directions, table, keep


@contextlib.contextmanager
def _grid(name):
  """The kernel of a platform, interpreted, in small tiles."""
  module, _ = _fused._GRIDS[name]
  with (
      # Three blocks of features.
      mock.patch.dict(_fused._GRIDS, cpu=(module, 16)),
      mock.patch.object(_tpu_walk, 'FEATURES', 16),
      # Four blocks of 256 rows a span.
      mock.patch.object(_tpu_walk, '_ENTRIES', 256 * _D),
      # Of a GPU: four tiles of 16 rows a span, and two turns over D.
      mock.patch.object(_gpu_walk, 'TILE', 16),
      mock.patch.object(_gpu_walk, '_TILES', 4),
      mock.patch.object(_gpu_walk, '_COLUMNS', 16),
  ):
    _sharded.lens_functions.cache_clear()
    yield
  _sharded.lens_functions.cache_clear()


def _lenses(grid, arrays, mesh=None, **kwargs):
  """A lens of each kernel."""
  rows, table, keep = map(jnp.asarray, arrays)
  with _grid(grid):
    return [
        _unembedding_lens.lens_of_rows(
            rows,
            table,
            keep,
            k=_K,
            kernel=kernel,
            mesh=mesh,
            threshold=jnp.full(_F, 0.7, jnp.float32),
            **kwargs,
        )
        for kernel in ('xla', 'pallas')
    ]


def _assert_same(plain, fused, rtol=1e-6):
  for name in (*_IDS, 'active_share'):
    np.testing.assert_array_equal(
        getattr(fused, name), getattr(plain, name), name
    )
  for name in _STATISTICS:
    x, y = getattr(plain, name), getattr(fused, name)
    if x is None:
      assert y is None
      continue
    # Three is what kurtosis takes off.
    scale = np.abs(x).max() + 3 * (name == 'kurtosis')
    np.testing.assert_allclose(y, x, rtol=rtol, atol=rtol * scale, err_msg=name)


def _walks(grid, screened, softcap=None, spread=None, ends=2, fault=None):
  """What both walks leave, and what both were given."""
  directions, table, keep = _arrays(ties=False)
  spec = _lens.LensSpec(_K, screened, platform='cpu')
  moments = circuits.table_moments(jnp.asarray(table), keep)
  shard = _kernel._shard(jnp.asarray(table), jnp.asarray(keep), moments, spec)
  prepared, _ = _prepare.prepare(
      _prepare.normalise(
          jnp.asarray(directions), jnp.full(_F, 0.7, jnp.float32)
      ),
      moments,
      shard.exponent,
      screened=screened,
      centered=False,
      spread=spread,
  )
  blocks = Blocks.choose(_F, _V, 'cpu')
  scan_spec = _scan.ScanSpec(
      2 * _K, softcap, both_ends=ends == 2, bottom=ends == 2
  )
  with _grid(grid), fault or contextlib.nullcontext():
    plain, fused = (
        jax.jit(lambda p, w=walk: w(p, shard.table, shard.positions, blocks,
                                    scan_spec))(prepared)
        for walk in (
            _scan.scan,
            functools.partial(_fused.scan, platform='cpu'),
        )
    )  # fmt: skip
  return plain, fused, (prepared, shard, blocks)


def _assert_sums(plain, fused):
  x, y = (_sums.join_sums(sums, None) for sums in (plain, fused))
  np.testing.assert_array_equal(x.active, y.active)
  scale = np.sqrt(x.power_sums[:, 1:2] / _V) ** np.arange(1, 5) * _V
  np.testing.assert_allclose(
      x.power_sums / scale, y.power_sums / scale, rtol=1e-6, atol=1e-6
  )
  for one, other in ((x.top, y.top), (x.bottom, y.bottom)):
    if one is not None:
      np.testing.assert_allclose(
          one.entropy, other.entropy, rtol=1e-6, atol=1e-6
      )
      np.testing.assert_allclose(
          np.log(one.partition) + one.peak,
          np.log(other.partition) + other.peak,
          rtol=1e-6,
      )


def _assert_bounds(candidates, prepared, shard, blocks):
  """Each value is as near as its error says; none left out is over the rest."""
  row = np.asarray(blocks.rows_at(candidates.position))
  pieces = np.asarray(prepared.pieces.astype(jnp.float32), np.float64)
  x = pieces.sum(axis=0) @ np.asarray(shard.table, np.float64).T
  real = np.isfinite(candidates.error)
  for end, sign in enumerate((1, -1)[: len(row)]):
    true = np.where(shard.keep, sign * x, -np.inf)
    listed = np.take_along_axis(true, row[end], axis=1)
    off = np.abs(listed - candidates.value[end])
    assert (off <= candidates.error[end])[real[end]].all()
    for f in range(_F):
      rows = row[end, f][real[end, f]]
      assert len(set(rows)) == len(rows)
      assert np.delete(true[f], rows).max() <= candidates.left_out[end, f]
    # They are the best: the largest is there.
    np.testing.assert_array_equal(
        np.sort(listed, axis=1)[:, -_K:], np.sort(true, axis=1)[:, -_K:]
    )


def _one_block_less(kernel, *, grid, **kwargs):
  return pl.pallas_call(kernel, grid=(grid[0], grid[1] - 1), **kwargs)


def _fault(grid, name):
  if name == 'a forgotten block':
    short = mock.Mock(wraps=pl, pallas_call=_one_block_less)
    return mock.patch.multiple(f'ooc_jax.circuits.lens._{grid}_walk', pl=short)
  if name == 'a peak without rescaling':
    return mock.patch.object(
        _tile, 'rescale', lambda old, peak: old._replace(peak=peak)
    )
  if name == 'the bottom is the top':
    return mock.patch.object(
        _tile, 'towards', lambda _, x, keep: jnp.where(keep, x, -jnp.inf)
    )
  assert name == 'a place beside the place', name
  right = _tile.largest
  return mock.patch.object(
      _tile,
      'largest',
      lambda x: (lambda y: y._replace(first_at=y.first_at ^ 1))(right(x)),
  )


class WalkTest(parameterized.TestCase):
  """One walk of one device."""

  @parameterized.product(grid=_GRIDS, screened=(False, True))
  def test_sums_and_candidates(self, grid, screened):
    plain, fused, given = _walks(grid, screened, softcap=2.0)
    _assert_sums(plain[0], fused[0])
    _assert_bounds(fused[1], *given)

  @parameterized.parameters(*_GRIDS)
  def test_a_spread_and_the_top_alone(self, grid):
    plain, fused, given = _walks(grid, False, spread=1.5, ends=1)
    self.assertIsNone(fused[0].bottom)
    _assert_sums(plain[0], fused[0])
    _assert_bounds(fused[1], *given)

  @parameterized.parameters(
      ('tpu', 'a forgotten block'),
      ('tpu', 'a peak without rescaling'),
      ('tpu', 'the bottom is the top'),
      ('gpu', 'a forgotten block'),
      ('gpu', 'a place beside the place'),
  )
  @pytest.mark.slow
  def test_a_fault_is_seen(self, grid, fault):
    plain, fused, given = _walks(grid, False, fault=_fault(grid, fault))
    with self.assertRaises(AssertionError):
      _assert_sums(plain[0], fused[0])
      _assert_bounds(fused[1], *given)


class FusedLensTest(parameterized.TestCase):
  """The whole lens, with its certificate."""

  def _assert_true(
      self, lens, arrays, spread=None, softcap=None, unit_rows=None
  ):
    """Against float64 from the definition."""
    directions, table, keep = arrays
    if unit_rows:
      table = table / np.linalg.norm(table.astype(np.float64), axis=1)[:, None]
    x = directions.astype(np.float64) @ table[keep].astype(np.float64).T
    ids, scale = np.flatnonzero(keep), np.abs(x).max(axis=1, keepdims=True)
    near = np.round(x / np.maximum(scale, 1e-9), 12)  # Ties are equal.
    top = np.argsort(-near, axis=1, kind='stable')[:, :_K]
    np.testing.assert_array_equal(lens.top_ids, ids[top])
    y = x
    if spread is not None:
      std = x.std(axis=1, keepdims=True)
      y = x * spread / np.where(std > 0, std, 1)
    if softcap is not None:
      y = softcap * np.tanh(x / softcap)
    p = scipy.special.softmax(y, axis=1)
    np.testing.assert_allclose(
        lens.entropy, scipy.stats.entropy(p, axis=1), rtol=2e-6, atol=2e-6
    )
    mass = np.take_along_axis(p, top, axis=1).sum(axis=1)
    np.testing.assert_allclose(lens.top_mass, mass, rtol=1e-5)
    np.testing.assert_allclose(lens.std, x.std(axis=1), rtol=1e-5, atol=1e-7)
    if lens.bottom_entropy is not None:
      p = scipy.special.softmax(-y, axis=1)
      np.testing.assert_allclose(
          lens.bottom_entropy,
          scipy.stats.entropy(p, axis=1),
          rtol=2e-6,
          atol=2e-6,
      )

  @parameterized.parameters(
      dict(grid='tpu', dtype='float32', precision='exact', softcap=2.0),
      dict(grid='gpu', dtype='bfloat16', precision='screened', spread=1.5,
           both_ends=True),
      dict(grid='gpu', dtype='float32', precision='screened', bottom=False,
           unit_rows=True),
  )  # fmt: skip
  def test_the_lens_is_the_same(self, grid, dtype, **kwargs):
    directions, table, keep = arrays = _arrays(dtype)
    table = jnp.asarray(table, dtype)
    plain, fused = _lenses(grid, (directions, table, keep), **kwargs)
    _assert_same(plain, fused)
    # Not by the second pass, which is the plain one: but for copies of a row.
    self.assertLess(np.asarray(fused.recomputed).mean(), 0.3)
    kwargs = {n: kwargs.get(n) for n in ('spread', 'softcap', 'unit_rows')}
    self._assert_true(fused, arrays, **kwargs)

  def test_over_a_mesh(self):
    mesh = jax.make_mesh(
        (2, 4), ('feature', 'vocab'), axis_types=(AxisType.Auto,) * 2
    )
    directions, table, keep = _arrays('bfloat16')
    arrays = directions, jnp.asarray(table, jnp.bfloat16), keep
    plain, fused = _lenses('tpu', arrays, mesh, precision='screened',
                           spread=1.5, both_ends=True)  # fmt: skip
    _assert_same(plain, fused)

  def test_what_is_refused(self):
    with self.assertRaisesRegex(InputError, "kernel 'triton' is unknown"):
      _lens.check_kernel('triton', 'gpu')
    with self.assertRaisesRegex(InputError, "use kernel='xla'"):
      _lens.check_kernel('pallas', 'METAL')


if __name__ == '__main__':
  absltest.main()
