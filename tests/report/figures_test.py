"""All figures of a folder, drawn from it alone."""

import os
import pathlib

from absl.testing import absltest
from absl.testing import parameterized
import pyarrow.parquet as pq

from ooc_jax import report
from ooc_jax._errors import InputError
from tests.report import written
from tests.report import written_participation
from tests.report import written_populations
from tests.report import written_validation

_WRITERS = {
    'output_prediction': lambda path: written.write_run(path, side='input'),
    'attention_participation': written_participation.write,
    'semantic_attention': written_populations.write,
    'validation': written_validation.write,
}
_FILES = {
    'output_prediction': """semantic_by_depth semantic_by_depth_input measures
        measures_input sweep sweep_input features_coherent features_random
        features_incoherent""".split(),
    'attention_participation': """heads participation_by_depth_query
        participation_by_depth_key sweep_query_pre sweep_query_post
        sweep_key_pre sweep_key_post""".split(),
    'semantic_attention': ['populations_output'],
    'validation': ['attention_by_head'],
}


class DrawTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.path = pathlib.Path(self.create_tempdir().full_path) / 'out'

  @parameterized.parameters(*_FILES)
  def test_draws_every_figure_of_an_experiment(self, experiment):
    _WRITERS[experiment](self.path)
    paths = report.draw(self.path, formats=('png',))
    stems = [path.stem for path in paths]
    self.assertContainsSubset(_FILES[experiment], stems)
    self.assertLen(set(stems), len(stems))
    for path in paths:
      self.assertEqual(path.parent, self.path / 'figures')
      self.assertStartsWith(path.read_bytes(), b'\x89PNG')
    self.assertLen(os.listdir(self.path / 'figures'), len(paths))

  def test_every_figure_is_of_a_known_experiment(self):
    self.assertEqual({x.experiment for x in report.FIGURES}, set(_FILES))

  def test_the_same_bytes_again(self):
    written.write_run(self.path)
    names = ('semantic_by_depth', 'features_random')
    first = [path.read_bytes() for path in report.draw(self.path, names=names)]
    paths = report.draw(self.path, names=names)
    self.assertEqual([path.read_bytes() for path in paths], first)
    self.assertEqual(
        [path.name for path in paths],
        ['semantic_by_depth.png', 'semantic_by_depth.pdf']
        + ['features_random.png', 'features_random.pdf'],
    )

  @parameterized.parameters(
      ({'names': ['sweeps']}, "no figure 'sweeps'; did you mean 'sweep'"),
      ({'names': ['heads', '\x1b']}, "no figure 'heads'"),
      ({'formats': ['svg']}, "'svg' is no format of a figure; known are png"),
  )
  def test_refused(self, given, reason):
    written.write_run(self.path)
    with self.assertRaisesRegex(InputError, reason):
      report.draw(self.path, **given)
    self.assertFalse((self.path / 'figures').exists())

  def test_what_is_no_finished_run_is_refused(self):
    with self.assertRaisesRegex(InputError, 'is not a results folder'):
      report.draw(self.path)
    written.write_run(self.path)
    pq.write_table(
        pq.read_table(self.path / 'sweep.parquet').drop_columns('rule'),
        self.path / 'sweep.parquet',
    )
    with self.assertRaisesRegex(InputError, 'lack what the figure needs'):
      report.draw(self.path, names=['sweep'])


if __name__ == '__main__':
  absltest.main()
