"""What a dictionary needs of the model to be loaded."""

import ooc_jax

_PARTS = {
    'mlp': ('mlp', 'norms'),
    'tokens': ('embedding',),
    'random': (),
    # By the hook of a release: head outputs are written through W_O, and
    # transcoders read through a norm. The other hooks are of the stream.
    'attn_z': ('attention', 'norms'),
    'mlp_in': ('norms',),
}


def parts(dictionary: str) -> tuple[str, ...]:
  """Parts of the model for a built-in name, a release, a folder or a file."""
  return _PARTS.get(_kind(dictionary), ())


def _kind(dictionary: str) -> str:
  """A built-in name, or the hook of a release."""
  if dictionary in _PARTS:
    return dictionary
  for release in ooc_jax.dictionaries.list_dictionaries():
    if dictionary.split('/')[0] == release.name:
      return next(iter(release.entries.values())).site.hook
  # A file says its hook when it is read, which is after the model.
  return 'attn_z'
