"""Conversion there and back, interrupted, cached, and item by item."""

import hashlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax
from jax.sharding import AxisType
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

import ooc_jax
from ooc_jax.checkpoints import _find
from ooc_jax.checkpoints import _folder
from ooc_jax.checkpoints import _stream
from ooc_jax.checkpoints import convert_model
from tests.tiny import make_checkpoint

_TYPES = {'bfloat16': ml_dtypes.bfloat16, 'float32': np.float32}


def _tensors(folder):
  found = {}
  for path in folder.glob('*.safetensors'):
    found |= safetensors.numpy.load_file(path)
  return found


def _checkpoint(folder, family, dtype='float32', shards=1):
  """A checkpoint of `dtype`, its tensors dealt to `shards` files."""
  make_checkpoint(folder, family, torch_dtype=dtype)
  tensors = {k: x.astype(_TYPES[dtype]) for k, x in _tensors(folder).items()}
  (folder / 'model.safetensors').unlink()
  if shards == 1:
    safetensors.numpy.save_file(tensors, folder / 'model.safetensors')
    return tensors
  weight_map = {}
  for i in range(shards):
    name = f'model-{i + 1:05}-of-{shards:05}.safetensors'
    mine = dict(list(tensors.items())[i::shards])
    safetensors.numpy.save_file(mine, folder / name)
    weight_map |= dict.fromkeys(mine, name)
  (folder / 'model.safetensors.index.json').write_text(
      json.dumps({'weight_map': weight_map})
  )
  return tensors


def _bits(params):
  flat = jax.tree_util.tree_leaves_with_path(params)
  return {
      jax.tree_util.keystr(path): (str(x.dtype), np.asarray(x).tobytes())
      for path, x in flat
  }


def _mesh(*shape):
  return jax.make_mesh(
      shape, ('feature', 'vocab'), axis_types=(AxisType.Auto,) * 2
  )


class FolderTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    folder = tempfile.TemporaryDirectory()
    self.addCleanup(folder.cleanup)
    self.root = pathlib.Path(folder.name)
    self.source, self.ours = self.root / 'source', self.root / 'to' / 'ours'


class ConvertTest(FolderTest):

  @parameterized.product(
      family=('llama', 'gemma2'),
      dtype=('bfloat16', 'float32'),
      shards=(1, 3),
  )
  def test_there_and_back_bit_for_bit(self, family, dtype, shards):
    tensors = _checkpoint(self.source, family, dtype, shards)
    convert_model(self.source, self.ours)
    back = self.root / 'back'
    convert_model(self.ours, back, to='safetensors', shard_size=30_000)
    files = sorted(back.glob('*.safetensors'))
    self.assertGreater(len(files), 1)
    for file in files:
      # A table alone may be larger.
      if len(safetensors.numpy.load_file(file)) > 1:
        self.assertLess(file.stat().st_size, 32_000)
    again = _tensors(back)
    self.assertEqual(set(again), set(tensors))
    for name, x in tensors.items():
      self.assertEqual(again[name].dtype, x.dtype, name)
      self.assertEqual(again[name].shape, x.shape, name)
      self.assertEqual(again[name].tobytes(), x.tobytes(), name)
    for name in ('config.json', 'tokenizer.json'):
      self.assertEqual(
          json.loads((back / name).read_text()),
          json.loads((self.source / name).read_text()),
      )
    whole = ooc_jax.load_model(self.source)
    for folder in (self.ours, back):
      model = ooc_jax.load_model(folder)
      self.assertEqual(_bits(model.params), _bits(whole.params))
      self.assertEqual(model.config, whole.config)

  def test_one_shard_where_it_is_enough(self):
    _checkpoint(self.source, 'llama')
    convert_model(self.source, self.ours, to='safetensors')
    self.assertEqual(
        {f.name for f in self.ours.iterdir()},
        {'config.json', 'model.safetensors', 'tokenizer.json'},
    )

  @parameterized.parameters('llama', 'gemma2')
  def test_model_without_config_json(self, family):
    _checkpoint(self.source, family)
    model = ooc_jax.load_model(self.source)
    ooc_jax.save_model(model, self.ours)
    back = self.root / 'back'
    convert_model(self.ours, back, to='safetensors')
    again = ooc_jax.load_model(back)
    self.assertEqual(again.config, model.config)
    self.assertEqual(_bits(again.params), _bits(model.params))

  def test_manifest_says_what_was_read(self):
    _checkpoint(self.source, 'llama', shards=3)
    convert_model(self.source, self.ours)
    origin = json.loads((self.ours / 'ooc_jax.json').read_text())['origin']
    expected = [
        {
            'name': path.name,
            'size': len(path.read_bytes()),
            'sha256': hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in sorted(self.source.iterdir())
    ]
    self.assertEqual(sorted(origin['files'], key=lambda x: x['name']), expected)
    self.assertLen(expected, 6)
    self.assertIsNone(origin['repo'])

  def test_dtype(self):
    _checkpoint(self.source, 'llama')
    convert_model(self.source, self.ours, dtype='bfloat16')
    model = ooc_jax.load_model(self.source, dtype='bfloat16')
    self.assertEqual(
        _bits(ooc_jax.load_model(self.ours).params), _bits(model.params)
    )
    back = self.root / 'back'
    convert_model(self.ours, back, to='safetensors')
    config = json.loads((back / 'config.json').read_text())
    self.assertEqual(config['torch_dtype'], 'bfloat16')

  def test_parts_read_their_items_only(self):
    _checkpoint(self.source, 'gemma2')
    convert_model(self.source, self.ours)
    for item in (self.ours / 'params').iterdir():
      if item.name not in ('embedding', 'final_norm', 'norms'):
        shutil.rmtree(item)
    parts = ('embedding', 'unembedding', 'norms')
    some = ooc_jax.load_model(self.ours, parts=parts)
    expected = ooc_jax.load_model(self.source, parts=parts)
    self.assertEqual(_bits(some.params), _bits(expected.params))

  def test_over_a_mesh_of_8_devices(self):
    _checkpoint(self.source, 'llama')
    convert_model(self.source, self.ours, mesh=_mesh(4, 2))
    whole = ooc_jax.load_model(self.source)
    model = ooc_jax.load_model(self.ours)
    self.assertEqual(_bits(model.params), _bits(whole.params))
    mesh = _mesh(2, 4)
    model = ooc_jax.load_model(self.ours, mesh=mesh)
    self.assertEqual(_bits(model.params), _bits(whole.params))
    gate = model.params['layer_1']['mlp']['gate']
    self.assertEqual(gate.addressable_shards[0].data.shape, (20, 18))
    read = dict(ooc_jax.load_model(self.source, mesh=mesh).params)
    self.assertEqual(read['layer_1']['mlp']['gate'].sharding, gate.sharding)

  @parameterized.parameters('orbax', 'safetensors')
  def test_no_more_than_one_item_is_alive(self, to):
    """And for safetensors, one shard, of NumPy arrays."""
    _checkpoint(self.source, 'llama')
    before = {id(x) for x in jax.live_arrays()}
    alive = []
    plain = _stream.read_parameter

    def counted(rule, *args):
      x = plain(rule, *args)
      names = [a for a in jax.live_arrays() if id(a) not in before]
      alive.append((_stream.item_of(rule.ours), sum(a.nbytes for a in names)))
      return x

    with mock.patch.object(_stream, 'read_parameter', counted):
      convert_model(self.source, self.ours, to=to, shard_size=1)
    model = ooc_jax.load_model(self.source)
    flat = [
        ('/'.join(k.key for k in path), x.nbytes)
        for path, x in jax.tree_util.tree_leaves_with_path(model.params)
    ]
    size = {}
    for name, nbytes in flat:
      item = _stream.item_of(name)
      size[item] = size.get(item, 0) + nbytes
    self.assertLen(alive, len(flat))
    for item, nbytes in alive:
      self.assertLessEqual(nbytes, size[item], item)
    self.assertGreater(max(nbytes for _, nbytes in alive), 0)


class InterruptedTest(FolderTest):

  @parameterized.parameters(KeyboardInterrupt, OSError, MemoryError)
  def test_nothing_is_left(self, error):
    _checkpoint(self.source, 'llama')
    calls = []
    plain = _folder.save_arrays

    def third(*args):
      calls.append(args)
      if len(calls) == 3:
        raise error('no space left')
      plain(*args)

    expected = ooc_jax.InputError if error is OSError else error
    with mock.patch.object(_folder, 'save_arrays', third):
      with self.assertRaisesRegex(expected, 'no space left'):
        convert_model(self.source, self.ours)
    self.assertEmpty(list(self.ours.parent.iterdir()))

  @pytest.mark.slow
  def test_killed(self):
    """What a killed run leaves is hidden, and the next run removes it."""
    make_checkpoint(self.source, 'llama', num_hidden_layers=40)
    code = (
        'import sys; from ooc_jax.checkpoints import convert_model;'
        ' convert_model(sys.argv[1], sys.argv[2])'
    )
    command = [sys.executable, '-c', code, str(self.source), str(self.ours)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(self.ours.parent.glob('.*/params/layer_*')):
      self.assertIsNone(process.poll())
      self.assertLess(time.monotonic(), deadline)
      time.sleep(0.01)
    # While it lives, what it writes is left alone.
    other = self.root / 'source2'
    make_checkpoint(other, 'llama', num_hidden_layers=1)
    (mine,) = self.ours.parent.iterdir()
    process.send_signal(signal.SIGSTOP)
    with _folder.new_folder(self.ours) as second:
      self.assertTrue(mine.is_dir())
      second.rmdir()
      second.symlink_to(other)  # So that the rename has something to move.
    self.ours.unlink()
    process.send_signal(signal.SIGKILL)
    process.wait()
    self.assertEqual(list(self.ours.parent.iterdir()), [mine])
    convert_model(other, self.ours)
    self.assertEqual(list(self.ours.parent.iterdir()), [self.ours])

  def test_existing_folder(self):
    _checkpoint(self.source, 'llama')
    self.ours.mkdir(parents=True)
    with self.assertRaisesRegex(ooc_jax.InputError, 'exists already'):
      convert_model(self.source, self.ours)

  def test_small_disk(self):
    _checkpoint(self.source, 'llama')
    usage = shutil.disk_usage(self.root)._replace(free=1000)
    with mock.patch('shutil.disk_usage', return_value=usage):
      with self.assertRaisesRegex(ooc_jax.InputError, '0.00 GB are free'):
        convert_model(self.source, self.ours)
    self.assertEmpty(list(self.ours.parent.iterdir()))

  @parameterized.parameters(
      ({'to': 'gguf'}, 'must be one of orbax'),
      ({'folder': None}, 'is on this machine; give --out'),
      ({'folder': None, 'to': 'safetensors'}, 'give --out'),
      ({'shard_size': 0, 'to': 'safetensors'}, 'at least 1 byte'),
      ({'dtype': 'int8'}, 'must be one of'),
  )
  def test_refusals(self, settings, message):
    _checkpoint(self.source, 'llama')
    settings = {'folder': self.ours} | settings
    with self.assertRaisesRegex(ooc_jax.InputError, message):
      convert_model(self.source, **settings)
    self.assertFalse(self.ours.parent.exists())


class CacheTest(FolderTest):
  """A hub repository, converted once, is read without the hub."""

  def setUp(self):
    super().setUp()
    cache = str(self.root / 'cache')
    self.enterContext(mock.patch.dict('os.environ', OOC_JAX_CACHE=cache))
    self.commits = {'a' * 40: 0, 'b' * 40: 1}
    for commit, seed in self.commits.items():
      make_checkpoint(self.root / commit, seed=seed)

  def convert(self, commit):
    with (
        mock.patch.object(
            _find, 'fetch_config', return_value=self.root / commit
        ),
        mock.patch.object(_find, 'fetch_weights'),
    ):
      return convert_model('meta-llama/Llama-3.1-8B')

  def test_later_runs_find_it(self):
    for i, commit in enumerate(self.commits):
      folder = self.convert(commit)
      self.assertEqual(
          folder,
          self.root / 'cache/models/meta-llama--Llama-3.1-8B' / commit,
      )
      os.utime(folder / 'ooc_jax.json', (i, i))
    hub = mock.Mock(side_effect=ooc_jax.InputError('asked.'))
    with mock.patch.object(_find, 'fetch_config', hub):
      for commit in self.commits:
        model = ooc_jax.load_model('meta-llama/Llama-3.1-8B', revision=commit)
        expected = ooc_jax.load_model(self.root / commit)
        self.assertEqual(_bits(model.params), _bits(expected.params))
      newest = ooc_jax.load_model('llama3.1-8b')
      self.assertEqual(_bits(newest.params), _bits(expected.params))
      hub.assert_not_called()
      for name, revision in (
          ('llama3.1-8b', 'c' * 40), ('llama3.1-8b', 'main'),
          ('meta-llama/Llama-3.1-70B', None),
      ):  # fmt: skip
        with self.assertRaisesRegex(ooc_jax.InputError, 'asked'):
          ooc_jax.load_model(name, revision=revision)

  def test_without_a_cache_nothing_is_kept(self):
    commit = next(iter(self.commits))
    self.convert(commit)
    with mock.patch.dict('os.environ', OOC_JAX_CACHE='', HOME=str(self.root)):
      with self.assertRaisesRegex(ooc_jax.InputError, 'give --out=FOLDER'):
        self.convert(commit)
      self.assertFalse((self.root / '.cache').exists())
      with mock.patch.object(
          _find, 'fetch_config', side_effect=ooc_jax.InputError('asked.')
      ):
        with self.assertRaisesRegex(ooc_jax.InputError, 'asked'):
          ooc_jax.load_model('llama3.1-8b')

  def test_copy_of_a_branch(self):
    commit = next(iter(self.commits))
    folder = self.convert(commit)
    with mock.patch.object(
        _find, 'fetch_config', return_value=self.root / commit
    ):
      model = ooc_jax.load_model('llama3.1-8b', revision='main')
    self.assertIn(str(folder / 'ooc_jax.json'), model.files)

  def test_damaged_copy_is_passed_over(self):
    folder = self.convert('a' * 40)
    (folder / 'ooc_jax.json').write_text('{}')
    hub = mock.Mock(side_effect=ooc_jax.InputError('asked.'))
    with mock.patch.object(_find, 'fetch_config', hub):
      with self.assertRaisesRegex(ooc_jax.InputError, 'asked'):
        ooc_jax.load_model('llama3.1-8b')


if __name__ == '__main__':
  absltest.main()
