"""The hub, played by a server of this process: what is fetched and said."""

import functools
import hashlib
import http.server
import json
import os
import pathlib
import subprocess
import sys
import threading
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import huggingface_hub
from huggingface_hub import constants
import numpy as np

from ooc_jax import InputError
from ooc_jax import load_model
from tests.checkpoints import tiny

_COMMIT = '0123456789abcdef0123456789abcdef01234567'
_REPO = 'someone/tiny-llama'


class _Hub(http.server.BaseHTTPRequestHandler):
  """`resolve` of the hub: one repository, and names that stand for errors."""

  def __init__(self, folder, asked, *args):
    self.folder, self.asked = folder, asked
    super().__init__(*args)

  def _answer(self, status, headers, body=b''):
    self.send_response(status)
    for name, value in headers.items():
      self.send_header(name, value)
    self.send_header('Content-Length', str(len(body)))
    self.end_headers()
    if self.command == 'GET':
      self.wfile.write(body)

  def do_HEAD(self):
    owner, name, _, revision, file = self.path.strip('/').split('/', 4)
    self.asked.append((self.command, f'{owner}/{name}', revision, file))
    if owner == 'gated':
      return self._answer(403, {'X-Error-Code': 'GatedRepo'})
    if owner == 'down':
      return self._answer(500, {})
    if f'{owner}/{name}' != _REPO:
      return self._answer(404, {'X-Error-Code': 'RepoNotFound'})
    if revision not in ('main', 'v1', _COMMIT):
      return self._answer(404, {'X-Error-Code': 'RevisionNotFound'})
    path = self.folder / file
    headers = {'X-Repo-Commit': _COMMIT}
    if not path.is_file():
      return self._answer(404, headers | {'X-Error-Code': 'EntryNotFound'})
    body = path.read_bytes()
    headers['ETag'] = f'"{hashlib.sha1(body).hexdigest()}"'
    return self._answer(200, headers, body)

  do_GET = do_HEAD

  def log_message(self, *args):
    del args  # The tests look at `asked`.


class HubTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    folder = pathlib.Path(self.create_tempdir().full_path)
    self.remote, self.cache = folder / 'remote', folder / 'cache'
    self.asked = []
    server = http.server.ThreadingHTTPServer(
        ('127.0.0.1', 0),
        functools.partial(_Hub, self.remote, self.asked),
    )
    thread = threading.Thread(
        target=functools.partial(server.serve_forever, poll_interval=0.01)
    )
    thread.start()
    self.addCleanup(thread.join)
    self.addCleanup(server.server_close)
    self.addCleanup(server.shutdown)
    url = f'http://127.0.0.1:{server.server_port}'
    for name, value in (
        ('ENDPOINT', url),
        (
            'HUGGINGFACE_CO_URL_TEMPLATE',
            url + '/{repo_id}/resolve/{revision}/{filename}',
        ),
        ('HF_HUB_CACHE', str(self.cache)),
        ('HF_HUB_DISABLE_PROGRESS_BARS', True),
        ('HF_HUB_DISABLE_XET', True),
    ):
      self.enter_context(mock.patch.object(constants, name, value))
    self.weights = tiny.tensors('llama', tied=False)
    self.config = tiny.hf_config('llama', tied=False)

  def publish(self, **kwargs):
    tiny.write_folder(self.remote, self.config, self.weights, **kwargs)

  def fetched(self):
    return sorted(file for what, *_, file in self.asked if what == 'GET')

  def offline(self):
    self.enter_context(mock.patch.object(constants, 'HF_HUB_OFFLINE', True))

  def error(self, source=_REPO, **kwargs):
    with self.assertRaises(InputError) as caught:
      load_model(source, **kwargs)
    message = str(caught.exception)
    self.assertNotIn('\n', message)
    self.assertIn(source, message)
    self.assertLess(len(message), 500)
    return message

  def assert_right(self, model):
    np.testing.assert_array_equal(
        model.params['embedding'], self.weights['model.embed_tokens.weight']
    )


class FetchTest(HubTest):

  def test_one_file(self):
    self.publish(tokenizer=True)
    model = load_model(_REPO)
    self.assert_right(model)
    self.assertEqual(model.tokenizer.encode('w5'), [5])
    self.assertEqual(
        self.fetched(), ['config.json', 'model.safetensors', 'tokenizer.json']
    )
    # A snapshot of links into blobs, named by its commit.
    self.assertIn(_COMMIT, model.files[0])
    self.assertTrue(pathlib.Path(model.files[1]).is_symlink())

  def test_shards_that_are_needed_and_no_others(self):
    self.publish(shards=5)
    index = 'model.safetensors.index.json'
    shard_of = json.loads((self.remote / index).read_text())['weight_map']
    model = load_model(_REPO, parts=['embedding', 'unembedding'])
    self.assert_right(model)
    needed = {
        shard_of['model.embed_tokens.weight'],
        shard_of['lm_head.weight'],
        shard_of['model.norm.weight'],  # Nothing reads the head without it.
    }
    self.assertLess(len(needed), 5)
    self.assertEqual(self.fetched(), sorted(['config.json', index, *needed]))
    self.assert_right(load_model(_REPO))
    self.assertLen(set(self.fetched()), 7)
    self.assertLen(self.fetched(), 7)  # None of them twice.

  def test_revision(self):
    self.publish()
    self.assert_right(load_model(_REPO, revision='v1'))
    revisions = {(file, r) for _, _, r, file in self.asked}
    self.assertIn(('config.json', 'v1'), revisions)
    # Whatever a branch does meanwhile, all files are of one commit.
    self.assertIn(('model.safetensors', _COMMIT), revisions)

  def test_again_without_network(self):
    self.publish()
    self.assert_right(load_model(_REPO))
    del self.asked[:]
    self.offline()
    self.assert_right(load_model(_REPO))
    self.assertEmpty(self.asked)

  def test_again_without_network_after_another_program(self):
    """Which did not leave a note that there is no index."""
    self.publish(tokenizer=True)
    for name in ('config.json', 'tokenizer.json', 'model.safetensors'):
      huggingface_hub.hf_hub_download(_REPO, name)
    self.offline()
    self.assert_right(load_model(_REPO))


class RefusalTest(HubTest):

  def test_gated(self):
    message = self.error('gated/model')
    self.assertIn('gated', message)
    self.assertIn('https://huggingface.co/gated/model', message)
    self.assertIn('HF_TOKEN', message)

  def test_no_such_repository(self):
    message = self.error('someone/else')
    self.assertIn("no file or folder 'someone/else' here", message)
    self.assertIn('check the name', message)

  def test_no_such_revision(self):
    self.publish()
    self.assertIn("has no revision 'v2'; check", self.error(revision='v2'))

  def test_server_is_down(self):
    with mock.patch('time.sleep'):  # The client's own five retries.
      self.assertRegex(
          self.error('down/model'), 'cannot be (downloaded|reached)'
      )

  def test_no_config(self):
    self.publish()
    (self.remote / 'config.json').unlink()
    self.assertIn('has no file config.json', self.error())

  def test_no_safetensors(self):
    self.publish()
    (self.remote / 'model.safetensors').rename(self.remote / 'x.bin')
    self.assertIn('has no safetensors weights', self.error())

  def test_config_is_refused_before_weights_are_fetched(self):
    self.config['num_experts'] = 8
    self.publish()
    self.assertIn("unknown keys ['num_experts']", self.error())
    self.assertEqual(self.fetched(), ['config.json'])

  def test_index_that_names_files_elsewhere(self):
    self.publish(shards=2)
    index = self.remote / 'model.safetensors.index.json'
    content = json.loads(index.read_text())
    content['weight_map']['model.norm.weight'] = '../../x.safetensors'
    index.write_text(json.dumps(content))
    self.assertIn('do not use this checkpoint', self.error())
    self.assertEqual(
        self.fetched(), ['config.json', 'model.safetensors.index.json']
    )

  def test_cut_on_the_way(self):
    self.publish()
    true_answer = _Hub._answer

    def cut(handler, status, headers, body=b''):
      if handler.command == 'GET' and 'safetensors' in handler.path:
        body = body[:-9]
      true_answer(handler, status, headers, body)

    with mock.patch.object(_Hub, '_answer', cut):
      self.assertRegex(
          self.error(), 'cannot be downloaded: .*; try again, or give a local'
      )

  @parameterized.parameters('--', 'a/b--c..d', 'a/' + 'b' * 200, 'a/.git')
  def test_names_that_the_hub_forbids(self, name):
    with self.assertRaises(InputError) as caught:
      load_model(name)
    self.assertIn(name[:50], str(caught.exception))


class OfflineTest(parameterized.TestCase):

  def test_nothing_in_the_cache(self):
    """In a process of its own, as the variables are read at import."""
    home = self.create_tempdir().full_path
    code = (
        'import ooc_jax\n'
        'try: ooc_jax.load_model("gemma2-2b")\n'
        'except ooc_jax.InputError as error: print(error)\n'
    )
    env = dict(os.environ) | {
        'HF_HOME': home,
        'HF_HUB_OFFLINE': '1',
        'JAX_PLATFORMS': 'cpu',
        'PYTHONPATH': os.pathsep.join(sys.path),
    }
    env.pop('HF_HUB_CACHE', None)
    done = subprocess.run(
        [sys.executable, '-c', code],
        env=env,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    self.assertEqual(
        done.stdout,
        'config.json of google/gemma-2-2b is not in the local cache and the'
        ' hub cannot be reached; connect, unset HF_HUB_OFFLINE, or give a'
        ' local copy (--weights=FILE_OR_FOLDER).\n',
    )


if __name__ == '__main__':
  absltest.main()
