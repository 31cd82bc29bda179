"""Whatever a branch does meanwhile, what is loaded is of one commit."""

import json

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from ooc_jax import load_model
from ooc_jax.checkpoints import hub_origin
from tests.hub import repositories
from tests.hub.hub_case import HubCase

_REPO = 'owner/model'
_INDEX = repositories.INDEX
_EMBEDDING = 'model.embed_tokens.weight'


class OneCommitTest(HubCase):

  def setUp(self):
    super().setUp()
    self.folders = [self.folder / name for name in 'ab']
    for seed, folder in enumerate(self.folders):
      repositories.make_repository(folder, 'llama', seed=seed)
      config = json.loads((folder / 'config.json').read_text())
      config['rms_norm_eps'] = [1e-5, 1e-6][seed]  # Of the same length.
      (folder / 'config.json').write_text(json.dumps(config))
    self.first = self.hub.publish(_REPO, self.folders[0])

  def assert_is(self, model, which):
    """Config, weights and names are of one commit."""
    self.assertEqual(model.config.norm_eps, [1e-5, 1e-6][which])
    weights = repositories.weights(self.folders[which])
    np.testing.assert_array_equal(
        model.params['embedding'], weights[_EMBEDDING]
    )
    np.testing.assert_array_equal(
        model.params['unembedding'], weights['lm_head.weight']
    )
    self.assertLen({hub_origin(f).commit for f in model.files}, 1)

  @parameterized.parameters(
      'tokenizer.json', _INDEX, 'model-00001-of-00003.safetensors'
  )
  def test_branch_moves_before_a_file_is_asked_for(self, name):
    def move(method, file):
      if file.endswith(name) and len(self.moved) < 1:
        self.moved.append(self.hub.publish(_REPO, self.folders[1]))

    self.moved = []
    self.hub.before = move
    self.assert_is(load_model(_REPO), 0)
    self.assertLen(self.moved, 1)
    self.assert_is(load_model(_REPO), 1)
    self.assert_is(load_model(_REPO, revision=self.first), 0)

  def test_branch_moves_between_question_and_download(self):
    """The client downloads the branch's config under the older ETag."""

    def move(method, file):
      if file.endswith('config.json') and method == 'GET' and not self.moved:
        self.moved.append(self.hub.publish(_REPO, self.folders[1]))

    self.moved = []
    self.hub.before = move
    self.hub.fail(_REPO, 'config.json', 'unpinned')
    self.assert_is(load_model(_REPO), 1)
    self.assert_is(load_model(_REPO, revision=self.first), 0)
    self.assertLen(self.moved, 1)

  def test_revisions(self):
    self.hub.tag(_REPO, 'v1.0', self.first)
    second = self.hub.publish(_REPO, self.folders[1])
    self.hub.publish(_REPO, self.folders[1], branch='refs/pr/1')
    for revision, which in (
        (None, 1), ('main', 1), ('v1.0', 0), ('refs/pr/1', 1),
        (self.first, 0), (second, 1),
    ):  # fmt: skip
      with self.subTest(revision):
        model = load_model(_REPO, revision=revision)
        self.assert_is(model, which)

  def test_pinned_needs_no_question_again(self):
    load_model(_REPO)
    self.hub.forget()
    load_model(_REPO, revision=self.first)
    self.assertEmpty(self.hub.asked)
    load_model(_REPO)  # Only where the branch is.
    self.assertEqual({a.file for a in self.hub.asked}, {f'{_REPO}/config.json'})

  def test_no_such_revision(self):
    self.assertRegex(
        self.error(load_model, _REPO, revision='v9'), "has no revision 'v9'"
    )


if __name__ == '__main__':
  absltest.main()
