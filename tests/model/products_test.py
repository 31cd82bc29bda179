"""Products: sums in float32 whatever the operands, and their gradients."""

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from ooc_jax.model._products import product

_SIZES = {'B': 2, 'T': 5, 'S': 7, 'D': 300, 'N': 6, 'K': 3, 'G': 4, 'H': 8}
_SPECS = (
    'BTD,DNH->BTNH',
    'BTKGH,BSKH->BKGTS',
    'BKGTS,BSKH->BTKGH',
    'BTNH,NHD->BTD',
)


def _operands(spec, dtype, seed=0):
  rng = np.random.default_rng(seed)
  return [
      jnp.asarray(rng.normal(size=[_SIZES[a] for a in axes]), dtype)
      for axes in spec.split('->')[0].split(',')
  ]


def _float64(*arrays):
  return [np.asarray(x, np.float64) for x in arrays]


class ProductTest(parameterized.TestCase):

  @parameterized.product(
      spec=_SPECS, dtype=(jnp.float32, jnp.bfloat16, jnp.float16)
  )
  def test_against_float64(self, spec, dtype):
    x, w = _operands(spec, dtype)
    found = product(spec, x, w)
    self.assertEqual(found.dtype, jnp.float32)
    # Products of narrow numbers are exact in float32, so only sums round.
    np.testing.assert_allclose(
        found, np.einsum(spec, *_float64(x, w)), rtol=1e-5, atol=2e-5
    )

  @parameterized.parameters(*_SPECS)
  def test_gradient_of_narrow_operands(self, spec):
    x, w = _operands(spec, jnp.bfloat16)
    shape = jax.eval_shape(lambda: product(spec, x, w)).shape
    # Exact in bfloat16, so that the cotangent is not rounded.
    g = np.random.default_rng(1).integers(-8, 9, shape).astype(np.float32)
    dx, dw = jax.grad(
        lambda x, w: (product(spec, x, w) * g).sum(), argnums=(0, 1)
    )(x, w)
    self.assertEqual((dx.dtype, dw.dtype), (jnp.bfloat16, jnp.bfloat16))
    inputs, out = spec.split('->')
    a, b = inputs.split(',')
    want_x = np.einsum(f'{out},{b}->{a}', g, *_float64(w))
    want_w = np.einsum(f'{out},{a}->{b}', g, *_float64(x))
    # One rounding to 8 bits, at the end.
    for found, want in ((dx, want_x), (dw, want_w)):
      np.testing.assert_allclose(
          *_float64(found), want, rtol=2**-8, atol=1e-4 * np.abs(want).max()
      )

  def test_a_long_sum_keeps_small_terms(self):
    """Summed in bfloat16, ones would stop counting at 256."""
    x = jnp.ones((1, 1, 3000), jnp.bfloat16)
    self.assertEqual(product('BTD,DM->BTM', x, x.reshape(3000, 1)), 3000)


if __name__ == '__main__':
  absltest.main()
