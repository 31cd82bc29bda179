"""Files that appear whole or not at all, whatever fails."""

import errno
import hashlib
import json
import math
import os
import pathlib
import resource
import stat
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import pyarrow as pa

from ooc_jax import _files
from ooc_jax import results
from ooc_jax._errors import InputError


def _failing(number):
  return mock.Mock(side_effect=OSError(number, os.strerror(number)))


class AtomicWriteTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path)
    self.path = self.folder / 'table.bin'

  @parameterized.product(
      call=('open', 'fdopen', 'fsync', 'replace'),
      error=(
          (errno.ENOSPC, 'No space left on device; free some space'),
          (errno.EACCES, 'Permission denied; make the folder writable'),
          (errno.EIO, 'check the path and the disk'),
      ),
  )
  def test_a_failure_leaves_the_old_file_and_nothing_else(self, call, error):
    self.path.write_bytes(b'old')
    with mock.patch.object(os, call, _failing(error[0])) as failed:
      with self.assertRaises(InputError) as caught:
        _files.atomic_write(self.path, b'new')
    failed.assert_called_once()
    self.assertEqual(os.listdir(self.folder), ['table.bin'])
    self.assertEqual(self.path.read_bytes(), b'old')
    message = str(caught.exception)
    self.assertStartsWith(message, f'Cannot write {self.path}: ')
    self.assertIn(error[1], message)
    self.assertEqual(message.count('\n'), 0)

  def test_a_disk_that_fills_half_way_leaves_nothing(self):
    """The kernel itself stops the writing, after 10,000 bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    table = pa.table({'x': np.random.default_rng(0).random(9000)})
    with results.ResultsFolder.open(
        self.folder / 'out', {}, provenance={}
    ) as out:
      resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
      try:
        with self.assertRaisesRegex(InputError, 'layer=03.*: .*free some'):
          out.write_layer(3, table)
        with self.assertRaisesRegex(InputError, 'table.bin: .*free some'):
          _files.atomic_write(self.path, bytes(10_001))
        _files.atomic_write(self.path, bytes(10_000))
      finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
      self.assertFalse(out.has_layer(3))
      self.assertEqual(os.listdir(self.folder / 'out' / 'features'), [])
      out.write_layer(3, table)
      self.assertTrue(out.read_layer(3).equals(table))

  def test_an_interrupt_leaves_nothing_and_is_passed_on(self):
    with self.assertRaises(KeyboardInterrupt):
      with _files.atomic_file(self.path) as file:
        file.write(b'half')
        raise KeyboardInterrupt
    self.assertEqual(os.listdir(self.folder), [])

  def test_data_is_on_the_disk_before_the_name_and_the_name_at_the_end(self):
    calls = []

    def spy(name):
      real = getattr(os, name)

      def called(*args):
        if name == 'fsync':
          mode = os.fstat(args[0]).st_mode
          size = os.fstat(args[0]).st_size
          calls.append('folder' if stat.S_ISDIR(mode) else f'{size} bytes')
        else:
          calls.append(name)
        return real(*args)

      return mock.patch.object(os, name, called)

    with spy('fsync'), spy('replace'):
      _files.atomic_write(self.path, b'seven..')
    self.assertEqual(calls, ['7 bytes', 'replace', 'folder'])

  def test_a_folder_that_cannot_be_synced_is_no_failure(self):
    """As on some network file systems; the data itself must be synced."""
    real = os.fsync

    def fsync(descriptor):
      if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        raise OSError(errno.EINVAL, 'Invalid argument')
      real(descriptor)

    with mock.patch.object(os, 'fsync', fsync):
      _files.atomic_write(self.path, b'new')
    self.assertEqual(self.path.read_bytes(), b'new')

  def test_rights_are_those_of_any_new_file(self):
    old = os.umask(0o027)
    try:
      _files.atomic_write(self.path, b'')
    finally:
      os.umask(old)
    self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o640)

  @parameterized.parameters(
      ('missing/x', 'No such file or directory; create the folder first'),
      ('x' * 300, 'File name too long'),
      ('is_folder', 'move the folder of that name away'),
  )
  def test_a_path_that_cannot_be_is_refused(self, name, reason):
    (self.folder / 'is_folder').mkdir()
    with self.assertRaisesRegex(InputError, reason):
      _files.atomic_write(self.folder / name, b'')
    self.assertEqual(os.listdir(self.folder), ['is_folder'])

  def test_temporaries_are_only_ours_and_only_files(self):
    name = _files.TEMPORARY_PREFIX
    (self.folder / f'{name}1').write_bytes(b'')
    (self.folder / f'a{name}2').write_bytes(b'')
    (self.folder / f'{name}3').mkdir()
    (self.folder / f'{name}4').symlink_to(self.folder / 'x')
    self.assertEqual(
        _files.temporaries(self.folder), [str(self.folder / f'{name}1')]
    )
    self.assertEqual(_files.temporaries(self.folder / 'missing'), [])


class JsonTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.path = pathlib.Path(self.create_tempdir().full_path) / 'x.json'

  def test_the_bytes(self):
    _files.write_json(
        self.path,
        {
            'b': (np.float32(0.5), np.int64(3), np.bool_(True), None),
            'a': {'text': '\x1b[31m\u202eé\ud800\x7f'},
            'nan': [math.nan, np.float32('inf'), -math.inf],
            'array': np.arange(2, dtype=np.int32),
        },
    )
    self.assertEqual(
        self.path.read_text(encoding='ascii'),
        '{\n  "a": {\n    "text": "\\u001b[31m\\u202e\\u00e9\\ud800\\u007f"\n'
        '  },\n  "array": [\n    0,\n    1\n  ],\n'
        '  "b": [\n    0.5,\n    3,\n    true,\n    null\n  ],\n'
        '  "nan": [\n    null,\n    null,\n    null\n  ]\n}\n',
    )
    read = _files.read_json(self.path)
    self.assertEqual(read['a']['text'], '\x1b[31m\u202eé\ud800\x7f')

  def test_order_of_insertion_does_not_matter(self):
    _files.write_json(self.path, {'a': 1, 'b': 2})
    first = self.path.read_bytes()
    _files.write_json(self.path, {'b': 2, 'a': 1})
    self.assertEqual(self.path.read_bytes(), first)

  @parameterized.parameters(
      ({1: 2}, 'keys are strings'), ({'a': {3}}, 'no JSON'), (b'x', 'no JSON')
  )
  def test_what_json_lacks_is_an_error(self, value, reason):
    with self.assertRaisesRegex(TypeError, reason):
      _files.write_json(self.path, value)
    self.assertFalse(self.path.exists())

  @parameterized.parameters(
      (b'{"a": 1', 'is not JSON'), (b'[' * 100_000, ''), (b'\xff\xfe{', 'not')
  )
  def test_what_is_not_json_is_refused(self, data, reason):
    self.path.write_bytes(data)
    with self.assertRaisesRegex(InputError, reason):
      _files.read_json(self.path)

  def test_a_missing_file_is_refused(self):
    with self.assertRaisesRegex(InputError, 'Cannot read .*x.json: No such'):
      _files.read_json(self.path)


class Sha256Test(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path)

  @parameterized.parameters(0, 1, 262_144, 700_001)
  def test_is_the_hash_of_the_content(self, size):
    data = np.random.default_rng(size).bytes(size)
    (self.folder / 'w').write_bytes(data)
    (self.folder / 'link').symlink_to('w')
    expected = hashlib.sha256(data).hexdigest()
    self.assertEqual(_files.sha256_file(self.folder / 'w'), expected)
    self.assertEqual(_files.sha256_file(str(self.folder / 'link')), expected)

  def test_only_files_have_one(self):
    os.mkfifo(self.folder / 'pipe')  # Opening it the usual way would hang.
    for name, reason in (
        ('pipe', 'not a regular file'),
        ('', 'not a regular file|Is a directory'),
        ('missing', 'No such file'),
    ):
      with self.subTest(name), self.assertRaisesRegex(InputError, reason):
        _files.sha256_file(self.folder / name)


class RoundTripTest(absltest.TestCase):

  def test_floats_survive_json(self):
    """Resuming compares settings that went through the file."""
    path = pathlib.Path(self.create_tempdir().full_path) / 'x.json'
    values = [
        0.1,
        1 / 3,
        5e-324,
        1.7976931348623157e308,
        float(np.float32(0.1)),
    ]
    _files.write_json(path, values)
    self.assertEqual(_files.read_json(path), values)
    self.assertEqual(json.loads(path.read_text()), values)


if __name__ == '__main__':
  absltest.main()
