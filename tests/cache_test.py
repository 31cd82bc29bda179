"""What is kept between runs, and that nothing goes wrong where it cannot."""

import os
import pathlib
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec
import numpy as np
import safetensors.numpy

import ooc_jax
from ooc_jax import _cache
from ooc_jax import _files

_LIKE = {'x': ((3, 2), np.float32), 'y': ((4,), np.bool_)}


def _made():
  return {
      'x': jnp.arange(6.0).reshape(3, 2),
      'y': np.array([True, False, True, True]),
  }


class CacheTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    root = pathlib.Path(self.create_tempdir().full_path) / 'a' / 'b'
    self.folder = root / 'prepared'
    ooc_jax.set_cache_dir(root)
    self.addCleanup(ooc_jax.set_cache_dir, None)
    self.calls = 0

  def _recall(self, made_of=None, name='numbers'):
    def make():
      self.calls += 1
      return _made()

    found = _cache.recall(name, made_of or {'version': 1}, _LIKE, make)
    for key, want in _made().items():
      np.testing.assert_array_equal(found[key], want)
      self.assertEqual(found[key].dtype, want.dtype)
    return self.calls

  def _file(self):
    (path,) = self.folder.iterdir()
    return path

  def test_made_once_for_what_it_is_made_of(self):
    self.assertEqual(self._recall(), 1)
    self.assertEqual(self._recall(), 1)
    self.assertEqual(self._recall({'version': 2}), 2)
    self.assertEqual(self._recall(name='others'), 3)
    self.assertEqual(self._recall({'version': 2}), 3)
    self.assertLen(list(self.folder.iterdir()), 3)

  def test_nothing_is_kept_unless_asked(self):
    _cache.recall('numbers', None, _LIKE, _made)
    ooc_jax.set_cache_dir(None)
    self.assertFalse(_cache.is_kept())
    self.assertEqual(self._recall(), 1)
    self.assertEqual(self._recall(), 2)
    self.assertFalse(self.folder.exists())

  def test_several_processes_keep_nothing(self):
    with mock.patch.object(jax, 'process_count', lambda: 2):
      self.assertEqual(self._recall(), 1)
    self.assertFalse(self.folder.exists())

  @parameterized.parameters(
      b'',
      b'\x00' * 9,
      b'\xff' * 8,
      # As long a header as there can be, and none.
      (2**63 - 1).to_bytes(8, 'little') + b'{}',
      b'PK\x03\x04 no archive',
  )
  def test_a_file_that_is_none_is_replaced(self, content):
    self._recall()
    self._file().write_bytes(content)
    self.assertEqual(self._recall(), 2)
    self.assertEqual(self._recall(), 2)

  def test_damage_is_seen_wherever_it_is(self):
    self._recall()
    whole = self._file().read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.choice(len(whole), 40, replace=False):
      damaged = bytearray(whole)
      damaged[place] ^= 1 << int(rng.integers(8))
      self._file().write_bytes(damaged)
      self._recall()  # Compares.
    for size in rng.integers(0, len(whole), 10):
      self._file().write_bytes(whole[:size])
      before = self.calls
      self.assertEqual(self._recall(), before + 1)
    self.assertEqual(self._file().read_bytes(), whole)

  def test_arrays_of_other_shapes_types_and_names_are_not_taken(self):
    self._recall()
    path = self._file()
    for other in (
        {'x': np.zeros((2, 3), np.float32)},
        {'x': np.zeros((3, 2), np.float64)},
        {'z': np.zeros((3, 2), np.float32)},
    ):
      arrays = {'y': np.zeros(4, bool), **other}
      arrays['checksum'] = _cache._checksum(path, arrays)
      path.write_bytes(safetensors.numpy.save(arrays))
      before = self.calls
      self.assertEqual(self._recall(), before + 1)

  def test_a_file_under_the_name_of_another_is_not_taken(self):
    self._recall()
    path = self._file()
    self._recall({'version': 2})
    (other,) = set(self.folder.iterdir()) - {path}
    path.rename(other)
    self.assertEqual(self._recall({'version': 2}), 3)

  def test_found_anew_under_other_versions(self):
    self._recall()
    with mock.patch.object(
        _cache.importlib.metadata, 'version', lambda name: '99'
    ):
      self.assertEqual(self._recall(), 2)

  def test_a_package_that_is_not_installed_has_a_version_too(self):
    with mock.patch.object(
        _cache.importlib.metadata,
        'version',
        side_effect=_cache.importlib.metadata.PackageNotFoundError('ooc_jax'),
    ):
      self._recall()
      self.assertEqual(self._recall(), 1)

  def test_a_huge_file_a_pipe_or_a_link_is_not_read(self):
    self._recall()
    path = self._file()
    with open(path, 'r+b') as file:
      file.truncate(2**40)  # Of no blocks.
    with mock.patch.object(pathlib.Path, 'read_bytes', side_effect=MemoryError):
      self.assertEqual(self._recall(), 2)
    path.unlink()
    os.mkfifo(path)
    self.assertEqual(self._recall(), 3)
    path.unlink()
    path.symlink_to('/dev/zero')
    self.assertEqual(self._recall(), 4)
    path.unlink()
    path.mkdir()
    self.assertEqual(self._recall(), 5)
    self.assertEqual(self._recall(), 6)  # In whose place nothing is written.

  def test_a_folder_that_is_none(self):
    with self.assertRaisesRegex(ooc_jax.InputError, 'give a path without ~'):
      ooc_jax.set_cache_dir('~of_nobody_here/x')
    ooc_jax.set_cache_dir('')  # And not the folder that a program runs in.
    self.assertFalse(_cache.is_kept())

  def test_a_folder_that_cannot_be_written(self):
    file = pathlib.Path(self.create_tempfile().full_path)
    for folder in (file, file / 'in', '/proc/nothing'):
      with self.subTest(folder):
        ooc_jax.set_cache_dir(folder)
        before = self.calls
        self.assertEqual(self._recall(), before + 1)

  def test_no_more_than_there_is_room_for(self):
    self._recall({'i': 0})
    size = self._file().stat().st_size
    (self.folder / 'notes.txt').write_text('of somebody else')
    left = self.folder / f'{_files.TEMPORARY_PREFIX}0'
    left.write_text('of a killed writer')
    os.utime(left, (1e6, 1e6))
    writing = self.folder / f'{_files.TEMPORARY_PREFIX}1'
    writing.write_text('of one that is writing now')
    with mock.patch.object(_cache, '_MOST_BYTES', 3 * size):
      for i in range(1, 5):
        self._recall({'i': i})
        for j, path in enumerate(sorted(self.folder.glob('*.safetensors'))):
          if path.stat().st_mtime > 1e9:
            os.utime(path, (1e6 * i + j, 1e6 * i + j))
        self._recall({'i': 0})  # Of use, and so the youngest.
      self.assertLen(list(self.folder.glob('*.safetensors')), 3)
      before = self.calls
      self.assertEqual(self._recall({'i': 0}), before)
      self.assertEqual(self._recall({'i': 1}), before + 1)
    self.assertFalse(left.exists())
    self.assertTrue(writing.exists())
    self.assertTrue((self.folder / 'notes.txt').exists())
    # What there is no room for pushes nothing out.
    with mock.patch.object(_cache, '_MOST_BYTES', size - 1):
      self._recall({'i': 9})
    self.assertLen(list(self.folder.glob('*.safetensors')), 3)

  def test_digest_is_of_type_shape_and_numbers(self):
    x = np.arange(48, dtype=np.float32).reshape(8, 6)
    found = {
        _cache.digest(y)
        for y in (x, x + 1, x.reshape(6, 8), x.astype(np.int32), x[:7])
    }
    self.assertLen(found, 5)
    mesh = jax.make_mesh(
        (8,), ('vocab',), axis_types=(jax.sharding.AxisType.Auto,)
    )
    sharded = jax.device_put(x, NamedSharding(mesh, PartitionSpec('vocab')))
    for y in (jnp.asarray(x), sharded, np.asfortranarray(x)):
      self.assertEqual(_cache.digest(y), _cache.digest(x))
    with mock.patch.object(_cache, '_AT_ONCE', 50):
      self.assertEqual(_cache.digest(sharded), _cache.digest(x))
    self.assertNotEqual(
        _cache.digest(jnp.ones((3, 2), jnp.bfloat16)),
        _cache.digest(jnp.zeros((3, 2), jnp.bfloat16)),
    )


if __name__ == '__main__':
  absltest.main()
