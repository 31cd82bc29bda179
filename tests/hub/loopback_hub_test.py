"""The hub of these tests, as clients other than ours see it."""

import hashlib
import urllib.request

from absl.testing import absltest
import huggingface_hub

from tests.hub.hub_case import HubCase

_REPO = 'owner/model'


class LoopbackHubTest(HubCase):

  def setUp(self):
    super().setUp()
    self.files = {
        'config.json': b'{"a": 1}',
        'folder/weights.npz': bytes(range(256)) * 3,
    }
    self.commit = self.hub.publish(_REPO, self.files)
    self.api = huggingface_hub.HfApi(endpoint=self.hub.url, token=False)

  def test_what_the_client_is_told(self):
    for name, content in self.files.items():
      url = huggingface_hub.hf_hub_url(_REPO, name)
      told = huggingface_hub.get_hf_file_metadata(url)
      self.assertEqual(told.commit_hash, self.commit)
      self.assertEqual(told.size, len(content))
    # What is asked for last is large.
    self.assertEqual(told.etag, hashlib.sha256(content).hexdigest())
    self.assertStartsWith(told.location, self.hub.store_url)
    # Of a small one it is what `git hash-object` prints.
    url = huggingface_hub.hf_hub_url(_REPO, 'config.json')
    self.assertEqual(
        huggingface_hub.get_hf_file_metadata(url).etag,
        '4a036f56bb619924ec4189bd84ed716c766971ae',
    )

  def test_lists(self):
    self.assertEqual(self.api.list_repo_files(_REPO), sorted(self.files))
    self.assertEqual(self.api.model_info(_REPO).sha, self.commit)
    tree = self.api.list_repo_tree(_REPO, 'folder')
    self.assertEqual([e.path for e in tree], ['folder/weights.npz'])

  def test_ranges(self):
    url = huggingface_hub.hf_hub_url(_REPO, 'folder/weights.npz')
    request = urllib.request.Request(url, headers={'Range': 'bytes=700-'})
    with urllib.request.urlopen(request) as answer:
      self.assertEqual(answer.status, 206)
      self.assertEqual(answer.headers['Content-Range'], 'bytes 700-767/768')
      self.assertEqual(answer.read(), self.files['folder/weights.npz'][700:])

  def test_whole_snapshot(self):
    folder = huggingface_hub.snapshot_download(_REPO)
    for name, content in self.files.items():
      with open(f'{folder}/{name}', 'rb') as file:
        self.assertEqual(file.read(), content)


if __name__ == '__main__':
  absltest.main()
