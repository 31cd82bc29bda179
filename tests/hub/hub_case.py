"""Tests with a hub of their own and an empty cache."""

import os
import pathlib
import threading
import time
from unittest import mock

from absl.testing import parameterized

from ooc_jax import InputError
from ooc_jax.checkpoints import fetch_file
from tests.hub import repositories
from tests.loopback_hub import LoopbackHub


class HubCase(parameterized.TestCase):
  """`self.hub` is asked, `self.cache` is filled; nobody waits for long."""

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path)
    self.cache = self.folder / 'cache'
    self.hub = self.enter_context(LoopbackHub())
    self.enter_context(self.hub.client(self.cache))
    # No converted copy that this machine may have.
    self.enter_context(
        mock.patch.dict(os.environ, OOC_JAX_CACHE=str(self.folder / 'copies'))
    )
    # The client waits for seconds before it asks again; here it is noted, and
    # a hundredth of it waited: what passes in a moment may pass, as it would.
    self.waits = []
    own, sleep = threading.get_ident(), time.sleep

    def note(seconds):
      if threading.get_ident() == own:
        self.waits.append(seconds)
        seconds /= 100
      sleep(seconds)

    self.enter_context(mock.patch.object(time, 'sleep', note))

  def new_folder(self, name):
    (self.folder / name).mkdir()
    return self.folder / name

  def error(self, call, *args, **kwargs):
    """The one sentence that `call` ends with."""
    with self.assertRaises(InputError) as caught:
      call(*args, **kwargs)
    message = str(caught.exception)
    self.assertNotRegex(message, r'[\n\r]')
    self.assertLess(len(message), 500)
    self.assertEndsWith(message, '.')
    self.assertNotIn('hf_', message)  # A token.
    return message

  def assert_fetches(self, content, repo, name, revision=None):
    path = fetch_file(repo, name, revision)
    self.assertEqual(path.read_bytes(), content)
    return path

  def assert_no_debris(self):
    """Only whole files: nothing half done, no note that a check is due."""
    names = [p.name for p in self.cache.rglob('*')]
    self.assertEmpty([n for n in names if n.endswith(('.incomplete', '.tmp'))])
    self.assertEmpty([n for n in names if n.endswith('.unchecked')])


class ModelCase(HubCase):

  def publish(self, repo, family, **settings):
    folder = self.folder / f'{family}-{settings.get("seed", 0)}'
    weight_map = repositories.make_repository(folder, family, **settings)
    commit = self.hub.publish(repo, folder)
    return weight_map, repositories.weights(folder), commit

  def assert_downloaded(self, *names):
    """These files and no others, each of them once."""
    self.assertCountEqual(self.hub.downloaded(), names)
