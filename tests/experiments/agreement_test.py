"""Agreement with attention: what is written, said and drawn of it."""

import pathlib

from absl.testing import absltest
import numpy as np

from ooc_jax import report
from ooc_jax import validation
from ooc_jax.experiments import _agreement
from tests.report import written_validation


class AgreementTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.found = [
        written_validation.agreement(x) for x in written_validation.LAYERS
    ]
    self.rows = [self._summary(x) for x in self.found]

  def _summary(self, found):
    table = _agreement.heads_table(found)
    return _agreement.heads_summary(table, found.layer - 1)

  def test_summary_counts_heads_over_their_null(self):
    own = self.rows[0]['predictors']
    self.assertEqual(own['strongest']['heads_over_null'], 2)
    self.assertIsNone(own['distance']['heads_over_null'])
    self.assertAlmostEqual(own['sum']['spearman'], 0.4 + 0.011, 12)
    self.assertAlmostEqual(own['sum']['null'], 0.025, 12)
    self.assertAlmostEqual(own['sum']['null_high'], 0.14375, 12)

  def test_a_predictor_without_correlation_is_null(self):
    head = self.found[0].predictors['sum']
    nothing = np.full(written_validation.HEADS, np.nan)
    self.found[0].predictors['sum'] = validation.HeadCorrelations(
        nothing, nothing, nothing, head.null * np.nan, (np.nan,) * 3
    )
    row = self._summary(self.found[0])
    self.assertIsNone(row['predictors']['sum']['spearman'])
    self.assertIn('- (-)', _agreement.heads_text([row])[-1])

  def test_text_has_a_line_a_layer_that_fits(self):
    lines = _agreement.heads_text(self.rows)
    self.assertLessEqual(max(map(len, lines)), 96)
    self.assertStartsWith(lines[-2].strip(), '1 ')
    self.assertIn('0.40* (0.02)', lines[-2])
    self.assertEqual(_agreement.heads_text([]), [])

  def test_figure_shows_what_was_written(self):
    out = pathlib.Path(self.create_tempdir().full_path) / 'out'
    written_validation.write(out)
    read = report.attention_by_head(out)
    self.assertEqual(read.layers, written_validation.LAYERS)
    curve = read.predictors['sum_turned']
    for i, found in enumerate(self.found):
      own = found.predictors['sum_turned']
      np.testing.assert_array_equal(curve.heads[i], own.spearman)
      np.testing.assert_array_equal(curve.mean[i], own.mean)
    np.testing.assert_array_equal(curve.over, [[False, True, True]] * 2)
    figure = report.attention_by_head_figure(read)
    self.assertLen(figure.axes, 8)
    drawn = [
        line.get_ydata().tolist()
        for line in figure.axes[5].lines
        if line.get_marker() == 'o'
    ]
    self.assertEqual(drawn[0], curve.heads[:, 0].tolist())
    self.assertEqual(drawn[1], curve.heads[:, 1:].ravel().tolist())
    paths = report.draw(out, formats=['png'])
    self.assertEqual([p.name for p in paths], ['attention_by_head.png'])


if __name__ == '__main__':
  absltest.main()
