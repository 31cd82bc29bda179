"""`load_model`: what a source may be, and what it is taken for."""

import dataclasses
import json
import os
import pathlib
import sys
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from ooc_jax import InputError
from ooc_jax import load_model
from ooc_jax.checkpoints import MODELS
from ooc_jax.checkpoints import _find
from ooc_jax.checkpoints import convert_model
from ooc_jax.checkpoints import model_entry
from ooc_jax.model import forward
from tests.checkpoints import tiny


class LoadTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path)

  def write(self, name='hf', family='llama', **kwargs):
    config = tiny.hf_config(family, tied=True)
    weights = tiny.tensors(family, tied=True)
    return tiny.write_folder(self.folder / name, config, weights, **kwargs)

  def write_gguf(self, path=None, **kwargs):
    stored = tiny.gguf_tensors('llama', tiny.tensors('llama', tied=True))
    path = path or self.folder / 'm.gguf'
    return tiny.write_gguf(path, 'llama', stored, **kwargs)

  def error(self, *args, **kwargs):
    with self.assertRaises(InputError) as caught:
      load_model(*args, **kwargs)
    message = str(caught.exception)
    self.assertNotIn('\n', message)
    self.assertLess(len(message), 600)
    self.assertRegex(message, r'[.?]$')
    return message

  def no_hub(self):
    """Any download is an error of the test."""
    return mock.patch.object(
        _find, 'fetch_config', side_effect=AssertionError('asked the hub')
    )


class StoredHeadTest(LoadTest):
  """A tied model whose file has a head all the same."""

  def folder_with(self, name, head, family='llama', **kwargs):
    config = tiny.hf_config(family, tied=True)
    weights = tiny.tensors(family, tied=True)
    weights['lm_head.weight'] = head(weights['model.embed_tokens.weight'])
    return tiny.write_folder(self.folder / name, config, weights, **kwargs)

  @parameterized.parameters(1, 3)
  def test_another_table_is_used_and_said(self, shards):
    path = self.folder_with('m', lambda x: x[::-1].copy(), shards=shards)
    with self.assertLogs('absl', 'WARNING') as logs:
      model = load_model(path)
    self.assertFalse(model.config.tied)
    self.assertIn('lm_head.weight', logs.output[0])
    self.assertIn('the stored one is used', model.notes[0])
    table = np.asarray(model.params['embedding'])
    np.testing.assert_array_equal(model.params['unembedding'], table[::-1])
    # The right value: the same weights whose config says untied.
    stored = json.loads((path / 'config.json').read_text())
    stored['tie_word_embeddings'] = False
    (path / 'config.json').write_text(json.dumps(stored))
    untied = load_model(path)
    self.assertEqual(untied.notes, ())
    np.testing.assert_array_equal(
        forward(model, jnp.asarray(tiny.TOKENS)),
        forward(untied, jnp.asarray(tiny.TOKENS)),
    )

  @parameterized.parameters(1, 3)
  def test_a_copy_is_no_head(self, shards):
    path = self.folder_with('m', lambda x: x.copy(), shards=shards)
    model = load_model(path)
    self.assertTrue(model.config.tied)
    self.assertEqual(model.notes, ())
    self.assertNotIn('unembedding', model.params)

  @parameterized.parameters(
      (['unembedding'], False), (['embedding'], False), (['attention'], True)
  )
  def test_of_some_parts(self, parts, tied):
    path = self.folder_with('m', lambda x: x + 1, shards=3)
    model = load_model(path, parts=parts)
    self.assertEqual(model.config.tied, tied)
    self.assertEqual('unembedding' in model.params, 'unembedding' in parts)

  def test_of_another_shape(self):
    path = self.folder_with('m', lambda x: x[:-1].copy())
    self.assertIn('lm_head.weight is [30, 20]', self.error(path))

  def test_of_a_nested_checkpoint(self):
    config = tiny.hf_config('gemma3', tied=True)
    weights = tiny.tensors('gemma3', tied=True)
    head = weights['model.embed_tokens.weight'] * 2
    nested = {f'language_model.{k}': x for k, x in weights.items()}
    nested['language_model.lm_head.weight'] = head
    outer = {
        'model_type': 'gemma3',
        'text_config': config | {'model_type': 'gemma3_text'},
    }
    model = load_model(tiny.write_folder(self.folder / 'm', outer, nested))
    np.testing.assert_array_equal(model.params['unembedding'], head)

  def test_conversions_keep_it(self):
    path = self.folder_with('m', lambda x: x[::-1].copy())
    expected = forward(load_model(path), jnp.asarray(tiny.TOKENS))
    for kind in ('orbax', 'safetensors'):
      out = self.folder / kind
      convert_model(path, out, to=kind)
      again = load_model(out)
      self.assertFalse(again.config.tied)
      self.assertEqual(again.notes, ())
      np.testing.assert_array_equal(
          forward(again, jnp.asarray(tiny.TOKENS)), expected
      )

  def test_names_without_the_prefix_of_a_head(self):
    """As the base class saves them."""
    config = tiny.hf_config('llama', tied=True)
    weights = tiny.tensors('llama', tied=True)
    bare = {k.removeprefix('model.'): x for k, x in weights.items()}
    for shards in (1, 2):
      path = tiny.write_folder(
          self.folder / f'bare{shards}', config, bare, shards=shards
      )
      np.testing.assert_array_equal(
          forward(load_model(path), jnp.asarray(tiny.TOKENS)),
          forward(
              load_model(self.write(f'hf{shards}')), jnp.asarray(tiny.TOKENS)
          ),
      )


class SourceTest(LoadTest):

  @parameterized.parameters(str, pathlib.Path, os.fspath)
  def test_path_of_a_folder(self, kind):
    with self.no_hub():
      model = load_model(kind(self.write()))
    self.assertEqual(model.config.vocab_size, 31)

  @parameterized.parameters(str, pathlib.Path)
  def test_path_of_a_file(self, kind):
    with self.no_hub():
      model = load_model(kind(self.write_gguf()))
    self.assertEqual(model.config.vocab_size, 31)

  def test_relative_path_that_looks_like_a_hub_id(self):
    self.write('owner/name')
    here = os.getcwd()
    self.addCleanup(os.chdir, here)
    os.chdir(self.folder)
    with self.no_hub():
      self.assertEqual(load_model('owner/name').config.vocab_size, 31)
    self.assertEqual(load_model('owner/name/').config.vocab_size, 31)

  def test_tilde(self):
    self.write()
    self.write_gguf()
    with mock.patch.dict('os.environ', HOME=str(self.folder)):
      for source in ('~/hf', '~/m.gguf', pathlib.Path('~/hf')):
        self.assertEqual(load_model(source).config.vocab_size, 31)
      self.assertIn('~/nothing does not exist', self.error('~/nothing'))

  @parameterized.parameters(
      '/no/such/folder', './nothing', '../nothing', 'nothing.gguf',
      'a/b/nothing.safetensors', 'owner/model.GGUF', 'model.pt', '~/nothing',
  )  # fmt: skip
  def test_missing_path(self, source):
    with self.no_hub():
      message = self.error(source)
    self.assertIn(f'{source} does not exist; check the path', message)

  @parameterized.parameters(
      '', 'a\0b', 'x' * 5000, '~no-such-user-here/x', '\ud800', 'a/b/c', ' ',
      'owner/', '/', 'gemma2-2b\n',
  )  # fmt: skip
  def test_names_that_are_none(self, source):
    with self.no_hub():
      self.error(source)

  @parameterized.parameters(
      ('gemma-2-2b', 'gemma2-2b'),
      ('gemma2-9', 'gemma2-9b'),
      ('llama3.1-8B', 'llama3.1-8b'),
      ('llama-3.1-8b', 'llama3.1-8b'),
      ('smollm', 'smollm2'),
  )
  def test_unknown_name_suggests_the_nearest(self, name, near):
    message = self.error(name)
    self.assertIn(repr(name), message)
    self.assertIn(f'did you mean {near!r}?', message)

  def test_unknown_name_like_none(self):
    self.assertIn('known are tiny-llama3, llama3.1-8b', self.error('zzzzz'))

  @parameterized.parameters(*(n for n, e in MODELS.items() if not e.package))
  def test_registry_name_is_a_repository(self, name):
    with mock.patch.object(
        _find, 'fetch_config', side_effect=InputError('asked.')
    ) as fetch:
      self.assertEqual(self.error(name), 'asked.')
      self.assertEqual(self.error(name, revision='v1'), 'asked.')
    repo = model_entry(name).repo
    self.assertEqual(
        fetch.mock_calls, [mock.call(repo, None), mock.call(repo, 'v1')]
    )

  def test_hub_repository(self):
    with mock.patch.object(
        _find, 'fetch_config', side_effect=InputError('asked.')
    ) as fetch:
      self.error('some-one/Model.2_x')
    fetch.assert_called_once_with('some-one/Model.2_x', None)

  def test_revision_of_a_path_is_refused(self):
    message = self.error(self.write(), revision='main')
    self.assertIn("has no revision 'main'", message)


class PackageTest(LoadTest):

  def setUp(self):
    super().setUp()
    self.module, self.file = model_entry('smollm2').package
    path = [p for p in sys.path if not _holds(p, self.module)]
    self.enter_context(mock.patch.object(sys, 'path', path))
    self.package = self.folder / 'site' / self.module
    self.package.mkdir(parents=True)
    # An import of the package would fail: only its files are wanted.
    (self.package / '__init__.py').write_text('raise RuntimeError')

  def test_weights_of_an_installed_package(self):
    self.write_gguf(self.package / self.file)
    sys.path.insert(0, str(self.package.parent))
    with self.no_hub():
      model = load_model('smollm2')
    self.assertEqual(model.files, (str(self.package / self.file),))
    self.assertNotIn(self.module, sys.modules)

  def test_revision_asks_the_hub(self):
    self.write_gguf(self.package / self.file)
    sys.path.insert(0, str(self.package.parent))
    with self.assertRaisesRegex(AssertionError, 'asked the hub'):
      with self.no_hub():
        load_model('smollm2', revision='main')

  @parameterized.parameters(True, False)
  def test_without_the_package_the_hub_is_asked(self, installed):
    if installed:  # But without the file.
      sys.path.insert(0, str(self.package.parent))
    with mock.patch.object(
        _find, 'fetch_config', side_effect=InputError('asked.')
    ) as fetch:
      self.error('smollm2')
    fetch.assert_called_once_with(model_entry('smollm2').repo, None)


def _holds(folder, module):
  return (pathlib.Path(folder) / module).is_dir()


class ArgumentTest(LoadTest):

  @parameterized.parameters(
      'float32', 'bfloat16', 'float16', jnp.bfloat16, np.float16,
      np.dtype('float32'),
  )  # fmt: skip
  def test_dtype(self, dtype):
    for source in (self.write(), self.write_gguf()):
      model = load_model(source, dtype=dtype)
      for leaf in jax.tree.leaves(model.params):
        self.assertEqual(leaf.dtype, jnp.dtype(dtype))

  @parameterized.parameters(
      'int8', 'float64', 'float8_e4m3fn', 'bf16', 'complex64', int, 'half ', 7
  )
  def test_dtype_that_is_none(self, dtype):
    message = self.error(self.write(), dtype=dtype)
    self.assertIn('must be one of float32, bfloat16, float16', message)

  @parameterized.parameters('mlp', 'embedding')
  def test_parts_as_a_bare_string(self, parts):
    for source in (self.write(), self.write_gguf()):
      message = self.error(source, parts=parts)
      self.assertIn(f'parts={parts!r} must be a collection', message)

  @parameterized.parameters(
      (['mlps'],), (('attention', 'heads'),), ({'mlp', ''},)
  )
  def test_parts_that_are_none(self, parts):
    for source in (self.write(), self.write_gguf()):
      self.assertIn('must be a collection of', self.error(source, parts=parts))

  @parameterized.parameters(list, tuple, set, frozenset, dict.fromkeys)
  def test_parts_of_any_collection(self, kind):
    model = load_model(self.write(), parts=kind(['embedding']))
    self.assertEqual(set(model.params), {'embedding'})

  def test_dtype_is_checked_before_a_download(self):
    with self.no_hub():
      self.error('gemma2-2b', dtype='int8')

  @parameterized.parameters('feature', 'vocab', 'other')
  def test_mesh_of_one_axis(self, axis):
    mesh = jax.make_mesh(
        (4,), (axis,), axis_types=(jax.sharding.AxisType.Auto,)
    )
    for source in (self.write(), self.write_gguf()):
      model = load_model(source, mesh=mesh)
      up = model.params['layer_1']['mlp']['up']  # M = 28.
      shape = (20, 7) if axis == 'feature' else (20, 28)
      self.assertEqual(up.addressable_shards[0].data.shape, shape)
      np.testing.assert_array_equal(
          up,
          tiny.tensors('llama', tied=True)[
              'model.layers.1.mlp.up_proj.weight'
          ].T,
      )

  def test_a_model_is_a_pytree_that_may_be_jitted(self):
    model = load_model(self.write())
    doubled = jax.jit(lambda m: jax.tree.map(lambda x: x * 2, m))(model)
    self.assertEqual(doubled.config, model.config)
    np.testing.assert_array_equal(
        doubled.params['embedding'], model.params['embedding'] * 2
    )


class RegistryTest(absltest.TestCase):

  def test_entries(self):
    for name, entry in MODELS.items():
      self.assertEqual(model_entry(name), entry)
      if entry.repo is None:
        self.assertEqual(entry.package[0], 'ooc_jax')
      else:
        self.assertRegex(entry.repo, r'^[\w-]+/[\w.-]+$')
      self.assertTrue(dataclasses.is_dataclass(entry))


if __name__ == '__main__':
  absltest.main()
