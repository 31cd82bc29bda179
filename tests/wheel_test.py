"""A wheel, away from the repository: configs and commands are in it."""

import importlib.util
import os
import pathlib
import subprocess
import sys
import unittest
import zipfile

from absl.testing import absltest
import pytest

_ROOT = pathlib.Path(__file__).parents[1]


def _run(*command, **options):
  return subprocess.run(
      [sys.executable, *map(str, command)],
      capture_output=True,
      text=True,
      timeout=600,
      **options,
  )


@pytest.mark.slow
@unittest.skipUnless(
    importlib.util.find_spec('setuptools') and importlib.util.find_spec('pip'),
    'Needs setuptools and pip.',
)
class WheelTest(absltest.TestCase):

  def test_a_wheel_has_what_commands_need(self):
    root = pathlib.Path(self.create_tempdir().full_path)
    # Of a copy: setuptools builds beside its sources.
    files = subprocess.run(
        ['git', 'ls-files', '-z', 'setup.py', 'README.md', 'ooc_jax',
         'configs'],
        cwd=_ROOT, check=True, capture_output=True, text=True,
    ).stdout.split('\0')  # fmt: skip
    for name in filter(None, files):
      target = root / 'source' / name
      target.parent.mkdir(parents=True, exist_ok=True)
      target.write_bytes((_ROOT / name).read_bytes())
    built = _run(
        '-m', 'pip', 'wheel', '-q', '--no-deps', '--no-build-isolation',
        '--wheel-dir', root / 'wheels', root / 'source',
    )  # fmt: skip
    self.assertEqual(built.returncode, 0, built.stderr)
    (wheel,) = (root / 'wheels').iterdir()
    with zipfile.ZipFile(wheel) as content:
      names = content.namelist()
    for name in (_ROOT / 'configs').glob('*.py'):
      self.assertIn(f'ooc_jax/experiments/configs/{name.name}', names)
    self.assertFalse([x for x in names if x.startswith(('tests', 'configs'))])

    # As installed: nothing else is on the path before it.
    site = root / 'site'
    with zipfile.ZipFile(wheel) as content:
      content.extractall(site)
    environment = os.environ | {
        'PYTHONPATH': str(site),
        'JAX_PLATFORMS': 'cpu',
        'HF_HUB_OFFLINE': '1',
    }
    work = root / 'work'
    work.mkdir()
    place = _run(
        '-c', 'import ooc_jax; print(ooc_jax.__file__)',
        cwd=work, env=environment,
    )  # fmt: skip
    self.assertStartsWith(place.stdout, str(site))
    # Finds the configs and what comes along. `.ci/run` runs the default job
    # from a wheel, in an environment of its own.
    done = _run(
        '-m', 'ooc_jax', 'output_prediction', '--dry_run',
        cwd=work, env=environment,
    )  # fmt: skip
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertIn('tiny-gemma2', done.stdout)
    self.assertEqual(list(work.iterdir()), [])


if __name__ == '__main__':
  absltest.main()
