"""What a hub and a network do wrong: recovery, or one clear sentence."""

import os
import ssl
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import huggingface_hub
from huggingface_hub import constants
from huggingface_hub.errors import LocalEntryNotFoundError
import numpy as np

from ooc_jax.checkpoints import fetch_file
from tests.hub.hub_case import HubCase

_REPO = 'owner/model'
_SMALL, _LARGE = 'config.json', 'model.safetensors'
_RETRY = {'code': 429, 'headers': {'Retry-After': '7'}}
# Seconds: a busy machine has been seen to leave a thread waiting for 0.1.
_PATIENCE = 0.6


class FaultCase(HubCase):

  def setUp(self):
    super().setUp()
    random = np.random.default_rng(0).bytes(9_000)
    self.content = {_SMALL: b'{"a": "' + b'b' * 500 + b'"}', _LARGE: random}
    self.commit = self.hub.publish(_REPO, self.content)

  def assert_recovers(self, name):
    """The cache was not poisoned: the next call has the right bytes."""
    self.hub.mend()
    path = self.assert_fetches(self.content[name], _REPO, name)
    self.assertIn(self.commit, path.parts)
    self.assert_no_debris()
    self.hub.forget()
    self.assert_fetches(self.content[name], _REPO, name, self.commit)
    self.assertEmpty(self.hub.asked)

  def refused(self, name, revision=None):
    message = self.error(fetch_file, _REPO, name, revision)
    self.assertIn(_REPO, message)
    self.assertIn(name, message)
    return message


class PassingFaultTest(FaultCase):
  """Faults that go away by themselves."""

  @parameterized.product(
      fault=(
          {'kind': 'cut'},
          {'kind': 'cut', 'after': 0},
          {'kind': 'reset'},
          {'kind': 'short'},
          {'kind': 'long'},
          {'kind': 'corrupt'},
          {'kind': 'page'},
          {'kind': 'status', 'code': 500},
          {'kind': 'status', 'code': 503},
          {'kind': 'status_of_head', 'code': 500},
          {'kind': 'status_of_head', 'code': 503},
          {'kind': 'status_of_head', **_RETRY},
          {'kind': 'status', **_RETRY},
      ),
      name=(_SMALL, _LARGE),
      times=(2,),
  )
  def test_recovers(self, fault, name, times):
    self.hub.fail(_REPO, name, times=times, **fault)
    self.assert_fetches(self.content[name], _REPO, name)
    # A question that is answered with an error is asked again at once.
    waits = times - (fault['kind'] == 'status_of_head')
    self.assertLen(self.waits, waits)
    if fault.get('code') == 429:  # As long as the hub asked for, and one more.
      self.assertEqual(self.waits, [8.0] * waits)
    else:
      self.assertLess(sum(self.waits), 5)
    self.assert_recovers(name)

  @parameterized.parameters(_SMALL, _LARGE)
  def test_silence(self, name):
    self.enter_context(
        mock.patch.object(constants, 'HF_HUB_DOWNLOAD_TIMEOUT', _PATIENCE)
    )
    self.hub.fail(_REPO, name, 'stall', times=1)
    self.assert_fetches(self.content[name], _REPO, name)
    self.assert_recovers(name)

  def test_slow_but_steady(self):
    self.enter_context(
        mock.patch.object(constants, 'HF_HUB_DOWNLOAD_TIMEOUT', 0.5)
    )
    self.hub.fail(_REPO, _LARGE, 'trickle', step=500, seconds=0.04)
    self.assert_fetches(self.content[_LARGE], _REPO, _LARGE)
    self.assertEmpty(self.waits)


class ResumeTest(FaultCase):

  def setUp(self):
    super().setUp()
    # The client keeps whole chunks, of 10 MiB; the file here is small.
    self.enter_context(
        mock.patch.object(constants, 'DOWNLOAD_CHUNK_SIZE', 1_000)
    )

  def ranges(self):
    return [a.range for a in self.hub.asked if a.method == 'GET' and a.file]

  @parameterized.parameters('cut', 'stall')
  def test_goes_on_where_it_was(self, kind):
    if kind == 'stall':
      self.enter_context(
          mock.patch.object(constants, 'HF_HUB_DOWNLOAD_TIMEOUT', _PATIENCE)
      )
    self.hub.fail(_REPO, _LARGE, kind, times=1, after=2_500)
    self.assert_fetches(self.content[_LARGE], _REPO, _LARGE)
    self.assertEqual(self.ranges(), [None, 'bytes=2000-'])
    self.assertEqual([a.sent for a in self.hub.asked[-2:]], [2_500, 7_000])
    self.assert_recovers(_LARGE)

  def test_each_answer_is_cut(self):
    self.hub.fail(_REPO, _LARGE, 'cut', after=2_500)
    self.assert_fetches(self.content[_LARGE], _REPO, _LARGE)
    self.assertEqual(
        self.ranges(),
        [None] + [f'bytes={n}-' for n in (2000, 4000, 6000, 8000)],
    )
    self.assert_recovers(_LARGE)

  def test_what_was_resumed_is_checked(self):
    """The second half is of another file: 'x' of the same length."""
    self.hub.fail(_REPO, _LARGE, 'cut', times=1, after=2_500)
    asked = []

    def before(method, file):
      if method == 'GET' and file.endswith(_LARGE):
        asked.append(file)
        if len(asked) == 2:
          self.hub.fail(_REPO, _LARGE, 'corrupt', times=1)

    self.hub.before = before
    self.assert_fetches(self.content[_LARGE], _REPO, _LARGE)
    self.assertEqual(self.ranges(), [None, 'bytes=2000-', None])
    self.assert_recovers(_LARGE)


class LastingFaultTest(FaultCase):
  """Faults that stay: what the user is told, and no trace in the cache."""

  @parameterized.product(
      fault_and_text=(
          (
              {'kind': 'cut', 'after': 100},
              'cannot be downloaded: .*; try again',
          ),
          (
              {'kind': 'reset', 'after': 9},
              'cannot be downloaded: .*; try again',
          ),
          ({'kind': 'short'}, 'should be of size .*; try again'),
          ({'kind': 'corrupt'}, 'not what the hub announced .*; try again'),
          ({'kind': 'status', 'code': 502}, r'out of order \(502\); try again'),
          ({'kind': 'status_of_head', 'code': 504}, r'out of order \(504\)'),
          (
              {'kind': 'status_of_head', **_RETRY},
              r'no more requests .*HF_TOKEN',
          ),
          ({'kind': 'loop'}, 'redirects'),
          ({'kind': 'portal'}, 'not what a hub answers; check HF_ENDPOINT'),
          ({'kind': 'page_as_file'}, 'a web page came instead of the file'),
          ({'kind': 'page'}, 'cannot be downloaded: .*; try again'),
      ),
      name=(_SMALL, _LARGE),
  )
  def test_one_sentence(self, fault_and_text, name):
    fault, text = fault_and_text
    self.hub.fail(_REPO, name, **fault)
    self.assertRegex(self.refused(name), text)
    self.assert_no_debris()
    self.assertEmpty(list(self.cache.glob('models--*/snapshots/*/*')))
    self.assertEmpty(list(self.cache.glob('models--*/blobs/*')))
    self.assert_recovers(name)

  def test_page_of_the_right_length(self):
    """Nothing but its looks is wrong: the ETag is of no known kind."""
    self.hub.fail(_REPO, _LARGE, 'page_as_file')
    self.assertIn('a web page came', self.refused(_LARGE))
    self.assertEqual(self.hub.downloaded(), [_LARGE] * 3)

  def test_what_is_wrong_is_not_asked_for_ever(self):
    self.hub.fail(_REPO, _LARGE, 'corrupt')
    self.assertIn('not what the hub announced', self.refused(_LARGE))
    self.assertLen(self.hub.downloaded(), 3)
    self.assertEqual(self.waits, [1.0, 2.0])

  def test_nobody_answers(self):
    self.hub.close()
    self.assertRegex(
        self.refused(_SMALL), 'cannot be reached; connect, unset HF_HUB_OFFLINE'
    )

  def test_nobody_answers_but_it_was_here(self):
    path = fetch_file(_REPO, _SMALL, None)
    self.hub.close()
    self.assertEqual(fetch_file(_REPO, _SMALL, None), path)

  def test_out_of_order_but_it_was_here(self):
    path = fetch_file(_REPO, _SMALL, None)
    self.hub.fail(_REPO, _SMALL, 'status_of_head', code=500)
    self.assertEqual(fetch_file(_REPO, _SMALL, None), path)

  def test_cache_that_cannot_be_written(self):
    (self.cache).write_text('a file where the folder should be')
    self.assertRegex(
        self.refused(_SMALL), 'cache cannot be written .*set HF_HOME to another'
    )


class CertificateTest(FaultCase):

  @parameterized.product(
      variable=('SSL_CERT_FILE', 'REQUESTS_CA_BUNDLE'),
      bad=('nowhere', 'empty.pem'),
  )
  def test_a_wrong_file_is_named(self, variable, bad):
    """What `ssl` says of it has a number, as what a full disk says."""
    (self.folder / 'empty.pem').write_text('no certificate')
    path = str(self.folder / bad)
    with mock.patch.dict(os.environ, {variable: path}):
      with self.assertRaises(OSError) as raised:
        ssl.create_default_context(cafile=path)
      with mock.patch.object(
          huggingface_hub, 'hf_hub_download', side_effect=raised.exception
      ):
        message = self.refused(_SMALL)
    self.assertIn(f'{variable}={path} is no file of certificates', message)
    self.assertIn('correct or unset it', message)
    self.assertNotIn('cannot be written', message)
    self.assert_recovers(_SMALL)

  def test_the_client_reads_the_file(self):
    path = str(self.folder / 'nowhere')
    with mock.patch.dict(os.environ, SSL_CERT_FILE=path):
      huggingface_hub.close_session()
      message = self.refused(_SMALL)
    self.assertIn(f'SSL_CERT_FILE={path} is no file', message)
    self.assert_recovers(_SMALL)

  def test_an_authority_that_is_not_trusted(self):
    error = LocalEntryNotFoundError('An error happened while trying to locate')
    error.__cause__ = ConnectionError(
        '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: unable to'
        ' get local issuer certificate (_ssl.c:1000)'
    )
    with mock.patch.object(
        huggingface_hub, 'hf_hub_download', side_effect=error
    ):
      message = self.refused(_SMALL)
    self.assertRegex(message, 'certificate of http.* is not trusted here')
    self.assertIn('set SSL_CERT_FILE', message)

  def test_a_line_that_breaks_is_no_full_disk(self):
    for error in (
        ssl.SSLEOFError(8, 'EOF occurred in violation of protocol'),
        ConnectionResetError(104, 'Connection reset by peer'),
    ):
      with mock.patch.object(
          huggingface_hub, 'hf_hub_download', side_effect=error
      ):
        message = self.refused(_SMALL)
      self.assertNotIn('cannot be written', message)
      self.assertIn('try again', message)


class KilledTest(FaultCase):
  """A run that is killed between the download and the end of its check."""

  @parameterized.parameters(_SMALL, _LARGE)
  def test_the_next_run_checks(self, name):
    self.hub.fail(_REPO, name, 'corrupt')
    with mock.patch(
        'ooc_jax.checkpoints._hub._what_is_wrong',
        side_effect=KeyboardInterrupt,
    ):
      with self.assertRaises(KeyboardInterrupt):
        fetch_file(_REPO, name, self.commit)
    self.assertLen(list(self.cache.glob('models--*/snapshots/*/*')), 1)
    self.hub.mend()
    self.assert_fetches(self.content[name], _REPO, name, self.commit)
    self.assert_recovers(name)

  def test_a_failure_meanwhile_does_not_forget_it(self):
    self.hub.fail(_REPO, _LARGE, 'corrupt')
    with mock.patch(
        'ooc_jax.checkpoints._hub._what_is_wrong',
        side_effect=KeyboardInterrupt,
    ):
      with self.assertRaises(KeyboardInterrupt):
        fetch_file(_REPO, _LARGE, None)
    away = {'X-Error-Code': 'RevisionNotFound'}
    self.hub.fail(_REPO, _LARGE, 'status_of_head', code=404, headers=away)
    self.assertIn(
        'has no revision', self.error(fetch_file, _REPO, _LARGE, None)
    )
    self.hub.mend()
    self.assert_fetches(self.content[_LARGE], _REPO, _LARGE)

  def test_the_next_run_checks_without_network(self):
    self.hub.fail(_REPO, _LARGE, 'corrupt')
    with mock.patch(
        'ooc_jax.checkpoints._hub._what_is_wrong',
        side_effect=KeyboardInterrupt,
    ):
      with self.assertRaises(KeyboardInterrupt):
        fetch_file(_REPO, _LARGE, self.commit)
    with mock.patch.object(constants, 'HF_HUB_OFFLINE', True):
      self.refused(_LARGE, self.commit)
    self.hub.mend()
    self.assert_fetches(self.content[_LARGE], _REPO, _LARGE, self.commit)

  def test_checked_once(self):
    with mock.patch(
        'ooc_jax.checkpoints._hub._what_is_wrong', return_value=None
    ) as check:
      for _ in range(3):
        fetch_file(_REPO, _LARGE, None)
    check.assert_called_once()


if __name__ == '__main__':
  absltest.main()
