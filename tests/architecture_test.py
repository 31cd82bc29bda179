"""The rooms stand in one line, and imports point one way."""

import ast
import pathlib
import re
import subprocess
import sys

from absl.testing import absltest

import ooc_jax
from tests import conftest

_PACKAGE = pathlib.Path(ooc_jax.__file__).parent
_ROOT = _PACKAGE.parent
# A room imports only from rooms before it.
_ROOMS = (
    'model',
    'checkpoints',
    'dictionaries',
    'circuits',
    'measures',
    'validation',
    'results',
    'report',
    'experiments',
    'explore',
    'export',
    '_cli',
)
# Under all rooms: they import only each other.
_GROUND = ('_errors', '_text', '_files', '_folders', '_settings', '_cache')
# What only the command line does to its process.
_PROCESS = re.compile(
    r'\bDEFINE_\w+\(|\bDEFINE\(|FlagValues\(|mallopt|malloc_trim'
    r'|environ\[[^]]*\] *=[^=]|environ\.(setdefault|update|pop)\('
    r'|putenv\(|config\.update\(|set_verbosity\('
)


def _modules():
  """Name and path of every module that can be imported."""
  for path in sorted(_PACKAGE.rglob('*.py')):
    parts = path.relative_to(_ROOT).with_suffix('').parts
    yield parts[:-1] if parts[-1] == '__init__' else parts, path


def _room_of(parts):
  """Room of a dotted name under `ooc_jax`, or None: the top of the package."""
  return parts[1] if len(parts) > 1 and parts[1] in _ROOMS else None


def _imported(tree):
  """Full names of the modules and names that a file imports."""
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      yield from (f'{node.module}.{alias.name}' for alias in node.names)


def _used(tree):
  """Of other modules: what is imported, and attributes of what is imported."""
  aliases = {}
  for node in ast.walk(tree):
    if isinstance(node, ast.ImportFrom):
      for alias in node.names:
        aliases[alias.asname or alias.name] = f'{node.module}.{alias.name}'
    elif isinstance(node, ast.Import):
      for alias in node.names:
        name = alias.name if alias.asname else alias.name.split('.')[0]
        aliases[alias.asname or name] = name
  yield from _imported(tree)
  for node in ast.walk(tree):
    names = []
    while isinstance(node, ast.Attribute):
      names.append(node.attr)
      node = node.value
    if names and isinstance(node, ast.Name) and node.id in aliases:
      yield '.'.join([aliases[node.id], *reversed(names)])


def _is_private(name):
  return name.startswith('_') and not name.startswith('__')


class ArchitectureTest(absltest.TestCase):

  def test_every_room_is_listed(self):
    folders = {p.parent.name for p in _PACKAGE.glob('*/__init__.py')}
    self.assertLessEqual(folders, set(_ROOMS))
    modules = {p.stem for p in _PACKAGE.glob('*.py')}
    self.assertEqual(modules, {*_GROUND, '__init__', '__main__'})

  def test_imports_point_one_way(self):
    checked = 0
    for parts, path in _modules():
      room = _room_of(parts)
      for name in _imported(ast.parse(path.read_text())):
        theirs = name.split('.')
        if theirs[0] != 'ooc_jax':
          continue
        checked += 1
        where = f'{path.relative_to(_ROOT)} imports {name}'
        # The package as a whole is above all rooms.
        self.assertTrue(room is None or len(theirs) > 1, where)
        if room is None and parts[-1] in _GROUND:
          self.assertIn(theirs[1], _GROUND, where)
        elif room is not None and theirs[1] not in _GROUND:
          self.assertIn(theirs[1], _ROOMS, where)
          self.assertLessEqual(
              _ROOMS.index(theirs[1]), _ROOMS.index(room), where
          )
    self.assertGreater(checked, 500)

  def test_no_module_uses_what_is_private_to_another_room(self):
    scripts = [
        path
        for folder in ('experiments', 'benchmarks', 'tools')
        for path in (_ROOT / folder).rglob('*.py')
    ]
    files = [*_modules(), *((('script',), path) for path in scripts)]
    found = []
    for parts, path in files:
      for name in _used(ast.parse(path.read_text())):
        theirs = name.split('.')
        if theirs[0] != 'ooc_jax':
          continue
        # What is private to a folder is for the modules in it, at any depth.
        for i in range(1, len(theirs)):
          if _is_private(theirs[i]) and parts[:i] != tuple(theirs[:i]):
            # Scripts are made with the command line.
            if i > 1 or theirs[1] not in (*_GROUND, '_cli'):
              found.append(f'{path.relative_to(_ROOT)}: {name}')
    self.assertEqual(found, [])

  def test_only_the_command_line_changes_its_process(self):
    found = [
        f'{path.relative_to(_ROOT)}: {match[0]}'
        for parts, path in _modules()
        if _room_of(parts) != '_cli'
        for match in _PROCESS.finditer(path.read_text())
    ]
    self.assertEqual(found, [])

  def test_report_reads_results_and_measures_only(self):
    allowed = ('results', 'measures', 'report', '_errors', '_files', '_text')
    for path in (_PACKAGE / 'report').rglob('*.py'):
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

  def test_no_mark_of_a_test_is_lost(self):
    """Above `parameterized` it stays on what makes the tests."""
    for path in (_ROOT / 'tests').rglob('*.py'):
      for node in ast.walk(ast.parse(path.read_text())):
        names = map(ast.unparse, getattr(node, 'decorator_list', ()))
        kinds = [name.split('.')[0] for name in names]
        if {'pytest', 'parameterized'} <= set(kinds):
          last = len(kinds) - kinds[::-1].index('parameterized')
          self.assertNotIn('pytest', kinds[:last], f'{path}:{node.lineno}')

  def test_no_optimized_test_is_lost(self):
    """What the step without optimisation leaves out is in the one with it."""
    (step,) = re.findall(
        r'-m optimized \\\n(.*?)\|', (_ROOT / '.ci/run').read_text(), re.S
    )
    for path in conftest.OPTIMIZED:
      self.assertTrue(path.exists(), path)
      self.assertIn(f' {path.relative_to(_ROOT)} ', step)

  def test_import_computes_nothing(self):
    # A backend that was started would show in the list. Matplotlib is slow,
    # and fails where it is told of a backend that is not here.
    code = (
        'import sys; import ooc_jax; from ooc_jax import _cli;'
        ' from jax._src import xla_bridge;'
        " print(xla_bridge.backends_are_initialized() or 'matplotlib' in"
        ' sys.modules)'
    )
    out = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, check=True
    )
    self.assertEqual(out.stdout.strip(), 'False')


if __name__ == '__main__':
  absltest.main()
