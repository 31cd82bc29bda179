"""GGUF headers written byte by byte to harm."""

import pathlib
import struct
import time

from absl.testing import absltest
from absl.testing import parameterized
import gguf

from ooc_jax import InputError
from ooc_jax.checkpoints.gguf import _header
from ooc_jax.checkpoints.gguf import _source

_Kind = gguf.GGMLQuantizationType


def _string(text):
  return struct.pack('<Q', len(text)) + text


class HostileTest(parameterized.TestCase):
  """Headers written byte by byte."""

  def _refuse(self, body, tensors=0, keys=1, version=3):
    header = b'GGUF' + struct.pack('<IQQ', version, tensors, keys) + body
    started = time.monotonic()
    with self.assertRaises(ValueError) as caught:
      _header.read_header(memoryview(header))
    self.assertLess(time.monotonic() - started, 1)
    return str(caught.exception)

  @parameterized.parameters(1, 0, 4, 3 << 24)
  def test_version(self, version):
    self.assertIn('version', self._refuse(b'', keys=0, version=version))

  @parameterized.parameters(
      (0, 2**63), (2**64 - 1, 0), (2**32, 0), (0, 2**32), (1, 0), (0, 1)
  )
  def test_counts(self, tensors, keys):
    self.assertIn('too early', self._refuse(b'', tensors, keys))

  @parameterized.parameters(2**64 - 1, 2**63, 2**40, 65)
  def test_string_lengths(self, length):
    key = struct.pack('<Q', length) + b'a' * 64
    self.assertIn('too early', self._refuse(key))
    value = _string(b'k') + struct.pack('<IQ', 8, length) + b'a' * 64
    self.assertIn('too early', self._refuse(value))

  @parameterized.product(
      kind=tuple(range(13)), count=(2**64 - 1, 2**61, 2**32, 65)
  )
  def test_array_lengths(self, kind, count):
    """The package's own reader never ends on some of these."""
    body = _string(b'k') + struct.pack('<IIQ', 9, kind, count) + b'\0' * 64
    message = self._refuse(body)
    self.assertRegex(message, 'too early|of type 9')

  def test_length_inside_an_array_of_strings(self):
    for length in (2**64 - 1, 2**63, 2**62, 58):
      body = _string(b'k') + struct.pack('<IIQ', 9, 8, 2)
      body += _string(b'ok') + struct.pack('<Q', length) + b'a' * 57
      self.assertIn('too early', self._refuse(body))

  def test_nested_arrays(self):
    body = _string(b'k') + struct.pack('<I', 9)
    body += struct.pack('<IQ', 9, 1) * 100_000
    self.assertIn('of type 9', self._refuse(body))

  @parameterized.parameters(13, 255, 2**32 - 1)
  def test_types(self, kind):
    body = _string(b'k') + struct.pack('<I', kind) + b'\0' * 64
    self.assertIn(f'of type {kind}', self._refuse(body))

  def test_same_name_twice(self):
    one = _string(b'k') + struct.pack('<IB', 0, 7)
    self.assertIn("'k' is in it twice", self._refuse(one * 2, keys=2))
    row = _string(b't') + struct.pack('<IQIQ', 1, 4, 0, 0)
    self.assertIn(
        "'t' is in it twice", self._refuse(row * 2, tensors=2, keys=0)
    )

  def test_not_utf8(self):
    self._refuse(_string(b'\xff\xfe') + struct.pack('<IB', 0, 7))

  @parameterized.parameters(5, 2**32 - 1)
  def test_dimensions(self, count):
    row = _string(b't') + struct.pack('<I', count) + b'\1' * 64
    self.assertIn(f'{count} dimensions', self._refuse(row, tensors=1, keys=0))

  @parameterized.parameters(
      struct.pack('<II', 4, 0), struct.pack('<Ii', 5, -32),
      struct.pack('<I', 8) + _string(b'32'),
  )  # fmt: skip
  def test_alignment(self, value):
    body = _string(b'general.alignment') + value
    self.assertIn('general.alignment is', self._refuse(body))

  @parameterized.parameters(
      ((2**62, 2**62), 0, 0),
      ((2**40,), 0, 0),
      ((65,), 0, 0),
      ((8,), 0, 2**63),
      ((), 0, 0),
      ((8,), 99, 0),
      ((33, 2), int(_Kind.Q8_0), 0),
      ((48, 2), int(_Kind.Q8_0), 0),
  )
  def test_tensor_that_is_not_there(self, shape, kind, offset):
    path = pathlib.Path(self.create_tempdir().full_path) / 'm.gguf'
    row = _string(b't') + struct.pack('<I', len(shape))
    row += struct.pack(f'<{len(shape)}QIQ', *shape, kind, offset)
    data = b'GGUF' + struct.pack('<IQQ', 3, 1, 0) + row
    path.write_bytes(data + b'\0' * 256)
    source = _source.GGUFSource(path)
    with self.assertRaisesRegex(InputError, "m.gguf: tensor 't' of type"):
      source.read('t')


if __name__ == '__main__':
  absltest.main()
