"""Attention statistics compiled ahead of time."""

from absl.testing import absltest
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ooc_jax import InputError
from ooc_jax import circuits
from tests.circuits import attention_models


def _mesh(devices):
  return jax.sharding.Mesh(
      np.asarray(devices), ('feature',),
      axis_types=(jax.sharding.AxisType.Auto,),
  )  # fmt: skip


@pytest.mark.any_compiler
class LowerAttentionTest(absltest.TestCase):

  def test_is_the_computation_itself(self):
    model = attention_models.tiny_model('gemma2')
    dictionary = attention_models.dictionary(model, 1, size=80)
    dictionary = attention_models.at_site(dictionary, 1, 'resid_pre')
    mesh = _mesh(jax.devices()[:4])
    compiled = circuits.lower_attention(
        model.config, 80, mesh, layer=1, offset=3, k=5
    ).compile()
    memory = compiled.memory_analysis()
    # The weights of one layer, and a quarter of the dictionary's decoder; what
    # is not used is no argument.
    layer = model.params['layer_1']
    held = layer['attention']['query'].nbytes + layer['attention']['key'].nbytes
    held += layer['attention_norm']['weight'].nbytes
    held += dictionary.decoder.nbytes // 4
    self.assertEqual(memory.argument_size_in_bytes, held)
    found = circuits.attention_statistics(
        model, dictionary, 1, heads=(0,), offset=3, k=5, mesh=mesh
    )
    self.assertEqual(
        jax.tree.map(jnp.shape, found),
        jax.tree.map(lambda x: x.shape, compiled.out_info),
    )

  def test_refusals(self):
    model = attention_models.tiny_model('gemma2')
    with self.assertRaisesRegex(InputError, "none is 'feature'"):
      mesh = jax.sharding.Mesh(np.asarray(jax.devices()[:2]), ('vocab',))
      circuits.lower_attention(model.config, 80, mesh)
    with self.assertRaisesRegex(InputError, 'no layer 3'):
      circuits.lower_attention(
          model.config, 80, _mesh(jax.devices()[:2]), layer=3
      )


if __name__ == '__main__':
  absltest.main()
