"""`.pt` files: what they hold, and that nothing in them is ever called."""

import io
import os
import pathlib
import pickle
import pickletools
import resource
import zipfile

from absl.testing import absltest
from absl.testing import parameterized
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import jax.numpy as jnp
import numpy as np
import pytest

from ooc_jax import InputError
from ooc_jax.dictionaries.formats import _torch_pickle
from ooc_jax.dictionaries.formats._torch_archive import TorchArchive
from tests.dictionaries import torch_files

_FLAG = 'OOC_JAX_TORCH_PICKLE'
_GOOD = {'w': np.arange(6, dtype=np.float32).reshape(2, 3)}
# How a pickle runs code, step by step; each would set `_FLAG`.
_ATTACK = torch_files.Call('os.putenv', _FLAG, '1')


class TorchArchiveTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.path = pathlib.Path(self.create_tempdir().full_path) / 'ae.pt'

  def write(self, tree, **changes):
    return TorchArchive(torch_files.write_pt(self.path, tree, **changes))

  def assert_refused(self, message, tree, **changes):
    with self.assertRaisesRegex(InputError, message) as caught:
      self.write(tree, **changes)
    self.assertNotIn('\n', str(caught.exception))
    return str(caught.exception)

  def test_dtypes_shapes_and_views(self):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 5)).astype(np.float32)
    tree = {
        'double': x.astype(np.float64),
        'half': x.astype(np.float16),
        'brain': np.asarray(x, jnp.bfloat16),
        'scalar': np.array(7, np.float32),
        'k': np.array(4, np.int32),
        'transposed': np.asfortranarray(x),
        'row': torch_files.Strided(x, 5, (5,), (1,)),
        'column': torch_files.Strided(x, 2, (3,), (5,)),
        'empty': np.zeros((0, 4), np.float32),
    }
    archive = self.write(tree)
    expected = tree | {'row': x[1], 'column': x[:, 2]}
    self.assertEqual(
        dict(archive.shapes), {n: y.shape for n, y in expected.items()}
    )
    for name, y in expected.items():
      got = archive.read(name)
      self.assertEqual(got.dtype, y.dtype)
      np.testing.assert_array_equal(got, y)

  def test_trees_that_hold_tensors(self):
    inner = {'state_dict': _GOOD, 'step': 3, 'name': 'x', 'sizes': [1, 2.5]}
    parameter = torch_files.Call(
        'torch._utils._rebuild_parameter', _GOOD['w'], True, {}
    )
    with_size = _GOOD | {'shape': torch_files.Call('torch.Size', (2, 3))}
    for tree in (inner, {'w': parameter}, with_size):
      np.testing.assert_array_equal(self.write(tree).read('w'), _GOOD['w'])

  def test_metadata_of_a_state_dict(self):
    storages = []
    data = torch_files.pickle_of(_GOOD, storages)
    # OrderedDict._metadata, as BUILD sets it.
    state = b'}(X\x09\0\0\0_metadataN' + b'ub.'
    self.assertEqual(self.write(_GOOD, data_pkl=data[:-1] + state).shapes,
                     {'w': (2, 3)})  # fmt: skip

  def test_newer_pickles(self):
    names = [_torch_pickle._Name('torch.float32')]
    data = pickle.dumps({'a': [1, 'text', 2.5, None, True]}, protocol=5)
    self.assertEqual(
        _torch_pickle.read_tensors(data), {'a': [1, 'text', 2.5, None, True]}
    )
    stack = b'\x80\x04\x8c\x05torch\x8c\x07float32\x93.'
    self.assertEqual([_torch_pickle.read_tensors(stack)], names)

  @parameterized.parameters(
      'os.system', 'builtins.eval', 'builtins.exec', 'builtins.getattr',
      'torch.load', 'torch._utils._rebuild_tensor', 'collections.Counter',
      'numpy.core.multiarray._reconstruct', 'torch.nn.modules.linear.Linear',
      'dictionary_learning.trainers.AutoEncoder', 'codecs.encode',
  )  # fmt: skip
  def test_any_other_name_is_refused_by_name(self, name):
    tree = _GOOD | {'x': torch_files.Call(name, 'echo')}
    message = self.assert_refused(f'names {name}, which is no part', tree)
    self.assertIn("torch.load('ae.pt', map_location='cpu'", message)
    self.assertIn('safetensors.torch.save_file', message)

  def test_nothing_runs(self):
    # The same bytes do run where a pickle reader opens them.
    data = torch_files.pickle_of(_ATTACK)
    calls = []

    class Reader(pickle.Unpickler):

      def find_class(self, module, name):
        return lambda *args: calls.append((module, name, args))

    Reader(io.BytesIO(data)).load()
    self.assertLen(calls, 1)
    self.assert_refused('names os.putenv', _GOOD | {'x': _ATTACK})
    self.assertNotIn(_FLAG, os.environ)

  @parameterized.parameters(
      (b'cos\nsystem\n(X\x02\0\0\0ls' + b'tR.', 'names os.system'),
      (b'(X\x02\0\0\0lsios\nsystem\n.', 'step INST'),
      (b'(cos\nsystem\nX\x02\0\0\0lso.', 'names os.system'),
      (b'(X\x02\0\0\0lsX\x01\0\0\0ao.', 'step OBJ'),
      (b'ctorch\nfloat32\n)\x81.', 'step NEWOBJ'),
      (b'\x82\x01.', 'step EXT1'),
      (b'ctor\\x63h\nfloat32\n.', 'names tor.*x63h.float32'),
      (b'ctorch', 'no whole .pt file'),
      (b"S'\\l'\n.", 'step STRING'),
      (b'\xff.', 'the step b.*xff'),
      (b'}ctorch\nfloat32\n(tR.', 'calls torch.float32'),
      (b'ccollections\nOrderedDict\n(]X\x01\0\0\0aatR.', 'OrderedDict of'),
      (b'X\x01\0\0\0a(tR.', 'what has no name'),
      (b'}(N' + b'Nu.', 'neither text nor number'),
      (b']ccollections\nOrderedDict\n)Rb.', 'no whole .pt file'),
      (b'}', 'no whole .pt file'),
      (b'.', 'no whole .pt file'),
      (b'h\x05.', 'no whole .pt file'),
      (b'(.', 'no whole .pt file'),
      (b'', 'no whole .pt file'),
      (b'N.', 'no dict of tensors'),
      (b'}' * 3_000_000, 'longer than any'),
  )  # fmt: skip
  def test_steps(self, data, message):
    self.assert_refused(message, _GOOD, data_pkl=data)

  def test_a_cycle_ends(self):
    data = b']q\0h\0a}q\x01(X\x01\0\0\0ah\x01u0.'
    self.assert_refused('no dict of tensors', _GOOD, data_pkl=data)

  @parameterized.parameters(
      ({'data_0': bytes(20)}, 'ae/data/0 is 20 bytes long, and .* takes 24'),
      ({'data_0': bytes(28)}, 'ae/data/0 is 28 bytes long'),
      ({'data_0': None}, 'ae/data/0 is missing'),
      ({'data_pkl': None}, 'no data.pkl'),
      ({'byteorder': b'big'}, 'big-endian'),
  )  # fmt: skip
  def test_entries_that_do_not_fit(self, changes, message):
    self.assert_refused(message, _GOOD, **changes)

  @parameterized.parameters(
      (0, (3, 3), (3, 1)), (1, (2, 3), (3, 1)), (0, (10**9, 10**9), (0, 0)),
      (0, (2, 3), (30, 1)), (0, (2, 3), (1,)), (0, (-2, 3), (3, 1)),
      (2**50, (1,), (1,)), (0, (1,) * 20, (1,) * 20),
  )  # fmt: skip
  def test_views_past_their_storage(self, offset, shape, strides):
    x = torch_files.Strided(_GOOD['w'], offset, shape, strides)
    self.assert_refused('no whole .pt file', {'w': x})

  def test_a_storage_that_declares_terabytes(self):
    x = torch_files.Strided(_GOOD['w'], 0, (2, 3), (3, 1), numel=10**13)
    self.assert_refused('takes 40000000000000 bytes', {'w': x})

  def test_archives_of_others(self):
    self.write(_GOOD)
    data = self.path.read_bytes()
    for size in (3, 40, len(data) // 2, len(data) - 1):
      self.path.write_bytes(data[:size])
      with self.assertRaisesRegex(InputError, 'no whole .pt file'):
        TorchArchive(self.path)
    with zipfile.ZipFile(self.path, 'w', zipfile.ZIP_DEFLATED) as archive:
      archive.writestr('ae/data.pkl', torch_files.pickle_of(_GOOD))
    with self.assertRaisesRegex(InputError, 'compressed'):
      TorchArchive(self.path)

  def test_a_changed_number_is_noticed(self):
    archive = self.write(_GOOD)
    data = bytearray(self.path.read_bytes())
    data[data.index(_GOOD['w'].tobytes())] ^= 1
    self.path.write_bytes(data)
    with self.assertRaisesRegex(InputError, "tensor 'w' cannot be read"):
      archive.read('w')

  @parameterized.parameters(b'\x80\x02\x8a\nl\xfc\x9cF\xf9', b'', b'ustar')
  def test_files_from_before_the_zip(self, data):
    self.path.write_bytes(data)
    with self.assertRaisesRegex(
        InputError, 'no zip archive, as .pt files since torch 1.6'
    ) as caught:
      TorchArchive(self.path)
    self.assertIn('save_file({k: v.contiguous()', str(caught.exception))


_NAMES = sorted(_torch_pickle._NAMES) + ['os.system', 'builtins.eval', 'a.b']
_SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9)
)
_CALLS = st.builds(
    lambda name, args: torch_files.Call(name, *args),
    st.sampled_from(_NAMES),
    st.lists(_SCALARS | st.lists(st.integers(-3, 2**50)), max_size=5),
)
_VIEWS = st.builds(
    lambda offset, axes, numel: torch_files.Strided(
        _GOOD['w'], offset, [n for n, _ in axes], [s for _, s in axes], numel
    ),
    st.integers(-2, 9),
    st.lists(st.tuples(st.integers(-1, 9), st.integers(-1, 9)), max_size=4),
    st.none() | st.integers(-1, 2**50),
)
_TREES = st.dictionaries(
    st.text(max_size=3) | st.integers(),
    st.recursive(
        _SCALARS | _CALLS | _VIEWS,
        lambda x: st.lists(x, max_size=3)
        | st.dictionaries(st.text(max_size=3), x, max_size=3),
        max_leaves=6,
    ),
    max_size=4,
)
_CODES = [bytes([ord(x.code)]) for x in pickletools.opcodes]
_BYTES = st.lists(
    st.sampled_from(_CODES) | st.binary(max_size=9), max_size=40
).map(b''.join)


class FuzzTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.path = pathlib.Path(self.create_tempdir().full_path) / 'ae.pt'

  def check(self, tree, **changes):
    try:
      archive = TorchArchive(torch_files.write_pt(self.path, tree, **changes))
      for name in archive.shapes:
        self.assertLess(archive.read(name).size, 100)
    except InputError as error:
      self.assertNotIn('\n', str(error))

  def run_fuzz(self, count):
    rules = settings(max_examples=count, deadline=None, database=None)
    rules(given(_TREES)(lambda x: self.check(x)))()
    rules(given(_BYTES)(lambda x: self.check(_GOOD, data_pkl=x)))()
    good = torch_files.pickle_of(_GOOD)
    rng = np.random.default_rng(0)
    for case in rng.choice(255 * len(good), count, replace=False).tolist():
      at, change = divmod(case, 255)
      data = bytearray(good)
      data[at] ^= 1 + change
      self.check(_GOOD, data_pkl=bytes(data))

  def test_only_input_errors(self):
    self.run_fuzz(12)

  @pytest.mark.slow
  def test_only_input_errors_at_length(self):
    # In kB. Other tests of this process may have had their peak before.
    earlier = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    pages = int(pathlib.Path('/proc/self/statm').read_text().split()[1])
    held = pages * resource.getpagesize() // 1024
    self.run_fuzz(3400)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    self.assertLessEqual(peak, max(earlier, held + 2**20))


if __name__ == '__main__':
  absltest.main()
