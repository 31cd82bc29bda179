"""Hugging Face folders: whole, in shards, in part and nested."""

import json
import pathlib
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
import safetensors
from safetensors.numpy import save_file

from ooc_jax import InputError
from ooc_jax import load_model
from ooc_jax.checkpoints import _safetensors
from ooc_jax.model import PARTS
from tests.checkpoints import folder_case

_INDEX = 'model.safetensors.index.json'


class ReadTest(folder_case.FolderCase):

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


class TiedTest(folder_case.FolderCase):
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


class PartsTest(folder_case.FolderCase):

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


class MemoryTest(folder_case.FolderCase):

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
