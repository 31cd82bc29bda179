"""`load_dictionary`: from a name to a `Dictionary`."""

import difflib
from typing import Any

import jax
from jax.sharding import Mesh
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec

from ooc_jax._errors import InputError
from ooc_jax.dictionaries._builtin import mlp_dictionary
from ooc_jax.dictionaries._builtin import random_dictionary
from ooc_jax.dictionaries._builtin import token_dictionary
from ooc_jax.dictionaries._dictionary import Dictionary
from ooc_jax.model import Model

BUILTIN = ('mlp', 'tokens', 'random')


def load_dictionary(
    source: str,
    *,
    model: Model | None = None,
    layer: int | None = None,
    dtype: Any = None,
    mesh: Mesh | None = None,
    revision: str | None = None,
) -> Dictionary:
  """Loads the directions to explain.

  Args:
    source: 'mlp', 'tokens' or 'random' of `model`.
    model: Whose directions they are.
    layer: Where; 'tokens' needs none.
    dtype: Of encoder and decoder; None keeps float32.
    mesh: Spreads the features over its `feature` axis.
    revision: Of a hub repository; the built-in dictionaries have none.

  Returns:
    The dictionary, mapped to the residual stream.

  Raises:
    InputError: The source is unknown, or model or layer are missing.
  """
  if source not in BUILTIN:
    close = difflib.get_close_matches(source, BUILTIN, n=1, cutoff=0.5)
    hint = f'did you mean {close[0]!r}?' if close else f'known are {BUILTIN}.'
    raise InputError(f'Unknown dictionary {source!r}; {hint}')
  if revision is not None:
    raise InputError(f'Dictionary {source!r} has no revision; leave it out.')
  if model is None:
    raise InputError(f'Dictionary {source!r} is of a model; give model=.')
  if layer is None and source != 'tokens':
    raise InputError(f'Dictionary {source!r} is of a layer; give layer=.')
  if source == 'mlp':
    dictionary = mlp_dictionary(model, layer)
  elif source == 'tokens':
    dictionary = token_dictionary(model)
  else:
    dictionary = random_dictionary(model, layer)
  if dtype is not None:
    dictionary = dictionary.replace(
        encoder=dictionary.encoder.astype(dtype),
        decoder=dictionary.decoder.astype(dtype),
    )
  return dictionary if mesh is None else _spread(dictionary, mesh)


def _spread(dictionary: Dictionary, mesh: Mesh) -> Dictionary:
  """Puts the features over the `feature` axis of the mesh.

  Raises:
    InputError: The axis does not divide the features.
  """
  parts = mesh.shape['feature']
  if dictionary.size % parts:
    raise InputError(
        f'{dictionary.size} features cannot be spread evenly over the'
        f' {parts} devices of the feature axis; choose a mesh that divides'
        ' them.'
    )
  rows = NamedSharding(mesh, PartitionSpec('feature'))
  whole = NamedSharding(mesh, PartitionSpec())
  return dictionary.replace(
      decoder_bias=jax.device_put(dictionary.decoder_bias, whole),
      **{
          name: jax.device_put(getattr(dictionary, name), rows)
          for name in ('encoder', 'decoder', 'encoder_bias', 'threshold')
      },
  )
