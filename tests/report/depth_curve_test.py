"""Curves over depth: what a summary says, and the band of the null."""

import dataclasses
import math
import pathlib

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
from scipy import stats

from ooc_jax import report
from ooc_jax import results
from ooc_jax._errors import InputError
from tests.report import written


def _row(layer, share):
  return {
      'layer': layer,
      'features': 1536,
      'semantic': {'share': share, 'low': share - 0.03, 'high': share + 0.02},
      'measures': {
          'levenshtein': share / 2,
          'cosine': share / 3,
          'entropy': share / 5,
      },
      'median': {'levenshtein': 0.7, 'cosine': 0.1, 'entropy': 4.0},
      'undertrained': 0.01,
  }


_SUMMARY = {
    'experiment': 'output_prediction',
    'num_layers': 11,
    'layers': [_row(10, 0.3), _row(2, 0.05), _row(5, 0.125)],  # Any order.
}


def _curve(label='tiny', num_layers=11):
  return report.DepthCurve(
      label=label,
      layers=(2, 5, 10),
      num_layers=num_layers,
      share=(0.05, 0.125, 0.3),
      low=(0.02, 0.095, 0.27),
      high=(0.07, 0.145, 0.32),
      measures={'cosine': (0.01, 0.02, 0.04)},
  )


class DepthCurveTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.path = pathlib.Path(self.create_tempdir().full_path) / 'out'

  def _write(self, summary, settings=None):
    with results.ResultsFolder.open(
        self.path, settings or {'model': 'tiny-llama3'}, provenance={}
    ) as out:
      out.write_summary(summary)

  def test_reads_the_summary(self):
    self._write(_SUMMARY)
    curve = report.depth_curve(self.path)
    self.assertEqual(curve.label, 'tiny-llama3')
    self.assertEqual(curve.layers, (2, 5, 10))
    self.assertEqual(curve.num_layers, 11)
    self.assertEqual(curve.share, (0.05, 0.125, 0.3))
    np.testing.assert_allclose(curve.low, (0.02, 0.095, 0.27), rtol=1e-12)
    np.testing.assert_allclose(curve.high, (0.07, 0.145, 0.32), rtol=1e-12)
    self.assertEqual(list(curve.measures), ['levenshtein', 'cosine', 'entropy'])
    self.assertEqual(curve.measures['entropy'], (0.01, 0.025, 0.06))

  def test_names_of_a_run(self):
    self._write(_SUMMARY, {'k': 1})
    self.assertEqual(report.depth_curve(str(self.path)).label, 'out')
    self.assertEqual(report.depth_curve(self.path, 'mine').label, 'mine')

  def test_null_is_a_gap(self):
    rows = [_row(0, 0.1), _row(1, 0.2)]
    rows[0]['semantic'] = {'share': None, 'low': None, 'high': None}
    del rows[1]['measures']['cosine']
    self._write({**_SUMMARY, 'layers': rows})
    curve = report.depth_curve(self.path)
    np.testing.assert_array_equal(curve.share, (np.nan, 0.2))
    self.assertEqual(list(curve.measures), ['levenshtein', 'entropy'])

  @parameterized.parameters(
      {'layers': []},
      {'layers': [{}]},
      {'layers': 3},
      {'layers': [_row(0, 0.1), _row(0, 0.2)]},
      {'layers': [_row(11, 0.1)]},
      {'num_layers': None},
      {'layers': [_row('x', 0.1)]},
  )
  def test_a_summary_that_lacks_something_is_refused(self, **changed):
    self._write(_SUMMARY | changed)
    with self.assertRaisesRegex(InputError, 'lack what the figure needs'):
      report.depth_curve(self.path)

  def test_a_null_and_its_band(self):
    rows = [
        written.row(layer, 0.3, null=True) | {'features': 4000 + layer}
        for layer in written.LAYERS
    ]
    written.write_run(self.path, summary={'layers': rows})
    curve = report.depth_curve(self.path)
    self.assertEqual(curve.layers, written.LAYERS)
    self.assertEqual(curve.null, (0.25, 0.27, 0.28))
    for i, share in enumerate(curve.null):
      features = 4000 + curve.layers[i]
      band = report.null_band(share, features, written.DIRECTIONS)
      self.assertEqual((curve.null_low[i], curve.null_high[i]), band)
      self.assertLess(band[0], share)
    self.assertEqual(
        curve.shape,
        report.DepthShape(name='inverted U', p_value=0.0123, turning_point=2.5),
    )

  @parameterized.parameters('flat', 'rising', 'falling', 'undecided')
  def test_what_does_not_turn_has_no_turning_point(self, name):
    self._write(_SUMMARY | {'shape': written.SHAPE | {'name': name}})
    shape = report.depth_curve(self.path).shape
    self.assertEqual(shape, report.DepthShape(name=name, p_value=0.0123))
    curve = dataclasses.replace(_curve(), shape=shape)
    tested = name in ('rising', 'falling')
    (legend,) = report.depth_figure([curve]).legends
    self.assertEqual(
        legend.get_texts()[0].get_text(),
        f'semantic: {name}, p = 0.012' if tested else f'semantic: {name}',
    )

  def test_another_side(self):
    written.write_run(self.path, side='input')
    curve = report.depth_curve(self.path, readout='input')
    self.assertEqual(curve.label, 'tiny, input readout')
    np.testing.assert_allclose(curve.share, (0.5, 0.7, 0.8), rtol=1e-12)
    self.assertEqual(curve.shape, report.DepthShape(name='flat'))
    self.assertEqual(curve.num_layers, written.NUM_LAYERS)
    with self.assertRaisesRegex(
        InputError, "no readout 'embedding': give one of output, input"
    ):
      report.depth_curve(self.path, readout='embedding')

  def test_a_run_without_a_null(self):
    written.write_run(self.path, null=False)
    curve = report.depth_curve(self.path)
    self.assertEqual((curve.null, curve.null_low, curve.null_high), ((),) * 3)
    self.assertIsNone(curve.shape)

  def test_a_null_of_some_layers_has_gaps(self):
    rows = [_row(0, 0.1), _row(1, 0.2) | {'null_share': 0.02}]
    self._write({**_SUMMARY, 'layers': rows, 'shape': {'name': 'flat'}})
    curve = report.depth_curve(self.path)
    np.testing.assert_array_equal(curve.null, (np.nan, 0.02))
    np.testing.assert_array_equal(np.isnan(curve.null_high), (True, False))
    self.assertEqual(curve.shape, report.DepthShape(name='flat'))

  @parameterized.parameters(
      ('flat',), (3,), ({'p_value': 0.1},), ({'name': 'U', 'p_value': 'x'},)
  )
  def test_a_strange_shape_is_refused(self, shape):
    self._write(_SUMMARY | {'shape': shape})
    with self.assertRaisesRegex(InputError, 'lack what the figure needs'):
      report.depth_curve(self.path)

  def test_what_is_no_results_folder_is_refused(self):
    with self.assertRaisesRegex(InputError, 'is not a results folder: give'):
      report.depth_curve(self.path)
    self._write(_SUMMARY)
    (self.path / 'summary.json').unlink()
    with self.assertRaisesRegex(InputError, 'finish the run first'):
      report.depth_curve(self.path)

  def test_columns_of_other_lengths_are_an_error(self):
    with self.assertRaisesRegex(
        ValueError, 'loudness is no measure; high has 1 numbers for 2 layers'
    ):
      report.DepthCurve(
          label='',
          layers=(0, 1),
          num_layers=2,
          share=(0.0, 0.0),
          low=(0.0, 0.0),
          high=(0.0,),
          measures={'loudness': (0.0, 0.0)},
      )


class NullBandTest(parameterized.TestCase):

  @parameterized.product(
      share=(0.003, 0.01, 0.37, 0.98), features=(1, 57, 1536, 16384)
  )
  def test_a_known_chance_gives_the_binomial(self, share, features):
    low, high = report.null_band(share, features)
    wanted = stats.binom.ppf([0.025, 0.975], features, share) / features
    np.testing.assert_allclose((low, high), wanted, rtol=1e-12)

  @parameterized.product(
      share=(0.0, 0.01, 0.37, 1.0), features=(57, 1536), directions=(64, 4096)
  )
  def test_an_estimated_chance_gives_the_beta_binomial(
      self, share, features, directions
  ):
    low, high = report.null_band(share, features, directions, level=0.9)
    a, b = share * directions + 0.5, (1 - share) * directions + 0.5
    law = stats.betabinom(features, a, b)
    # Not `ppf`, which starts from the normal law and may miss by one.
    cdf = law.cdf(np.arange(features + 1))
    wanted = [np.argmax(cdf >= x) / features for x in (0.05, 0.95)]
    np.testing.assert_allclose((low, high), wanted, rtol=1e-12)

  def test_the_band_holds_what_it_says(self):
    rng = np.random.default_rng(0)
    features, directions, inside = 400, 300, 0
    for _ in range(2000):
      chance = rng.beta(2, 60)
      share = rng.binomial(directions, chance) / directions
      low, high = report.null_band(share, features, directions)
      inside += low <= rng.binomial(features, chance) / features <= high
    # 95% and a little more, for the counts are whole; 2 standard errors: 1%.
    self.assertBetween(inside / 2000, 0.94, 0.985)

  def test_more_directions_narrow_the_band_to_the_binomial(self):
    widths = [
        np.diff(report.null_band(0.01, 1536, m))[0] for m in (64, 512, 10**9)
    ]
    self.assertGreater(widths[0], widths[1])
    self.assertGreater(widths[1], widths[2])
    self.assertEqual(
        report.null_band(0.01, 1536, 10**9), report.null_band(0.01, 1536)
    )

  def test_no_number(self):
    for band in (report.null_band(math.nan, 5), report.null_band(0.1, 0)):
      np.testing.assert_array_equal(band, [math.nan, math.nan])
    self.assertEqual(report.null_band(0.0, 7), (0.0, 0.0))
    self.assertEqual(report.null_band(1.0, 7), (1.0, 1.0))

  def test_no_share_is_an_error(self):
    with self.assertRaisesRegex(ValueError, '1.5'):
      report.null_band(1.5, 7)


if __name__ == '__main__':
  absltest.main()
