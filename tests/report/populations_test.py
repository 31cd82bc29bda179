"""Figures and tables of experiment 3: drawn is what was written."""

import math
import pathlib

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from ooc_jax import measures
from ooc_jax import report
from ooc_jax._errors import InputError
from tests.report import written_populations

_LAYERS = written_populations.LAYERS
_share = written_populations.share


class PopulationsTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.path = pathlib.Path(self.create_tempdir().full_path) / 'out'
    written_populations.write(self.path)

  def test_reads_what_was_written(self):
    read = report.populations(self.path, 'output')
    self.assertEqual(read.label, 'm, decoder-unembedding labels')
    own = read.contexts['key_pre']
    self.assertEqual(own.layers, _LAYERS)
    place = measures.CONTEXTS.index('key_pre')
    expected = [_share(i, place) + 2 for i in range(3)]
    np.testing.assert_allclose(own.semantic['median'], expected)
    np.testing.assert_allclose(
        own.other['p75'], [_share(i, place) for i in range(3)]
    )
    np.testing.assert_allclose(own.delta, [0, 0.1, math.nan])
    with self.assertRaises(InputError):
      report.populations(self.path, 'input')

  def test_draws_both_and_marks_what_is_sure(self):
    read = report.populations(self.path, 'output')
    figure = report.populations_figure(read)
    above, below = figure.axes[2], figure.axes[6]
    self.assertIn('change -0.25, p = 0.012', above.get_title())
    lines = {x.get_gid(): x for x in below.lines}
    np.testing.assert_allclose(
        lines['semantic median'].get_ydata(),
        read.contexts['key_pre'].semantic['median'],
    )
    np.testing.assert_allclose(
        lines['chance'].get_ydata(), read.contexts['key_pre'].chance
    )
    points = {x.get_gid(): x for x in above.lines}
    np.testing.assert_array_equal(points['sure'].get_xdata(), [1])
    np.testing.assert_array_equal(points['not sure'].get_xdata()[0], 2)
    # 95 of 100 permutations, around 0.
    first = above.patches[0]
    self.assertAlmostEqual(first.get_y(), -1.96 * 0.03)
    self.assertAlmostEqual(first.get_height(), 2 * 1.96 * 0.03)
    figure.canvas.draw()

  def test_too_few_layers_are_not_tested(self):
    path = pathlib.Path(self.create_tempdir().full_path) / 'out'
    written_populations.write(path, sign=0)
    figure = report.populations_figure(report.populations(path, 'output'))
    self.assertEndsWith(figure.axes[0].get_title(), 'too few layers for a test')

  def test_the_table_has_every_number(self):
    rows = report.population_rows(self.path, 'output')
    self.assertLen(rows, 1 + 4 * 3)
    row = dict(zip(rows[0], rows[3], strict=True))
    self.assertEqual((row['context'], row['layer']), ('query_pre', '4'))
    self.assertEqual(row['delta'], '')
    self.assertEqual(float(row['semantic_median']), _share(2, 0) + 2)
    self.assertEqual(row['other_size'], '22')
    self.assertLen(report.population_rows(self.path, 'input'), 1)

  def test_effects_of_several_runs(self):
    read = report.populations(self.path, 'output')
    figure = report.effects_figure([read], ['a'], labelling='output')
    panel = figure.axes[2]
    self.assertEqual(panel.get_title(), report.CONTEXT_NAMES['key_pre'])
    points = {x.get_gid(): x for x in panel.lines}
    np.testing.assert_allclose(points['sure'].get_xydata(), [[0.2, 0.0]])
    np.testing.assert_allclose(
        points['not sure'].get_xydata(), [[0.4, 0.1], [0.8, math.nan]]
    )
    (bars,) = panel.collections
    np.testing.assert_allclose(
        bars.get_segments()[1], [[0.4, 0.05], [0.4, 0.15]]
    )
    names = [x.get_text() for x in figure.legends[0].get_texts()]
    self.assertEqual(names[0], 'a')
    figure.canvas.draw()
    with self.assertRaisesRegex(ValueError, 'a name for each'):
      report.effects_figure([read], [], labelling='output')

  def test_statements_of_several_runs(self):
    other = self.path.parent / 'b'
    written_populations.write(other, model='n', sign=1, labels={'alpha': 0.05})
    rows = report.statement_rows([self.path, other], ['a', 'b'], 'output')
    first, second = (dict(zip(rows[0], row, strict=True)) for row in rows[1:])
    self.assertEqual((first['run'], first['model']), ('a', 'm'))
    self.assertEqual((first['layers'], first['holds']), ('3 of 6', '1 of 2'))
    self.assertEqual(first['verdict'], 'supported')
    self.assertEqual(first['query_pre'], '- 0.012')
    self.assertEqual((second['model'], second['key_post']), ('n', '+ 0.012'))
    with self.assertRaises(InputError):
      report.statement_rows([self.path], ['a'], 'input')
    self.assertEqual(
        report.statement_cautions([self.path, other], ['a', 'b']),
        ['Setting labels.alpha differs: 0.01 in a, 0.05 in b.'],
    )


if __name__ == '__main__':
  absltest.main()
