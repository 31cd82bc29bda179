"""The loss of SAE training and its gradient, against their definition."""

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from ooc_jax.dictionaries.training import SaeParams
from ooc_jax.dictionaries.training import _loss


def _draw(shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape)


def _params(D=7, F=11, seed=0):
  decoder = _draw((D, F), seed)
  return SaeParams(
      encoder=_draw((D, F), seed + 1),
      decoder=decoder / np.linalg.norm(decoder, axis=0),
      encoder_bias=_draw(F, seed + 2),
      decoder_bias=_draw(D, seed + 3),
      log_threshold=np.log(np.linspace(0.3, 2.0, F)),
  )


def _single(tree):
  return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), tree)


def _by_definition(p, x, *, sparsity, target, bandwidth):
  """Float64, token by token and feature by feature."""
  n, D = x.shape
  F = len(p.encoder_bias)
  theta = np.exp(p.log_threshold)
  out = SaeParams(*(np.zeros_like(y) for y in p))
  pre, a, error = np.zeros((n, F)), np.zeros((n, F)), np.zeros((n, D))
  for i in range(n):
    for f in range(F):
      pre[i, f] = x[i] @ p.encoder[:, f] + p.encoder_bias[f]
      a[i, f] = pre[i, f] if pre[i, f] > theta[f] else 0.0
    error[i] = p.decoder @ a[i] + p.decoder_bias - x[i]
  l0 = (a != 0).sum() / n
  by_l0 = sparsity * 2 * (l0 / target - 1) / target
  near = 0
  for i in range(n):
    by_out = 2 * error[i] / (n * D)
    out.decoder_bias[:] += by_out
    for f in range(F):
      by_a = by_out @ p.decoder[:, f]
      out.decoder[:, f] += by_out * a[i, f]
      if pre[i, f] > theta[f]:
        out.encoder[:, f] += by_a * x[i]
        out.encoder_bias[f] += by_a
      if abs((pre[i, f] - theta[f]) / bandwidth) < 0.5:
        near += 1
        by_theta = -theta[f] / bandwidth * by_a - by_l0 / (n * bandwidth)
        out.log_threshold[f] += by_theta * theta[f]
  assert near > 20  # Or the thresholds would not be tested.
  return out, (error**2).mean(), l0, (a != 0).mean(axis=0)


class LossTest(parameterized.TestCase):

  # L0 over the target and under it: the penalty has both signs.
  @parameterized.parameters(2.0, 9.0)
  def test_gradient_is_the_straight_through_one(self, target):
    p, x = _params(), _draw((37, 7), seed=9)
    settings = {'sparsity': 1.7, 'target': target, 'bandwidth': 0.6}
    expected, fvu, l0, fired = _by_definition(p, x, **settings)
    actual, losses = _loss.loss_gradient(_single(p), _single(x), **settings)
    self.assertBetween(l0, 2.5, 8.5)
    np.testing.assert_allclose(losses.fvu, fvu, rtol=1e-6)
    np.testing.assert_allclose(losses.l0, l0, rtol=1e-6)
    np.testing.assert_allclose(losses.fired, fired, rtol=1e-6)
    for name, ours, theirs in zip(p._fields, actual, expected, strict=True):
      # Float32 sums of 37 terms that partly cancel.
      atol = 2e-6 * np.abs(theirs).max()
      self.assertGreater(atol, 1e-9)
      np.testing.assert_allclose(ours, theirs, rtol=0, atol=atol, err_msg=name)

  def test_gradient_is_the_derivative_where_there_is_one(self):
    """Without the penalty, of all but the thresholds; float64 differences."""
    p, x = _params(), _draw((37, 7), seed=9)
    gradient, _ = _loss.loss_gradient(
        _single(p), _single(x), sparsity=0.0, target=3.0, bandwidth=0.6
    )

    def loss(p):
      pre = x @ p.encoder + p.encoder_bias
      a = np.where(pre > np.exp(p.log_threshold), pre, 0)
      return ((a @ p.decoder.T + p.decoder_bias - x) ** 2).mean()

    for name in ('encoder', 'decoder', 'encoder_bias', 'decoder_bias'):
      direction = _draw(getattr(p, name).shape, seed=5)
      # Too small to carry a pre-activation over its threshold.
      steps = [
          loss(p._replace(**{name: getattr(p, name) + e * direction}))
          for e in (1e-6, -1e-6)
      ]
      slope = (steps[0] - steps[1]) / 2e-6
      ours = (np.asarray(getattr(gradient, name)) * direction).sum()
      np.testing.assert_allclose(ours, slope, rtol=2e-5, err_msg=name)
      self.assertGreater(abs(slope), 1e-2)

  def test_bfloat16_is_near(self):
    p, x = _single(_params()), _single(_draw((370, 7), seed=9))
    settings = {'sparsity': 1.7, 'target': 2.0, 'bandwidth': 0.6}
    exact, _ = _loss.loss_gradient(p, x, **settings)
    rough, _ = _loss.loss_gradient(p, x, **settings, dtype=jnp.bfloat16)
    for name, ours, theirs in zip(p._fields, rough, exact, strict=True):
      error = np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)
      # Rounding is 0.4 %, and some activations change sides of a threshold.
      self.assertBetween(error, 1e-5, 0.05, name)

  def test_what_is_left_of_a_gradient_keeps_the_norm(self):
    unit = _single(_params()).decoder
    gradient = _single(_draw(unit.shape, seed=4))
    along = _loss.along_sphere(gradient, unit)
    np.testing.assert_allclose((along * unit).sum(0), 0, atol=1e-6)
    # Only the radial part is gone.
    rest = gradient - along
    cosines = (rest * unit).sum(0) / np.linalg.norm(rest, axis=0)
    np.testing.assert_allclose(np.abs(cosines), 1, atol=1e-5)

  def test_column_of_zeros_has_no_direction(self):
    x = jnp.asarray([[3.0, 0.0], [4.0, 0.0]])
    np.testing.assert_allclose(
        _loss.unit_columns(x), [[0.6, 0], [0.8, 0]], rtol=1e-6
    )


if __name__ == '__main__':
  absltest.main()
