"""The distributions: every ridge is the histogram of what is in the folder."""

import pathlib

from absl.testing import absltest
from absl.testing import parameterized
import matplotlib
from matplotlib import colors
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ooc_jax import report
from ooc_jax._errors import InputError
from tests.report import written


class MeasureDistributionsTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.path = pathlib.Path(self.create_tempdir().full_path) / 'out'

  def test_reads_the_folder(self):
    written.write_run(self.path)
    read = report.measure_distributions(self.path, 'mine')
    self.assertEqual(read.label, 'mine')
    self.assertEqual(tuple(x.layer for x in read.layers), written.LAYERS)
    for layer in read.layers:
      features = written.values(layer.layer)
      null = written.values(layer.layer, written.DIRECTIONS)
      for name in written.MEASURES:
        np.testing.assert_array_equal(layer.features[name], features[name])
        np.testing.assert_array_equal(layer.null[name], null[name])
      self.assertEqual(layer.thresholds, written.THRESHOLDS)

  def test_another_side(self):
    written.write_run(self.path, side='input')
    read = report.measure_distributions(self.path, readout='input')
    self.assertEqual(read.label, 'tiny, input readout')
    for layer in read.layers:
      features, null = written.values(layer.layer + 1), written.values(99, 7)
      for name in written.MEASURES:
        np.testing.assert_array_equal(layer.features[name], features[name])
        np.testing.assert_array_equal(layer.null[name], null[name])
      self.assertEqual(layer.thresholds, written.THRESHOLDS | {'cosine': 0.5})

  def test_without_a_null(self):
    written.write_run(self.path, null=False)
    for layer in report.measure_distributions(self.path).layers:
      self.assertEqual({x.size for x in layer.null.values()}, {0})

  def test_a_null_for_every_layer(self):
    written.write_run(self.path, null=False)
    everywhere = written.values(77, 9)
    table = pa.table({'layer': np.full(9, -1, np.int32), **everywhere})
    pq.write_table(table, self.path / 'null.parquet')
    for layer in report.measure_distributions(self.path).layers:
      np.testing.assert_array_equal(layer.null['cosine'], everywhere['cosine'])

  def test_thresholds_of_a_layer_come_before_those_of_the_run(self):
    rows = [written.row(0, 0.3, null=True), written.row(2, 0.4, null=True)]
    rows[1]['thresholds'] = {'levenshtein': 0.1, 'cosine': None}
    written.write_run(self.path, summary={'layers': rows})
    first, second = report.measure_distributions(self.path).layers
    self.assertEqual(first.thresholds, written.THRESHOLDS)
    self.assertEqual(second.thresholds['levenshtein'], 0.1)
    self.assertTrue(np.isnan(second.thresholds['cosine']))

  @parameterized.parameters('features/layer=02.parquet', 'null.parquet')
  def test_a_damaged_file_is_refused(self, name):
    written.write_run(self.path)
    file = self.path / name
    file.write_bytes(file.read_bytes()[:-9])
    with self.assertRaisesRegex(InputError, name):
      report.measure_distributions(self.path)

  @parameterized.parameters(
      {'layers': []}, {'layers': [{'layer': 'x'}]}, {'thresholds': 3}
  )
  def test_a_summary_that_lacks_something_is_refused(self, **changed):
    written.write_run(self.path, summary=changed)
    with self.assertRaisesRegex(InputError, 'lack what the figure needs'):
      report.measure_distributions(self.path)


class DistributionFigureTest(parameterized.TestCase):

  def _read(self, **kwargs):
    path = pathlib.Path(self.create_tempdir().full_path) / 'out'
    written.write_run(path, **kwargs)
    return report.measure_distributions(path, '$x^{ 漢')

  def test_ridges_are_histograms(self):
    read = self._read()
    figure = report.distribution_figure(read)
    self.assertLen(figure.axes, 3)
    for axes, measure in zip(figure.axes, written.MEASURES, strict=True):
      features, null = (_ridges(axes, gid) for gid in ('features', 'null'))
      edges = features[0][1]
      everything = np.concatenate(
          [x[measure] for y in read.layers for x in (y.features, y.null)]
      )
      self.assertLess(edges[0], everything.min())
      self.assertGreater(edges[-1], everything.max())
      np.testing.assert_allclose(axes.get_xlim(), edges[[0, -1]])
      wanted = [
          [np.histogram(x[measure], edges)[0] / x[measure].size for x in pair]
          for pair in ((y.features, y.null) for y in read.layers)
      ]
      scale = 1.5 / np.sqrt(np.max(wanted))  # The highest covers 1.5 rows.
      for i, (mine, chance) in enumerate(wanted):
        for found, share in ((features[i], mine), (null[i], chance)):
          values, its_edges, baseline = found
          np.testing.assert_array_equal(its_edges, edges)
          self.assertEqual(baseline, i)
          np.testing.assert_allclose(
              values, i + scale * np.sqrt(share), rtol=1e-12
          )
      written.saved(figure, 'png')

  def test_thresholds_and_what_is_past_them(self):
    figure = report.distribution_figure(self._read())
    for axes, measure in zip(figure.axes, written.MEASURES, strict=True):
      threshold = written.THRESHOLDS[measure]
      marks = [x for x in axes.collections if x.get_gid() == 'threshold']
      self.assertLen(marks, 3)
      for i, mark in enumerate(marks):
        (segment,) = mark.get_segments()
        np.testing.assert_allclose(
            segment, [[threshold, i], [threshold, i + 1]]
        )
      tails = [x for x in axes.patches if x.get_gid() == 'tail']
      self.assertLen(tails, 3)
      for tail in tails:
        box = tail.get_clip_box()
        (x0, _), (x1, _) = axes.transData.inverted().transform(box)
        self.assertAlmostEqual(x0 if measure == 'cosine' else x1, threshold)
        self.assertLess(x0, x1)

  def test_one_layer_no_null_no_threshold_one_value(self):
    layer = report.LayerMeasures(
        layer=7,
        features={name: np.full(3, 0.5) for name in written.MEASURES},
        null={name: np.empty(0) for name in written.MEASURES},
        thresholds=dict.fromkeys(written.MEASURES, np.nan),
    )
    one = report.MeasureDistributions(label='', layers=(layer,))
    figure = report.distribution_figure(one)
    written.saved(figure, 'png')
    for axes in figure.axes:
      self.assertEmpty(_ridges(axes, 'null'))
      self.assertFalse([x for x in axes.patches if x.get_gid() == 'tail'])
      ((values, _, _),) = _ridges(axes, 'features')
      self.assertAlmostEqual(values.max(), 1.5)
    self.assertNotIn('random directions', _legend(figure))

  def test_values_that_are_not_numbers_are_left_out(self):
    values = np.array([0.25, np.nan, 0.75, np.inf])
    layer = report.LayerMeasures(
        layer=0,
        features=dict.fromkeys(written.MEASURES, values),
        null=dict.fromkeys(written.MEASURES, np.array([np.nan])),
        thresholds=dict.fromkeys(written.MEASURES, 0.5),
    )
    one = report.MeasureDistributions(label='', layers=(layer,))
    axes = report.distribution_figure(one).axes[0]
    ((values, _, _),) = _ridges(axes, 'features')
    self.assertEqual(np.count_nonzero(values), 2)

  def test_names_of_layers_fit(self):
    for count in (1, 16, 17, 42):
      layers = tuple(
          report.LayerMeasures(
              layer=i,
              features=written.values(i),
              null=written.values(i, 5),
              thresholds=written.THRESHOLDS,
          )
          for i in range(count)
      )
      figure = report.distribution_figure(
          report.MeasureDistributions(label='m' * 99, layers=layers)
      )
      figure.draw_without_rendering()
      axes = figure.axes[0]
      boxes = [x.get_window_extent() for x in axes.get_yticklabels()]
      for below, above in zip(boxes, boxes[1:], strict=False):
        self.assertGreater(above.y0, below.y1)
      self.assertLessEqual(figure.get_figheight(), 9)
      (legend,) = figure.legends
      label = axes.xaxis.label.get_window_extent()
      self.assertLess(legend.get_window_extent().y1, label.y0)
      (title,) = figure.texts
      title = title.get_window_extent()
      self.assertLess(title.x1, figure.get_figwidth() * figure.dpi)
      self.assertLess(axes.title.get_window_extent().y1, title.y0)
      self.assertIn('height', axes.get_ylabel())

  def test_readable_in_grey(self):
    figure = report.distribution_figure(self._read())
    axes = figure.axes[0]
    by_gid = {x.get_gid(): x for x in axes.patches}
    light = _luminance(by_gid['features'].get_facecolor())
    dark = _luminance(by_gid['tail'].get_facecolor())
    self.assertGreater(light - dark, 0.3)
    self.assertGreater(1 - light, 0.1)  # And from the paper.
    self.assertNotIn(by_gid['null'].get_linestyle(), ('-', 'solid'))
    self.assertLess(_luminance(by_gid['null'].get_edgecolor()), 0.2)

  def test_the_same_bytes_again_whatever_the_user_has_set(self):
    read = self._read()
    for suffix in ('png', 'pdf'):
      first = written.saved(report.distribution_figure(read), suffix)
      theirs = {'text.usetex': True, 'hatch.linewidth': 7, 'font.size': 30}
      with matplotlib.rc_context(theirs):
        second = written.saved(report.distribution_figure(read), suffix)
      self.assertEqual(first, second, suffix)


def _ridges(axes, gid):
  return [tuple(x.get_data()) for x in axes.patches if x.get_gid() == gid]


def _legend(figure):
  (legend,) = figure.legends
  return [text.get_text() for text in legend.get_texts()]


def _luminance(color):
  red, green, blue, _ = colors.to_rgba(color)
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue


if __name__ == '__main__':
  absltest.main()
