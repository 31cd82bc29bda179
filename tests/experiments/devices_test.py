"""Devices, as a text names them."""

from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax

from ooc_jax import InputError
from ooc_jax.experiments import make_mesh


class MeshTest(parameterized.TestCase):

  @parameterized.parameters(
      'feature', 'feature:0', 'feature:9', 'rows:2', 'vocab:2,vocab:2'
  )
  def test_mesh_that_is_none(self, text):
    with self.assertRaisesRegex(InputError, 'mesh='):
      make_mesh(text)

  def test_an_axis_that_is_left_out_has_one_device(self):
    mesh = make_mesh('vocab:4')
    self.assertEqual(dict(mesh.shape), {'feature': 1, 'vocab': 4})

  def test_none_and_a_mesh_stay_as_they_are(self):
    self.assertIsNone(make_mesh(None))
    mesh = jax.make_mesh((2, 2), ('feature', 'vocab'))
    self.assertIs(make_mesh(mesh), mesh)

  def test_auto_leaves_a_cpu_as_it_is(self):
    self.assertLen(jax.devices(), 8)
    self.assertIsNone(make_mesh('auto'))

  def test_auto_spreads_features_over_accelerators(self):
    with mock.patch.object(jax, 'default_backend', lambda: 'gpu'):
      mesh = make_mesh('auto')
    self.assertEqual(dict(mesh.shape), {'feature': 8, 'vocab': 1})


if __name__ == '__main__':
  absltest.main()
