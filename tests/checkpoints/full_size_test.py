"""A checkpoint of Gemma-2-2B's size: what is read, and what memory it takes.

Opt-in: OOC_JAX_FULL_SIZE=1. Needs 12 GB of disk and a few minutes.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

from absl.testing import absltest
import pytest

_GB = 10**9
_CONFIG = {
    'architectures': ['Gemma2ForCausalLM'],
    'model_type': 'gemma2',
    'vocab_size': 256000,
    'hidden_size': 2304,
    'intermediate_size': 9216,
    'num_hidden_layers': 26,
    'num_attention_heads': 8,
    'num_key_value_heads': 4,
    'head_dim': 256,
    'rms_norm_eps': 1e-6,
    'query_pre_attn_scalar': 256,
    'hidden_activation': 'gelu_pytorch_tanh',
    'sliding_window': 4096,
    'attn_logit_softcapping': 50.0,
    'final_logit_softcapping': 30.0,
    'rope_theta': 10000.0,
    'torch_dtype': 'bfloat16',
}
_SHARDS = 3


def _shapes():
  """Names and shapes as on the hub."""
  shapes = {'model.embed_tokens.weight': (256000, 2304)}
  for i in range(26):
    layer = f'model.layers.{i}'
    shapes |= {
        f'{layer}.self_attn.q_proj.weight': (2048, 2304),
        f'{layer}.self_attn.k_proj.weight': (1024, 2304),
        f'{layer}.self_attn.v_proj.weight': (1024, 2304),
        f'{layer}.self_attn.o_proj.weight': (2304, 2048),
        f'{layer}.mlp.gate_proj.weight': (9216, 2304),
        f'{layer}.mlp.up_proj.weight': (9216, 2304),
        f'{layer}.mlp.down_proj.weight': (2304, 9216),
        f'{layer}.input_layernorm.weight': (2304,),
        f'{layer}.post_attention_layernorm.weight': (2304,),
        f'{layer}.pre_feedforward_layernorm.weight': (2304,),
        f'{layer}.post_feedforward_layernorm.weight': (2304,),
    }
  return shapes | {'model.norm.weight': (2304,)}


# Each runs in a process of its own: the peak of a process never goes down.
_WRITE = """
import json, pathlib, sys
import ml_dtypes
import numpy as np
folder, groups = pathlib.Path(sys.argv[1]), json.loads(sys.argv[2])
rng = np.random.default_rng(0)
for file, shapes in groups.items():
  header, at = {}, 0
  for name, shape in shapes.items():
    size = 2 * int(np.prod(shape))
    header[name] = {
        'dtype': 'BF16', 'shape': shape, 'data_offsets': [at, at + size]
    }
    at += size
  text = json.dumps(header).encode()
  text += b' ' * (-len(text) % 8)
  with open(folder / file, 'wb') as f:
    f.write(len(text).to_bytes(8, 'little') + text)
    for shape in shapes.values():
      left = int(np.prod(shape))
      while left:
        n = min(left, 2**22)
        x = rng.standard_normal(n, np.float32) / 64
        f.write(x.astype(ml_dtypes.bfloat16).tobytes())
        left -= n
"""
_REPORT = """
import json, resource, sys
def report(**numbers):
  usage = resource.getrusage(resource.RUSAGE_SELF)
  numbers['peak'] = usage.ru_maxrss * 1024
  print(json.dumps(numbers))
"""
_LOAD = _REPORT + """
from ooc_jax.checkpoints._safetensors import SafetensorsSource
read = []
plain = SafetensorsSource.read
def counted(self, name, index=None):
  x = plain(self, name, index)
  read.append(x.nbytes)
  return x
SafetensorsSource.read = counted
import ooc_jax
model = ooc_jax.load_model(
    sys.argv[1], parts=('embedding', 'unembedding', 'norms')
)
report(read=sum(read), tensors=len(read), shape=model.params['embedding'].shape)
"""
_CONVERT = _REPORT + """
import ooc_jax
ooc_jax.checkpoints.convert_model(sys.argv[1], sys.argv[2], to=sys.argv[3])
report()
"""


def _run(code, *args):
  done = subprocess.run(
      [sys.executable, '-c', code, *map(str, args)],
      capture_output=True,
      text=True,
      env=os.environ | {'JAX_PLATFORMS': 'cpu', 'HF_HUB_OFFLINE': '1'},
      cwd=pathlib.Path(__file__).parents[2],
  )
  assert done.returncode == 0, done.stderr
  return json.loads(done.stdout.splitlines()[-1]) if done.stdout else {}


@pytest.mark.skipif(
    os.environ.get('OOC_JAX_FULL_SIZE') != '1', reason='OOC_JAX_FULL_SIZE=1'
)
class FullSizeTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    folder = tempfile.TemporaryDirectory()
    self.addCleanup(folder.cleanup)
    self.root = pathlib.Path(folder.name)
    self.model = self.root / 'model'
    self.model.mkdir()
    (self.model / 'config.json').write_text(json.dumps(_CONFIG))
    groups, weight_map = {}, {}
    at, most = 0, 5.3 * _GB / _SHARDS
    for name, shape in _shapes().items():
      size = 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
      shard = min(int(at / most), _SHARDS - 1) + 1
      file = f'model-{shard:05}-of-{_SHARDS:05}.safetensors'
      groups.setdefault(file, {})[name] = shape
      weight_map[name] = file
      at += size
    self.assertLen(groups, _SHARDS)
    self.size = at
    self.assertAlmostEqual(at / _GB, 5.2, delta=0.05)
    _run(_WRITE, self.model, json.dumps(groups))
    (self.model / 'model.safetensors.index.json').write_text(
        json.dumps({'weight_map': weight_map})
    )

  def test_read_and_converted_there_and_back(self):
    loaded = _run(_LOAD, self.model)
    self.assertEqual(loaded['shape'], [256000, 2304])
    self.assertEqual(loaded['tensors'], 1 + 26 * 4 + 1)
    self.assertLess(loaded['read'], 1.2 * _GB)
    ours = self.root / 'ours'
    there = _run(_CONVERT, self.model, ours, 'orbax')
    self.assertLess(there['peak'], 3 * _GB)
    back = _run(_CONVERT, ours, self.root / 'back', 'safetensors')
    # The largest shard, 2 GB, and one item.
    self.assertLess(back['peak'], 4 * _GB)
    print(
        f'read {loaded["read"] / _GB:.3f} GB (peak'
        f' {loaded["peak"] / _GB:.2f}) to Orbax {there["peak"] / _GB:.2f} back'
        f' {back["peak"] / _GB:.2f}'
    )
    self.assertEqual(*map(_digests, (self.model, self.root / 'back')))


def _digests(folder):
  """SHA-256 of every tensor, without the code under test."""
  code = """
import hashlib, json, pathlib, sys
found = {}
for path in sorted(pathlib.Path(sys.argv[1]).glob('*.safetensors')):
  with path.open('rb') as f:
    header = json.loads(f.read(int.from_bytes(f.read(8), 'little')))
    start = f.tell()
    for name, entry in header.items():
      if name != '__metadata__':
        first, last = entry['data_offsets']
        f.seek(start + first)
        digest = hashlib.sha256(f.read(last - first)).hexdigest()
        found[name] = [digest, entry['shape'], entry['dtype']]
print(json.dumps(found))
"""
  return _run(code, folder)


if __name__ == '__main__':
  absltest.main()
