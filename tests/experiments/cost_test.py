"""The table of costs: what is printed, what is left, and the figure."""

import csv
import pathlib

from absl.testing import absltest

from ooc_jax import validation
from ooc_jax.experiments import cost


class CostTest(absltest.TestCase):

  def test_a_run_leaves_what_it_prints(self):
    out = pathlib.Path(self.create_tempdir())
    costs = cost.run(out, tokens=10**6)
    lines = cost.text(costs)
    self.assertLessEqual(max(map(len, lines)), 80)
    names = [case.name for case in validation.COST_CASES]
    self.assertEqual([line.split()[0] for line in lines[1:9]], names)
    self.assertIn('1.0M tokens', ' '.join(lines))
    with (out / 'cost.csv').open() as file:
      rows = list(csv.DictReader(file))
    self.assertEqual([row['model'] for row in rows], names)
    for row in rows:
      parts = ('output_lens_flops', 'input_lens_flops', 'attention_flops')
      weights = sum(float(row[part]) for part in parts)
      seconds = weights / validation.FLOPS_PER_SECOND
      self.assertAlmostEqual(float(row['weights_seconds']) / seconds, 1, 4)
    self.assertEqual((out / 'cost.md').read_text().count('\n'), 10)
    self.assertGreater((out / 'figures' / 'cost.png').stat().st_size, 10_000)

  def test_every_part_of_every_model_is_a_mark(self):
    costs = validation.case_costs()
    axes = cost.figure(costs).axes[0]
    marks = [line for line in axes.lines if line.get_linestyle() == 'None']
    drawn = [line.get_xdata() for line in marks]
    self.assertEqual(list(drawn[0]), [x.activations for x in costs])
    self.assertEqual(list(drawn[-1]), [x.weights for x in costs])
    names = [label.get_text() for label in axes.get_yticklabels()]
    self.assertEqual(names, [x.name for x in costs])


if __name__ == '__main__':
  absltest.main()
