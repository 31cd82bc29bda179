"""Our own checkpoints: there and back, in part, sharded, and damaged."""

import atexit
import functools
import pathlib
import shutil
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec
import numpy as np

from ooc_jax import InputError
from ooc_jax import load_model
from ooc_jax import save_model
from ooc_jax.checkpoints import restore_model
from ooc_jax.model import Model
from ooc_jax.model import config_from_hf
from tests.checkpoints import tiny


def _flat(params):
  return {
      jax.tree_util.keystr(path): x
      for path, x in jax.tree_util.tree_leaves_with_path(params)
  }


def assert_same_bits(actual, expected):
  actual, expected = _flat(actual), _flat(expected)
  assert set(actual) == set(expected)
  for name, x in expected.items():
    assert actual[name].dtype == x.dtype, name
    assert np.asarray(actual[name]).tobytes() == np.asarray(x).tobytes(), name


@functools.cache
def _written() -> pathlib.Path:
  """A folder for `_folders`, away at the end of the run."""
  folder = tempfile.mkdtemp()
  atexit.register(shutil.rmtree, folder)
  return pathlib.Path(folder)


@functools.cache
def _folders(family, tied, sizes, dtype, parts):
  """The same model as transformers and as we save it: written once a run."""
  changes = {}
  if family == 'llama':
    # The one rotary embedding with more than numbers in it.
    changes['rope_scaling'] = {
        'rope_type': 'llama3',
        'factor': 8.0,
        'low_freq_factor': 1.0,
        'high_freq_factor': 4.0,
        'original_max_position_embeddings': 64,
    }
  config = tiny.hf_config(family, tied=tied, sizes=sizes, **changes)
  weights = tiny.tensors(family, tied=tied, sizes=sizes)
  folder = pathlib.Path(tempfile.mkdtemp(dir=_written()))
  tiny.write_folder(folder / 'hf', config, weights, tokenizer=True)
  model = load_model(folder / 'hf', dtype=dtype, parts=parts)
  save_model(model, folder / 'ours')
  return folder, model


class OrbaxTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path)
    self.target = self.folder / 'new' / 'model'

  def model(
      self,
      family='gemma3',
      tied=True,
      sizes=tiny.SIZES,
      dtype=None,
      parts=None,
  ):
    """A model, whose folder is `self.source`."""
    self.origin, model = _folders(family, tied, sizes, dtype, parts)
    self.source = self.origin / 'hf'
    return model

  def saved(self, *args, **kwargs):
    """A model, saved in `self.target`."""
    model = self.model(*args, **kwargs)
    shutil.copytree(self.origin / 'ours', self.target)
    return model

  def error(self, **kwargs):
    with self.assertRaises(InputError) as caught:
      load_model(self.target, **kwargs)
    message = str(caught.exception)
    self.assertNotIn('\n', message)
    self.assertIn(str(self.target), message)
    self.assertLess(len(message), 400)
    return message


class RoundTripTest(OrbaxTest):

  @parameterized.product(family=tiny.FAMILIES, dtype=('float32', 'bfloat16'))
  def test_bit_for_bit(self, family, dtype):
    model = self.saved(family, dtype == 'bfloat16', dtype=dtype)
    for leaf in jax.tree.leaves(model.params):
      self.assertEqual(leaf.dtype, dtype)
    again = load_model(self.target)
    self.assertEqual(again.config, model.config)
    assert_same_bits(again.params, model.params)

  def test_tokenizer_is_kept(self):
    model = self.saved()
    again = load_model(self.target)
    self.assertEqual(again.tokenizer.encode('w7 w30 w2'), [7, 30, 2])
    self.assertEqual(
        again.tokenizer.token_strings(), model.tokenizer.token_strings()
    )
    self.assertIn(str(self.target / 'tokenizer.json'), again.files)

  def test_model_without_tokenizer(self):
    save_model(self.model().replace(tokenizer=None), self.target)
    self.assertIsNone(load_model(self.target).tokenizer)

  def test_dtype_is_what_was_asked(self):
    model = self.saved()
    again = load_model(self.target, dtype='bfloat16')
    assert_same_bits(
        again.params, jax.tree.map(lambda x: x.astype('bfloat16'), model.params)
    )

  def test_rope_divisors_are_kept(self):
    path = self.folder / 'm.gguf'
    stored = tiny.gguf_tensors('llama', tiny.tensors('llama', tied=True))
    stored['rope_freqs.weight'] = np.array([1, 2, 4, 7.5], np.float32)
    model = load_model(tiny.write_gguf(path, 'llama', stored))
    save_model(model, self.target)
    self.assertEqual(load_model(self.target).config, model.config)

  def test_tilde(self):
    with mock.patch.dict('os.environ', HOME=str(self.folder)):
      save_model(self.model(), '~/new/model')
      self.assertTrue((self.target / 'ooc_jax.json').is_file())
      self.assertEqual(restore_model('~/new/model').config.vocab_size, 31)
      self.assertEqual(load_model('~/new/model').config.vocab_size, 31)

  def test_folder_can_be_moved(self):
    model = self.saved()
    moved = self.target.rename(self.folder / 'moved')
    again = load_model(moved)
    assert_same_bits(again.params, model.params)
    for file in again.files:
      self.assertTrue(pathlib.Path(file).is_relative_to(moved))
      self.assertTrue(pathlib.Path(file).is_file())


class PartsTest(OrbaxTest):

  @parameterized.parameters(
      (('embedding',), ()),
      (('norms', 'mlp'), ('final_norm',)),
      (('unembedding', 'attention'), ('final_norm',)),
      ((), ()),
  )
  def test_only_the_needed_items_are_read(self, parts, more):
    model = self.saved('llama', False)
    for item in (self.target / 'params').iterdir():
      if item.name.rpartition('.')[2] not in parts + more:
        shutil.rmtree(item)
    some = load_model(self.target, parts=parts)
    whole = _flat(model.params)
    for name, x in _flat(some.params).items():
      np.testing.assert_array_equal(x, whole[name])
    expected = load_model(self.source, parts=parts)
    self.assertEqual(set(_flat(some.params)), set(_flat(expected.params)))
    read = {pathlib.Path(f).relative_to(self.target).parts for f in some.files}
    items = {p[1].rpartition('.')[2] for p in read if p[0] == 'params'}
    self.assertEqual(items, {*parts, *more})

  def test_unembedding_of_a_tied_model(self):
    self.saved()
    some = load_model(self.target, parts=['unembedding'])
    self.assertEqual(set(some.params), {'embedding', 'final_norm'})

  def test_part_that_was_not_saved(self):
    self.saved(parts=('embedding', 'norms'))
    load_model(self.target, parts=['norms'])
    self.assertIn("without its 'attention' part", self.error())

  def test_bare_string_is_refused(self):
    self.saved()
    with self.assertRaisesRegex(InputError, 'must be a collection of'):
      load_model(self.target, parts='mlp')


class MeshTest(OrbaxTest):
  """8 CPU devices: 4 for features, 2 for the vocabulary."""

  sizes = tiny.Sizes(v=30, m=28)

  def setUp(self):
    super().setUp()
    self.mesh = jax.make_mesh(
        (4, 2), ('feature', 'vocab'), axis_types=(AxisType.Auto,) * 2
    )

  def _assert_spread(self, actual, expected):
    specs = {
        'embedding': ('vocab', None),
        'unembedding': ('vocab', None),
        'gate': (None, 'feature'),
        'up': (None, 'feature'),
        'down': ('feature', None),
    }
    pieces = {
        'embedding': (15, 20),
        'unembedding': (15, 20),
        'gate': (20, 7),
        'up': (20, 7),
        'down': (7, 20),
    }
    assert_same_bits(actual, expected)
    for name, x in _flat(actual).items():
      last = name.removesuffix("']").rsplit("'", 1)[-1]
      self.assertEqual(x.sharding.mesh, self.mesh)
      spec = PartitionSpec(*specs.get(last, ()))
      self.assertEqual(x.sharding.spec, spec, name)
      self.assertLen(x.addressable_shards, 8)
      for shard in x.addressable_shards:
        self.assertEqual(shard.data.shape, pieces.get(last, x.shape), name)

  def test_restored_onto_a_mesh(self):
    model = self.saved('llama', False, sizes=self.sizes)
    restored = load_model(self.target, mesh=self.mesh)
    self._assert_spread(restored.params, model.params)

  def test_loaded_onto_a_mesh(self):
    """The same places from safetensors."""
    model = self.model('llama', False, sizes=self.sizes)
    loaded = load_model(self.source, mesh=self.mesh)
    self._assert_spread(loaded.params, model.params)

  def test_saved_from_a_mesh(self):
    model = self.model('llama', False, sizes=self.sizes)
    loaded = load_model(self.source, mesh=self.mesh)
    save_model(loaded, self.target)
    assert_same_bits(load_model(self.target).params, model.params)
    restored = load_model(self.target, mesh=self.mesh)
    self._assert_spread(restored.params, model.params)

  def test_rows_that_the_mesh_does_not_divide_are_on_every_device(self):
    model = self.saved()  # V = 31.
    for source in (self.target, self.source):
      loaded = load_model(source, mesh=self.mesh)
      embedding = loaded.params['embedding']
      self.assertTrue(embedding.sharding.is_fully_replicated)
      assert_same_bits(loaded.params, model.params)


class SaveRefusalTest(OrbaxTest):

  @parameterized.parameters('file', 'folder', 'link')
  def test_existing_target(self, kind):
    model = self.model()
    self.target.parent.mkdir()
    if kind == 'file':
      self.target.write_text('mine')
    elif kind == 'folder':
      self.target.mkdir()
    else:
      self.target.symlink_to(self.folder / 'nowhere')
    with self.assertRaisesRegex(InputError, 'exists already; give a new'):
      save_model(model, self.target)
    if kind == 'file':
      self.assertEqual(self.target.read_text(), 'mine')

  @parameterized.product(
      at=('arrays', 'tokenizer', 'manifest', 'rename'),
      error=(KeyboardInterrupt, OSError, MemoryError),
  )
  def test_interrupted(self, at, error):
    model = self.model()
    name = {
        'arrays': 'ooc_jax.checkpoints._folder.save_arrays',
        'tokenizer': 'ooc_jax.model.Tokenizer.save',
        'manifest': 'ooc_jax.checkpoints._folder.write_manifest',
        'rename': 'pathlib.Path.rename',
    }[at]
    expected = InputError if error is OSError else error
    with mock.patch(name, side_effect=error('disk full')):
      with self.assertRaises(expected) as caught:
        save_model(model, self.target)
    if error is OSError:
      self.assertIn(
          f'Cannot write {self.target}: disk full; check', str(caught.exception)
      )
    self.assertEmpty(list(self.target.parent.iterdir()))
    if at == 'manifest' and error is OSError:
      save_model(model, self.target)  # And then it can be.
      assert_same_bits(load_model(self.target).params, model.params)

  def test_place_that_is_no_folder(self):
    model = self.model()
    (self.folder / 'file').write_text('')
    with self.assertRaisesRegex(InputError, 'Cannot write .*move the file'):
      save_model(model, self.folder / 'file' / 'model')

  def test_params_of_another_config(self):
    model = self.model()
    config = config_from_hf(tiny.hf_config('llama', tied=True))
    with self.assertRaisesRegex(InputError, 'layer_0/attention/key_norm'):
      save_model(Model(config, model.params), self.target)
    self.assertFalse(self.target.parent.exists())


if __name__ == '__main__':
  absltest.main()
