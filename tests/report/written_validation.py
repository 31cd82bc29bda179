"""A small folder of the validation, with known numbers."""

import pathlib

import numpy as np

from ooc_jax import results
from ooc_jax import validation
from ooc_jax.experiments import _agreement
from ooc_jax.results import tables

HEADS, LAYERS, NUM_LAYERS = 3, (1, 4), 6


def agreement(layer: int) -> validation.AttentionAgreement:
  """The first head is within its null, the others are over it."""
  predictors = {}
  for i, name in enumerate(validation.ATTENTION_PREDICTORS):
    value = np.array([0.1, 0.3, 0.8]) + 0.01 * i + 0.001 * layer
    null = np.tile(np.linspace(-0.1, 0.15, 11), (HEADS, 1))
    mean = float(value.mean())
    predictors[name] = validation.HeadCorrelations(
        spearman=value,
        low=value - 0.05,
        high=value + 0.05,
        null=None if name == 'distance' else null,
        mean=(mean, mean - 0.03, mean + 0.03),
    )
  return validation.AttentionAgreement(layer, 10, 640, predictors)


def write(path: pathlib.Path) -> None:
  """Writes it to `path`."""
  settings = {'experiment': 'validation', 'model': 'a$b'}
  found = [agreement(layer) for layer in LAYERS]
  with results.ResultsFolder.open(path, settings, provenance={}) as folder:
    rows = []
    for own in found:
      name = tables.validation_heads_name(own.layer - 1)
      folder.write_table(name, _agreement.heads_table(own))
      rows.append(
          _agreement.heads_summary(folder.read_table(name), own.layer - 1)
      )
    folder.write_summary({
        'experiment': 'validation',
        'num_layers': NUM_LAYERS,
        'attention': rows,
    })
