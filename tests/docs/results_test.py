"""docs/results.md says what is written: tables, keys, versions."""

import re

from absl.testing import absltest
import pyarrow as pa
import pyarrow.parquet as pq

from ooc_jax import export
from ooc_jax import results
from ooc_jax.results import tables
from tests import finished
from tools import results_doc

_PAGE = results_doc.PAGE.read_text()


class ResultsPageTest(absltest.TestCase):

  def test_the_tables_are_those_of_the_schemas(self):
    self.assertEqual(
        results_doc.page(_PAGE), _PAGE, 'Run: python -m tools.results_doc'
    )

  def test_every_schema_is_there(self):
    shown = [x.schema for x in results_doc.TABLES]
    for name in tables.__all__:
      schema = getattr(tables, name)
      if isinstance(schema, tables.TableSchema):
        self.assertTrue(any(x is schema for x in shown), name)

  def _check_folder(self, folder, experiment):
    files = sorted(folder.rglob('*.parquet'))
    self.assertNotEmpty(files)
    for path in files:
      name = path.relative_to(folder).with_suffix('').as_posix()
      known = {
          x.name: x
          for x in results_doc.documented(experiment, name).schema.columns
      }
      for field in pq.read_schema(path):
        own = re.sub('^(input|embedding)_', '', field.name)
        column = known.get(field.name) or known.get(own)
        assert column is not None, f'{path}: {field.name}'
        kind = field.type
        if column.shape != 'F':
          kind = kind.value_type
        # An integer of a sum may be written wider than it need be.
        self.assertEqual(kind, column.kind, f'{path}: {field.name}')
    metadata = pq.read_schema(files[-1]).metadata or {}
    for key in metadata:
      if key.startswith(b'ooc_jax.'):
        self.assertIn(f'`{key.decode()}`', _PAGE)

  def test_every_file_of_a_run_is_described(self):
    for experiment in ('output_prediction', 'attention_participation'):
      folder = finished.run(experiment)
      self._check_folder(folder, experiment)
      config = results.read_json(folder / 'config.json')
      summary = results.read_json(folder / 'summary.json')
      keys = {*config, *summary, *summary['layers'][0]}
      for key in keys:
        self.assertIn(f'`{key}`', _PAGE, f'{experiment}: {key}')

  def test_versions(self):
    self.assertIn(f'which is **{results.SCHEMA_VERSION}** now', _PAGE)
    self.assertIn('which is **1**', _PAGE)

  def test_exports(self):
    for name in export.FORMATS:
      self.assertRegex(_PAGE, rf'\n### ([a-z]+, )?{name}\b')
    root = self.create_tempdir().full_path
    done = export.run(
        [finished.run('output_prediction')],
        export.Export(to='csv', best=1, out=f'{root}/out'),
    )
    for key in results.read_json(done.folder / 'export.json'):
      self.assertIn(f'`{key}`', _PAGE)

  def test_types_read_as_words(self):
    self.assertNotIn('list<', _PAGE)
    self.assertIn('| `top_tokens` | string list of k |', _PAGE)
    self.assertEqual(str(pa.float32()), 'float')


if __name__ == '__main__':
  absltest.main()
