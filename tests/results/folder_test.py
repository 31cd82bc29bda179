"""The results folder: whose it is, which run, what is in it."""

import fcntl
import os
import pathlib
import shutil
from unittest import mock

from absl import logging
from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import pyarrow as pa

from ooc_jax import results
from ooc_jax._errors import InputError

_SETTINGS = {
    'k': 20,
    'thresholds': {'cosine': 0.25, 'rule': 'any'},
    'layers': [0, 5, 7],
    'centered': False,
}
_WEIGHTS = {'a.safetensors': 'a1' * 32, 'b.safetensors': 'b2' * 32}
_VERSIONS = {'jax': '0.10.2', 'numpy': '2.4.6'}


def _open(path, settings=None, versions=None, weights=None):
  return results.ResultsFolder.open(
      path,
      _SETTINGS if settings is None else settings,
      provenance=_VERSIONS if versions is None else versions,
      weights=_WEIGHTS if weights is None else weights,
  )


def _table(seed=0, rows=6):
  rng = np.random.default_rng(seed)
  return pa.table({
      'ids': rng.integers(1, 99, (rows, 3)).astype(np.int32).tolist(),
      'entropy': rng.random(rows, np.float32),
      'tokens': [[f' t{i}', 'é'] for i in range(rows)],
  }).replace_schema_metadata({'seed': str(seed)})


class FolderTestCase(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir().full_path)
    self.path = self.root / 'new' / 'out'


class ContentTest(FolderTestCase):

  def test_what_is_written_is_read(self):
    with _open(self.path) as out:
      self.assertEqual(out.layers(), [])
      for layer in (100, 3, 12):
        out.write_layer(layer, _table(layer))
      out.write_table('labels', _table(1))
      out.write_summary({'num_layers': 30, 'median': np.float32('nan')})
      self.assertEqual(out.layers(), [3, 12, 100])
      self.assertTrue(out.has_layer(12))
      self.assertFalse(out.has_layer(1))
    view = results.ResultsFolder.view(str(self.path))
    self.assertEqual(view.layers(), [3, 12, 100])
    for layer in (100, 3, 12):
      self.assertTrue(view.read_layer(layer).equals(_table(layer)))
      self.assertEqual(
          view.read_layer(layer).schema.metadata, _table(layer).schema.metadata
      )
    self.assertTrue(view.read_table('labels').equals(_table(1)))
    self.assertEqual(
        view.read_summary(), {'schema': 2, 'num_layers': 30, 'median': None}
    )
    self.assertCountEqual(
        [str(p.relative_to(self.path)) for p in self.path.rglob('*.*')],
        [
            'config.json',
            'features/layer=03.parquet',
            'features/layer=12.parquet',
            'features/layer=100.parquet',
            'labels.parquet',
            'summary.json',
        ],
    )

  def test_config_records_settings_weights_and_versions(self):
    _open(self.path).close()
    config = results.read_json(self.path / 'config.json')
    self.assertEqual(config['settings'], _SETTINGS)
    self.assertEqual(config['weights'], _WEIGHTS)
    self.assertEqual(config['provenance'], _VERSIONS)
    self.assertEqual(config['schema'], results.SCHEMA_VERSION)
    self.assertEqual(results.ResultsFolder.view(self.path).config, config)

  def test_other_names_in_features_are_no_layers(self):
    with _open(self.path) as out:
      out.write_layer(3, _table())
      for name in ('layer=4.parquet', 'layer=004.parquet', 'layer=05.parquet~'):
        (self.path / 'features' / name).write_bytes(b'')
      self.assertEqual(out.layers(), [3])

  @parameterized.parameters(
      '',
      '.',
      '..',
      '../x',
      'a/b',
      '/etc/x',
      'a\n',
      '.hidden',
      'a\x00',
      '\u202e',
      'x' * 101,
      '-rf',
  )  # pyformat: disable
  def test_a_name_cannot_leave_the_folder(self, name):
    with _open(self.path) as out:
      for write in (
          lambda: out.write_table(name, _table()),
          lambda: out.write_figure(name, mock.Mock()),
          lambda: out.read_table(name),
      ):
        with self.assertRaisesRegex(InputError, 'cannot name a file') as caught:
          write()
        self.assertTrue(str(caught.exception).isprintable())
    self.assertEqual(os.listdir(self.path), ['config.json'])

  def test_names_of_models_are_names(self):
    with _open(self.path) as out:
      out.write_table('llama3.1-8b_x=2', _table())
      self.assertTrue(out.read_table('llama3.1-8b_x=2').equals(_table()))
      with self.assertRaisesRegex(ValueError, 'negative'):
        out.has_layer(-1)

  def test_after_closing_nothing_is_written(self):
    with _open(self.path) as out:
      pass
    for folder in (out, results.ResultsFolder.view(self.path)):
      for write in (
          lambda folder=folder: folder.write_layer(0, _table()),
          lambda folder=folder: folder.write_summary({}),
      ):
        with self.assertRaisesRegex(RuntimeError, 'reading only'):
          write()
    self.assertEqual(os.listdir(self.path), ['config.json'])


class ResumeTest(FolderTestCase):

  @parameterized.parameters(
      ({'k': 10}, 'k is 20 there and 10 here'),
      (
          {'thresholds': {'cosine': 0.5, 'rule': 'any'}},
          'thresholds.cosine is 0.25 there and 0.5 here',
      ),
      (
          {'thresholds': {'cosine': 0.25}},
          'thresholds.rule is "any" there and absent here',
      ),
      ({'seed': 1}, 'seed is absent there and 1 here'),
      ({'layers': [0, 5]}, r'layers is \[0, 5, 7\] there and \[0, 5\] here'),
      ({'centered': 0}, 'centered is false there and 0 here'),
      ({'layers': [False, 5, 7]}, r'layers is \[0, 5, 7\] there and \[false'),
      ({'k': '20'}, 'k is 20 there and "20" here'),
  )  # pyformat: disable
  def test_other_settings_are_refused(self, changed, reason):
    _open(self.path).close()
    before = (self.path / 'config.json').read_bytes()
    with self.assertRaisesRegex(InputError, reason) as caught:
      _open(self.path, settings=_SETTINGS | changed)
    self.assertRegex(
        str(caught.exception), 'give another --out, or delete the folder.$'
    )
    self.assertEqual((self.path / 'config.json').read_bytes(), before)
    _open(self.path).close()  # The refusal kept no lock.

  @parameterized.parameters(b'', b' \n')
  def test_an_empty_config_is_named_with_what_to_do(self, content):
    _open(self.path).close()
    (self.path / 'config.json').write_bytes(content)
    for read in (_open, results.ResultsFolder.view):
      with self.assertRaisesRegex(
          InputError, 'config.json is empty: .*give another one, or delete it'
      ):
        read(self.path)

  def test_the_same_settings_in_other_types_are_the_same(self):
    _open(self.path).close()
    same = {
        'thresholds': {'rule': 'any', 'cosine': np.float64(0.25)},
        'layers': (0, np.int32(5), 7),
        'k': 20.0,
        'centered': False,
    }
    _open(self.path, settings=same).close()

  def test_many_differences_are_counted_and_long_ones_cut(self):
    _open(self.path, settings={str(i): 'x' * 999 for i in range(8)}).close()
    with self.assertRaises(InputError) as caught:
      _open(self.path, settings={})
    message = str(caught.exception)
    self.assertIn('and 5 more', message)
    self.assertLess(len(message) - len(str(self.path)), 300)

  def test_other_weights_are_refused(self):
    _open(self.path).close()
    for weights, reason in (
        (_WEIGHTS | {'b.safetensors': 'c3' * 32}, 'weights.b.safetensors is'),
        ({'a.safetensors': 'a1' * 32}, 'weights.b.safetensors.* absent here'),
    ):
      with self.assertRaisesRegex(InputError, reason):
        _open(self.path, weights=weights)

  def test_another_schema_is_refused(self):
    _open(self.path).close()
    config = results.read_json(self.path / 'config.json')
    results.write_json(self.path / 'config.json', config | {'schema': 9})
    for opened in (_open, results.ResultsFolder.view):
      with self.assertRaisesRegex(InputError, 'schema 9, .* writes 2'):
        opened(self.path)

  def test_other_versions_are_logged_and_the_recorded_kept(self):
    _open(self.path).close()
    before = (self.path / 'config.json').read_bytes()
    with mock.patch.object(logging, 'warning') as warning:
      with _open(self.path, versions=_VERSIONS | {'jax': '0.11'}) as out:
        self.assertEqual(out.config['provenance'], _VERSIONS)
    message = warning.call_args.args[0] % warning.call_args.args[1:]
    self.assertIn('jax is "0.10.2" there and "0.11" here', message)
    self.assertNotIn('numpy', message)
    self.assertEqual((self.path / 'config.json').read_bytes(), before)
    with mock.patch.object(logging, 'warning') as warning:
      _open(self.path).close()
    warning.assert_not_called()

  @parameterized.parameters(
      (float('nan'),),
      ([1, [float('inf')]],),
      (np.float32('nan'),),
      (np.array([1, np.inf]),),
      ({1, 2}, TypeError),
  )
  def test_settings_that_json_loses_are_refused(self, value, error=InputError):
    with self.assertRaisesRegex(error, 'Setting a.b is .*finite|JSON value'):
      _open(self.path, settings={'a': {'b': value}})
    self.assertFalse(self.path.exists())


class OwnershipTest(FolderTestCase):

  def test_a_folder_of_somebody_else_is_not_touched(self):
    self.path.mkdir(parents=True)
    (self.path / 'thesis.tex').write_text('x')
    with self.assertRaisesRegex(InputError, 'not empty and not a results'):
      _open(self.path)
    self.assertEqual(os.listdir(self.path), ['thesis.tex'])

  @parameterized.parameters(
      '{"model_type": "llama"}',
      '{"format": "pt", "schema": 2, "settings": {}}',
      '{"schema": 2, "settings": {}, "weights": {}, "provenance": {}}',
      '[]',
      '{',
      '"ooc_jax results"',
  )
  def test_a_config_of_somebody_else_is_not_touched(self, text):
    self.path.mkdir(parents=True)
    (self.path / 'config.json').write_text(text)
    for opened in (_open, results.ResultsFolder.view):
      with self.assertRaisesRegex(InputError, 'is not (the config of|JSON)'):
        opened(self.path)
    self.assertEqual((self.path / 'config.json').read_text(), text)

  def test_a_file_or_nothing_is_no_folder(self):
    (self.root / 'file').write_text('x')
    with self.assertRaisesRegex(InputError, 'file of that name'):
      _open(self.root / 'file')
    with self.assertRaisesRegex(InputError, 'Cannot read .*config.json'):
      results.ResultsFolder.view(self.root / 'nothing')
    self.assertFalse((self.root / 'nothing').exists())

  def test_an_empty_folder_and_one_with_our_temporaries_are_new(self):
    self.path.mkdir(parents=True)
    (self.path / '.ooc_jax-tmp-0123').write_bytes(b'half a config')
    _open(self.path).close()
    self.assertEqual(os.listdir(self.path), ['config.json'])

  def test_leftovers_of_a_killed_run_are_removed_everywhere(self):
    with _open(self.path) as out:
      out.write_layer(0, _table())
    (self.path / 'figures').mkdir()
    left = [
        self.path / folder / '.ooc_jax-tmp-89ab'
        for folder in ('', 'features', 'figures')
    ]
    for path in left:
      path.write_bytes(b'half')
    results.ResultsFolder.view(self.path)
    self.assertTrue(all(path.exists() for path in left))  # May be in use.
    with self.assertRaises(InputError):
      _open(self.path, settings={})
    self.assertTrue(all(path.exists() for path in left))  # Not our run.
    _open(self.path).close()
    self.assertFalse(any(path.exists() for path in left))

  def test_locked_while_open(self):
    with _open(self.path):
      with self.assertRaisesRegex(InputError, 'Another process'):
        _open(self.path)
    _open(self.path).close()

  def test_no_locks_on_the_file_system_is_a_warning(self):
    for number, refused in ((95, False), (5, True)):
      with (
          mock.patch.object(fcntl, 'flock', side_effect=OSError(number, 'x')),
          mock.patch.object(logging, 'warning') as warning,
      ):
        if refused:
          with self.assertRaisesRegex(InputError, 'Cannot use'):
            _open(self.path)
        else:
          _open(self.path).close()
          self.assertIn('without locks', warning.call_args.args[0])


class DamageTest(FolderTestCase):

  def setUp(self):
    super().setUp()
    with _open(self.path) as out:
      out.write_layer(3, _table(rows=500))
      out.write_table('labels', _table())
      out.write_summary({})
    self.layer = self.path / 'features' / 'layer=03.parquet'

  @parameterized.parameters(
      lambda data: b'',
      lambda data: data[:-1],
      lambda data: data[: len(data) // 2],
      lambda data: b'layer,3\n' * 99,
  )
  def test_a_damaged_layer_stops_the_resumption(self, damage):
    self.layer.write_bytes(damage(self.layer.read_bytes()))
    with self.assertRaisesRegex(
        InputError, r'layer=03\.parquet is damaged or no parquet.*delete it'
    ) as caught:
      _open(self.path)
    self.assertEqual(str(caught.exception).count('\n'), 0)
    self.layer.unlink()
    with _open(self.path) as out:
      self.assertFalse(out.has_layer(3))

  def test_a_folder_in_place_of_a_layer_stops_it_too(self):
    self.layer.unlink()
    self.layer.mkdir()
    with self.assertRaisesRegex(InputError, 'layer=03.*Is a directory'):
      _open(self.path)

  def test_a_changed_byte_is_found_on_reading(self):
    data = bytearray(self.layer.read_bytes())
    data[len(data) // 3] ^= 1
    self.layer.write_bytes(data)
    with self.assertRaisesRegex(InputError, 'layer=03.parquet is damaged'):
      results.ResultsFolder.view(self.path).read_layer(3)

  def test_what_is_missing_is_named(self):
    view = results.ResultsFolder.view(self.path)
    os.unlink(self.path / 'summary.json')
    for read, name in (
        (lambda: view.read_layer(4), 'layer=04.parquet'),
        (lambda: view.read_table('heads'), 'heads.parquet'),
        (view.read_summary, 'summary.json'),
    ):
      with self.assertRaisesRegex(InputError, f'{name} is not there: finish'):
        read()

  @parameterized.parameters('[]', '{"schema": 1}', '{}', '{"schema"')
  def test_a_damaged_summary_is_refused(self, text):
    (self.path / 'summary.json').write_text(text)
    with self.assertRaisesRegex(InputError, 'summary.json is no'):
      results.ResultsFolder.view(self.path).read_summary()

  def test_a_folder_that_vanishes_is_refused_not_remade(self):
    with _open(self.path) as out:
      shutil.rmtree(self.path)
      for write in (
          lambda: out.write_layer(0, _table()),
          lambda: out.write_table('labels', _table()),
      ):
        with self.assertRaisesRegex(InputError, 'No such file'):
          write()
    self.assertFalse(self.path.exists())


if __name__ == '__main__':
  absltest.main()
