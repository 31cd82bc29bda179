"""The spread of scores: against float64, also where a covariance loses it."""

from unittest import mock

from absl.testing import absltest
import jax
import jax.numpy as jnp
import numpy as np

from ooc_jax import circuits
from ooc_jax.circuits.qk import _score_std


def _draw(shape, seed):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _std(rows, partners, counts=None):
  kept = partners if counts is None else partners[counts]
  # Another function each time: the threshold is read as a program is made.
  score_std = jax.jit(lambda *args: _score_std.score_std(*args))
  return np.asarray(
      score_std(
          jnp.asarray(rows),
          jnp.asarray(partners),
          None if counts is None else jnp.asarray(counts),
          jnp.asarray(kept.mean(axis=0, dtype=np.float64), jnp.float32),
          jnp.float32(len(kept)),
      )
  )


def _expected(rows, partners):
  return (rows.astype(np.float64) @ partners.T.astype(np.float64)).std(axis=1)


def _nearly_flat():
  """Rows 0 to 4 lie where partners hardly differ, the others anywhere."""
  rows, partners = _draw((23, 17), 0), _draw((301, 17), 1)
  partners[:, 0] *= 1e3
  rows[:5, 0] = 0.0
  turn, _ = np.linalg.qr(_draw((17, 17), 8).astype(np.float64))
  return tuple((x @ turn).astype(np.float32) for x in (rows, partners))


class ScoreStdTest(absltest.TestCase):

  def test_equals_the_definition(self):
    rows, partners = _draw((37, 19), 2), _draw((211, 19), 3) + 1.5
    np.testing.assert_allclose(
        _std(rows, partners), _expected(rows, partners), rtol=2e-6
    )

  def test_partners_that_do_not_count_have_no_part(self):
    rows, partners = _draw((37, 19), 4), _draw((211, 19), 5)
    counts = np.arange(211) % 3 != 1
    partners[~counts] *= 1e3
    np.testing.assert_allclose(
        _std(rows, partners, counts),
        _expected(rows, partners[counts]),
        rtol=2e-6,
    )

  def test_a_row_that_the_covariance_loses_is_found_from_scores(self):
    rows, partners = _nearly_flat()
    expected = _expected(rows, partners)
    np.testing.assert_allclose(_std(rows, partners), expected, rtol=1e-4)
    with mock.patch.object(_score_std, '_LEAST', 0.0):
      off = np.abs(_std(rows, partners) / expected - 1)
    self.assertGreater(off[:5].max(), 1e-3)
    self.assertLess(off[5:].max(), 1e-5)

  def test_a_row_does_not_depend_on_those_beside_it(self):
    rows, partners = _nearly_flat()
    np.testing.assert_array_equal(
        _std(rows, partners)[5:], _std(rows[5:], partners)
    )

  def test_units_do_not_matter(self):
    rows, partners = _draw((37, 19), 9), _draw((211, 19), 10)
    expected = _std(rows, partners)
    for up in (80, -80):  # The squares of these leave float32.
      scale = np.float32(2.0**up)
      np.testing.assert_array_equal(
          _std(rows / scale, partners * scale), expected
      )

  def test_equal_partners_have_none(self):
    rows = _draw((7, 19), 6)
    partners = np.tile(_draw((1, 19), 7), (64, 1))
    np.testing.assert_allclose(_std(rows, partners), 0.0, atol=1e-5)

  def test_both_roles_of_a_head_are_right_in_flat_directions(self):
    rows, partners = _nearly_flat()
    for queries, keys, role in (
        (rows, partners, 'query'), (partners, rows, 'key')
    ):  # fmt: skip
      found = circuits.qk_statistics(queries, keys, scale=0.37, k=3)
      np.testing.assert_allclose(
          getattr(found, role).std,
          0.37 * _expected(rows, partners),
          rtol=1e-4,
      )


if __name__ == '__main__':
  absltest.main()
