"""Exports of written folders: chosen features, tables, refusals, whole."""

import csv
import importlib.util
import json
import pathlib
import re
import shutil
import subprocess
import sys
import unittest
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import duckdb
import numpy as np
import pyarrow.parquet as pq

from ooc_jax import InputError
from ooc_jax import export
from ooc_jax import results
from tests.experiments import scripts
from tests.explore import folders


class ExportCase(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir().full_path)
    folders.output(self.root / 'in/out')
    folders.attention(self.root / 'in/attention')
    folders.validation(self.root / 'in/validation')
    self.out = self.root / 'exported'

  def _run(self, *folders_in, **settings):
    config = export.Export(**({'out': str(self.out)} | settings))
    return export.run(folders_in or [self.root / 'in'], config)

  def _manifest(self):
    return json.loads((self.out / 'export.json').read_text())


class ChoiceTest(ExportCase):

  def test_the_best_are_coherent_first_then_by_p_and_rank(self):
    self._run(to='jsonl', best=4)
    chosen = [
        tuple(map(int, x.split('/'))) for x in self._manifest()['features']
    ]
    self.assertLen(chosen, 4 * folders.LAYERS)
    for layer in range(folders.LAYERS):
      own = folders.labels()
      coherent = own['coherent'][own['layer'] == layer]
      # Sorted by hand: without p-values, cosine alone ranks.
      order = sorted(
          range(folders.FEATURES),
          key=lambda i: (not coherent[i], -folders.cosines(layer)[i]),
      )
      self.assertEqual([b for a, b in chosen if a == layer], order[:4])

  @parameterized.parameters(
      ({'features': ('1/7', '9/0')}, 'no layer 9 in these results; they have'),
      ({'features': ('1/60',)}, 'no feature 60 in layer 1, which has 60'),
      ({'features': ('1-7',)}, "'1-7' is no feature; write 'LAYER/NUMBER'"),
      ({'features': ('1/7',), 'best': 3}, 'exclude each other'),
      ({'features': ()}, 'names none'),
      ({'to': 'html'}, 'of chosen features: say --best'),
      ({'to': 'vectors'}, 'of chosen features: say --best'),
      ({'to': 'pdf'}, "to='pdf' is unknown"),
      ({'best': 0}, 'at least 1'),
  )  # fmt: skip
  def test_what_is_asked_for_and_not_there(self, settings, message):
    with self.assertRaisesRegex(InputError, message):
      self._run(**{'to': 'csv', **settings})
    self.assertFalse(self.out.exists())

  def test_runs_of_two_dictionaries_are_not_one_export(self):
    folders.output(self.root / 'in/other', model='other')
    with self.assertRaisesRegex(
        InputError, 'runs of 2 dictionaries: .*other, .*out'
    ):
      self._run(to='csv')

  @parameterized.parameters(
      ('html', 'best'), ('neuronpedia', None), ('csv', 'best'),
  )  # fmt: skip
  def test_without_experiment_1(self, to, best):
    with self.assertRaisesRegex(InputError, 'needs a run of output_prediction'):
      self._run(self.root / 'in/attention', to=to, best=2 if best else None)


class FolderTest(ExportCase):

  def test_no_such_folder(self):
    with self.assertRaisesRegex(InputError, 'is not a folder'):
      self._run(self.root / 'none', to='csv')
    with self.assertRaisesRegex(InputError, 'holds no results'):
      self._run(self.create_tempdir().full_path, to='csv')

  def _damage(self, kind):
    folder = self.root / 'in/out'
    if kind == 'schema':
      config = json.loads((folder / 'config.json').read_text())
      (folder / 'config.json').write_text(json.dumps(config | {'schema': 1}))
    elif kind == 'begun':
      for path in (*folder.rglob('*.parquet'), folder / 'summary.json'):
        path.unlink()
    else:
      (folder / kind).write_bytes(b'')

  @parameterized.parameters(
      ('schema', 'has results of schema 1, and this ooc_jax reads 2: run it'),
      ('begun', 'has no finished layer yet'),
      ('summary.json', 'summary.json is damaged; run it again'),
      ('config.json', 'run it again'),
      ('features/layer=01.parquet', 'file of layer 1 is empty or damaged'),
      ('labels.parquet', 'labels.parquet'),
  )  # fmt: skip
  def test_a_damaged_run_is_refused_in_a_sentence(self, kind, message):
    self._damage(kind)
    for to in ('csv', 'html', 'neuronpedia'):
      if to == 'neuronpedia' and kind == 'labels.parquet':
        continue  # Which needs no labels.
      with self.assertRaisesRegex(InputError, message):
        self._run(self.root / 'in/out', to=to, best=None if to == 'csv' else 1)
      self.assertFalse(self.out.exists())

  def test_of_an_unfinished_run_what_is_done_is_exported(self):
    folder = self.root / 'in/out'
    for name in ('summary.json', 'labels.parquet', 'features/layer=02.parquet'):
      (folder / name).unlink()
    done = self._run(to='html', best=2)
    self.assertEqual(
        done.notes, ('out has not finished: layers 0, 1 are exported.',)
    )
    self.assertEqual(self._manifest()['notes'], list(done.notes))
    self.assertLen(self._manifest()['features'], 4)

  def test_its_own_folder_is_replaced_and_no_other(self):
    self.out.mkdir()
    self._run(to='html', best=1)
    self._run(to='csv', best=1)
    self.assertFalse((self.out / 'index.html').exists())
    self.assertEqual(
        sorted(x.name for x in self.root.iterdir()), ['exported', 'in']
    )
    (self.out / 'mine.txt').write_text('x')
    with self.assertRaisesRegex(InputError, "'mine.txt', which no export"):
      self._run(to='csv', best=1)
    with self.assertRaisesRegex(InputError, 'no earlier export'):
      self._run(to='csv', out=str(self.root / 'in/out'))
    with self.assertRaisesRegex(InputError, 'is no folder'):
      self._run(to='csv', out=str(self.out / 'mine.txt'))

  def test_nothing_is_half_written(self):
    self._run(to='csv', best=1)
    before = scripts.digest(self.out)
    with mock.patch.object(
        results, 'write_json', side_effect=OSError(28, 'No space left')
    ):
      with self.assertRaisesRegex(InputError, 'No space left; free some space'):
        self._run(to='html', best=1)
    self.assertEqual(scripts.digest(self.out), before)
    self.assertEqual(
        sorted(x.name for x in self.root.iterdir()), ['exported', 'in']
    )

  def test_the_command(self):
    done = scripts.run_here(
        'export', str(self.root / 'in'), '--features=1/7,0/3', '--to=csv',
        f'--out={self.out}',
    )  # fmt: skip
    files = sum(x.is_file() for x in self.out.rglob('*'))
    self.assertEqual(done.stdout, f'{self.out}: {files} files\n', done.stderr)
    done = scripts.run_here('export', str(self.root / 'in'), '--to=html')
    self.assertEqual(done.returncode, 2)
    self.assertIn('error: --to=html is of chosen features', done.stderr)

  def test_the_room_needs_no_jax(self):
    code = (
        'import sys; from ooc_jax import export; export.run; from ooc_jax'
        ' import _cli; print([x for x in ("jax", "matplotlib") if x in'
        ' sys.modules])'
    )
    done = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, check=True
    )
    self.assertEqual(done.stdout.strip(), '[]')


class TablesTest(ExportCase):

  def _original(self, name, layer=None):
    """Rows of a table as it lies, by PyArrow."""
    rows = pq.read_table(self.root / 'in' / name).to_pylist()
    return rows if layer is None else [{'layer': layer} | x for x in rows]

  def _features(self, run):
    paths = sorted((self.root / 'in' / run / 'features').iterdir())
    return [
        row
        for path in paths
        for row in self._original(
            path.relative_to(self.root / 'in'), int(path.stem[-2:])
        )
    ]

  def _assert_same(self, ours, theirs):
    self.assertLen(ours, len(theirs))
    self.assertNotEmpty(ours)
    for mine, own in zip(ours, theirs, strict=True):
      self.assertEqual(set(mine), set(own))
      for name, value in own.items():
        got = mine[name]
        if isinstance(value, float) and value != value:
          self.assertTrue(got is None or got != got, name)
        elif isinstance(value, list) and isinstance(got, str):
          self.assertEqual(json.loads(got), value, name)
        elif isinstance(value, list) or value is None:
          self.assertEqual(got, value, name)
        else:
          self.assertEqual(value, type(value)(got), name)

  @parameterized.parameters('csv', 'jsonl')
  def test_duckdb_reads_the_values_of_the_run(self, to):
    self._run(to=to)
    reader = 'read_csv' if to == 'csv' else 'read_json_auto'
    pairs = [
        ('output_prediction/features', self._features('out')),
        ('output_prediction/labels', self._original('out/labels.parquet')),
        ('attention_participation/features', self._features('attention')),
        (
            'attention_participation/heads',
            self._original('attention/heads.parquet'),
        ),
        ('validation/features', self._features('validation')),
    ]
    for name, theirs in pairs:
      path = self.out / f'{name}.{to}'
      got = duckdb.sql(f"SELECT * FROM {reader}('{path}')")
      rows = [dict(zip(got.columns, x, strict=True)) for x in got.fetchall()]
      if to == 'csv':  # No text of these tables is null.
        for row in rows:
          for column in ('prompt', 'plain'):
            if column in row:
              row[column] = row[column] or ''
      self._assert_same(rows, theirs)

  @unittest.skipUnless(importlib.util.find_spec('pandas'), 'Needs pandas.')
  def test_pandas_reads_the_values_of_the_run(self):
    import pandas

    for to in ('csv', 'jsonl'):
      self._run(to=to)
      for name, theirs in (
          ('output_prediction/features', self._features('out')),
          ('output_prediction/labels', self._original('out/labels.parquet')),
          ('validation/features', self._features('validation')),
      ):
        path = self.out / f'{name}.{to}'
        if to == 'csv':
          frame = pandas.read_csv(path)
          frame = frame.fillna({'prompt': '', 'plain': ''})
        else:
          frame = pandas.read_json(path, lines=True, precise_float=True)
        self._assert_same(frame.to_dict('records'), theirs)

  def test_chosen_features_and_their_layer_of_attention(self):
    self._run(to='jsonl', features=('1/7', '0/3'))

    def keys(name):
      lines = (self.out / f'{name}.jsonl').read_text().splitlines()
      return [(x['layer'], x['feature']) for x in map(json.loads, lines)]

    self.assertEqual(keys('output_prediction/features'), [(0, 3), (1, 7)])
    self.assertEqual(keys('output_prediction/labels'), [(0, 3), (1, 7)])
    # The attention of a layer reads the features of the one before.
    both = [(1, 3), (2, 7)]
    self.assertEqual(keys('attention_participation/features'), both)
    self.assertEqual(keys('attention_participation/participation'), both)
    self.assertEqual(keys('validation/features'), [(1, 7)])
    lines = (self.out / 'attention_participation/heads.jsonl').read_text()
    self.assertLen(lines.splitlines(), (folders.LAYERS - 1) * folders.HEADS)

  def test_a_column_that_only_a_later_layer_has(self):
    path = self.root / 'in/out/features/layer=02.parquet'
    table = pq.read_table(path)
    more = np.arange(len(table)).astype(np.float64)
    pq.write_table(table.append_column('more', [more]), path)
    self._run(to='csv')
    with open(self.out / 'output_prediction/features.csv', newline='') as file:
      rows = list(csv.DictReader(file))
    self.assertEqual(rows[0]['more'], '')
    self.assertEqual(float(rows[-1]['more']), more[-1])

  def test_files_are_ascii(self):
    for to in ('csv', 'jsonl'):
      self._run(to=to)
      text = (self.out / f'output_prediction/features.{to}').read_bytes()
      self.assertTrue(text.isascii())
      self.assertNotIn(b'\x1b', text)


class HtmlTest(ExportCase):

  def test_every_reference_is_to_a_file_of_the_site(self):
    self._run(to='html', features=('1/7', '0/3', '1/8'))
    names = set(self._manifest()['files'])
    self.assertContainsSubset(
        {
            'index.html', 'features.html', 'feature/1/7.html',
            'feature/0/3.html', 'static/explore.css', 'static/explore.js',
        },
        names,
    )  # fmt: skip
    shutil.rmtree(self.root / 'in')  # Nothing of the run is needed.
    for name in names:
      if not name.endswith('.html'):
        continue
      page = self.out / name
      text = page.read_text()
      self.assertIn('Content-Security-Policy', text)
      self.assertNotIn('<form class', text)
      for file in ('explore.css', 'explore.js', 'icon.svg'):
        self.assertRegex(text, rf'(href|src)="[./]*static/{file}"')
      self.assertNotIn(folders.MARKUP, text)
      for address in re.findall(r'(?:href|src|action)="([^"]*)"', text):
        if address.startswith(('#', 'https://www.neuronpedia.org/')):
          continue
        target = (page.parent / address).resolve()
        self.assertTrue(target.is_file(), f'{name}: {address}')
        self.assertIn(str(target.relative_to(self.out.resolve())), names)

  def test_neighbours_are_those_of_the_site(self):
    self._run(to='html', features=('1/7', '0/3', '1/8'))
    text = (self.out / 'feature/0/3.html').read_text()
    self.assertIn('rel="prev" href="../1/7.html"', text)
    self.assertIn('rel="next" href="../1/8.html"', text)
    first = (self.out / 'feature/1/7.html').read_text()
    self.assertNotIn('rel="prev"', first)
    self.assertIn('Once &lt;b&gt;upon', (
        (self._run(to='html', features=('1/0',)).folder) / 'feature/1/0.html'
    ).read_text())  # fmt: skip

  def test_no_path_of_this_machine_is_in_it(self):
    self._run(to='html', best=1)
    for page in self.out.rglob('*.html'):
      self.assertNotIn(str(self.root), page.read_text())


if __name__ == '__main__':
  absltest.main()
