"""Heads, curves and sweeps of experiment 2: drawn is what was written."""

import dataclasses
import pathlib

from absl.testing import absltest
import numpy as np

from ooc_jax import measures
from ooc_jax import report
from ooc_jax._errors import InputError
from tests.report import written_participation
from tests.report import written_populations

_LAYERS, _HEADS = written_populations.LAYERS, written_participation.HEADS
_share = written_populations.share


class ParticipationTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.path = pathlib.Path(self.create_tempdir().full_path) / 'out'
    written_participation.write(self.path)

  def test_curve_of_each_context(self):
    for i, name in enumerate(measures.CONTEXTS):
      curve = report.depth_curve(
          self.path, report.CONTEXT_NAMES[name], readout=name
      )
      self.assertEqual(curve.label, report.CONTEXT_NAMES[name])
      self.assertEqual(curve.layers, _LAYERS)
      self.assertEqual(curve.share, tuple(_share(j, i) for j in range(3)))
      self.assertEqual(curve.null, (0.1 * i,) * 3)
      self.assertEqual(curve.shape.name, 'inverted U')
    figure = report.depth_figure([curve], subject='Participating features')
    (axes,) = figure.axes
    self.assertEqual(axes.get_ylabel(), 'Participating features (%)')
    self.assertStartsWith(axes.get_title(loc='left'), 'Participating features')
    names = [x.get_text() for x in figure.legends[0].get_texts()]
    self.assertStartsWith(names[0], 'participating: inverted U')
    with self.assertRaisesRegex(InputError, 'key_mid'):
      report.depth_curve(self.path, readout='key_mid')

  def test_run_of_a_comparison(self):
    run = report.run_summary(self.path, readout='key_post')
    self.assertEqual(run.share[0], _share(0, 3))
    rows = report.comparison_rows([run], ['x'], counted='participating')
    self.assertEqual(rows[0][5], 'participating %')

  def test_heads_are_drawn_where_they_are(self):
    read = report.head_map(self.path)
    self.assertEqual(read.label, 'a$b')
    for i in range(3):
      for head in range(_HEADS):
        self.assertEqual(read.shares['key_pre'][i, head], _share(i, head))
    self.assertTrue(np.isnan(read.numbers['copy_score'][:, 1]).all())
    figure = report.heads_figure(read)
    panels = figure.axes[:8]
    titles = [axes.get_title() for axes in panels]
    self.assertEqual(titles[:4], list(report.CONTEXT_NAMES.values()))
    drawn = panels[2].collections[0].get_array()
    np.testing.assert_allclose(drawn, 100 * read.shares['key_pre'])
    # The first layer is at the top.
    self.assertGreater(*panels[2].get_ylim())
    # Where the axes of a row are one.
    shown = [x.get_text() for x in panels[0].get_yticklabels()]
    self.assertEqual(shown, ['1', '2', '4'])
    self.assertEqual(
        titles[4:],
        [
            'selectivity',
            'weight on itself',
            'OV copy score',
            'preferred distance (pairs)',
        ],
    )
    self.assertEqual(read.even, 1 / 50)
    marks = [
        x.get_text() for axes in figure.axes for x in axes.get_yticklabels()
    ]
    self.assertIn('1/F', marks)
    self.assertEqual(read.about, 'over 5% of tokens null in 2+ heads')
    self.assertIn(read.about, figure._suptitle.get_text())
    copies = panels[6].collections[0].get_array()
    np.testing.assert_array_equal(copies.mask[:, 1], True)

  def test_by_chance_and_the_mean_of_the_stream_where_they_are_known(self):
    read = report.head_map(self.path)
    names = ['relative_selectivity', *list(read.numbers)[1:3], 'bias_offset']
    ratios = np.array([[0.8, 1.0, 4.0]] * 3)
    grids = [ratios, *list(read.numbers.values())[1:3], 10 * ratios]
    figure = report.heads_figure(
        dataclasses.replace(read, numbers=dict(zip(names, grids, strict=True)))
    )
    titles = [axes.get_title() for axes in figure.axes[4:8]]
    self.assertEqual(titles[0], 'selectivity ÷ chance')
    self.assertEqual(titles[3], 'preferred distance (mean)')
    # As far below chance as above.
    norm = figure.axes[4].collections[0].norm
    self.assertAlmostEqual(norm.vmin * norm.vmax, 1)
    bars = [axes for axes in figure.axes if axes.get_label() == '<colorbar>']
    for axes in bars:
      shown = [x.get_text() for x in axes.get_yticklabels()]
      self.assertGreaterEqual(len(set(shown)), 2, shown)
    self.assertIn('1', [x.get_text() for x in bars[0].get_yticklabels()])

  def test_numbers_that_are_all_alike(self):
    read = report.head_map(self.path)
    alike = {name: np.ones((3, 3)) for name in read.numbers}
    report.heads_figure(
        report.HeadMap(
            label='x', layers=_LAYERS, shares=read.shares, numbers=alike
        )
    ).canvas.draw()

  def test_sweep_of_a_context(self):
    read = report.participation_sweep(self.path, 'query_post')
    self.assertEqual(
        [(d.rule, d.kind) for d in read.decisions],
        [
            ('In at least 1 head', 'quantile'),
            ('In at least 1 head', 'null:tokens'),
            ('In at least 2 heads', 'quantile'),
            ('In at least 2 heads', 'null:tokens'),
        ],
    )
    self.assertEqual(read.used, 3)
    for i, m in enumerate((1, 1, 2, 2)):
      expected = [_share(m, layer + 1) + 0.01 for layer in _LAYERS]
      np.testing.assert_allclose(read.share[i], expected)
      self.assertAlmostEqual(read.whole[i], _share(m) + 0.01)
      self.assertEqual(read.null[i], 0.25 / m)
    report.sweep_figure(read, subject='Participating features').canvas.draw()

  def test_damaged_heads_are_one_sentence(self):
    (self.path / 'heads.parquet').write_bytes(b'PAR1')
    with self.assertRaises(InputError):
      report.head_map(self.path)


if __name__ == '__main__':
  absltest.main()
