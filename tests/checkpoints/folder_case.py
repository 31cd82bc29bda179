"""A tiny model in a folder, for tests that read or spoil it."""

import pathlib

from absl.testing import parameterized
import numpy as np

from ooc_jax import InputError
from ooc_jax import load_model
from tests.checkpoints import tiny


class FolderCase(parameterized.TestCase):
  """A tiny untied Llama in a folder."""

  family, tied = 'llama', False

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path)
    self.weights = dict(tiny.tensors(self.family, tied=self.tied))
    self.config = tiny.hf_config(self.family, tied=self.tied)

  def write(self, folder=None, **kwargs):
    folder = folder or self.folder
    return tiny.write_folder(folder, self.config, self.weights, **kwargs)

  def error(self, source=None, **kwargs):
    with self.assertRaises(InputError) as caught:
      load_model(source or self.folder, **kwargs)
    message = str(caught.exception)
    self.assertNotIn('\n', message)
    self.assertIn(str(self.folder), message)
    return message

  def assert_holds(self, params, weights):
    """A few of the parameters, of every layout; the table has its own test."""
    layer = 'model.layers.2'
    np.testing.assert_array_equal(
        params['layer_2']['mlp']['down'],
        weights[f'{layer}.mlp.down_proj.weight'].T,
    )
    np.testing.assert_array_equal(
        params['layer_2']['attention']['output'],
        weights[f'{layer}.self_attn.o_proj.weight'].T.reshape(6, 8, 20),
    )
    np.testing.assert_array_equal(
        params['final_norm']['weight'], weights['model.norm.weight']
    )
    np.testing.assert_array_equal(
        params['embedding'], weights['model.embed_tokens.weight']
    )
