"""Models straight from a hub: which files are downloaded, and used offline."""

import os
import pathlib
import subprocess
import sys
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
from huggingface_hub import constants
import jax
import numpy as np

from ooc_jax import load_model
from ooc_jax.checkpoints import hub_origin
from tests import tiny
from tests.hub import repositories
from tests.hub.hub_case import ModelCase

_REPO = 'owner/model'
_INDEX = repositories.INDEX
_EMBEDDING = 'model.embed_tokens.weight'


class NeededFilesTest(ModelCase):

  @parameterized.parameters(
      ('gemma2', 'gemma2-2b', repositories.GEMMA),
      ('llama', 'llama3.1-8b', repositories.LLAMA),
  )
  def test_all_of_a_model(self, family, name, repo):
    weight_map, weights, commit = self.publish(repo, family)
    model = load_model(name)
    np.testing.assert_array_equal(
        model.params['embedding'], weights[_EMBEDDING]
    )
    np.testing.assert_array_equal(
        model.params['layer_2']['mlp']['down'],
        weights['model.layers.2.mlp.down_proj.weight'].T,
    )
    self.assertNotEmpty(model.tokenizer.encode('the river'))
    shards = set(weight_map.values())
    self.assertLen(shards, 3)
    self.assert_downloaded('config.json', 'tokenizer.json', _INDEX, *shards)
    for file in model.files:  # The commit is recorded.
      self.assertEqual(hub_origin(file).repo, repo)
      self.assertEqual(hub_origin(file).commit, commit)
    self.assertCountEqual(
        [hub_origin(f).name for f in model.files], self.hub.downloaded()
    )
    self.assert_no_debris()

  @parameterized.parameters(
      ('llama', ['embedding'], [_EMBEDDING]),
      ('llama', ['unembedding'], ['lm_head.weight']),
      ('llama', ['embedding', 'unembedding'], [_EMBEDDING, 'lm_head.weight']),
      ('gemma2', ['unembedding'], [_EMBEDDING]),
  )
  def test_shards_of_some_parts(self, family, parts, tensors):
    weight_map, weights, _ = self.publish(_REPO, family)
    model = load_model(_REPO, parts=parts)
    final = 'model.norm.weight'  # Nothing reads an unembedding without it.
    if 'unembedding' in parts:
      tensors = [*tensors, final]
    self.assertCountEqual(
        [np.shape(x) for x in jax.tree.leaves(model.params)],
        [weights[name].shape for name in tensors],
    )
    shards = {weight_map[name] for name in tensors}
    self.assertLess(len(shards), 3)
    self.assert_downloaded('config.json', 'tokenizer.json', _INDEX, *shards)
    # What is asked for later is added, and nothing is fetched again.
    self.hub.forget()
    load_model(_REPO)
    self.assert_downloaded(*(set(weight_map.values()) - shards))

  def test_one_file(self):
    self.publish(_REPO, 'llama', shards=1)
    load_model(_REPO, parts=['embedding'])
    self.assert_downloaded('config.json', 'tokenizer.json', 'model.safetensors')

  def test_missing_shard(self):
    weight_map, _, _ = self.publish(_REPO, 'llama')
    shard = weight_map['lm_head.weight']
    self.hub.fail(_REPO, shard, 'gone')
    message = self.error(load_model, _REPO)
    self.assertIn(_REPO, message)
    self.assertIn(f'no file {shard}, which its index names', message)
    # The others are of use without it, and it may come back.
    load_model(_REPO, parts=['embedding'])
    self.hub.mend()
    load_model(_REPO)

  @parameterized.parameters('config.json', _INDEX)
  def test_page_instead_of_json(self, name):
    self.publish(_REPO, 'llama')
    for kind in ('page', 'page_as_file', 'portal'):
      self.hub.fail(_REPO, name, kind)
      message = self.error(load_model, _REPO)
      self.assertIn(_REPO, message)
      self.assertIn(name, message)
    self.hub.mend()
    load_model(_REPO, parts=['embedding'])

  def test_renamed_repository(self):
    _, weights, commit = self.publish('owner/old', 'llama')
    self.hub.rename('owner/old', 'owner/new')
    model = load_model('owner/old', parts=['embedding'])
    np.testing.assert_array_equal(
        model.params['embedding'], weights[_EMBEDDING]
    )
    self.assertEqual(hub_origin(model.files[0]).commit, commit)

  def test_an_adapter_is_no_model(self):
    base = b'{"base_model_name_or_path": "owner/base"}'
    self.hub.publish(_REPO, {'adapter_config.json': base})
    self.assertRegex(
        self.error(load_model, _REPO),
        'owner/model holds an adapter of owner/base .*merge it',
    )

  def test_no_config(self):
    self.hub.publish(_REPO, {'model.gguf': b'GGUF'})
    self.assertRegex(
        self.error(load_model, _REPO), 'owner/model has no file config.json; .*'
    )

  def test_no_weights(self):
    folder = tiny.make_checkpoint(self.folder / 'model')
    (folder / 'model.safetensors').rename(folder / 'pytorch_model.bin')
    self.hub.publish(_REPO, folder)
    message = self.error(load_model, _REPO)
    self.assertIn('owner/model has no safetensors weights', message)
    self.assert_downloaded('config.json', 'tokenizer.json')


class EnvironmentTest(ModelCase):
  """In processes of their own: the variables are read at import."""

  def run_program(self, code, **variables):
    names = ('PATH', 'LANG', 'TMPDIR', 'JAX_')  # JAX_: its compilation cache.
    env = {k: v for k, v in os.environ.items() if k.startswith(names)} | {
        'HOME': str(self.folder),
        'JAX_PLATFORMS': 'cpu',
        'PYTHONPATH': os.pathsep.join(sys.path),
    }
    done = subprocess.run(
        [sys.executable, '-c', code],
        env=env | variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    self.assertEqual(done.returncode, 0, done.stderr)
    return done.stdout

  def test_online_then_offline(self):
    _, weights, commit = self.publish(repositories.GEMMA, 'gemma2')
    self.hub.gate(repositories.GEMMA, 'hf_good')
    home = self.folder / 'home'
    variables = self.hub.environment(home)
    code = (
        'import ooc_jax, sys\n'
        'try: model = ooc_jax.load_model("gemma2-2b")\n'
        'except ooc_jax.InputError as error: sys.exit(print(error))\n'
        'x = model.params["embedding"]\n'
        'print(x.shape, float(x[7, 3]), *model.files, sep="\\n")\n'
    )
    out = self.run_program(code, HF_TOKEN='hf_good', **variables)
    shape, value, *files = out.splitlines()
    self.assertEqual(shape, str(weights[_EMBEDDING].shape))
    self.assertEqual(float(value), float(weights[_EMBEDDING][7, 3]))
    for file in files:
      self.assertTrue(pathlib.Path(file).is_relative_to(home / 'hub'))
      self.assertEqual(hub_origin(file).commit, commit)
    self.hub.forget()
    # The whole load, the file it has not and the branch included.
    again = self.run_program(code, HF_HUB_OFFLINE='1', **variables)
    self.assertEqual(again, out)
    self.assertEmpty(self.hub.asked)

  def test_offline_here(self):
    """The same, but for a part that was not loaded before."""
    weight_map, _, _ = self.publish(_REPO, 'llama')
    (self.folder / 'llama-0' / 'tokenizer.json').unlink()
    self.hub.publish(_REPO, self.folder / 'llama-0')
    load_model(_REPO, parts=['embedding'])
    self.hub.forget()
    with mock.patch.object(constants, 'HF_HUB_OFFLINE', True):
      load_model(_REPO, parts=['embedding'])
      message = self.error(load_model, _REPO)
    self.assertEmpty(self.hub.asked)
    self.assertIn('not in the local cache', message)
    self.assertIn('unset HF_HUB_OFFLINE', message)
    self.assertRegex(message, 'model-0000[23]-of-00003.safetensors of owner/')
    load_model(_REPO)


if __name__ == '__main__':
  absltest.main()
