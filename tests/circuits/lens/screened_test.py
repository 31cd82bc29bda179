"""How far a screened lens may be from the exact one, statistic by statistic."""

from absl.testing import absltest
from absl.testing import parameterized
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import scipy.stats

from ooc_jax import circuits

# More tokens than the sample that gives the line of a screened pass.
_F, _V, _D, _K = 40, 20_011, 48, 20
_SAMPLE = 4_096


def _arrays(dtype):
  """A table like a trained one: an uneven spectrum, clusters, a long tail."""
  rng = np.random.default_rng(6)
  axes = np.arange(1, _D + 1) ** -0.7
  centres = rng.normal(size=(60, _D)) * axes
  table = centres[rng.integers(0, 60, size=_V)] * 0.7
  table += rng.normal(size=(_V, _D)) * axes + 0.2
  table *= rng.lognormal(sigma=0.3, size=(_V, 1))
  directions = rng.normal(size=(_F, _D))
  directions += 2 * centres[rng.integers(0, 60, size=_F)]
  keep = rng.random(_V) > 0.1
  spread = (directions @ table.T).std(axis=1, keepdims=True)
  table = np.asarray(jnp.asarray(table, dtype).astype(jnp.float32))
  return np.float32(4 * directions / spread), table, keep


def _rounded(x):
  return x.astype(ml_dtypes.bfloat16).astype(np.float64)


class ScreenedTest(parameterized.TestCase):

  @parameterized.product(
      dtype=('float32', 'bfloat16'), with_moments=(False, True)
  )
  def test_bounds_of_the_docstring(self, dtype, with_moments):
    directions, table, keep = _arrays(dtype)
    given = jnp.asarray(table).astype(dtype)
    moments = None
    if with_moments:
      moments = circuits.table_moments(given, jnp.asarray(keep))
    lens = circuits.unembedding_lens(
        directions,
        jnp.ones(_D),
        given,
        keep,
        k=_K,
        precision='screened',
        moments=moments,
    )
    x = directions.astype(np.float64) @ table[keep].astype(np.float64).T
    seen = _rounded(directions) @ _rounded(table[keep]).T
    std = x.std(axis=1)
    z = (x - x.mean(axis=1, keepdims=True)) / std[:, None]
    # What the best line leaves.
    slopes = (z * seen).mean(axis=1) / std
    rest = seen - seen.mean(axis=1, keepdims=True) - slopes[:, None] * (
        x - x.mean(axis=1, keepdims=True)
    )  # fmt: skip
    rho = rest.std(axis=1) / std
    self.assertBetween(np.median(rho), 5e-4, 5e-3)

    def off(name, true):
      return np.abs(np.asarray(getattr(lens, name), np.float64) - true)

    np.testing.assert_array_less(off('mean', x.mean(axis=1)), 1e-5 * std)
    if with_moments:
      np.testing.assert_array_less(off('std', std), 1e-5 * std)
    else:
      # Four standard errors of a slope of 4,096 tokens.
      limit = 4 * rho / np.sqrt(_SAMPLE) + rho**2 + 1e-6
      np.testing.assert_array_less(off('std', std), limit * std)
    skewness = scipy.stats.skew(x, axis=1)
    kurtosis = scipy.stats.kurtosis(x, axis=1)
    np.testing.assert_array_less(
        off('skewness', skewness), 3 * rho * np.sqrt(kurtosis + 3)
    )
    np.testing.assert_array_less(
        off('kurtosis', kurtosis), 4 * rho * np.sqrt((z**6).mean(axis=1))
    )
    p = scipy.special.softmax(x, axis=1)
    top = -np.sort(-p, axis=1)[:, :_K]
    np.testing.assert_array_less(
        off('entropy', scipy.stats.entropy(p, axis=1)), 2 * rho * std
    )
    np.testing.assert_array_less(off('top_mass', top.sum(axis=1)), rho * std)
    # Of true logits alone.
    np.testing.assert_array_less(
        off('top_entropy', scipy.stats.entropy(top, axis=1)), 2e-5
    )

  def test_ends_and_top_logits_are_those_of_exact(self):
    directions, table, keep = _arrays('float32')
    exact, screened = (
        circuits.unembedding_lens(
            directions, jnp.ones(_D), table, keep, k=_K, precision=precision
        )
        for precision in ('exact', 'screened')
    )
    for name in ('top_ids', 'top_logits', 'bottom_ids', 'bottom_logits',
                 'top_entropy'):  # fmt: skip
      np.testing.assert_array_equal(
          getattr(exact, name), getattr(screened, name), name
      )


if __name__ == '__main__':
  absltest.main()
