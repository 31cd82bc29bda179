"""`.pt` files as torch itself writes them, and our reader of them.

Needs the extra `parity`, and is skipped without it.
"""

import contextlib
import pathlib
import shutil

from absl.testing import absltest
from absl.testing import parameterized
import jax.numpy as jnp
import numpy as np
import pytest

from ooc_jax import load_dictionary
from ooc_jax.dictionaries.formats._torch_archive import TorchArchive
from tests.dictionaries import written
from tests.dictionaries.formats import qwen_scope_test

torch = pytest.importorskip('torch')

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings('ignore'),  # Theirs.
]


class TorchTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.path = pathlib.Path(self.create_tempdir().full_path) / 'x.pt'

  @parameterized.parameters(
      'float64', 'float32', 'float16', 'bfloat16', 'int64', 'int32', 'int16',
      'int8', 'uint8', 'bool',
  )  # fmt: skip
  def test_dtypes(self, dtype):
    x = torch.arange(12).reshape(3, 4).to(getattr(torch, dtype))
    torch.save({'x': x, 'row': x[1], 'scalar': x[2, 1], 't': x.T}, self.path)
    archive = TorchArchive(self.path)
    for name, y in (('x', x), ('row', x[1]), ('scalar', x[2, 1]), ('t', x.T)):
      got = archive.read(name)
      self.assertEqual(got.dtype, np.dtype(jnp.dtype(dtype)))
      np.testing.assert_array_equal(
          got.astype(np.float64), y.to(torch.float64).numpy()
      )

  @parameterized.parameters(2, 4, 5)
  def test_state_dicts(self, protocol):
    module = torch.nn.Linear(3, 5)
    state = module.state_dict()
    for tree in (
        state,
        {'state_dict': state, 'step': 3, 'shape': state['weight'].shape},
        {'weight': module.weight, 'bias': module.bias},
        {'weight': state['weight'], 'bias': state['bias'],
         'dtype': torch.float32, 'device': torch.device('cpu'), 'k': None},
    ):  # fmt: skip
      torch.save(tree, self.path, pickle_protocol=protocol)
      archive = TorchArchive(self.path)
      self.assertEqual(set(archive.shapes), {'weight', 'bias'})
      np.testing.assert_array_equal(
          archive.read('weight'), module.weight.detach().numpy()
      )

  def test_what_holds_more_than_tensors(self):
    torch.save({'w': torch.ones(2), 'model': torch.nn.Linear(2, 2)}, self.path)
    with self.assertRaisesRegex(ValueError, 'names torch.nn.modules.linear'):
      TorchArchive(self.path)
    torch.save(
        {'w': torch.ones(2)}, self.path, _use_new_zipfile_serialization=False
    )
    with self.assertRaisesRegex(ValueError, 'no zip archive'):
      TorchArchive(self.path)

  def test_the_advice_works(self):
    """The lines that a refusal gives make the file that is then read."""
    folder = self.path.parent / 'SAE-Res-X-W32K-L0_7'
    folder.mkdir()
    path = folder / 'layer2.sae.pt'
    state = {n: torch.tensor(x) for n, x in qwen_scope_test.stored().items()}
    torch.save(state, path, _use_new_zipfile_serialization=False)
    with self.assertRaises(ValueError) as caught:
      load_dictionary(path)
    lines = str(caught.exception).partition('safetensors: ')[2].rstrip('.')
    import safetensors.torch

    with contextlib.chdir(folder):
      exec(lines, {'torch': torch, 'safetensors': safetensors})
    read = load_dictionary(folder / 'layer2.sae.safetensors')
    np.testing.assert_array_equal(read.decoder, written.draw()['W_dec'])
    shutil.rmtree(folder)


if __name__ == '__main__':
  absltest.main()
