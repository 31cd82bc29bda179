"""What went wrong with a hub, in one sentence a user can act on."""

import huggingface_hub
from huggingface_hub import constants
from huggingface_hub import errors

from ooc_jax._errors import InputError
from ooc_jax.checkpoints._source import printable

_LOCAL_COPY = 'or give a local copy (--weights=FILE_OR_FOLDER).'


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
    error: Exception, repo: str, name: str, revision: str | None
) -> InputError:
  """The sentence for what `hf_hub_download` raised."""
  at = f'{repo} at {revision}' if revision else repo
  page = f'https://huggingface.co/{repo}'
  if isinstance(error, errors.LocalEntryNotFoundError):
    cause = error.__cause__
    if _known_missing(repo, name, revision):
      return MissingFile(f'{at} has no file {name}')
    if isinstance(cause, errors.FileMetadataError):
      return InputError(
          f'{name} of {at} cannot be downloaded: what {constants.ENDPOINT}'
          ' answers is not what a hub answers; check HF_ENDPOINT, the proxy'
          f' and the firewall, {_LOCAL_COPY}'
      )
    if not isinstance(cause, errors.HfHubHTTPError):
      return InputError(
          f'{name} of {at} is not in the local cache and the hub cannot be'
          f' reached; connect, unset HF_HUB_OFFLINE, {_LOCAL_COPY}'
      )
    error = cause
  if isinstance(error, errors.GatedRepoError):
    return InputError(
        f'{repo} is gated: accept its terms on its page ({page}) and set'
        ' HF_TOKEN to a token of that account.'
    )
  if isinstance(error, errors.RepositoryNotFoundError):
    return InputError(
        f'There is no file or folder {repo!r} here, and the hub has no'
        ' such repository, or it is private; check the name, and set HF_TOKEN'
        ' if it needs one.'
    )
  if isinstance(error, errors.DisabledRepoError):
    return InputError(f'The hub has disabled {repo}; take another repository.')
  if isinstance(error, errors.RevisionNotFoundError):
    return InputError(
        f'{repo} has no revision {revision!r}; check it on its page ({page}).'
    )
  if isinstance(error, errors.RemoteEntryNotFoundError):
    return MissingFile(f'{at} has no file {name}')
  if isinstance(error, errors.HFValidationError):
    return InputError(
        f'{repo!r:.200} is no name that a hub repository can have'
        ' (owner/name); check it.'
    )
  reason, advice = _reason(error)
  return InputError(
      f'{name} of {at} cannot be downloaded: {reason}; {advice}, {_LOCAL_COPY}'
  )


def _reason(error: Exception) -> tuple[str, str]:
  """What happened and what to do, for errors that are not the hub's own."""
  status = None
  if isinstance(error, errors.HfHubHTTPError) and error.response is not None:
    status = error.response.status_code
  if status == 401:
    return (
        'the hub does not accept the token (401)',
        'set HF_TOKEN to a valid one or log out',
    )
  if status == 403:
    return (
        'the token may not read it (403)',
        'give the token the right to read gated repositories',
    )
  if status == 429:
    return (
        'the hub takes no more requests from here for now (429)',
        'wait some minutes, set HF_TOKEN if it is not set',
    )
  if status is not None and status >= 500:
    return f'the hub is out of order ({status})', 'try again later'
  if isinstance(error, OSError) and error.errno is not None:
    return (
        f'{constants.HF_HUB_CACHE} cannot be written ({error.strerror})',
        'make room there or set HF_HOME to another folder',
    )
  text = printable(' '.join(str(error).split()), 300).rstrip('.')
  return text or type(error).__name__, 'try again'


def _known_missing(repo: str, name: str, revision: str | None) -> bool:
  """Whether an earlier run was told that there is no such file."""
  found = huggingface_hub.try_to_load_from_cache(repo, name, revision=revision)
  return found is not None and not isinstance(found, str)
