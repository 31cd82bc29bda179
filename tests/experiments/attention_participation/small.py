"""Small runs of experiment 2, and what its scores are by the definition."""

import dataclasses
import functools

import numpy as np
import pyarrow.parquet as pq

import ooc_jax
from ooc_jax import experiments
from ooc_jax.experiments import AttentionParticipation
from ooc_jax.experiments import attention_participation
from ooc_jax.results import tables
from tests import finished

SETTINGS = {
    'context': 9,
    'pairs': 4,
    'partners': 2,
    'alpha': 0.1,
    'write_tokens': 3,
    'examples': 3,
}
CONFIG = AttentionParticipation(model='tiny', **SETTINGS)


@functools.cache
def model_of(family):
  return ooc_jax.load_model(finished.checkpoint(family))


def finished_run(family):
  """A run that no test changes, and its summary."""
  folder = finished.run('attention_participation', family, **SETTINGS)
  view = ooc_jax.results.ResultsFolder.view(folder)
  return experiments.Run(folder, view.read_summary())


def neurons(model, *layers):
  """Layer -> its neurons."""
  return {
      x: ooc_jax.load_dictionary('mlp', model=model, layer=x) for x in layers
  }


def computed(layer, mesh=None, **settings):
  """The tables of one layer of the llama, and nulls only where asked for."""
  settings = {'nulls': 'none', 'write_tokens': 0} | settings
  config = dataclasses.replace(CONFIG, layers=str(layer), **settings)
  model = model_of('llama')
  return attention_participation.compute(
      model, neurons(model, layer - 1), config, mesh=mesh
  )


def layer_of(run, layer):
  return pq.read_table(run.folder / 'features' / f'layer={layer:02d}.parquet')


def by_head(table, name):
  return tables.ATTENTION_FEATURES.array(table, name)


def float64_scores(model, rows, layer, head):
  """[F, F] from the definition, which the library never holds."""
  config = model.config
  params = model.params[f'layer_{layer}']
  d = np.asarray(rows, np.float64)
  d *= np.sqrt(d.shape[1]) / np.linalg.norm(d, axis=1, keepdims=True)
  gain = np.asarray(params['attention_norm']['weight'], np.float64)
  d *= gain + (1.0 if config.family == 'gemma2' else 0.0)
  attention = params['attention']
  q = d @ np.asarray(attention['query'], np.float64)[:, head]
  k = d @ np.asarray(attention['key'], np.float64)[:, head // config.group_size]
  scores = config.attention_scale * q @ k.T
  if (cap := config.attention_softcap) is not None:
    scores = cap * np.tanh(scores / cap)
  return scores
