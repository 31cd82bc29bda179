"""`--dry_run` of models too large for most machines: nothing is read of them.

Their files are there in real size, and all holes.
"""

import json
import math
import pathlib

from absl.testing import absltest
from absl.testing import parameterized

from ooc_jax.experiments import OutputPrediction
from ooc_jax.experiments import load_config
from ooc_jax.experiments.output_prediction import plan
from tests.checkpoints import tiny

_SIZES = tiny.Sizes(v=128256, d=8192, m=28672, l=80, n=64, k=8, h=128)
_SHARDS = 30


def _write(folder: pathlib.Path) -> int:
  """The layout of Llama-3.1-70B; gives the number of its parameters."""
  shapes = tiny.hf_shapes('llama', tied=False, sizes=_SIZES)
  weight_map = {}
  for i in range(_SHARDS):
    header, at = {}, 0
    file = f'model-{i + 1:05}-of-{_SHARDS:05}.safetensors'
    for name in list(shapes)[i::_SHARDS]:
      size = 2 * math.prod(shapes[name])
      header[name] = {
          'dtype': 'BF16',
          'shape': shapes[name],
          'data_offsets': [at, at + size],
      }
      at += size
      weight_map[name] = file
    text = json.dumps(header).encode()
    with (folder / file).open('wb') as stream:
      stream.write(len(text).to_bytes(8, 'little') + text)
      stream.truncate(8 + len(text) + at)
  (folder / 'model.safetensors.index.json').write_text(
      json.dumps({'weight_map': weight_map})
  )
  config = tiny.hf_config(
      'llama', tied=False, sizes=_SIZES, torch_dtype='bfloat16'
  )
  (folder / 'config.json').write_text(json.dumps(config))
  return sum(map(math.prod, shapes.values()))


class LargeModelTest(parameterized.TestCase):

  def test_70b(self):
    folder = pathlib.Path(self.create_tempdir().full_path)
    # As the model's card says: 70.6 billion.
    self.assertEqual(_write(folder), 70_553_706_496)
    config = load_config('llama3_1_70b', {}, OutputPrediction)
    text = '\n'.join(plan(config, folder))
    self.assertIn('F 28672 at 3 layers', text)
    self.assertIn('L 80', text)
    # Tables, MLPs and norms of all layers: no attention is held.
    self.assertRegex(text, r'parameters 116\.95 GB')


if __name__ == '__main__':
  absltest.main()
