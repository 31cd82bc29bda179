"""Decoder rows as safetensors, with a manifest: for tools that steer."""

from collections.abc import Mapping, Sequence
import itertools
import pathlib
from typing import Any

import numpy as np

from ooc_jax import explore
from ooc_jax import results
from ooc_jax._errors import InputError
from ooc_jax._text import printable
from ooc_jax.export._choice import Keys
from ooc_jax.export._choice import rows_of

VECTORS, MANIFEST = 'vectors.safetensors', 'vectors.json'
_UNIT = (
    'Of the residual stream of the model, as its weights are stored. A vector'
    ' is the decoder row of a feature: where the feature has activation a, it'
    ' adds a times the vector. norm is its Euclidean length; strength_low and'
    ' strength_high are lengths of an addition that change predictions by'
    ' divergence_low and divergence_high nats of KL (from a validation).'
)
_STRENGTHS = (
    'strength_low', 'divergence_low', 'strength_high', 'divergence_high',
    'max_activation',
)  # fmt: skip


def write_vectors(
    folder: pathlib.Path,
    study: explore.Study,
    keys: Keys,
    weights: str | None,
) -> None:
  """Writes `vectors.safetensors` and `vectors.json`.

  Args:
    folder: To write into.
    study: Whose settings name the dictionary.
    keys: The features.
    weights: A local copy of the model, where the dictionary needs it.

  Raises:
    InputError: The dictionary cannot be read, or is another one now.
  """
  import safetensors.numpy

  vectors: dict[str, np.ndarray] = {}
  about: list[dict[str, Any]] = []
  load = _loader(study, weights)
  for layer, own in itertools.groupby(sorted(keys), key=lambda key: key[0]):
    features = [x for _, x in own]
    dictionary = load(layer)
    if features[-1] >= dictionary.size:
      raise InputError(
          f'{dictionary.name} has {dictionary.size:,} features now, and the'
          f' results more: there is no feature {features[-1]}.'
      )
    rows = np.asarray(dictionary.decoder[np.asarray(features)], np.float32)
    site, at = dictionary.site.writes
    tokens = explore.top_tokens(study, layer, features, 10)
    for feature, row, more in zip(
        features, rows, _strengths(study, layer, features), strict=True
    ):
      name = f'layer_{layer}.feature_{feature}'
      vectors[name] = row
      about.append({
          'name': name,
          'layer': layer,
          'feature': feature,
          'site': str(site),
          'site_layer': at,
          'norm': float(np.linalg.norm(row.astype(np.float64))),
          'top_tokens': list(tokens.get(feature, ())),
          **more,
      })
  settings = study.first.settings
  safetensors.numpy.save_file(
      vectors, folder / VECTORS, {'format': 'ooc_jax vectors'}
  )
  results.write_json(
      folder / MANIFEST,
      {
          'format': 'ooc_jax vectors',
          'file': VECTORS,
          'model': settings.get('model'),
          'dictionary': settings.get('dictionary'),
          'dtype': 'float32',
          'width': len(next(iter(vectors.values()))),
          'unit': _UNIT,
          'vectors': about,
      },
  )


def _loader(study: explore.Study, weights: str | None) -> Any:
  """Layer -> the dictionary of the settings of the runs."""
  from ooc_jax import checkpoints  # JAX is slow to import.
  from ooc_jax import dictionaries

  settings = study.first.settings
  source = settings.get('dictionary')
  if not isinstance(source, str):
    raise InputError(
        f'{printable(study.first.path.name)} does not say its dictionary;'
        ' run it again.'
    )
  if settings.get('control', 'none') != 'none':
    raise InputError(
        'The run is a control, of weights that no file has: give that of the'
        ' model itself.'
    )
  parts = dictionaries.model_parts(source)
  model = None
  if parts:
    model = checkpoints.load_model(
        weights or str(settings.get('model')),
        parts=parts,
        revision=settings.get('revision'),
    )
  options = {x: settings.get(x) for x in dictionaries.OPTIONS}
  return lambda layer: dictionaries.load_dictionary(
      source,
      model=model,
      layer=layer,
      nan_rows=settings.get('nan_rows'),
      **options,
  )


def _strengths(
    study: explore.Study, layer: int, features: Sequence[int]
) -> list[Mapping[str, Any]]:
  """Of a validation, where it steered the feature."""
  own = study.validation
  if own is None or layer not in own.layer_files():
    return [{}] * len(features)
  rows = rows_of(own.layer_files()[layer], features, _STRENGTHS)
  return [
      {k: x for k, x in row.items() if x is not None and x == x} for row in rows
  ]
