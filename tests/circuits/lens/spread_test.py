"""The softmax at a fixed spread, at either end, against float64 NumPy."""

import pathlib

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
from jax.sharding import AxisType
import numpy as np
import pytest
import scipy.stats

from ooc_jax import InputError
from ooc_jax import circuits
from ooc_jax.checkpoints import load_model
from ooc_jax.dictionaries import random_dictionary
from tests.tiny import make_checkpoint

_F, _V, _D, _K = 37, 5_003, 24, 12
_SPREAD = 2.0


def _arrays(scale=1.0):
  rng = np.random.default_rng(5)
  directions = rng.normal(size=(_F, _D)) * rng.lognormal(size=(_F, 1)) * scale
  # Rows about a mean far from 0, some of them near each other.
  table = rng.normal(size=(_V, _D)) * np.arange(1, _D + 1) ** -0.5 + 3.0
  table[:40] = table[0] + 0.1 * rng.normal(size=(40, _D))
  keep = rng.random(_V) > 0.1
  return directions.astype(np.float32), table.astype(np.float32), keep


def _oracle(directions, table, keep, sign=1):
  """Entropy at the spread, and the mass of the top tokens, in nats."""
  x = directions.astype(np.float64) @ table[keep].astype(np.float64).T
  p = scipy.special.softmax(
      sign * _SPREAD * x / x.std(axis=1, keepdims=True), axis=1
  )
  top = -np.sort(-p, axis=1)[:, :_K]
  return {
      'entropy': scipy.stats.entropy(p, axis=1),
      'top_mass': top.sum(axis=1),
      'top_entropy': scipy.stats.entropy(top, axis=1),
  }


def _lens(directions, table, keep, **kwargs):
  kwargs = {'k': _K, 'spread': _SPREAD, 'both_ends': True} | kwargs
  return circuits.unembedding_lens(
      directions, jnp.ones(_D), jnp.asarray(table), keep, **kwargs
  )


class SpreadTest(parameterized.TestCase):

  def _assert_is(self, lens, directions, table, keep):
    top = _oracle(directions, table, keep)
    for name, true in top.items():
      np.testing.assert_allclose(
          getattr(lens, name), true, rtol=2e-5, err_msg=name
      )
    bottom = _oracle(directions, table, keep, sign=-1)
    np.testing.assert_allclose(lens.bottom_entropy, bottom['entropy'], 2e-5)

  @parameterized.product(
      precision=('exact', 'screened'), with_moments=(False, True)
  )
  def test_is_the_softmax_of_scaled_logits(self, precision, with_moments):
    arrays = directions, table, keep = _arrays()
    moments = None
    if with_moments:
      moments = circuits.table_moments(jnp.asarray(table), jnp.asarray(keep))
    lens = _lens(*arrays, precision=precision, moments=moments)
    self._assert_is(lens, directions, table, keep)

  @parameterized.parameters(1e-12, 1e9)
  def test_no_scale_enters(self, scale):
    """A raw softmax is flat at one scale, and one token at the other."""
    directions, table, keep = _arrays(scale)
    self._assert_is(_lens(directions, table, keep), *_arrays())

  @pytest.mark.any_compiler
  def test_a_softcap_does_not_enter(self):
    arrays = _arrays()
    lens = _lens(*arrays, softcap=1.0)
    self._assert_is(lens, *arrays)
    raw = _lens(*arrays, softcap=1.0, spread=None)
    self.assertGreater(float(jnp.abs(raw.entropy - lens.entropy).min()), 0.1)

  @pytest.mark.any_compiler
  def test_the_bottom_is_the_top_of_minus_the_direction(self):
    directions, table, keep = _arrays()
    for kwargs in ({}, {'spread': None}, {'spread': None, 'softcap': 3.0}):
      lens = _lens(directions, table, keep, **kwargs)
      turned = _lens(-directions, table, keep, **kwargs)
      np.testing.assert_allclose(
          lens.bottom_entropy, turned.entropy, rtol=1e-5, atol=1e-6
      )
      mirror = lens.turned()
      np.testing.assert_array_equal(mirror.top_ids, turned.top_ids)
      np.testing.assert_array_equal(mirror.bottom_logits, turned.bottom_logits)
      np.testing.assert_array_equal(mirror.entropy, lens.bottom_entropy)

  @parameterized.parameters((2, 4), (8, 1))
  @pytest.mark.any_compiler
  def test_over_a_mesh(self, feature, vocab):
    arrays = _arrays()
    mesh = jax.make_mesh(
        (feature, vocab),
        ('feature', 'vocab'),
        axis_types=(AxisType.Auto,) * 2,
        devices=jax.devices()[: feature * vocab],
    )
    self._assert_is(_lens(*arrays, mesh=mesh), *arrays)

  @pytest.mark.any_compiler
  def test_of_cosines(self):
    """Rows of length 1 have a covariance of their own."""
    folder = pathlib.Path(self.create_tempdir().full_path)
    model = load_model(make_checkpoint(folder, 'llama'))
    dictionary = random_dictionary(model, 1, size=9)
    lens = circuits.output_lens(
        model, dictionary, k=6, convention='cosine', spread=_SPREAD
    )
    gain = np.asarray(circuits.final_gain(model), np.float64)
    table = np.asarray(circuits.unembedding_table(model), np.float64)
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    keep = np.asarray(lens.mask)
    expected = _oracle(np.asarray(dictionary.decoder) * gain, table, keep)
    np.testing.assert_allclose(lens.entropy, expected['entropy'], rtol=2e-5)

  @pytest.mark.any_compiler
  def test_a_direction_without_spread_is_uniform(self):
    _, table, keep = _arrays()
    lens = _lens(jnp.zeros((3, _D)), table, keep)
    for entropy in (lens.entropy, lens.bottom_entropy):
      np.testing.assert_allclose(entropy, np.log(keep.sum()), rtol=1e-6)

  @parameterized.parameters(0.0, -1.0, float('nan'), float('inf'))
  @pytest.mark.any_compiler
  def test_no_spread_is_refused(self, spread):
    with self.assertRaisesRegex(InputError, 'over 0, or None'):
      _lens(*_arrays(), spread=spread)


if __name__ == '__main__':
  absltest.main()
