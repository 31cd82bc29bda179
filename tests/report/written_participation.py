"""A results folder of experiment 2 with known numbers."""

import pyarrow as pa

from ooc_jax import measures
from ooc_jax import results
from tests.report.written_populations import LAYERS
from tests.report.written_populations import share

HEADS = 3


def _rows(place):
  return [
      {
          'layer': layer,
          'features': 50 + i,
          'participating': {
              'share': share(i, place),
              'low': share(i, place) - 0.01,
              'high': share(i, place) + 0.02,
          },
          'null_share': 0.1 * place,
          'null_directions': 50,
      }
      for i, layer in enumerate(LAYERS)
  ]


def write(path):
  """A folder of experiment 2 with known numbers."""
  settings = {
      'experiment': 'attention_participation',
      'model': 'a$b',
      'participation': 'null:tokens',
      'alpha': 0.05,
      'at_least': 2,
  }
  sides = {
      name: {
          'layers': _rows(i),
          'total': _rows(i)[0],
          'thresholds': {'kind': 'null'},
          'shape': {'name': 'inverted U', 'p_value': 0.01, 'turning_point': 2},
      }
      for i, name in enumerate(measures.CONTEXTS)
  }
  heads = [
      {
          'layer': layer,
          'head': head,
          'features': 50,
          **{f'{x}_share': share(i, head) for x in measures.CONTEXTS},
          'selectivity': 10.0 ** (i + 1),
          'diagonal_mass': 0.1 * head,
          'copy_score': None if head == 1 else 0.5,
          'preferred_offset': 3 * i,
      }
      for i, layer in enumerate(LAYERS)
      for head in range(HEADS)
  ]
  sweep = [
      {
          'context': context,
          'thresholds': kind,
          'level': level,
          'at_least': m,
          'layer': layer,
          'share': share(m, layer + 1) + 0.01 * j,
          'mean_heads': 1.0,
          'null': 'random',
          'null_share': 0.25 / m,
      }
      for j, context in enumerate(measures.CONTEXTS)
      for kind, level in (('quantile', 0.75), ('null:tokens', 0.05))
      for m in (1, 2)
      for layer in (*LAYERS, -1)
  ]
  with results.ResultsFolder.open(path, settings, provenance={}) as folder:
    folder.write_table('heads', pa.Table.from_pylist(heads))
    folder.write_table('sweep', pa.Table.from_pylist(sweep))
    folder.write_summary({
        'experiment': 'attention_participation',
        'num_layers': 6,
        **sides['query_pre'],
        'sides': sides,
        'examples': [],
    })
