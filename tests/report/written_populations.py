"""A results folder of experiment 3 with known numbers."""

import pyarrow as pa

from ooc_jax import measures
from ooc_jax import results

LAYERS = (1, 2, 4)
_LABELS = {'model': 'm', 'alpha': 0.01}


def share(i, j=0):
  """A number that no other pair has."""
  return (7 * i + 3 * j + 1) / 64


def write(path, model='m', sign=-1, labels=None):
  """Writes the output labelling of a finished run."""
  populations, effects = [], []
  for j, context in enumerate(measures.CONTEXTS):
    for i, layer in enumerate(LAYERS):
      for k, name in enumerate(('other', 'semantic')):
        populations.append({
            'labelling': 'output',
            'context': context,
            'layer': layer,
            'population': name,
            'size': 20 + i,
            'mean': share(i, j) + k,
            'median': share(i, j) + 2 * k,
            'p75': share(i, j) + 30 * k,
        })
      none = layer == 4
      effects.append({
          'labelling': 'output',
          'context': context,
          'layer': layer,
          'delta': None if none else 0.1 * i,
          'low': None if none else 0.1 * i - 0.05,
          'high': None if none else 0.1 * i + 0.05,
          'permuted': None if none else 0.03,
          'chance_median': None if none else share(i, j) + 1,
          'u': None if none else 3.0,
          'p_value': None if none else 0.5,
          'q_value': None if none else 0.04 + 0.02 * i,
      })
  test = {'sign': sign, 'p_value': 0.012}
  if sign:  # Layers enough for a test.
    test['change'] = 0.25 * sign
  tests = dict.fromkeys(measures.CONTEXTS, test)
  settings = {
      'experiment': 'semantic_attention',
      'model': model,
      'dictionary': 'd',
      'labels': _LABELS | {'model': model} | (labels or {}),
  }
  verdict = 'supported' if sign else 'not decided'
  with results.ResultsFolder.open(path, settings, provenance={}) as folder:
    folder.write_table('populations', pa.Table.from_pylist(populations))
    folder.write_table('effects', pa.Table.from_pylist(effects))
    folder.write_summary({
        'experiment': 'semantic_attention',
        'layers': list(LAYERS),
        'num_layers': 6,
        'contexts': {'output': {}},
        'statements': {
            'inverse': {'tests': tests, 'verdict': verdict},
        },
        'sweep': [{'inverse': 'supported'}, {'inverse': 'not decided'}],
    })
