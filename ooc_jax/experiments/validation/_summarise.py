"""What follows from the tables of the validation, for `summary.json`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from ooc_jax import measures
from ooc_jax import results
from ooc_jax.experiments._agreement import heads_summary
from ooc_jax.experiments._summary import Summary
from ooc_jax.experiments._summary import share_shape
from ooc_jax.experiments.validation._claims import claims
from ooc_jax.experiments.validation._claims import rare_features
from ooc_jax.experiments.validation._compute import ValidationTables
from ooc_jax.experiments.validation._config import Validation
from ooc_jax.experiments.validation._labels import agreement
from ooc_jax.experiments.validation._scores import LEVEL
from ooc_jax.experiments.validation._scores import known_mean
from ooc_jax.experiments.validation._scores import score
from ooc_jax.results import tables

NULLS = ('permuted', 'random')
_SCHEMA = tables.VALIDATION_FEATURES


def summarise(found: ValidationTables, config: Validation) -> Summary:
  """`summary.json`, of all layers."""
  layers = [
      {
          'layer': layer,
          'health': tables.health_of(own.features),
          **_layer(layer, own.features, own.null, config),
      }
      for layer, own in found.layers.items()
  ]
  beats = _beats(layers)
  summary = {
      'experiment': 'validation',
      'num_layers': found.num_layers,
      'layers': layers,
      'beats': beats,
      'shapes': _shapes(layers),
      'claims': claims(found, layers),
      'examples': _examples(found, config),
      'attention': [
          heads_summary(heads, layer)
          for layer, heads in (
              (None, found.first),
              *((layer, own.heads) for layer, own in found.layers.items()),
          )
          if heads is not None
      ],
  }
  return Summary({}, results.plain(summary))


def _layer(
    layer: int, features: pa.Table, null: pa.Table, config: Validation
) -> dict[str, Any]:
  columns = {
      name: _SCHEMA.array(features, name)
      for name in ('sampled', 'semantic_weights', 'semantic_activations')
  }
  sampled, weights, activations = (x.astype(bool) for x in columns.values())
  judged = _SCHEMA.array(features, 'judged').astype(bool)
  rng = np.random.default_rng([config.seed, layer])
  turned = None
  if 'sign' in features.column_names:
    turned = float((_SCHEMA.array(features, 'sign') < 0).mean())
  return {
      'features': len(features),
      'sampled': int(sampled.sum()),
      'turned': turned,
      'scores': {
          name: score(features, null, name, sampled, rng)
          for name in tables.SCORES
      },
      'lens_correlation': known_mean(
          _SCHEMA.array(features, 'lens_correlation')[sampled]
      ),
      'null_lens_correlation': known_mean(
          tables.VALIDATION_NULL.array(null, 'lens_correlation')
      ),
      'weights': measures.share_interval(weights)._asdict(),
      'activations': measures.share_interval(activations)._asdict(),
      'judged': float(judged.mean()),
      'agreement': agreement(weights, activations),
      'rare': rare_features(features, null, weights, config),
  }


def _beats(layers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
  """For each score and null, the layers at which it is over chance.

  By q values over the layers of at most 0.05. `from` is the first layer from
  which on it is over both at every layer, None where there is none.
  """
  found = {}
  for name in tables.SCORES:
    own = [row['scores'][name] for row in layers]
    over = {}
    for null in NULLS:
      p = [
          1.0 if x is None or x[null] is None else x[null]['p_value']
          for x in own
      ]
      q = measures.q_values(np.asarray(p))
      over[null] = [
          row['layer'] for row, x in zip(layers, q, strict=True) if x <= LEVEL
      ]
    start = None
    for row in reversed(layers):
      if not all(row['layer'] in x for x in over.values()):
        break
      start = row['layer']
    found[name] = {**over, 'from': start}
  return found


def _shapes(layers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
  """Of both shares over depth."""
  numbers = [row['layer'] for row in layers]
  return {
      name: share_shape(
          numbers,
          [row[name]['share'] for row in layers],
          [row['features'] for row in layers],
      )
      for name in ('weights', 'activations')
  }


def _examples(
    found: ValidationTables, config: Validation
) -> list[dict[str, Any]]:
  """The steered feature of each layer, of so many layers spread over depth."""
  rows = []
  for layer, own in found.layers.items():
    prompts = _SCHEMA.array(own.features, 'prompt')
    chosen = [i for i, text in enumerate(prompts) if text]
    for i in chosen:
      row = own.features.slice(i, 1).to_pylist()[0]
      names = ('prompt', 'plain', 'steered_low', 'steered_high')
      rows.append({
          'layer': layer,
          'feature': row['feature'],
          'score': row['output_decoder'],
          'lens': row['lens_tokens'],
          'raised': row['raised_tokens'],
          'peaks': row['peak_tokens'],
          **{name: row[name] for name in names},
      })
  if len(rows) <= config.examples:
    return rows
  places = np.linspace(0, len(rows) - 1, config.examples).round().astype(int)
  return [rows[i] for i in places]
