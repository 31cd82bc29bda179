"""A screened lens is as near to float64 as the exact one is."""

import itertools
import types
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
from jax.sharding import AxisType
import numpy as np
import pytest
import scipy.special
import scipy.stats

from ooc_jax.circuits import numerics
from ooc_jax.circuits.lens import _lens
from ooc_jax.circuits.lens import _scan
from ooc_jax.circuits.lens import _unembedding_lens
from tests.circuits import lens_oracle

_F, _V, _D, _K = 40, 6_011, 48, 20
_CASES = {
    'softcap': {'softcap': 6.0},
    'spread': {'spread': 1.5, 'both_ends': True},
    'centered': {'centered': True, 'softcap': 6.0},
    'cosine': {'unit_rows': True, 'spread': 1.5},
    # The programs of 'spread', for another table.
    'ties': {'spread': 1.5, 'both_ends': True},
}

# The others are compiled as users do; either way each case and either table.
_OF_ANY_COMPILER = (
    ('float32', 'spread'),
    ('float32', 'centered'),
    ('bfloat16', 'softcap'),
    ('bfloat16', 'ties'),
    ('bfloat16', 'cosine'),
)


def _arrays(dtype, ties=False):
  """A table like a trained one: an uneven spectrum, clusters, a long tail."""
  rng = np.random.default_rng(6)
  axes = np.arange(1, _D + 1) ** -0.7
  centres = rng.normal(size=(60, _D)) * axes
  table = centres[rng.integers(0, 60, size=_V)] * 0.7
  table += rng.normal(size=(_V, _D)) * axes + 0.2
  table *= rng.lognormal(sigma=0.3, size=(_V, 1))
  if ties:
    table = table[rng.integers(0, 2_000, size=_V)]
  directions = rng.normal(size=(_F, _D))
  directions += 2 * centres[rng.integers(0, 60, size=_F)]
  keep = rng.random(_V) > 0.1
  table[~keep] *= 1e3  # These may hold anything.
  spread = (directions @ table[keep].T).std(axis=1, keepdims=True)
  return np.float32(4 * directions / spread), jnp.asarray(table, dtype), keep


def _oracle(x, softcap=None, spread=None, both_ends=False):
  """Statistics of logits [F, kept] from their definitions."""
  y = x if softcap is None else softcap * np.tanh(x / softcap)
  if spread is not None:
    y = spread * x / x.std(axis=1, keepdims=True)
  found = lens_oracle.statistics_of(x, y, _K)
  if both_ends:
    other = scipy.special.softmax(-y, axis=1)
    found['bottom_entropy'] = scipy.stats.entropy(other, axis=1)
  return found


def _read(case, dtype, precision, mesh=None):
  """Name -> statistic, as a lens finds it and from the definition."""
  settings = dict(_CASES[case])
  directions, table, keep = _arrays(dtype, ties=case == 'ties')
  rows = np.asarray(table.astype(jnp.float32), np.float64)[keep]
  if settings.get('unit_rows'):
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
  x = directions.astype(np.float64) @ rows.T
  level = np.float32(np.quantile(x, 0.9, axis=1))
  lens = _unembedding_lens.lens_of_rows(
      jnp.asarray(directions),
      table,
      jnp.asarray(keep),
      k=_K,
      precision=precision,
      threshold=jnp.asarray(level),
      mesh=mesh,
      **settings,
  )
  active = (x > level[:, None]).mean(axis=1)
  if settings.pop('centered', False):
    x -= x.mean(axis=1, keepdims=True)
  settings.pop('unit_rows', None)
  true = _oracle(x, **settings) | {'active_share': active}
  return lens, true, x.std(axis=1)


def _errors(lens, true, std):
  """Of each statistic, of every feature; logits in standard deviations."""
  return {
      name: (
          np.abs(np.asarray(getattr(lens, name), np.float64) - value)
          / (std if name in ('mean', 'std') else 1)
      )
      for name, value in true.items()
  }


class ScreenedTest(parameterized.TestCase):

  @parameterized.parameters(*_OF_ANY_COMPILER)
  @pytest.mark.any_compiler
  def test_statistics_are_those_of_float64(self, dtype, case):
    self.check_statistics(dtype, case)

  @parameterized.parameters(
      x
      for x in itertools.product(('float32', 'bfloat16'), _CASES)
      if x not in _OF_ANY_COMPILER
  )
  @pytest.mark.slow
  def test_others_as_users_compile_them(self, dtype, case):
    self.check_statistics(dtype, case)

  def check_statistics(self, dtype, case):
    found = {p: _read(case, dtype, p) for p in ('exact', 'screened')}
    errors = {p: _errors(*x) for p, x in found.items()}
    for name, screened in errors['screened'].items():
      exact = errors['exact'][name]
      # One token that is within rounding of the level.
      least = 1.5 / _V if name == 'active_share' else 2e-6
      self.assertLess(screened.max(), 2 * exact.max() + least, name)
      self.assertLess(np.median(screened), 2 * np.median(exact) + 2e-7, name)
    exact, screened = (found[p][0] for p in ('exact', 'screened'))
    for name in ('top_ids', 'top_logits', 'bottom_ids', 'bottom_logits'):
      np.testing.assert_array_equal(
          getattr(exact, name), getattr(screened, name), name
      )

  def test_over_a_mesh(self):
    mesh = jax.make_mesh(
        (2, 4), ('feature', 'vocab'), axis_types=(AxisType.Auto,) * 2
    )
    for name, error in _errors(
        *_read('spread', 'bfloat16', 'screened', mesh)
    ).items():
      least = 1.5 / _V if name == 'active_share' else 5e-6
      self.assertLess(error.max(), least, name)

  @parameterized.parameters('float32', 'float16', 'bfloat16')
  def test_products_are_those_of_float32(self, dtype):
    rng = np.random.default_rng(4)
    D = 3  # So few that sums round next to nothing away.
    rows = rng.normal(size=(30, D)).astype(np.float32)
    table = jnp.asarray(rng.normal(size=(512, D)), dtype)
    pieces = jnp.stack(numerics.bfloat16_pieces(jnp.asarray(rows)))
    np.testing.assert_array_equal(pieces.astype(np.float32).sum(axis=0), rows)
    rows, single = (np.asarray(y, np.float64) for y in (rows, table))
    sizes = (np.linalg.norm(x, axis=1) for x in (rows, single))

    true, most = rows @ single.T, np.outer(*sizes)

    def error(pieces):
      x = _scan._products(pieces, table, jnp.ones(512), None)
      return (np.abs(x - true) / most).max()

    self.assertLess(error(pieces), 2.0**-22)
    for lost in (1, 2):
      self.assertGreater(error(pieces.at[lost].set(0)), 2.0**-20)

  @parameterized.parameters(
      (('tpu', None), set()),
      (('gpu', '9.0'), {'bfloat16', 'float32'}),
      (('gpu', '8.9'), set()),
      (('gpu', 'gfx942'), set()),
      (('cpu', None), {'bfloat16'}, 'avx2 amx_bf16'),
      (('cpu', None), set(), 'avx2 avx512_bf16'),
  )
  @pytest.mark.any_compiler
  def test_auto_is_what_is_faster(self, device, screened, flags=''):
    device = types.SimpleNamespace(
        platform=device[0], compute_capability=device[1]
    )
    with mock.patch.object(_lens, '_cpu_flags', flags.split):
      for dtype in ('bfloat16', 'float32'):
        for width in (64, 2_304):
          self.assertEqual(
              _lens.use_screen('auto', device, jnp.dtype(dtype), width),
              dtype in screened and width > 64,
          )


if __name__ == '__main__':
  absltest.main()
