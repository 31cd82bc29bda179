"""Real processes, really killed."""

import json
import os
import pathlib
import subprocess
import sys

from absl.testing import absltest
import pytest

from ooc_jax import results
from ooc_jax._errors import InputError
from tests.results import killed_writer
from tests.results import light

_SCRIPT = str(pathlib.Path(__file__).with_name('killed_writer.py'))


def _script(*args):
  done = subprocess.run(
      [sys.executable, _SCRIPT, *args],
      capture_output=True,
      text=True,
      timeout=120,
  )
  if done.returncode:
    raise AssertionError(done.stderr)
  return json.loads(done.stdout)


class KilledRunTest(absltest.TestCase):

  @pytest.mark.slow
  def test_resumed_after_death_at_a_system_call_is_the_uninterrupted_run(self):
    folder = self.create_tempdir().full_path
    whole_path = f'{folder}/whole'
    killed_writer.run(whole_path)
    whole = killed_writer.content(whole_path)
    self.assertLen(whole, 12)
    cases = _script('points', folder)
    self.assertLen(cases, len(killed_writer.POINTS) * len(killed_writer.FILES))
    for case in cases:
      with self.subTest(case['out']):
        self.assertEqual(case['killed'], -9)
        temporaries = [n for n in case['left'] if '.ooc_jax-tmp-' in n]
        # The test is empty unless the death left what a death leaves.
        renamed = os.path.basename(case['out']).startswith('replace-after')
        self.assertLen(temporaries, 0 if renamed else 1)
        self.assertLess(len(case['left']), 13)
        self.assertEqual(case['resumed'], 0)
        self.assertEqual(killed_writer.content(case['out']), whole)

  @pytest.mark.slow
  def test_killed_at_random_moments_no_file_is_ever_half_written(self):
    report = _script('random', self.create_tempdir().full_path, '20')
    self.assertEqual(report['wrong'], [])
    self.assertEqual(report['kills'], 20)
    self.assertGreater(report['temporaries'], 0)  # Some died while writing.
    self.assertEqual(report['last'], 0)
    self.assertTrue(report['same'])

  @pytest.mark.slow
  def test_lock_refuses_a_second_process_and_dies_with_the_first(self):
    folder = self.create_tempdir().full_path
    holder = subprocess.Popen(
        [sys.executable, _SCRIPT, 'hold', folder], stdout=subprocess.PIPE
    )
    try:
      self.assertEqual(holder.stdout.readline(), b'held\n')
      with self.assertRaisesRegex(
          InputError, 'Another process is writing to .*another --out'
      ):
        killed_writer.run(folder)
      self.assertEqual(list(killed_writer.content(folder)), ['config.json'])
    finally:
      holder.kill()
      holder.wait()
      holder.stdout.close()
    killed_writer.run(folder)
    self.assertLen(killed_writer.content(folder), 12)

  def test_the_room_imports_neither_jax_nor_matplotlib(self):
    done = light.run(
        'import sys, ooc_jax.results\n'
        'print(sorted({"jax", "flax", "matplotlib"} & set(sys.modules)))'
    )
    self.assertEqual(done.stdout, '[]\n', done.stderr)

  def test_reading_goes_on_while_a_run_writes(self):
    folder = self.create_tempdir().full_path
    killed_writer.run(folder)
    with results.ResultsFolder.open(
        folder,
        killed_writer.SETTINGS,
        provenance=killed_writer.PROVENANCE,
        weights=killed_writer.WEIGHTS,
    ):
      view = results.ResultsFolder.view(folder)
      self.assertEqual(view.layers(), list(range(7)))
      self.assertLen(view.read_summary()['means'], 7)


if __name__ == '__main__':
  absltest.main()
