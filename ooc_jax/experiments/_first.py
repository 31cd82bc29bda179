"""What stands before layer 0, where the dictionaries of a run stand after one.

The attention of layer 0 reads embeddings. A dictionary of them is a release of
its own, or the id 'embedding' of one whose other ids are 'layer_{layer}'.
"""

import dataclasses
import pathlib

from ooc_jax import dictionaries
from ooc_jax.dictionaries import Dictionary
from ooc_jax.dictionaries import DictionarySite

EMBEDDING = 'embedding'  # The hook, and the id of a release.
TOKENS = 'tokens'
EVERYWHERE = (TOKENS, 'random')  # Dictionaries before every layer.
AUTO, NONE = 'auto', 'none'
_LAYER = 'layer_{layer}'


def first_name(dictionary: str, first: str) -> str | None:
  """What to load before layer 0, beside the dictionary of a run.

  Args:
    dictionary: That of the run, as the settings name it.
    first: 'auto' is the id 'embedding' of the same release, 'none' nothing;
      else the name of a dictionary.

  Returns:
    A name; None where there is none, or the run has layer 0 anyway.
  """
  if dictionary in EVERYWHERE or is_resid_pre(dictionary, 0) or first == NONE:
    return None
  if first != AUTO:
    return first
  name = dictionary.replace(_LAYER, EMBEDDING)
  return name if name != dictionary and exists(name) else None


def before_first(dictionary: Dictionary, layer: int = 0) -> Dictionary:
  """The stream before layer 0 under a name that says it is no token table.

  A feature of it is read by its encoder, and a token by its unembedding.
  """
  if dictionary.site.hook != EMBEDDING or dictionary.name == TOKENS:
    return dictionary
  return dataclasses.replace(
      dictionary, site=DictionarySite(layer, 'resid_pre')
  )


def is_resid_pre(name: str, layer: int) -> bool:
  """Whether a release has an id of the stream before this layer."""
  release, _, entry = name.replace('{layer}', str(layer)).partition('/')
  for known in dictionaries.list_dictionaries():
    if known.name == release and entry in known.entries:
      site = known.entries[entry].site
      return site is not None and (site.hook, site.layer) == (
          'resid_pre',
          layer,
      )
  return False


def exists(name: str) -> bool | None:
  """Whether a release has an id, or a path is there; None if unknown."""
  release, _, entry = name.partition('/')
  for known in dictionaries.list_dictionaries():
    if known.name == release:
      return entry in known.entries
  if pathlib.Path(name).expanduser().exists():
    return True
  return False if name.startswith(('/', '.', '~')) else None
