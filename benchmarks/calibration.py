r"""How often the statistics are right: the tables of BUILD_NOTES.md.

Example, from the folder of the clone (it needs the extra `test`):
  python -m benchmarks.calibration --what=delta,shares,participation

Prints one JSON object with a list of rows for each of --what:
  delta: coverage of the interval of Cliff's delta.
  rare: exact coverage of the interval of a share, least and mean, where few
    features are expected.
  shares: coverage of experiment 1's share and its excess over chance.
  participation: coverage of experiment 2's shares.
  shapes: false rates of depth shapes, and how often planted ones are named.
  trends: false rates of slopes of delta, labels drawn at random.
  nulls: over 20 nulls, the share of the bundled models (all layers) and how
    often the printed interval holds the mean of the other nulls.
The tests in tests/ do the same with fewer draws and cases.
"""

import itertools
import json

from absl import app
from absl import flags
import numpy as np
import scipy.stats

from ooc_jax import measures
from tests.experiments.output_prediction import calibration_test
from tests.measures import depth_shape_test
from tests.measures import label_trend_test
from tests.measures import participation_shares_test
from tests.measures import populations_test
from tests.measures import resampled_test

_SIZES = ((10, 10), (10, 20), (10, 100), (10, 1000), (20, 500), (50, 300))


def _delta(draws):
  for sizes, width, truth in itertools.product(
      (*_SIZES, (200, 800)), (1.0, 3.0), (0.0, 0.3, 0.6, 0.8)
  ):
    covered = populations_test.delta_coverage(
        np.random.default_rng(1), *sizes, truth, draws, width
    )
    yield {'n, m': sizes, 'width': width, 'delta': truth, 'covered': covered}


def _rare(draws):
  del draws  # Every count, by its probability.
  for size in (300, 1_024, 16_384):
    intervals = [
        measures.share_interval(np.arange(size) < n) for n in range(60)
    ]
    for low, high in ((0.003, 0.03), (0.03, 0.3), (0.3, 3), (3, 20)):
      expected = np.geomspace(low, high, 400)
      covered = [
          sum(
              scipy.stats.binom.pmf(n, size, x / size)
              for n, own in enumerate(intervals)
              if own.low <= x / size <= own.high
          )
          for x in expected
      ]
      yield {
          'features': size,
          'expected': [low, high],
          'least': min(covered),
          'mean': np.mean(covered),
          'most': max(covered),
      }


def _shares(draws):
  for (n, features), rule, shift in itertools.product(
      ((4_096, 1_024), (32_768, 8_192)), ('any', 'majority'), (0.0, 0.5, 1.5)
  ):
    count = draws if n < 10_000 else draws // 4
    share, excess = resampled_test.share_coverage(
        count, n, features, rule, shift
    )
    yield {
        'null': n,
        'features': features,
        'rule': rule,
        'shift': shift,
        'share': share,
        'excess': excess,
        'draws': count,
    }


def _participation(draws):
  for kind in ('quantile', 'null', 'another'):
    found, rare = participation_shares_test.participation_coverage(
        kind, draws, 1
    )
    for key, covered in found.items():
      yield {
          'thresholds': kind,
          'what, m, layer': key,
          'covered': covered,
          'rare': key in rare,
      }


def _shapes(draws):
  for layers, features in itertools.product((8, 26, 32), (2_048, 16_384)):
    row = {'layers': layers, 'features': features}
    for correlation in (0.0, 0.5, 0.8):
      row[f'false at {correlation}'] = depth_shape_test.false_rate(
          layers, correlation, draws, 6, features
      )
    for name in ('U', 'inverted U', 'bifurcated', 'rising'):
      names = depth_shape_test.names_of(
          name, np.arange(layers), features, draws=500, seed=7, rough=0.02
      )
      row[name] = names[name] / 500
    yield row


def _trends(draws):
  for sizes, layers, ties in itertools.product(
      ((24, 10), (200, 10), (1024, 250)), (6, 8, 26, 32), (False, True)
  ):
    values, _ = label_trend_test.layers_of(
        np.random.default_rng(6), num_layers=layers, size=sizes[0], ties=ties
    )
    found = label_trend_test.chance_found(values, sizes[1], draws, 7)
    yield {'F, true': sizes, 'layers': layers, 'ties': ties, 'false': found}


def _nulls(draws):
  del draws
  for name in ('tiny-gemma2', 'tiny-llama3'):
    decisions = calibration_test.decisions_of_nulls(
        name, range(8), _NULL.value, 20
    )
    for readout, own in decisions.items():
      found, inside = calibration_test.shares_of_nulls(own)
      share, low, high, error = found
      yield {
          'model': name,
          'null': _NULL.value,
          'readout': readout,
          'shares': [share.min(), share.max()],
          'printed': [low.mean(), high.mean()],
          'moves by': share.std(ddof=1),
          'printed error': error.mean(),
          'inside of 20': inside,
      }


_WHAT = {
    'delta': _delta,
    'rare': _rare,
    'shares': _shares,
    'participation': _participation,
    'shapes': _shapes,
    'trends': _trends,
    'nulls': _nulls,
}
_CHOSEN = flags.DEFINE_list('what', list(_WHAT), 'Some of the tables.')
_DRAWS = flags.DEFINE_integer('draws', 2000, 'In each cell.')
_NULL = flags.DEFINE_integer(
    'null', 8192, 'Directions of each of the 20 nulls.'
)


def main(argv: list[str]) -> None:
  del argv  # Flags only.
  found = {name: list(_WHAT[name](_DRAWS.value)) for name in _CHOSEN.value}
  print(json.dumps(found, indent=1, default=float))


if __name__ == '__main__':
  app.run(main)
