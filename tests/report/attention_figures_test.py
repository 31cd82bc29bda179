"""Figures and tables of experiments 2 and 3: drawn is what was written."""

import math
import pathlib

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import pyarrow as pa

from ooc_jax import measures
from ooc_jax import report
from ooc_jax import results
from ooc_jax._errors import InputError
from tests.report import written_populations

_LAYERS, _HEADS = written_populations.LAYERS, 3
_share = written_populations.share


def _rows(place):
  return [
      {
          'layer': layer,
          'features': 50 + i,
          'participating': {
              'share': _share(i, place),
              'low': _share(i, place) - 0.01,
              'high': _share(i, place) + 0.02,
          },
          'null_share': 0.1 * place,
          'null_directions': 50,
      }
      for i, layer in enumerate(_LAYERS)
  ]


def _write_participation(path):
  """A folder of experiment 2 with known numbers."""
  settings = {
      'experiment': 'attention_participation',
      'model': 'a$b',
      'participation': 'null:tokens',
      'alpha': 0.05,
      'at_least': 2,
  }
  sides = {
      name: {
          'layers': _rows(i),
          'total': _rows(i)[0],
          'thresholds': {'kind': 'null'},
          'shape': {'name': 'inverted U', 'p_value': 0.01, 'turning_point': 2},
      }
      for i, name in enumerate(measures.CONTEXTS)
  }
  heads = [
      {
          'layer': layer,
          'head': head,
          **{f'{x}_share': _share(i, head) for x in measures.CONTEXTS},
          'selectivity': 10.0 ** (i + 1),
          'diagonal_mass': 0.1 * head,
          'copy_score': None if head == 1 else 0.5,
          'preferred_offset': 3 * i,
      }
      for i, layer in enumerate(_LAYERS)
      for head in range(_HEADS)
  ]
  sweep = [
      {
          'context': context,
          'thresholds': kind,
          'level': level,
          'at_least': m,
          'layer': layer,
          'share': _share(m, layer + 1) + 0.01 * j,
          'mean_heads': 1.0,
          'null': 'random',
          'null_share': 0.25 / m,
      }
      for j, context in enumerate(measures.CONTEXTS)
      for kind, level in (('quantile', 0.75), ('null:tokens', 0.05))
      for m in (1, 2)
      for layer in (*_LAYERS, -1)
  ]
  with results.ResultsFolder.open(path, settings, provenance={}) as folder:
    folder.write_table('heads', pa.Table.from_pylist(heads))
    folder.write_table('sweep', pa.Table.from_pylist(sweep))
    folder.write_summary({
        'experiment': 'attention_participation',
        'num_layers': 6,
        **sides['query_pre'],
        'sides': sides,
        'examples': [],
    })


class ParticipationTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.path = pathlib.Path(self.create_tempdir().full_path) / 'out'
    _write_participation(self.path)

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
    shown = [x.get_text() for x in panels[2].get_yticklabels()]
    self.assertEqual(shown, ['1', '2', '4'])
    copies = panels[6].collections[0].get_array()
    np.testing.assert_array_equal(copies.mask[:, 1], True)

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
    self.assertIn('apart, p = 0.012', above.get_title())
    lines = {x.get_gid(): x for x in above.lines}
    np.testing.assert_allclose(
        lines['semantic median'].get_ydata(),
        read.contexts['key_pre'].semantic['median'],
    )
    points = {x.get_gid(): x for x in below.lines}
    np.testing.assert_array_equal(points['sure'].get_xdata(), [1])
    np.testing.assert_array_equal(points['not sure'].get_xdata()[0], 2)
    figure.canvas.draw()

  def test_nothing_is_decided_without_a_sign(self):
    path = pathlib.Path(self.create_tempdir().full_path) / 'out'
    written_populations.write(path, sign=0)
    figure = report.populations_figure(report.populations(path, 'output'))
    self.assertEndsWith(figure.axes[0].get_title(), 'not decided')

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
    self.assertEqual((first['layers'], first['reading']), ('3 of 6', 'courses'))
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
