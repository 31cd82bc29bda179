"""Several runs side by side, as a user compares them."""

import csv
import os
import pathlib
import subprocess
import sys

from absl.testing import absltest
from absl.testing import parameterized

import ooc_jax
from ooc_jax import results
from ooc_jax.experiments import compare
from tests.experiments import scripts
from tests.report import written
from tests.report import written_populations

_SCRIPT = pathlib.Path(__file__).parents[2] / 'experiments/compare.py'


class CompareTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir().full_path)
    self.a, self.b, self.out = (self.root / name for name in ('a', 'b', 'out'))
    written.write_run(self.a)
    written.write_run(self.b, null=False, settings={'model': 'b|'})

  def _run(self, folders, out='out', figures=False, **settings):
    return compare.run(
        folders, out=self.root / out, figures=figures, **settings
    )

  def test_writes_the_figure_and_the_table(self):
    found = self._run([self.a, self.b], figures=True)
    self.assertEqual([row[0] for row in found.rows], ['run', 'tiny', 'b|'])
    self.assertIn(
        'Setting thresholds differs: "null" in tiny, "quantile" in b|.',
        found.cautions,
    )
    with open(self.out / 'comparison.csv', newline='') as file:
      first, second = csv.DictReader(file)
    self.assertEqual((first['run'], second['run']), ('tiny', 'b|'))
    self.assertEqual(float(first['share']), 0.45)
    text = (self.out / 'comparison.md').read_text()
    self.assertIn('| b\\| |', text)
    self.assertIn('\n- Without a null', text)
    self.assertTrue(text.endswith('b\\|.\n'))
    for suffix in ('png', 'pdf'):
      figure = self.out / 'figures' / f'semantic_by_depth.{suffix}'
      self.assertGreater(figure.stat().st_size, 5000)
    summary = results.ResultsFolder.view(self.out).read_summary()
    self.assertEqual(summary['runs'], ['tiny', 'b|'])

  def test_the_same_bytes_again(self):
    self._run([self.a, self.b])
    first = scripts.digest(self.out)
    self._run([str(self.a), self.b])
    self.assertEqual(scripts.digest(self.out), first)
    self.a.rename(self.root / 'elsewhere')
    self._run([self.root / 'elsewhere', self.b], out='out2')
    self.assertEqual(scripts.digest(self.root / 'out2'), first)

  def test_other_runs_need_another_folder(self):
    self._run([self.a, self.b])
    for folders, labels in (
        ([self.b, self.a], None),
        ([self.a, self.b], ['x', 'y']),
    ):
      with self.assertRaisesRegex(ooc_jax.InputError, 'holds another run'):
        self._run(folders, names=labels)
    with self.assertRaisesRegex(ooc_jax.InputError, 'holds another run'):
      self._run([self.a, self.b], out='a')

  def test_populations(self):
    folders = [self.root / 'c', self.root / 'd']
    for folder, sign in zip(folders, (-1, 1), strict=True):
      written_populations.write(folder, sign=sign)
    found = self._run(folders, figures=True)
    self.assertEqual([row[0] for row in found.rows], ['run', 'c', 'd'])
    self.assertEqual(found.rows[1][4:7], ['supported', '1 of 2', '- 0.012'])
    self.assertEqual(found.rows[2][4:7], ['supported', '1 of 2', '+ 0.012'])
    self.assertEqual(found.cautions, [])
    with open(self.out / 'comparison.csv', newline='') as file:
      rows = list(csv.DictReader(file))
    self.assertLen(rows, 2 * 4 * 3)
    self.assertEqual((rows[13]['run'], rows[13]['layer']), ('d', '2'))
    self.assertEqual(rows[13]['delta'], '0.1')
    figure = self.out / 'figures' / 'delta_by_depth.png'
    self.assertGreater(figure.stat().st_size, 5000)
    with self.assertRaisesRegex(ooc_jax.InputError, "'output' or 'input'"):
      self._run(folders, out='e', side='key_pre')
    twin = self.root / 'e' / 'c'
    written_populations.write(twin)
    with self.assertRaisesRegex(ooc_jax.InputError, 'give --names'):
      self._run([folders[0], twin], out='f')

  def test_another_side(self):
    names = [self.root / 'c', self.root / 'd']
    for name in names:
      written.write_run(name, side='input')
    found = self._run(names, side='input')
    self.assertEqual([row[5] for row in found.rows[1:]], ['65.0', '65.0'])
    with self.assertRaisesRegex(ooc_jax.InputError, 'holds another run'):
      self._run(names)
    with self.assertRaisesRegex(ooc_jax.InputError, "no readout 'input'"):
      self._run([self.a, self.b], out='e', side='input')

  def test_names_of_the_user(self):
    found = self._run([self.a, self.b], names=['$x^{', '漢'])
    self.assertEqual([row[0] for row in found.rows[1:]], ['$x^{', '漢'])

  @parameterized.parameters(
      (['a'], None, '1 results folders cannot be compared: give two or more'),
      ([], None, '0 results folders'),
      (['a', 'b', './a'], None, r'\./a is given twice'),
      (['a', 'missing'], None, 'missing is not a results folder: give one'),
      (['a', 'model'], None, 'model/config.json is not the config of an'),
      (['a', 'killed'], None, 'killed/summary.json is not there: finish'),
      (['a', 'other'], None, 'other is of experiment dance and .*a of output_'),
      (['other', 'other2'], None, 'other is of experiment dance, which cannot'),
      (['a', 'torn'], None, 'torn/summary.json is not JSON'),
      (['a', 'empty'], None, "empty lack what .*KeyError.*'experiment'"),
      (['a', 'rowless'], None, 'rowless lack what'),
      (['a', 'b'], ['x'], '1 names, 1 of them different, for 2 folders'),
      (['a', 'b'], ['x', 'x'], '2 names, 1 of them different'),
      (['a', 'b'], ['x', 'x', 'y'], '3 names, 2 of them different'),
  )
  def test_what_is_refused_leaves_nothing(self, names, labels, message):
    self._write_bad_ones()
    with self.assertRaisesRegex(ooc_jax.InputError, message) as caught:
      self._run([f'{self.root}/{x}' for x in names], names=labels)
    text = str(caught.exception)
    self.assertNotIn('\n', text)
    self.assertTrue(text.endswith('.'), text)
    self.assertFalse(self.out.exists())

  def _write_bad_ones(self):
    for name in ('other', 'other2'):
      written.write_run(self.root / name, summary={'experiment': 'dance'})
    written.write_run(self.root / 'killed')
    (self.root / 'killed' / 'summary.json').unlink()
    written.write_run(self.root / 'torn')
    torn = self.root / 'torn' / 'summary.json'
    torn.write_bytes(torn.read_bytes()[:-3])
    written.write_run(self.root / 'empty')
    (self.root / 'empty' / 'summary.json').write_text('{"schema": 2}')
    written.write_run(self.root / 'rowless', summary={'layers': []})
    (self.root / 'model').mkdir()
    (self.root / 'model' / 'config.json').write_text('{"vocab_size": 5}')

  def test_from_the_command_line(self):
    def command(*args):
      return subprocess.run(
          [sys.executable, str(_SCRIPT), *map(str, args)],
          capture_output=True,
          text=True,
          env=os.environ | {'JAX_PLATFORMS': 'cpu'},
          cwd=self.root,
          timeout=300,
      )

    done = command('a', 'b', '--names=one,two')
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertIn('45.0  42.0 to 47.0    22.0', done.stdout)
    self.assertIn(
        'Not alike:\n- Setting alpha differs: 0.01 in one', done.stdout
    )
    self.assertTrue((self.root / 'results/compare/comparison.csv').exists())
    refused = command('a', 'none', f'--out={self.out}')
    self.assertEqual(refused.returncode, 2)
    self.assertEqual(
        refused.stderr,
        'error: none is not a results folder: give one that an experiment'
        ' wrote.\n',
    )


if __name__ == '__main__':
  absltest.main()
