"""Archives from elsewhere that are damaged, or made to do harm."""

import io
import os
import struct
from unittest import mock
import zipfile

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from ooc_jax import InputError
from ooc_jax import load_dictionary
from tests.dictionaries import written
from tests.dictionaries.formats import hostile


class _Payload:
  """Leaves a mark when a pickle reader opens it."""

  def __reduce__(self):
    return exec, ('import os; os.environ["OOC_JAX_PICKLE"] = "ran"',)


def _npy(x) -> bytes:
  out = io.BytesIO()
  np.save(out, x, allow_pickle=True)
  return out.getvalue()


def _npy_of(text: str, data: bytes = b'') -> bytes:
  """An .npy member with any header."""
  header = text.encode() + b'\n'
  return b'\x93NUMPY\x01\x00' + struct.pack('<H', len(header)) + header + data


class NpzTest(hostile.HostileCase):

  def zip(self, members, **kwargs):
    """params.npz of (name, bytes) pairs."""
    path = self.folder / 'params.npz'
    with zipfile.ZipFile(path, 'w', **kwargs) as archive:
      for name, data in members:
        archive.writestr(name, data)
    return path

  def members(self, **changes):
    good = {f'{n}.npy': _npy(x) for n, x in written.draw().items()}
    return [*(good | changes).items()]

  def test_members_written_by_hand_are_read(self):
    """Else none of the tests below would say anything."""
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA):
      self.zip(self.members(), compression=method)
      dictionary = load_dictionary(self.folder)
      np.testing.assert_array_equal(dictionary.decoder, written.draw()['W_dec'])

  def test_pickled_objects_are_not_opened(self):
    objects = np.array([_Payload()] * written.F, dtype=object)
    self.zip(self.members(**{'b_enc.npy': _npy(objects)}))
    self.assert_refused('pickled Python objects')
    self.assertNotIn('OOC_JAX_PICKLE', os.environ)
    with mock.patch.dict(os.environ):
      np.load(io.BytesIO(_npy(objects)), allow_pickle=True)
      self.assertIn('OOC_JAX_PICKLE', os.environ)  # It would have run.

  def test_structured_and_other_types_are_refused(self):
    for dtype in ('V8', 'c8', '>f4', 'i4', 'U4', [('a', 'f4')]):
      self.zip(self.members(**{'b_enc.npy': _npy(np.zeros(33, dtype))}))
      self.assert_refused("'b_enc.npy' is not plain float16|no whole .npz")

  def test_a_bomb_is_refused_before_it_is_unpacked(self):
    # Two megabytes on disk, 400 in memory.
    shape = (written.D, 5_000_000)
    members = self.members()
    with zipfile.ZipFile(
        self.folder / 'params.npz', 'w', zipfile.ZIP_DEFLATED, compresslevel=1
    ) as archive:
      for name, data in members:
        if name != 'W_enc.npy':
          archive.writestr(name, data)
      with archive.open('W_enc.npy', 'w') as file:
        head = {'descr': '<f4', 'fortran_order': False}
        np.lib.format.write_array_header_1_0(file, head | {'shape': shape})
        for _ in range(400):
          file.write(bytes(10**6))
    self.assertLess((self.folder / 'params.npz').stat().st_size, 5e6)
    self.assert_refused("'W_enc.npy' declares 400000128 bytes in")

  @parameterized.named_parameters(
      ('stored', zipfile.ZIP_STORED), ('deflated', zipfile.ZIP_DEFLATED)
  )
  def test_a_header_that_declares_terabytes(self, method):
    head = "{'descr': '<f4', 'fortran_order': False, 'shape': (%s), }"
    for shape in ('1000000, 1000000', '999999999999, 999999999999', '34,'):
      self.zip(
          self.members(**{'b_enc.npy': _npy_of(head % shape, b'\0' * 132)}),
          compression=method,
      )
      self.assert_refused("'b_enc.npy' declares .* bytes in")

  @parameterized.parameters(
      "{'descr': '<f4', 'fortran_order': False, 'shape': (-33,), }",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (3.5,), }",
      "{'descr': '<f4', 'fortran_order': 0, 'shape': (33,), }",
      "{'descr': '<f4', 'shape': (33,), }",
      "{'descr': __import__('os').system('x'), 'shape': (33,), }",
      '(' * 3000,
      '',
      '\0\0',
  )
  def test_other_headers(self, text):
    self.zip(self.members(**{'b_enc.npy': _npy_of(text, b'\0' * 132)}))
    self.assert_refused("'b_enc.npy' is not plain")

  @parameterized.parameters(
      '../../b_enc.npy', '/etc/b_enc.npy', 'a/b_enc.npy', 'b_enc', 'b_enc.py',
      'b\nenc.npy', 'x' * 500 + '.npy', '..npy',
  )  # fmt: skip
  def test_names_that_are_no_array(self, name):
    members = [m for m in self.members() if m[0] != 'b_enc.npy']
    self.zip([*members, (name, dict(self.members())['b_enc.npy'])])
    self.assert_refused('is no array of an .npz')

  def test_an_array_that_is_there_twice(self):
    with self.assertWarnsRegex(UserWarning, 'Duplicate'):
      self.zip([*self.members(), self.members()[0]])
    self.assert_refused('an array twice')

  def test_too_many_members(self):
    extra = [(f'x{i}.npy', _npy(np.ones(2, np.float32))) for i in range(60)]
    self.zip([*self.members(), *extra])
    self.assert_refused('65 members')

  def test_every_cut_is_refused(self):
    data = self.zip(self.members()).read_bytes()
    for size in (0, 1, 30, 100, len(data) // 2, len(data) - 30, len(data) - 1):
      (self.folder / 'params.npz').write_bytes(data[:size])
      self.assert_refused('no whole .npz file')

  def test_a_changed_byte_never_escapes_as_another_error(self):
    """Flips in headers and directory; one in the data is only a number."""
    data = bytearray(self.zip(self.members()).read_bytes())
    rng = np.random.default_rng(0)
    refused = 0
    tail = len(data) - 400  # The directory.
    for at in (*rng.integers(0, 200, 60), *rng.integers(tail, len(data), 90)):
      changed = bytearray(data)
      changed[at] ^= int(rng.integers(1, 256))
      (self.folder / 'params.npz').write_bytes(changed)
      try:
        load_dictionary(self.folder)
      except InputError:
        refused += 1
    self.assertGreater(refused, 50)

  def test_a_web_page_instead(self):
    (self.folder / 'params.npz').write_text('<!DOCTYPE html><html></html>')
    self.assert_refused('no whole .npz file')


if __name__ == '__main__':
  absltest.main()
