"""A program with flags of its own that uses the experiments; see library_test.

Started as `python -c`, from a folder in which it may leave nothing. Prints a
JSON value: every table that the three `compute` give, and what it saw.
"""

import json
import pkgutil
import sys

from absl import app
from absl import flags
import numpy as np

# `absl.app` has the flags of absl's log, which flax would import else.
assert app
flags.DEFINE_string('model', 'mine', 'Of this program.')
flags.DEFINE_integer('seed', 7, 'Of this program.')
flags.DEFINE_string('out', None, 'Of this program.')


def state():
  """Name, value and module of every flag, and of who reads them."""
  modules = flags.FLAGS.flags_by_module_dict()
  return {m: {f.name: f.value for f in own} for m, own in modules.items()}


def main(argv):
  words = flags.FLAGS(argv)
  before = state()
  import ooc_jax

  for module in pkgutil.walk_packages(ooc_jax.__path__, 'ooc_jax.'):
    if not any(x.startswith('_') for x in module.name.split('.')):
      __import__(module.name)
  from ooc_jax import experiments

  arrays = np.load(words[1])
  own = {
      layer: ooc_jax.dictionaries.from_arrays(
          arrays[f'decoder_{layer}'],
          arrays[f'encoder_{layer}'],
          layer=layer,
          name=f'own/layer_{layer}',
      )
      for layer in (2, 3)
  }
  model = ooc_jax.load_model('tiny-gemma2')
  settings = json.loads(words[2])
  labels = experiments.OutputPrediction(**settings['output_prediction'])
  attention = experiments.AttentionParticipation(
      **settings['attention_participation']
  )
  joint = experiments.SemanticAttention(**settings['semantic_attention'])
  predicted = experiments.output_prediction.compute(model, own, labels)
  attended = experiments.attention_participation.compute(model, own, attention)
  compared = experiments.semantic_attention.compute(
      model, own, joint, labels=labels, attention=attention
  )
  tables = {
      'output_prediction/directions': predicted.directions[-1],
      'effects': compared.effects,
      'populations': compared.populations,
  }
  for name, found in (
      ('output_prediction', predicted.features),
      ('attention_participation', attended.features),
  ):
    for layer, table in found.items():
      tables[f'{name}/features/layer={layer:02d}'] = table
  for layer, table in attended.heads.items():
    tables[f'attention_participation/heads_{layer:02d}'] = table
  # What came from the repository is of the package. An environment may lie in
  # the repository.
  root = ooc_jax.__path__[0].removesuffix('ooc_jax')
  files = {
      name: getattr(module, '__file__', None) or ''
      for name, module in sys.modules.items()
  }
  strangers = [
      name
      for name, file in files.items()
      if file.startswith(root)
      and not file.startswith(sys.prefix)
      and name.split('.')[0] != 'ooc_jax'
  ]
  print(
      json.dumps({
          'tables': {name: x.to_pydict() for name, x in tables.items()},
          'flags': [before, state()],
          'strangers': strangers,
      })
  )


if __name__ == '__main__':
  main(sys.argv)
