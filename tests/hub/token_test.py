"""Gated and private repositories, and where a token is sent."""

import os
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized

from ooc_jax.checkpoints import fetch_file
from tests.hub.hub_case import HubCase

_REPO = 'owner/model'


class TokenTest(HubCase):

  def setUp(self):
    super().setUp()
    self.content = b'{"a": 1}'
    self.hub.publish(_REPO, {'config.json': self.content, 'a.npz': b'PK..'})

  def use(self, token):
    self.enter_context(mock.patch.dict(os.environ, HF_TOKEN=token))

  def test_gated_without_token(self):
    self.hub.gate(_REPO, 'hf_good')
    message = self.error(fetch_file, _REPO, 'config.json', None)
    self.assertEqual(
        message,
        'owner/model is gated: accept its terms on its page'
        ' (https://huggingface.co/owner/model) and set HF_TOKEN to a token of'
        ' that account.',
    )
    self.use('hf_good')
    self.assert_fetches(self.content, _REPO, 'config.json')

  def test_gated_with_the_token_of_another(self):
    self.hub.gate(_REPO, 'hf_good')
    self.hub.tokens.add('hf_other')
    self.use('hf_other')
    self.assertIn(
        'is gated', self.error(fetch_file, _REPO, 'config.json', None)
    )

  def test_private(self):
    self.hub.gate(_REPO, 'hf_good', private=True)
    message = self.error(fetch_file, _REPO, 'config.json', None)
    self.assertIn(_REPO, message)
    self.assertIn('it is private; check the name, and set HF_TOKEN', message)
    self.use('hf_good')
    self.assert_fetches(self.content, _REPO, 'config.json')

  def test_no_such_repository(self):
    message = self.error(fetch_file, 'owner/other', 'config.json', None)
    self.assertIn("'owner/other'", message)
    self.assertIn('check the name', message)

  def test_token_that_is_not_valid(self):
    self.use('hf_old')
    message = self.error(fetch_file, _REPO, 'config.json', None)
    self.assertIn(f'config.json of {_REPO}', message)
    self.assertIn('does not accept the token (401); set HF_TOKEN', message)

  def test_token_without_the_right(self):
    self.hub.fail(_REPO, 'config.json', 'status_of_head', code=403)
    message = self.error(fetch_file, _REPO, 'config.json', None)
    self.assertIn('the token may not read it (403)', message)

  def test_disabled(self):
    self.hub.fail(
        _REPO,
        'config.json',
        'status_of_head',
        code=403,
        headers={'X-Error-Message': 'Access to this resource is disabled.'},
    )
    self.assertIn(
        f'has disabled {_REPO}',
        self.error(fetch_file, _REPO, 'config.json', None),
    )

  def test_token_stays_on_the_hub(self):
    self.hub.gate(_REPO, 'hf_good')
    self.use('hf_good')
    self.assert_fetches(b'PK..', _REPO, 'a.npz')
    self.assertEqual(
        [(a.large, a.token) for a in self.hub.asked if a.file],
        [(False, 'hf_good'), (True, None)],
    )

  @parameterized.parameters('config.json', 'a.npz')
  def test_token_does_not_follow_a_redirect(self, name):
    self.hub.gate(_REPO, 'hf_good')
    self.use('hf_good')
    self.hub.fail(
        _REPO, name, 'elsewhere', url=f'{self.hub.store_url}/steal/it'
    )
    message = self.error(fetch_file, _REPO, name, None)
    self.assertIn(f'{name} of {_REPO} cannot be downloaded', message)
    stolen = [a for a in self.hub.asked if a.large]
    self.assertNotEmpty(stolen)
    self.assertEqual({a.token for a in stolen}, {None})


if __name__ == '__main__':
  absltest.main()
