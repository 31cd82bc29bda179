"""What went wrong with a hub, in one sentence a user can act on."""

import os
import socket
import ssl

import huggingface_hub
from huggingface_hub import constants
from huggingface_hub import errors

from ooc_jax._errors import InputError
from ooc_jax._text import printable

_LOCAL_COPY = 'or give a local copy (--weights=FILE_OR_FOLDER).'
# The first kind that fits: one that is gated is not found, to the client.
_SENTENCES = (
    (
        errors.GatedRepoError,
        (
            '{repo} is gated: accept its terms on its page ({page}) and set'
            ' HF_TOKEN to a token of that account.'
        ),
    ),
    (
        errors.RepositoryNotFoundError,
        (
            'There is no file or folder {repo!r} here, and the hub has no such'
            ' repository, or it is private; check the name, and set HF_TOKEN if'
            ' it needs one.'
        ),
    ),
    (
        errors.DisabledRepoError,
        'The hub has disabled {repo}; take another repository.',
    ),
    (
        errors.RevisionNotFoundError,
        '{repo} has no revision {revision!r}; check it on its page ({page}).',
    ),
    (
        errors.HFValidationError,
        (
            '{repo!r:.200} is no name that a hub repository can have'
            ' (owner/name); check it.'
        ),
    ),
)
_STATUSES = {
    401: (
        'the hub does not accept the token (401)',
        'set HF_TOKEN to a valid one or log out',
    ),
    403: (
        'the token may not read it (403)',
        'give the token the right to read gated repositories',
    ),
    429: (
        'the hub takes no more requests from here for now (429)',
        'wait some minutes, set HF_TOKEN if it is not set',
    ),
}


# Kinds of `OSError` that say nothing of a disk.
_NETWORK = (ssl.SSLError, socket.gaierror, ConnectionError, TimeoutError)
# Where the HTTP libraries of the hub's client look for authorities to trust.
_CERTIFICATES = ('SSL_CERT_FILE', 'REQUESTS_CA_BUNDLE', 'CURL_CA_BUNDLE')


class MissingFile(InputError):
  """The repository exists and has no such file."""


def may_pass(error: Exception) -> bool:
  """Whether the same request may succeed a moment later.

  The hub's client repeats a question about a file by itself, and continues a
  download that was cut. It gives up at once where a download is answered with
  a server error, is reset, or ends with another length than was announced.
  """
  if isinstance(error, errors.HfHubHTTPError):
    return error.response is not None and error.response.status_code >= 500
  if isinstance(error, errors.EntryNotFoundError):
    return False  # It was repeated already.
  if isinstance(error, OSError):
    return error.errno is None  # A wrong length; a full disk has a number.
  # The HTTP library is another one from version to version of the client.
  return any(c.__name__ == 'TransportError' for c in type(error).__mro__)


def refusal(
    error: Exception,
    repo: str,
    name: str,
    revision: str | None,
    kind: str = 'model',
) -> InputError:
  """The sentence for what `hf_hub_download` raised."""
  at = f'{repo} at {revision}' if revision else repo
  missing = MissingFile(f'{at} has no file {name}')
  if isinstance(error, errors.LocalEntryNotFoundError):
    known = huggingface_hub.try_to_load_from_cache(
        repo, name, revision=revision, repo_type=kind
    )
    if known is not None and not isinstance(known, str):
      return missing  # An earlier run was told so.
    cause = error.__cause__
    if isinstance(cause, errors.FileMetadataError):
      return InputError(
          f'{name} of {at} cannot be downloaded: what {constants.ENDPOINT}'
          ' answers is not what a hub answers; check HF_ENDPOINT, the proxy'
          f' and the firewall, {_LOCAL_COPY}'
      )
    if 'CERTIFICATE_VERIFY_FAILED' in str(cause):
      return InputError(
          f'{name} of {at} cannot be downloaded: the certificate of'
          f' {constants.ENDPOINT} is not trusted here ({_shown(cause)}); set'
          ' SSL_CERT_FILE to the certificates of your network,'
          f' {_LOCAL_COPY}'
      )
    if not isinstance(cause, errors.HfHubHTTPError):
      return InputError(
          f'{name} of {at} is not in the local cache and the hub cannot be'
          f' reached; connect, unset HF_HUB_OFFLINE, {_LOCAL_COPY}'
      )
    error = cause
  if isinstance(error, errors.RemoteEntryNotFoundError):
    return missing
  for error_type, sentence in _SENTENCES:
    if isinstance(error, error_type):
      folder = 'datasets/' if kind == 'dataset' else ''
      page = f'https://huggingface.co/{folder}{repo}'
      return InputError(
          sentence.format(repo=repo, revision=revision, page=page)
      )
  reason, advice = _reason(error)
  return InputError(
      f'{name} of {at} cannot be downloaded: {reason}; {advice}, {_LOCAL_COPY}'
  )


def _reason(error: Exception) -> tuple[str, str]:
  """What happened and what to do, for errors that are not the hub's own."""
  if isinstance(error, errors.HfHubHTTPError) and error.response is not None:
    status = error.response.status_code
    if status >= 500:
      return f'the hub is out of order ({status})', 'try again later'
    if status in _STATUSES:
      return _STATUSES[status]
  if isinstance(error, OSError) and (problem := _certificates()):
    return problem, 'correct or unset it'
  if (
      isinstance(error, OSError)
      and error.errno is not None
      and not isinstance(error, _NETWORK)
  ):
    return (
        f'{constants.HF_HUB_CACHE} cannot be written ({error.strerror})',
        'make room there or set HF_HOME to another folder',
    )
  return _shown(error), 'try again'


def _shown(error: BaseException | None) -> str:
  text = printable(' '.join(str(error).split()), 300).rstrip('.')
  return text or type(error).__name__


def _certificates() -> str:
  """What is wrong with the user's file of certificates, or ''."""
  for variable in _CERTIFICATES:
    if path := os.environ.get(variable):
      try:
        folder = os.path.isdir(path) and variable != _CERTIFICATES[0]
        ssl.create_default_context(
            cafile=None if folder else path, capath=path if folder else None
        )
      except OSError as error:
        reason = error.strerror or str(error)
        return (
            f'{variable}={printable(path, 200)} is no file of certificates'
            f' ({printable(reason, 100)})'
        )
  return ''
