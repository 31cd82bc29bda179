"""Hugging Face folders: whole, in shards, in part, nested, and damaged."""

import builtins
import json
import os
import pathlib
import struct
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import safetensors
from safetensors.numpy import save_file

from ooc_jax import InputError
from ooc_jax import load_model
from ooc_jax.checkpoints import _safetensors
from ooc_jax.model import PARTS
from tests.checkpoints import tiny

_INDEX = 'model.safetensors.index.json'


def _header(header, data=b'', length=None):
  text = header if isinstance(header, bytes) else json.dumps(header).encode()
  return (
      struct.pack('<Q', len(text) if length is None else length) + text + data
  )


def _entry(shape, start, end, dtype='F32'):
  return {'dtype': dtype, 'shape': shape, 'data_offsets': [start, end]}


class FolderTest(parameterized.TestCase):
  """A tiny untied Llama in a folder."""

  family, tied = 'llama', False

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path)
    self.weights = dict(tiny.tensors(self.family, tied=self.tied))
    self.config = tiny.hf_config(self.family, tied=self.tied)

  def write(self, folder=None, **kwargs):
    folder = folder or self.folder
    return tiny.write_folder(folder, self.config, self.weights, **kwargs)

  def error(self, source=None, **kwargs):
    with self.assertRaises(InputError) as caught:
      load_model(source or self.folder, **kwargs)
    message = str(caught.exception)
    self.assertNotIn('\n', message)
    self.assertIn(str(self.folder), message)
    return message

  def assert_holds(self, params, weights):
    """A few of the parameters, of every layout; the table has its own test."""
    layer = 'model.layers.2'
    np.testing.assert_array_equal(
        params['layer_2']['mlp']['down'],
        weights[f'{layer}.mlp.down_proj.weight'].T,
    )
    np.testing.assert_array_equal(
        params['layer_2']['attention']['output'],
        weights[f'{layer}.self_attn.o_proj.weight'].T.reshape(6, 8, 20),
    )
    np.testing.assert_array_equal(
        params['final_norm']['weight'], weights['model.norm.weight']
    )
    np.testing.assert_array_equal(
        params['embedding'], weights['model.embed_tokens.weight']
    )


class ReadTest(FolderTest):

  @parameterized.product(
      shards=(1, 3), dtype=('float32', 'float16', 'bfloat16')
  )
  def test_keeps_what_is_stored(self, shards, dtype):
    self.weights = {k: x.astype(dtype) for k, x in self.weights.items()}
    model = load_model(self.write(shards=shards))
    self.assert_holds(model.params, self.weights)
    for leaf in jax.tree.leaves(model.params):
      self.assertEqual(leaf.dtype, dtype)
      self.assertIsInstance(leaf, jax.Array)
    files = {pathlib.Path(f).name for f in model.files}
    self.assertLen(files, 2 if shards == 1 else 5)
    self.assertIn('config.json', files)

  def test_float64_is_rounded_to_float32(self):
    self.weights = {k: x / np.float64(3) for k, x in self.weights.items()}
    model = load_model(self.write())
    self.assert_holds(
        model.params, {k: np.float32(x) for k, x in self.weights.items()}
    )

  @parameterized.parameters('bfloat16', 'float16', 'float32')
  def test_dtype_is_what_was_asked(self, dtype):
    model = load_model(self.write(), dtype=dtype)
    self.assert_holds(
        model.params, {k: x.astype(dtype) for k, x in self.weights.items()}
    )

  def test_symlinked_files_are_read(self):
    """The hub's cache: snapshots are links into blobs."""
    blobs = self.write(self.folder / 'blobs', shards=2)
    snapshot = self.folder / 'snapshots'
    snapshot.mkdir()
    for i, file in enumerate(sorted(blobs.iterdir())):
      blob = file.rename(blobs / f'{i:040}')
      (snapshot / file.name).symlink_to(blob)
    self.assert_holds(load_model(snapshot).params, self.weights)

  def test_a_file_beside_its_config(self):
    file = self.write() / 'model.safetensors'
    self.assert_holds(load_model(file).params, self.weights)
    renamed = file.rename(self.folder / 'other.safetensors')
    self.assert_holds(load_model(renamed).params, self.weights)

  def test_with_both_the_single_file_is_taken(self):
    """As transformers does."""
    self.write(shards=2)
    true = self.weights
    self.weights = {k: x + np.float32(1) for k, x in true.items()}
    self.write()
    self.assert_holds(load_model(self.folder).params, self.weights)

  def test_loaded_weights_do_not_follow_the_file(self):
    """Arrays are copies: not a view of a file that may change or go away."""
    model = load_model(self.write())
    file = self.folder / 'model.safetensors'
    data = file.read_bytes()
    with file.open('r+b') as f:
      f.write(b'\x7f' * len(data))
    self.assert_holds(model.params, self.weights)

  def test_old_rotary_frequencies_are_ignored(self):
    name = 'model.layers.0.self_attn.rotary_emb.inv_freq'
    self.weights[name] = np.ones(4, np.float32)
    self.assert_holds(load_model(self.write()).params, self.weights)


class TiedTest(FolderTest):
  family, tied = 'gemma3', True

  @parameterized.parameters(1, 3)
  def test_redundant_unembedding_is_ignored(self, shards):
    self.weights['lm_head.weight'] = self.weights['model.embed_tokens.weight']
    model = load_model(self.write(shards=shards))
    self.assertNotIn('unembedding', model.params)
    self.assert_holds(model.params, self.weights)

  def test_unembedding_part_of_a_tied_model_is_its_embedding(self):
    model = load_model(self.write(), parts=['unembedding'])
    self.assertEqual(set(model.params), {'embedding', 'final_norm'})

  def _nest(self, prefix, head):
    nested = {}
    for name, x in self.weights.items():
      nested[prefix + name.removeprefix('model.')] = x
    nested[head] = self.weights['model.embed_tokens.weight']
    self.config = {
        'model_type': 'gemma3',
        'text_config': self.config,
        'vision_config': {'hidden_size': 7},
        'mm_tokens_per_image': 256,
    }
    return nested

  @parameterized.named_parameters(
      ('older', 'language_model.model.', 'language_model.lm_head.weight', ''),
      ('newer', 'model.language_model.', 'lm_head.weight', 'model.'),
  )
  def test_nested_text_model_without_its_vision_tower(self, prefix, head, at):
    true = self.weights
    self.weights = self._nest(prefix, head)
    vision = f'{at}vision_tower.vision_model.embeddings.'
    # Of types that no text tensor may have.
    self.weights[f'{vision}position_ids'] = np.arange(5)
    self.weights[f'{vision}mask'] = np.ones(3, np.bool_)
    projector = f'{at}multi_modal_projector.mm_soft_emb_norm.weight'
    self.weights[projector] = np.full(7, np.nan, np.float32)
    for shards in (1, 3):
      folder = self.write(self.folder / f'{shards}', shards=shards)
      self.assert_holds(load_model(folder).params, true)

  def test_both_namings_at_once_are_refused(self):
    name = 'language_model.model.norm.weight'
    self.weights[name] = self.weights['model.norm.weight'] + np.float32(1)
    self.write()
    message = self.error()
    self.assertIn('holds model.norm.weight twice', message)
    self.assertIn(repr(name), message)


class PartsTest(FolderTest):

  def _write_one_shard_a_part(self):
    """Each part in a shard of its own, as parts of 1000 GB would be."""
    shard_of = {}
    for name in self.weights:
      part = next(
          part
          for part, inside in (
              ('embedding', 'embed_tokens'),
              ('unembedding', 'lm_head'),
              ('attention', 'self_attn'),
              ('mlp', '.mlp.'),
              ('norms', 'norm'),
          )
          if inside in name
      )
      shard_of[name] = f'{part}.safetensors'
    self.folder.mkdir(exist_ok=True)
    (self.folder / 'config.json').write_text(json.dumps(self.config))
    (self.folder / _INDEX).write_text(json.dumps({'weight_map': shard_of}))
    for part in PARTS:
      save_file(
          {
              name: self.weights[name]
              for name, file in shard_of.items()
              if file == f'{part}.safetensors'
          },
          self.folder / f'{part}.safetensors',
      )

  @parameterized.parameters(
      (('embedding',),),
      (('unembedding', 'norms'),),
      (('attention', 'norms', 'embedding'),),
      (('mlp',),),
      ((),),
  )
  def test_only_the_needed_shards_are_opened(self, parts):
    self._write_one_shard_a_part()
    for part in set(PARTS) - set(parts):
      (self.folder / f'{part}.safetensors').unlink()
    opened, true_open = [], safetensors.safe_open

    def spy(path, **kwargs):
      opened.append(pathlib.Path(path).stem)
      return true_open(path, **kwargs)

    with mock.patch.object(_safetensors.safetensors, 'safe_open', spy):
      model = load_model(self.folder, parts=parts)
    self.assertCountEqual(opened, parts)
    self.assertCountEqual(
        {pathlib.Path(f).name for f in model.files},
        {'config.json', _INDEX, *(f'{p}.safetensors' for p in parts)},
    )
    names = set(jax.tree_util.tree_leaves(_part_names(model.params)))
    self.assertEqual(names, set(parts))

  def test_parts_are_what_the_whole_has(self):
    self.write(shards=4)
    whole = _flat(load_model(self.folder).params)
    seen = {}
    for part in PARTS:
      some = _flat(load_model(self.folder, parts=[part]).params)
      self.assertTrue(some)
      # The final norm comes with the unembedding and with the norms.
      self.assertLessEqual(set(seen) & set(some), {"['final_norm']['weight']"})
      seen |= some
    self.assertEqual(set(seen), set(whole))
    for name, x in whole.items():
      np.testing.assert_array_equal(seen[name], x, err_msg=name)

  def test_a_needed_shard_that_is_missing_is_named(self):
    self._write_one_shard_a_part()
    (self.folder / 'mlp.safetensors').unlink()
    load_model(self.folder, parts=['attention'])
    message = self.error(parts=['mlp'])
    self.assertIn('mlp.safetensors does not exist; download', message)

  @parameterized.parameters('mlp', ('mpl',), (('mlp', 'attn'),))
  def test_names_that_are_no_parts_are_refused(self, *parts):
    self.write()
    parts = parts[0] if len(parts) == 1 else parts
    with self.assertRaisesRegex(InputError, "collection of .*'embedding'"):
      load_model(self.folder, parts=parts if parts == 'mlp' else [*parts])


def _flat(params):
  return {
      jax.tree_util.keystr(path): x
      for path, x in jax.tree_util.tree_leaves_with_path(params)
  }


def _part_names(params):
  """The part of every parameter, by its name in the tree."""

  def part(path):
    for name in ('unembedding', 'embedding', 'attention', 'mlp'):
      if f"'{name}'" in path:
        return name
    return 'norms'

  return {path: part(path) for path in _flat(params)}


class RefusalTest(FolderTest):

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


class IndexTest(FolderTest):

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
      ('terabytes', _header({'a': _entry([2**40], 0, 2**42)}, b'\0' * 8)),
      ('shape_lies', _header({'a': _entry([2**40], 0, 8)}, b'\0' * 8)),
      ('overflow', _header({'a': _entry([2**40, 2**40], 0, 8)}, b'\0' * 8)),
      ('negative', _header({'a': _entry([-1], 0, 8)}, b'\0' * 8)),
      ('backwards', _header({'a': _entry([2], 8, 0)}, b'\0' * 8)),
      (
          'overlapping',
          _header(
              {'a': _entry([2], 0, 8), 'b': _entry([2], 4, 12)}, b'\0' * 12
          ),
      ),
      (
          'hole',
          _header(
              {'a': _entry([1], 0, 4), 'b': _entry([1], 8, 12)}, b'\0' * 12
          ),
      ),
      ('trailing', _header({'a': _entry([1], 0, 4)}, b'\0' * 8)),
      ('no_json', _header(b'{"a": ', b'\0' * 8)),
      ('not_utf8', _header(b'{"\xff": 1}', b'\0' * 8)),
      ('huge_header', _header(b'{}', length=2**63)),
      ('html', b'<!DOCTYPE html><html><body>404</body></html>'),
      ('pickle', b'\x80\x04\x95' + b'\0' * 100),
      ('unknown_type', _header({'a': _entry([1], 0, 4, 'F31')}, b'\0' * 4)),
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


class MemoryTest(FolderTest):

  def test_a_tensor_is_dropped_before_the_next_is_read(self):
    """At most one stored tensor beside the parameters."""
    self.write()
    alive, most = 0, 0
    true_read = _safetensors.SafetensorsSource.read

    class Counted(np.ndarray):

      def __del__(self):
        nonlocal alive
        if self.base is not None and not isinstance(self.base, Counted):
          alive -= 1

    def read(source, name, index=None):
      nonlocal alive, most
      alive += 1
      most = max(most, alive)
      return true_read(source, name, index).view(Counted)

    with mock.patch.object(_safetensors.SafetensorsSource, 'read', read):
      load_model(self.folder, dtype=jnp.bfloat16)
    self.assertEqual(most, 1)


if __name__ == '__main__':
  absltest.main()
