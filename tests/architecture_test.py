"""The rooms stand in one line, and imports point one way."""

import ast
import pathlib
import subprocess
import sys

from absl.testing import absltest

import ooc_jax

_PACKAGE = pathlib.Path(ooc_jax.__file__).parent
# A room imports only from rooms before it.
_ROOMS = (
    'model',
    'checkpoints',
    'dictionaries',
    'circuits',
    'measures',
    'results',
    'report',
    'experiments',
    '_cli',
)


def _imported(tree):
  """Full names of the modules and names that a file imports."""
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      yield from (f'{node.module}.{alias.name}' for alias in node.names)


class ArchitectureTest(absltest.TestCase):

  def test_every_room_is_listed(self):
    folders = {p.parent.name for p in _PACKAGE.glob('*/__init__.py')}
    self.assertEqual(folders, set(_ROOMS))

  def test_imports_point_one_way(self):
    checked = 0
    for path in _PACKAGE.glob('*/*.py'):
      mine = _ROOMS.index(path.parent.name)
      for name in _imported(ast.parse(path.read_text())):
        parts = name.split('.')
        if parts[0] != 'ooc_jax' or parts[1] not in _ROOMS:
          continue
        checked += 1
        theirs = _ROOMS.index(parts[1])
        self.assertLessEqual(theirs, mine, f'{path.name} imports {name}')
    self.assertGreater(checked, 100)

  def test_report_reads_results_and_measures_only(self):
    allowed = ('results', 'measures', 'report', '_errors', '_files', '_text')
    for path in (_PACKAGE / 'report').glob('*.py'):
      for name in _imported(ast.parse(path.read_text())):
        if name.startswith('ooc_jax.'):
          self.assertIn(name.split('.')[1], allowed, path.name)

  def test_only_one_module_knows_orbax_and_none_knows_torch(self):
    for path in _PACKAGE.rglob('*.py'):
      roots = {n.split('.')[0] for n in _imported(ast.parse(path.read_text()))}
      self.assertFalse(roots & {'torch', 'pickle', 'chex'}, path.name)
      if 'orbax' in roots:
        self.assertEqual(path.name, '_orbax.py')

  def test_public_names_exist(self):
    for name in ooc_jax.__all__:
      self.assertTrue(hasattr(ooc_jax, name), name)

  def test_import_computes_nothing(self):
    # A backend that was started would show in the list.
    code = (
        'import ooc_jax; from jax._src import xla_bridge;'
        ' print(xla_bridge.backends_are_initialized())'
    )
    out = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, check=True
    )
    self.assertEqual(out.stdout.strip(), 'False')


if __name__ == '__main__':
  absltest.main()
