"""What refusals of files from elsewhere have in common."""

import pathlib

from absl.testing import parameterized

from ooc_jax import InputError
from ooc_jax import load_dictionary


class HostileCase(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir().full_path) / 'layer_1'
    self.folder.mkdir()

  def assert_refused(self, message, source=None, **asked):
    source = self.folder if source is None else source
    with self.assertRaisesRegex(InputError, message) as caught:
      load_dictionary(source, **asked)
    text = str(caught.exception)
    self.assertNotIn('\n', text)
    self.assertLess(len(text), 1500)
    return text
