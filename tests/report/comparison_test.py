"""The table of several runs, and what it warns of."""

import csv
import io
import pathlib

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from ooc_jax import report
from ooc_jax._errors import InputError
from tests.report import written


class RunsTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir().full_path)

  def _run(self, name, **kwargs):
    written.write_run(self.root / name, **kwargs)
    return report.run_summary(self.root / name)

  def test_reads_the_total(self):
    run = self._run('a', weights={'w': 'ff'})
    self.assertEqual((run.model, run.dictionary), ('tiny', 'mlp'))
    self.assertEqual(run.layers, written.LAYERS)
    self.assertEqual(run.features, (written.FEATURES,) * 3)
    np.testing.assert_allclose(run.share, (0.45, 0.42, 0.47), rtol=1e-12)
    np.testing.assert_allclose(run.excess, (0.2, 0.17, 0.22), rtol=1e-12)
    self.assertEqual((run.null, run.thresholds), (0.22, 'null'))
    self.assertEqual(run.shape.name, 'inverted U')
    self.assertEqual(run.weights, {'w': 'ff'})
    self.assertEqual(report.experiment_of(self.root / 'a'), 'output_prediction')

  def test_another_side(self):
    written.write_run(self.root / 'a', side='input')
    run = report.run_summary(self.root / 'a', readout='input')
    self.assertAlmostEqual(run.share[0], 0.65)
    self.assertEqual(run.shape.name, 'flat')
    self.assertEqual(run.num_layers, written.NUM_LAYERS)

  def test_a_damaged_summary_is_refused(self):
    for i, changed in enumerate(
        ({'total': {}}, {'layers': 3}, {'num_layers': None}, {'thresholds': 1})
    ):
      with self.assertRaisesRegex(InputError, 'lack what'):
        self._run(str(i), summary=changed)

  @parameterized.parameters(
      ([{}, {'model': 'b'}], ['tiny', 'b']),
      ([{}, {'dictionary': 'random'}], ['mlp', 'random']),
      ([{}, {'k': 7}], ['run0', 'run1']),
      (
          [
              {},
              {'control': 'random_weights'},
              {'control': 'none', 'model': 'b'},
          ],
          ['tiny trained', 'tiny random_weights', 'b trained'],
      ),
      (
          [{}, {'model': 'b'}, {'dictionary': 'x'}],
          ['tiny mlp', 'b mlp', 'tiny x'],
      ),
      (
          [{}, {'model': 'b'}, {'model': 'b', 'k': 7}],
          ['tiny run0', 'b run1', 'b run2'],
      ),
  )
  def test_labels(self, settings, labels):
    runs = [self._run(f'run{i}', settings=s) for i, s in enumerate(settings)]
    self.assertEqual(report.distinct_labels(runs), labels)

  def test_labels_differ_also_when_cut(self):
    middle = 'x' * 20 + '{}' + 'y' * 20
    runs = [
        self._run(middle.format(i), settings={'model': middle.format(i)})
        for i in range(2)
    ]
    labels = report.distinct_labels(runs)
    self.assertEqual([label[:2] for label in labels], ['1 ', '2 '])


class ComparisonTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    root = pathlib.Path(self.create_tempdir().full_path)
    written.write_run(root / 'a', weights={'w': '00'})
    written.write_run(
        root / 'b',
        null=False,
        weights={'w': '11'},
        settings={'k': 20, 'model': 'tiny', 'layers': '0-3'},
    )
    self.runs = [report.run_summary(root / name) for name in 'ab']

  def test_the_table_to_read(self):
    rows = report.comparison_rows(self.runs, ['A', 'B'])
    self.assertLen(set(rows[0]), len(rows[0]))
    self.assertEqual(
        rows[1],
        ['A', 'tiny', 'mlp', '11', '0,2-3 of 5', '45.0', '42.0 to 47.0']
        + ['22.0', '20.0', '17.0 to 22.0', 'inverted U', '0.012', '2.5'],
    )
    self.assertEqual(rows[2][5:], ['45.0', '42.0 to 47.0'] + ['-'] * 6)

  def test_the_table_to_compute_with(self):
    rows = report.comparison_numbers(self.runs, ['A', 'B,"'])
    text = report.csv_table(rows)
    self.assertNotIn('\r', text)
    first, second = csv.DictReader(io.StringIO(text))
    self.assertEqual(second['run'], 'B,"')
    self.assertEqual(first['layers'], '0,2-3')
    self.assertEqual(int(first['features_total']), 3 * written.FEATURES)
    self.assertEqual(float(first['share_low']), self.runs[0].share[1])
    self.assertEqual(float(first['excess_high']), self.runs[0].excess[2])
    self.assertEqual(float(first['turning_point']), 2.5)
    for name in ('null_share', 'excess', 'shape', 'shape_p_value'):
      self.assertEqual(second[name], '')

  def test_cautions(self):
    sentences = report.cautions(self.runs, ['A', 'B'])
    self.assertEqual(
        sentences,
        [
            'Setting alpha differs: 0.01 in A, absent in B.',
            'Setting k differs: 6 in A, 20 in B.',
            'Setting thresholds differs: "null" in A, "quantile" in B.',
            'tiny was read from other weight files in A and B.',
            (
                'Quantile thresholds are of each run itself, and fix its'
                ' share: compare the courses over depth and not the levels of'
                ' B.'
            ),
            'Not all layers of the model were run in A, B.',
            'Without a null, so without an excess over chance: B.',
        ],
    )

  def test_like_with_like_needs_no_caution(self):
    root = pathlib.Path(self.create_tempdir().full_path)
    rows = [written.row(x, 0.4, null=True) for x in range(written.NUM_LAYERS)]
    for name in 'ab':
      written.write_run(
          root / name, settings={'model': name}, summary={'layers': rows}
      )
    runs = [report.run_summary(root / name) for name in 'ab']
    self.assertEqual(report.cautions(runs, ['A', 'B']), [])


if __name__ == '__main__':
  absltest.main()
