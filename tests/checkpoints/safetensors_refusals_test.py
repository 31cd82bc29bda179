"""Hugging Face folders that are refused: wrong, damaged and hostile ones."""

import builtins
import json
import os
import struct
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

from ooc_jax import InputError
from ooc_jax import load_model
from ooc_jax.checkpoints import _safetensors
from tests.checkpoints import folder_case

_INDEX = 'model.safetensors.index.json'


def _header(header, data=b'', length=None):
  text = header if isinstance(header, bytes) else json.dumps(header).encode()
  return (
      struct.pack('<Q', len(text) if length is None else length) + text + data
  )


def _entry(shape, start, end, dtype='F32'):
  return {'dtype': dtype, 'shape': shape, 'data_offsets': [start, end]}


class RefusalTest(folder_case.FolderCase):

  def test_unknown_tensor(self):
    name = 'model.layers.1.self_attn.q_proj.bias'
    self.weights[name] = np.ones(48, np.float32)
    self.write()
    self.assertIn(f'no rule reads {name}', self.error())

  @parameterized.parameters(np.nan, np.inf, -np.inf)
  def test_not_finite(self, value):
    name = 'model.layers.1.self_attn.v_proj.weight'
    self.weights[name] = self.weights[name].astype(ml_dtypes.bfloat16)
    self.weights[name][15, 19] = value
    self.write()
    self.assertIn(f"'{name}' holds NaN or infinity", self.error())

  def test_quantised_tensor(self):
    name = 'model.layers.1.self_attn.v_proj.weight'
    self.weights[name] = np.ones((16, 20), np.int8)
    self.write()
    self.assertIn(f"'{name}' is I8, and only F32", self.error())

  @parameterized.parameters(
      ('hidden_size', 24),
      ('vocab_size', 32),
      ('num_hidden_layers', 4),
      ('num_hidden_layers', 2),
      ('num_key_value_heads', 3),
      ('head_dim', 10),
      ('intermediate_size', 27),
      ('tie_word_embeddings', True),
  )
  def test_config_of_another_shape(self, key, value):
    self.write()
    self.config[key] = value
    (self.folder / 'config.json').write_text(json.dumps(self.config))
    if key == 'tie_word_embeddings':
      load_model(self.folder)  # As transformers: the table is used twice.
      return
    message = self.error()
    self.assertIn('does not hold the model that its config describes', message)
    self.assertRegex(message, 'does not give|is missing|no rule reads')

  def test_no_config(self):
    self.write()
    (self.folder / 'config.json').unlink()
    self.assertIn('has no config.json; give a folder', self.error())

  def test_folder_with_a_gguf_file_only(self):
    (self.folder / 'x.gguf').write_bytes(b'GGUF')
    self.assertIn(f'give the file in it: {self.folder}/x.gguf', self.error())

  @parameterized.parameters('pytorch_model.bin', 'consolidated.00.pth', 'm.pt')
  def test_pickles_only(self, name):
    self.write()
    (self.folder / 'model.safetensors').rename(self.folder / name)
    message = self.error()
    self.assertIn(f'{name}, which only a pickle reader opens', message)
    self.assertIn('convert it to safetensors', message)
    opened = mock.Mock(wraps=builtins.open)
    with mock.patch.object(builtins, 'open', opened):
      message = self.error(self.folder / name)
    self.assertIn('convert it to safetensors', message)
    self.assertNotIn(
        name, [os.path.basename(c.args[0]) for c in opened.mock_calls]
    )

  def test_nothing_at_all(self):
    self.write()
    (self.folder / 'model.safetensors').unlink()
    self.assertIn('holds neither model.safetensors', self.error())

  @parameterized.named_parameters(
      ('html', b'<!DOCTYPE html><html>404</html>', 'it looks like HTML'),
      ('cut', b'{"model_type": "lla', 'is not JSON'),
      ('list', b'["llama"]', 'no JSON object'),
      ('empty', b'', 'is not JSON'),
      ('binary', b'\xff\xfe\x00\x01', 'not UTF-8'),
      ('deep', b'[' * 100_000, 'is not JSON'),
      ('digits', b'{"vocab_size": ' + b'9' * 5000 + b'}', 'is not JSON'),
  )
  def test_config_that_is_none(self, data, expected):
    self.write()
    (self.folder / 'config.json').write_bytes(data)
    self.assertIn(expected, self.error())

  def test_config_of_a_gigabyte(self):
    self.write()
    with (self.folder / 'config.json').open('wb') as f:
      f.truncate(2**30)
    self.assertIn('too many for a JSON settings file', self.error())


class IndexTest(folder_case.FolderCase):

  def setUp(self):
    super().setUp()
    self.write(shards=3)
    self.index = json.loads((self.folder / _INDEX).read_text())

  def _rewrite(self, **changes):
    self.index['weight_map'] |= changes
    (self.folder / _INDEX).write_text(json.dumps(self.index))

  @parameterized.parameters(
      '../x.safetensors', '/etc/x.safetensors', 'a/b.safetensors', 'x.bin',
      'a\\b.safetensors', 'x\0.safetensors', '..', '', 'C:x.safetensors',
      '.safetensors', 'x.safetensors\n', '\ud800.safetensors', 7, None, ['x'],
      ({'a': 1},),
  )  # fmt: skip
  def test_names_outside_the_folder(self, name):
    outside = self.folder.parent / 'x.safetensors'
    if not outside.exists():
      save_file({'x': np.ones(1, np.float32)}, outside)
    self._rewrite(**{'model.norm.weight': name})
    message = self.error()
    self.assertIn("tensor 'model.norm.weight' is said to be in", message)
    self.assertIn('do not use this checkpoint', message)

  @parameterized.parameters(
      ({},), ({'weight_map': {}},), ({'weight_map': []},),
      ({'weight_map': None},), ({'weight_map': 'x'},),
  )  # fmt: skip
  def test_without_weight_map(self, index):
    (self.folder / _INDEX).write_text(json.dumps(index))
    self.assertIn("no 'weight_map'", self.error())

  def test_html_for_an_index(self):
    (self.folder / _INDEX).write_text('\n<html>')
    self.assertIn('it looks like HTML', self.error())

  def test_missing_shard(self):
    name = self.index['weight_map']['model.norm.weight']
    (self.folder / name).unlink()
    self.assertIn(f'{name} does not exist; download', self.error())

  def test_tensor_that_is_not_in_its_shard(self):
    self._rewrite(**{'model.layers.7.mlp.up_proj.weight': 'x.safetensors'})
    self.assertIn('no rule reads model.layers.7.mlp', self.error())
    name = self.index['weight_map']['model.norm.weight']
    self._rewrite(**{'model.layers.7.mlp.up_proj.weight': name})
    message = self.error()
    self.assertIn("['model.layers.7.mlp.up_proj.weight'] are not in", message)

  def test_tensors_that_changed_places(self):
    names = list(self.index['weight_map'])
    a, b = names[0], names[-1]
    of = self.index['weight_map']
    self._rewrite(**{a: of[b], b: of[a]})
    message = self.error()
    self.assertIn(repr(a), message)
    self.assertIn(repr(b), message)

  def test_tensor_in_two_shards(self):
    name = 'model.norm.weight'
    first, second, _ = sorted(set(self.index['weight_map'].values()))
    home = self.index['weight_map'][name]
    other = first if home == second else second
    inside = [k for k, v in self.index['weight_map'].items() if v == other]
    save_file(
        {k: self.weights[k] for k in [*inside, name]}, self.folder / other
    )
    message = self.error()
    self.assertIn(f"tensor '{name}' is in", message)
    self.assertIn(home, message)
    self.assertIn(other, message)

  def test_tensor_that_the_index_forgot(self):
    del self.index['weight_map']['model.norm.weight']
    self._rewrite()
    # It is in an opened shard all the same.
    self.assert_holds(load_model(self.folder).params, self.weights)

  @parameterized.parameters(0, 1, 7, 8, 9, 100, -1, -4, -100)
  def test_cut_shard(self, length):
    file = sorted(self.folder.glob('*.safetensors'))[1]
    data = file.read_bytes()
    file.write_bytes(data[:length])
    self.assertIn(f'{file} is no whole safetensors file', self.error())

  def test_cut_anywhere(self):
    file = sorted(self.folder.glob('*.safetensors'))[1]
    data = file.read_bytes()
    rng = np.random.default_rng(0)
    for length in rng.integers(0, len(data), 40):
      file.write_bytes(data[:length])
      with self.assertRaises(InputError):
        _safetensors.SafetensorsSource(self.folder)

  @parameterized.named_parameters(
      ('longer_than_the_file', _header({}, length=2**20)),
      (
          'terabytes',
          _header({'a': _entry([2**40], 0, 2**42)}, b'\0' * 8),
      ),
      (
          'shape_lies',
          _header({'a': _entry([2**40], 0, 8)}, b'\0' * 8),
      ),
      (
          'overflow',
          _header({'a': _entry([2**40, 2**40], 0, 8)}, b'\0' * 8),
      ),
      (
          'negative',
          _header({'a': _entry([-1], 0, 8)}, b'\0' * 8),
      ),
      (
          'backwards',
          _header({'a': _entry([2], 8, 0)}, b'\0' * 8),
      ),
      (
          'overlapping',
          _header(
              {
                  'a': _entry([2], 0, 8),
                  'b': _entry([2], 4, 12),
              },
              b'\0' * 12,
          ),
      ),
      (
          'hole',
          _header(
              {
                  'a': _entry([1], 0, 4),
                  'b': _entry([1], 8, 12),
              },
              b'\0' * 12,
          ),
      ),
      (
          'trailing',
          _header({'a': _entry([1], 0, 4)}, b'\0' * 8),
      ),
      ('no_json', _header(b'{"a": ', b'\0' * 8)),
      ('not_utf8', _header(b'{"\xff": 1}', b'\0' * 8)),
      ('huge_header', _header(b'{}', length=2**63)),
      ('html', b'<!DOCTYPE html><html><body>404</body></html>'),
      ('pickle', b'\x80\x04\x95' + b'\0' * 100),
      (
          'unknown_type',
          _header({'a': _entry([1], 0, 4, 'F31')}, b'\0' * 4),
      ),
  )
  def test_header_that_lies(self, data):
    file = sorted(self.folder.glob('*.safetensors'))[1]
    file.write_bytes(data)
    self.assertIn(f'{file} is no whole safetensors file', self.error())

  def test_folder_in_place_of_a_shard(self):
    file = sorted(self.folder.glob('*.safetensors'))[1]
    file.unlink()
    file.mkdir()
    self.assertIn('is no whole safetensors file', self.error())


if __name__ == '__main__':
  absltest.main()
