"""The depth figure: what is drawn is what the summary says."""

import dataclasses
import io
import pathlib

from absl.testing import absltest
from absl.testing import parameterized
import matplotlib
from matplotlib import image
import numpy as np

from ooc_jax import report
from ooc_jax import results

_BLUE = np.array([0x00, 0x72, 0xB2]) / 255


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


class DepthFigureTest(parameterized.TestCase):

  def test_one_run_against_its_layers(self):
    figure = report.depth_figure([_curve()])
    (axes,) = figure.axes
    line, measure = axes.lines
    np.testing.assert_allclose(line.get_xdata(), [2, 5, 10])
    np.testing.assert_allclose(line.get_ydata(), [5, 12.5, 30])
    np.testing.assert_allclose(measure.get_ydata(), [1, 2, 4])
    self.assertLess(measure.get_linewidth(), line.get_linewidth())
    self.assertEqual(axes.get_ylim()[0], 0)
    self.assertGreater(axes.get_ylim()[1], 32)
    self.assertEqual(axes.get_xlabel(), 'Layer')
    self.assertIn('tiny', axes.get_title(loc='left'))
    np.testing.assert_allclose(_band(axes, 0), [[2, 7], [9.5, 14.5], [27, 32]])
    self.assertEqual(
        _legend(figure), ['semantic', '95% interval', 'cosine alone']
    )

  def test_several_runs_against_relative_depth(self):
    figure = report.depth_figure([_curve('a'), _curve('b', num_layers=21)])
    (axes,) = figure.axes
    first, second = axes.lines  # And no single measures.
    np.testing.assert_allclose(first.get_xdata(), [0.2, 0.5, 1.0])
    np.testing.assert_allclose(second.get_xdata(), [0.1, 0.25, 0.5])
    self.assertNotEqual(first.get_color(), second.get_color())
    self.assertNotEqual(first.get_marker(), second.get_marker())
    self.assertFalse(first.is_dashed())
    self.assertTrue(second.is_dashed())
    self.assertIn('Relative depth', axes.get_xlabel())
    self.assertEqual(_legend(figure), ['a', 'b', '95% interval'])

  def test_the_null_is_drawn(self):
    low, null, high = (
        (0.005, 0.01, 0.02),
        (0.01, 0.015, 0.03),
        (0.02, 0.03, 0.05),
    )
    parts = {'null': null, 'null_low': low, 'null_high': high}
    shape = report.DepthShape(name='U', p_value=0.0004, turning_point=6.25)
    curve = dataclasses.replace(_curve(), **parts, shape=shape)
    figure = report.depth_figure([curve])
    (axes,) = figure.axes
    (line,) = [x for x in axes.lines if x.get_gid() == 'null']
    np.testing.assert_allclose(line.get_xdata(), [2, 5, 10])
    np.testing.assert_allclose(line.get_ydata(), [1, 1.5, 3])
    np.testing.assert_allclose(_band(axes, 1), [[0.5, 2], [1, 3], [2, 5]])
    self.assertTrue(axes.collections[1].get_hatch())
    (turn,) = [x for x in axes.lines if x.get_gid() == 'turning point']
    self.assertEqual(list(turn.get_xdata()), [6.25])
    self.assertEqual(
        _legend(figure),
        [
            'semantic: U, p ≤ 0.001',
            '95% interval',
            'random directions',
            'turning point',
            'cosine alone',
        ],
    )
    # Over everything that is drawn.
    _, y = axes.transAxes.inverted().transform(
        axes.transData.transform((0, 32))
    )
    self.assertLess(y, 0.985 - 0.5 * 5 / 72 / 2.2)
    _pixels(figure)

  def test_what_is_chance_is_drawn_as_excess(self):
    curve = _curve()
    chance = tuple(
        (a + b) / 2 for a, b in zip(curve.low, curve.high, strict=True)
    )
    curve = dataclasses.replace(
        curve, null=chance, null_low=curve.low, null_high=curve.high
    )
    (axes,) = report.depth_figure([curve]).axes
    self.assertIn('over chance', axes.get_ylabel())
    (null,) = [x for x in axes.lines if x.get_gid() == 'null']
    np.testing.assert_allclose(null.get_ydata(), 0, atol=1e-12)
    excess = 100 * (np.array(curve.share) - chance)
    np.testing.assert_allclose(axes.lines[0].get_ydata(), excess)
    self.assertLess(axes.get_ylim()[0], 0)
    # One interval in 20 misses: one of these may, and two do not by chance.
    for missed, is_chance in ((1, True), (2, False)):
      null = (0.0,) * missed + chance[missed:]
      beyond = dataclasses.replace(curve, null=null)
      (axes,) = report.depth_figure([beyond]).axes
      self.assertEqual('over chance' in axes.get_ylabel(), is_chance)

  def test_what_all_runs_have_in_common_is_in_the_title(self):
    about = ('res, any at 1%', 'mlp, any at 1%')
    curves = [dataclasses.replace(_curve(x), about=x) for x in about]
    (axes,) = report.depth_figure(curves).axes
    title = axes.get_title(loc='left').splitlines()
    self.assertEqual(title[1:], ['any at 1%'])

  def test_curves_of_one_model_are_drawn_by_layer(self):
    (axes,) = report.depth_figure([_curve('a'), _curve('b')]).axes
    self.assertEqual(axes.get_xlabel(), 'Layer')
    np.testing.assert_allclose(axes.lines[0].get_xdata(), _curve().layers)

  def test_nulls_of_several_runs(self):
    with_null = dataclasses.replace(
        _curve('a', num_layers=21),
        null=(0.01, 0.015, 0.03),
        null_low=(0.0, 0.0, 0.0),
        null_high=(0.4, 0.4, 0.9),
        shape=report.DepthShape(
            name='rising', p_value=0.012, turning_point=5.0
        ),
    )
    figure = report.depth_figure([with_null, _curve('b')])
    (axes,) = figure.axes
    first, null, turn, _ = axes.lines
    np.testing.assert_allclose(null.get_xdata(), [0.1, 0.25, 0.5])
    np.testing.assert_allclose(null.get_ydata(), [1, 1.5, 3])
    self.assertEqual(null.get_color(), first.get_color())
    self.assertEqual(list(turn.get_xdata()), [0.25])
    self.assertGreater(axes.get_ylim()[1], 90)
    self.assertEqual(
        _legend(figure),
        [
            'a: rising, p = 0.012',
            'b',
            '95% interval',
            'random directions',
            'turning point, at the top',
        ],
    )
    self.assertEqual(turn.get_marker(), first.get_marker())
    self.assertEqual(turn.get_markerfacecolor(), 'white')

  def test_runs_differ_without_colour(self):
    figure = report.depth_figure([_curve(str(i)) for i in range(14)])
    looks = [
        (line.get_marker(), str(line._unscaled_dash_pattern))
        for line in figure.axes[0].lines
    ]
    self.assertLen(set(looks), 14)
    for each in zip(*looks[:6], strict=True):
      self.assertLen(set(each), 6)

  def test_pixels_are_where_the_numbers_are(self):
    figure = report.depth_figure([_curve()])
    pixels = _pixels(figure)
    self.assertEqual(pixels.shape, (680, 1100, 3))
    (axes,) = figure.axes

    def at(x, y):
      column, row = axes.transData.transform((x, y))
      return pixels[679 - int(row), int(column)]

    np.testing.assert_allclose(at(5, 12.5), _BLUE, atol=0.01)  # A marker.
    band = 0.18 * _BLUE + 0.82
    np.testing.assert_allclose(at(5, 11), band, atol=0.01)
    np.testing.assert_array_equal(at(5, 16), 1)  # Above it: white.
    np.testing.assert_array_equal(at(5, 8), 1)  # Below it.

  def test_the_same_bytes_again_whatever_the_user_has_set(self):
    folder = pathlib.Path(self.create_tempdir().full_path)
    theirs = {
        'text.usetex': True,
        'lines.linewidth': 9,
        'font.family': ['monospace'],
        'axes.facecolor': 'red',
        'legend.frameon': True,
        'figure.dpi': 30,
    }
    with results.ResultsFolder.open(folder, {}, provenance={}) as out:
      out.write_figure('1', report.depth_figure([_curve('a'), _curve('b')]))
      with matplotlib.rc_context(theirs):
        out.write_figure('2', report.depth_figure([_curve('a'), _curve('b')]))
        self.assertEqual(matplotlib.rcParams['lines.linewidth'], 9)
    for suffix in ('png', 'pdf'):
      first, second = (
          (folder / 'figures' / f'{i}.{suffix}').read_bytes() for i in (1, 2)
      )
      self.assertEqual(first, second, suffix)
      self.assertGreater(len(first), 5000)

  def test_hostile_and_long_names(self):
    names = [
        '_hidden',
        '$\\frac{1}{0}$',
        '\x1b[31m\n\u202e漢',
        'x' * 70 + 'end',
    ]
    figure = report.depth_figure([_curve(name) for name in names])
    labels = _legend(figure)
    self.assertEqual(labels[:2], [' _hidden', r'\$\\frac{1}{0}\$'])
    self.assertEqual(labels[2], r'\x1b[31m\n\u202e\u6f22')
    self.assertLen(labels[3], 28)
    self.assertEndsWith(labels[3], 'xend')
    _pixels(figure)
    _pixels(report.depth_figure([_curve()], title='$x^{$ \x1b'))
    # Each of these becomes six characters or ten.
    label, *_ = _legend(report.depth_figure([_curve('漢' * 20 + '漠')] * 2))
    self.assertEqual(label, r'\u6f22\u6f22…\u6f22\u6f20')

  @parameterized.parameters(1, 2, 7)
  def test_nothing_is_drawn_outside_or_over_the_axes(self, runs):
    names = [f'a rather long name of a run, number {i}' for i in range(runs)]
    figure = report.depth_figure([_curve(name) for name in names])
    _pixels(figure)
    (axes,) = figure.axes
    (legend,) = figure.legends
    box = legend.get_window_extent()
    self.assertGreaterEqual(box.x0, 0)
    self.assertLessEqual(box.x1, 1100)
    self.assertGreaterEqual(box.y0, 0)
    self.assertLess(box.y1, axes.xaxis.label.get_window_extent().y0)
    self.assertGreater(axes.get_window_extent().height, 200)

  @parameterized.parameters('m' * 99, 'i' * 9999, '漢' * 99, '$' * 99)
  def test_the_title_fits(self, name):
    figure = report.depth_figure([_curve(name)])
    _pixels(figure)
    (axes,) = figure.axes
    box = axes._left_title.get_window_extent()
    self.assertBetween(box.x1, 900, 1100)
    self.assertLess(box.y1, 680)

  def test_no_semantic_feature_and_one_layer(self):
    zero = (0.0, 0.0)
    flat = report.DepthCurve(
        label='z', layers=(0, 3), num_layers=4, share=zero, low=zero, high=zero
    )
    (axes,) = report.depth_figure([flat]).axes
    self.assertEqual(axes.get_ylim(), (0, 1))
    gap = (float('nan'),)
    for values, num_layers in (((0.2,), 1), ((0.2,), 9), (gap, 9)):
      one = report.DepthCurve(
          label='o',
          layers=(0,),
          num_layers=num_layers,
          share=values,
          low=values,
          high=(0.4,),
      )
      for curves in ([one], [one, one]):
        figure = report.depth_figure(curves)
        _pixels(figure)
        self.assertTrue(np.all(np.isfinite(figure.axes[0].get_xlim())))

  def test_no_curve_is_an_error(self):
    with self.assertRaisesRegex(ValueError, 'at least one'):
      report.depth_figure([])


def _band(axes, index):
  """Lower and upper end at each x."""
  vertices = axes.collections[index].get_paths()[0].vertices
  return [
      [ys.min(), ys.max()]
      for x in np.unique(vertices[:, 0])
      for ys in [vertices[vertices[:, 0] == x, 1]]
  ]


def _legend(figure):
  (legend,) = figure.legends
  return [text.get_text() for text in legend.get_texts()]


def _pixels(figure):
  data = io.BytesIO()
  figure.savefig(data, format='png')
  data.seek(0)
  return image.imread(data)[..., :3]


if __name__ == '__main__':
  absltest.main()
