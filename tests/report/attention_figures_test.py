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

_LAYERS, _HEADS = (1, 2, 4), 3


def _share(i, j=0):
  return (7 * i + 3 * j + 1) / 64


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
      curve = report.participation_curve(self.path, name)
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
      report.participation_curve(self.path, 'key_mid')

  def test_run_of_a_comparison(self):
    run = report.run_summary(self.path, side='key_post')
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
    populations, effects = [], []
    for j, context in enumerate(measures.CONTEXTS):
      for i, layer in enumerate(_LAYERS):
        for k, name in enumerate(('other', 'semantic')):
          populations.append({
              'labelling': 'output',
              'context': context,
              'layer': layer,
              'population': name,
              'size': 20 + i,
              'mean': _share(i, j) + k,
              'median': _share(i, j) + 2 * k,
              'p75': _share(i, j) + 30 * k,
          })
        none = layer == 4
        effects.append({
            'labelling': 'output',
            'context': context,
            'layer': layer,
            'delta': None if none else 0.1 * i,
            'low': None if none else 0.1 * i - 0.05,
            'high': None if none else 0.1 * i + 0.05,
            'u': None if none else 3.0,
            'p_value': None if none else 0.5,
            'q_value': None if none else 0.04 + 0.02 * i,
        })
    test = {'sign': -1, 'p_value': 0.012}
    tests = dict.fromkeys(measures.CONTEXTS, test)
    with results.ResultsFolder.open(
        self.path, {'model': 'm'}, provenance={}
    ) as folder:
      folder.write_table('populations', pa.Table.from_pylist(populations))
      folder.write_table('effects', pa.Table.from_pylist(effects))
      folder.write_summary({
          'num_layers': 6,
          'statements': {
              'inverse': {'readings': {'courses': {'tests': tests}}}
          },
      })

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

  def test_the_table_has_every_number(self):
    rows = report.population_rows(self.path, 'output')
    self.assertLen(rows, 1 + 4 * 3)
    row = dict(zip(rows[0], rows[3], strict=True))
    self.assertEqual((row['context'], row['layer']), ('query_pre', '4'))
    self.assertEqual(row['delta'], '')
    self.assertEqual(float(row['semantic_median']), _share(2, 0) + 2)
    self.assertEqual(row['other_size'], '22')
    self.assertLen(report.population_rows(self.path, 'input'), 1)


if __name__ == '__main__':
  absltest.main()
