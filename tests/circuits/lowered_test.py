"""Attention statistics compiled ahead of time, for real TPU topologies too."""

import functools
import importlib.util
import os
import unittest
from unittest import mock

from absl.testing import absltest
import jax
from jax.experimental import topologies
import jax.numpy as jnp
import numpy as np
import pytest

from ooc_jax import InputError
from ooc_jax import circuits
from ooc_jax.model import config_from_hf
from tests.circuits import ahead_of_time_test
from tests.circuits import attention_models
from tests.model import real_configs

_CHIP = 16e9  # Bytes of a TPU v5e.
_HAS_LIBTPU = importlib.util.find_spec('libtpu') is not None


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


@functools.cache
def _tpu_devices():
  # Without this the library asks a metadata server that is not there.
  with mock.patch.dict(os.environ, {'TPU_SKIP_MDS_QUERY': '1'}):
    return topologies.get_topology_desc(
        platform='tpu', topology_name='v5e:2x4'
    ).devices


@unittest.skipUnless(
    _HAS_LIBTPU, "libtpu, which compiles for TPUs, is in the extra 'tpu'"
)
class TpuTest(absltest.TestCase):

  def test_the_largest_dictionary_fits_a_chip(self):
    ahead_of_time_test.keep_no_program(self)
    lowered = circuits.lower_attention(
        config_from_hf(real_configs.LLAMA31_8B),
        131_072,
        _mesh(_tpu_devices()),
        offset=1,
    )
    quickly = ahead_of_time_test.QUICKLY
    memory = lowered.compile(compiler_options=quickly).memory_analysis()
    self.assertIn('TPU', str(_tpu_devices()[0].device_kind))
    held = sum(
        getattr(memory, f'{name}_size_in_bytes')
        for name in ('argument', 'temp', 'output', 'generated_code')
    )
    # All [F, F] would be 64 GiB.
    print(f'{held / 1e9:.2f} GB a chip: {memory}')
    self.assertBetween(held, 0.05e9, _CHIP)
    self.assertLess(memory.temp_size_in_bytes, 4e9)


if __name__ == '__main__':
  absltest.main()
