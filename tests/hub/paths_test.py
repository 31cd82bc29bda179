"""Names that try to leave the cache: in an index, a request, a link."""

import json
import os
import shutil

from absl.testing import absltest
from absl.testing import parameterized

from ooc_jax import load_model
from ooc_jax.checkpoints import HubOrigin
from ooc_jax.checkpoints import fetch_file
from ooc_jax.checkpoints import hub_origin
from tests.hub import repositories
from tests.hub.hub_case import HubCase

_REPO = 'owner/model'
_NAME = 'layer_3/params.npz'
_CLIMBING = (
    '../x.safetensors',
    'a/../../x.safetensors',
    '/x.safetensors',
    '//host/x.safetensors',
    './x.safetensors',
    '..',
    'a\\..\\..\\x.safetensors',
    '\\\\host\\share\\x.safetensors',
    'C:/x.safetensors',
    'C:x.safetensors',
    '%2e%2e/x.safetensors',
    '%2e%2e%2fx.safetensors',
    'x\0.safetensors',
    'x\n.safetensors',
    'a//x.safetensors',
    '',
)


class PathsTest(HubCase):

  def setUp(self):
    super().setUp()
    self.commit = self.hub.publish(_REPO, {_NAME: b'PK 1', 'a.json': b'{}'})
    # What lies beside the cache must stay as it is.
    (self.folder / 'x.safetensors').write_bytes(b'outside')

  def outside(self):
    return {
        p.name: p.read_bytes() for p in self.folder.iterdir() if p.is_file()
    }

  @parameterized.parameters(*_CLIMBING)
  def test_file_name(self, name):
    message = self.error(fetch_file, _REPO, name, None)
    self.assertIn(f'cannot be a file of {_REPO}', message)
    self.assertEmpty(self.hub.asked)

  @parameterized.parameters(
      '../../x', '/x', 'a/../../x', 'main\0', 'a\\b', '%2e%2e', '', 'a b',
      '-x', 'refs/', 'a..b', 'a/', 'ma\nin', '.',
  )  # fmt: skip
  def test_revision(self, revision):
    message = self.error(fetch_file, _REPO, 'a.json', revision)
    self.assertIn(f'cannot be a revision of {_REPO}', message)
    self.assertEmpty(self.hub.asked)

  @parameterized.parameters(
      '../x', 'a/..', 'a/b/c', 'a\\b', '/a/b', 'a/b\0', '%2e%2e/x', 'a/.git',
      'a/b--c', '', 'a/' + 'b' * 200,
  )  # fmt: skip
  def test_repository(self, repo):
    message = self.error(fetch_file, repo, 'a.json', None)
    self.assertIn('is no name that a hub repository can have', message)
    self.error(load_model, repo)
    self.assertEmpty(self.hub.asked)

  def test_index(self):
    folder = self.folder / 'model'
    repositories.make_repository(folder, 'llama')
    files = {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}
    index = json.loads(files[repositories.INDEX])
    for name in (
        *_CLIMBING, 'a/x.safetensors', 'x.bin', 'x.safetensors.pkl',
        '.x.safetensors', 7, None, ['x.safetensors'],
    ):  # fmt: skip
      with self.subTest(name):
        index['weight_map']['model.norm.weight'] = name
        files[repositories.INDEX] = json.dumps(index).encode()
        self.hub.publish(_REPO, files)
        self.hub.forget()
        message = self.error(load_model, _REPO)
        self.assertIn(f'{_REPO}/{repositories.INDEX}', message)
        self.assertIn('do not use this checkpoint', message)
        self.assertIn(repositories.INDEX, self.hub.downloaded())
        asked = {a.file.rpartition('/')[2] for a in self.hub.asked if a.file}
        self.assertEqual(
            asked, {'config.json', 'tokenizer.json', repositories.INDEX}
        )
        self.assertEqual(self.outside(), {'x.safetensors': b'outside'})

  def test_commit_that_climbs(self):
    self.hub.fail(
        _REPO, 'a.json', 'headers', headers={'X-Repo-Commit': '../../../x'}
    )
    self.assertIn(_REPO, self.error(fetch_file, _REPO, 'a.json', None))
    self.assertEqual(self.outside(), {'x.safetensors': b'outside'})


class LinksTest(HubCase):

  def setUp(self):
    super().setUp()
    self.commit = self.hub.publish(_REPO, {_NAME: b'PK 1'})
    self.other = self.new_folder('elsewhere')

  def test_snapshot_links_to_blobs(self):
    path = self.assert_fetches(b'PK 1', _REPO, _NAME)
    self.assertTrue(path.is_symlink())

  @parameterized.parameters(None, 'commit')
  def test_link_out_of_the_cache(self, revision):
    path = self.assert_fetches(b'PK 1', _REPO, _NAME)
    secret = self.other / 'secret'
    secret.write_bytes(b'PK 2')
    path.unlink()
    path.symlink_to(secret)
    revision = revision and self.commit
    message = self.error(fetch_file, _REPO, _NAME, revision)
    self.assertIn(f"a link to {secret}, out of the hub's cache", message)
    self.assertEqual(secret.read_bytes(), b'PK 2')
    path.unlink()  # What the sentence says.
    self.assert_fetches(b'PK 1', _REPO, _NAME, revision)

  @parameterized.parameters(
      '', 'models--owner--model', 'models--owner--model/blobs'
  )
  def test_cache_on_another_disk(self, which):
    """Folders of the cache are often links to a larger disk."""
    moved = self.cache / which
    moved.parent.mkdir(parents=True, exist_ok=True)
    moved.symlink_to(self.other)
    self.assert_fetches(b'PK 1', _REPO, _NAME)
    self.assert_fetches(b'PK 1', _REPO, _NAME, self.commit)
    self.assertNotEmpty(list(self.other.iterdir()))

  def test_cache_that_is_only_read(self):
    path = self.assert_fetches(b'PK 1', _REPO, _NAME)
    shutil.rmtree(self.cache / '.locks')
    (self.cache / '.locks').write_text('no folder can be made here')
    self.hub.forget()
    self.assertEqual(fetch_file(_REPO, _NAME, None), path)
    self.assertEqual(fetch_file(_REPO, _NAME, self.commit), path)
    self.assertEmpty(self.hub.downloaded())

  def test_origin(self):
    path = fetch_file(_REPO, _NAME, None)
    expected = HubOrigin(_REPO, self.commit, _NAME)
    self.assertEqual(hub_origin(path), expected)
    self.assertEqual(hub_origin(os.fspath(path)), expected)
    self.assertIsNone(hub_origin(self.other / 'model.safetensors'))


if __name__ == '__main__':
  absltest.main()
