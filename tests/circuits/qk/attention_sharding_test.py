"""One answer on 1, 2, 4 and 8 devices, whatever lies where."""

from absl.testing import absltest
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ooc_jax import circuits
from tests.circuits import attention_models

_K = 5
# Divides among 8 devices, as a sharded array has to.
_SIZE = 80


def _mesh(devices, axis='feature'):
  return jax.make_mesh(
      (devices,), (axis,), devices=jax.devices()[:devices],
      axis_types=(jax.sharding.AxisType.Auto,),
  )  # fmt: skip


def _sharded(dictionary, mesh):
  rows = jax.NamedSharding(mesh, jax.P('feature'))
  return dictionary.replace(
      encoder=jax.device_put(dictionary.encoder, rows),
      decoder=jax.device_put(dictionary.decoder, rows),
  )


def _assert_same(one, other):
  jax.tree.map(np.testing.assert_array_equal, one, other)


class AttentionShardingTest(absltest.TestCase):

  def _statistics(self, dictionary, **kwargs):
    model = attention_models.tiny_model('gemma2')
    return circuits.attention_statistics(
        model, dictionary, 1, heads=(0, 4), k=_K, offset=3, **kwargs
    )

  def test_all_devices_make_no_difference(self):
    self._check_devices(8)

  @pytest.mark.slow
  def test_devices_make_no_difference(self):
    self._check_devices(1, 2, 4)

  def _check_devices(self, *counts):
    model = attention_models.tiny_model('gemma2')
    dictionary = attention_models.dictionary(model, 1, size=_SIZE)
    one = self._statistics(dictionary)
    for devices in counts:
      found = self._statistics(_sharded(dictionary, _mesh(devices)))
      self.assertLen(found.query.top_ids.devices(), devices)
      _assert_same(one, found)

  @pytest.mark.any_compiler
  def test_mesh_by_name_and_features_that_do_not_divide(self):
    model = attention_models.tiny_model('gemma2')
    dictionary = attention_models.dictionary(model, 1)
    counts = np.arange(dictionary.size) % 7 != 3
    one = self._statistics(dictionary, counts=counts)
    two = self._statistics(dictionary, counts=counts, mesh=_mesh(8))
    _assert_same(one, two)
    # Also where the arrays were put on one device by name.
    placed = jax.device_put(dictionary, jax.devices()[1])
    _assert_same(one, self._statistics(placed, counts=counts, mesh=_mesh(8)))

  @pytest.mark.any_compiler
  def test_on_the_mean_of_the_stream(self):
    model = attention_models.tiny_model('gemma2')
    dictionary = attention_models.dictionary(model, 1, size=_SIZE)
    bias = np.arange(model.config.embed_dim, dtype=np.float32) - 3
    settings = {'bias': bias, 'length': 0.5}
    one = self._statistics(dictionary, **settings)
    spread = _sharded(dictionary, _mesh(8))
    _assert_same(one, self._statistics(spread, **settings))
    placed = jax.device_put(dictionary, jax.devices()[1])
    _assert_same(one, self._statistics(placed, **settings))

  @pytest.mark.any_compiler
  def test_under_jit(self):
    model = attention_models.tiny_model('gemma2')
    dictionary = attention_models.dictionary(model, 1, size=_SIZE)
    mesh = _mesh(4)
    traced = jax.jit(lambda d: self._statistics(d, mesh=mesh))
    one, two = self._statistics(dictionary), traced(_sharded(dictionary, mesh))
    # Compiled with what is around it: the last bit may differ.
    np.testing.assert_array_equal(one.query.top_ids, two.query.top_ids)
    np.testing.assert_array_equal(one.key.top_ids, two.key.top_ids)
    np.testing.assert_allclose(one.received, two.received, rtol=1e-5)

  @pytest.mark.any_compiler
  def test_mesh_without_features(self):
    # Nothing to spread over: as on one device.
    model = attention_models.tiny_model('gemma2')
    dictionary = attention_models.dictionary(model, 1, size=_SIZE)
    whole = jax.NamedSharding(_mesh(2, 'vocab'), jax.P())
    found = self._statistics(jax.device_put(dictionary, whole))
    _assert_same(self._statistics(dictionary), found)

  @pytest.mark.any_compiler
  def test_ov_over_all_devices(self):
    self._check_ov(8)

  @pytest.mark.any_compiler
  @pytest.mark.slow
  def test_ov_over_two_devices(self):
    self._check_ov(2)

  def _check_ov(self, devices):
    model = attention_models.tiny_model('gemma2')
    dictionary = attention_models.dictionary(model, 1, size=_SIZE)
    spread = _sharded(dictionary, _mesh(devices))
    for find in (
        lambda d: circuits.ov_lens(model, d, 1, 4, k=_K),
        lambda d: circuits.ov_writes(model, d, d, 1, 4, k=_K),
        lambda d: circuits.ov_copying(model, d, 1, 4, k=_K),
    ):
      one, two = find(dictionary), find(spread)
      jax.tree.map(
          lambda a, b: np.testing.assert_allclose(
              np.asarray(a, np.float32), np.asarray(b, np.float32),
              rtol=1e-4, atol=1e-4,
          ),
          one,
          two,
      )  # fmt: skip

  @pytest.mark.any_compiler
  def test_keys_stay_keys_on_a_mesh(self):
    # Fewer queries than keys, neither a multiple of anything.
    rng = np.random.default_rng(0)
    queries = jnp.asarray(rng.normal(size=(29, 6)), jnp.float32)
    keys = jnp.asarray(rng.normal(size=(77, 6)) + 0.3, jnp.float32)
    one = circuits.qk_statistics(queries, keys, scale=0.5, k=_K)
    two = circuits.qk_statistics(queries, keys, scale=0.5, k=_K, mesh=_mesh(4))
    self.assertIsNone(two.self_weight)
    jax.tree.map(np.testing.assert_array_equal, one, two)


if __name__ == '__main__':
  absltest.main()
