"""What a dictionary needs of the model to be loaded."""

from ooc_jax.dictionaries._registry import list_dictionaries

_PARTS = {
    'mlp': ('mlp', 'norms'),
    'tokens': ('embedding',),
    'random': (),
    # By the hook of a release: head outputs are written through W_O, and
    # transcoders read through a norm. The other hooks are of the stream.
    'attn_z': ('attention', 'norms'),
    'mlp_in': ('norms',),
}


def model_parts(source: str) -> tuple[str, ...]:
  """Parts of the model that `load_dictionary(source)` reads.

  Args:
    source: A built-in name, an id of a release, a folder or a file.
  """
  if source in _PARTS:
    return _PARTS[source]
  for release in list_dictionaries():
    if source.split('/')[0] == release.name:
      hook = next(iter(release.entries.values())).site.hook
      return _PARTS.get(hook, ())
  # A file says its hook when it is read, which is after the model.
  return _PARTS['attn_z']
