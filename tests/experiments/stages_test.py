"""What a run says on the way: on a terminal, in a log, and to nobody."""

import itertools
import os
import pathlib
import pty
import re
import subprocess
import sys
import time

from absl import logging
from absl.testing import absltest
import pytest

from ooc_jax.experiments import _stages

_ROOT = pathlib.Path(__file__).parents[2]
# The module alone: the package around it takes seconds to import.
_RUN = f"""
import runpy, sys, time
from absl import flags, logging
stages = runpy.run_path({_stages.__file__!r})
progress, stage = stages['progress'], stages['stage']
flags.FLAGS.mark_as_parsed()
logging.set_verbosity(logging.INFO if 'loud' in sys.argv else logging.WARNING)
logging.use_absl_handler()
with stage('counting sheep'):
  time.sleep(1.3)
  logging.warning('a wolf')
for i in progress(range(3)):
  time.sleep(0.4)
print('done', file=sys.stderr)
"""


def _record(argv, columns='80', limit=240):
  """Runs a program on a terminal; [(seconds, text)] and its exit status."""
  terminal, theirs = pty.openpty()
  environment = {k: v for k, v in os.environ.items() if k != 'COLUMNS'}
  if columns is not None:
    environment['COLUMNS'] = columns
  child = subprocess.Popen(
      [sys.executable, *argv],
      cwd=_ROOT,
      env=environment | {'TERM': 'xterm'},
      stdin=theirs,
      stdout=theirs,
      stderr=theirs,
  )
  os.close(theirs)
  start, seen = time.monotonic(), []
  while time.monotonic() - start < limit:
    try:
      text = os.read(terminal, 65_536)
    except OSError:  # Nobody writes to it any more.
      break
    if not text:
      break
    seen.append((time.monotonic() - start, text.decode()))
  os.close(terminal)
  return seen, child.wait(limit)


class StagesTest(absltest.TestCase):

  def test_a_terminal_sees_it_move(self):
    seen, status = _record(['-c', _RUN, 'loud'])
    text = ''.join(x for _, x in seen)
    self.assertEqual(status, 0, text)
    self.assertIn('counting sheep', text)
    self.assertRegex(text, r'layers .*[12]/3')
    # The stage renews its line while the program is busy with other things.
    times = set(re.findall(r'counting sheep 0:00:0(\d)', _plain(text)))
    self.assertContainsSubset({'0', '1'}, times)
    # What is logged meanwhile has a line of its own, and no line stays.
    self.assertRegex(_plain(text), r'\rW\d{4} [^\r]*a wolf\r\n')
    self.assertTrue(_plain(text).rstrip().endswith('done'))

  def test_a_window_without_a_size(self):
    for columns in ('0', None):
      self._check_window(columns)

  def _check_window(self, columns):
    seen, status = _record(['-c', _RUN, 'loud'], columns)
    text = ''.join(x for _, x in seen)
    self.assertEqual(status, 0, text)
    self.assertIn('counting sheep', text)

  def test_quiet_says_warnings_alone(self):
    seen, _ = _record(['-c', _RUN])
    lines = ''.join(x for _, x in seen).strip().splitlines()
    self.assertLen(lines, 2)
    self.assertIn('a wolf', lines[0])
    self.assertEqual(lines[1], 'done')

  def test_a_log_gets_what_takes_long(self):
    program = _RUN.replace('1.3', '2.2')
    text = subprocess.run(
        [sys.executable, '-c', program, 'loud'],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    self.assertRegex(text, r'counting sheep …\n(.*\n)*.*counting sheep: 2 s')
    self.assertIn('layer 2: 3 of 3, 1 s, 0 s left', text)
    self.assertNotIn('\x1b', text)

  def test_a_short_stage_is_not_logged(self):
    with self.assertNoLogs(logging.get_absl_logger(), 'INFO'):
      with _stages.stage('nothing much'):
        pass

  def test_an_error_passes_and_the_line_is_gone(self):
    program = _RUN.replace('time.sleep(1.3)', "raise ValueError('stop')")
    seen, status = _record(['-c', program, 'loud'])
    self.assertEqual(status, 1)
    self.assertIn('ValueError: stop', ''.join(x for _, x in seen))


@pytest.mark.slow
class DefaultJobTest(absltest.TestCase):

  def test_it_is_never_silent(self):
    out = self.create_tempdir().full_path
    seen, status = _record(
        ['experiments/output_prediction.py', f'--out={out}/run']
    )
    self.assertEqual(status, 0, seen[-3:])
    times = [t for t, _ in seen]
    gaps = [b - a for a, b in itertools.pairwise(times)]
    # As the issue of waiting asks on two idle cores: 2 s and 3 s. Other tests
    # run beside this one, so each has twice as long.
    self.assertLess(times[0], 4.0)
    self.assertLess(max(gaps), 6.0)
    text = _plain(''.join(x for _, x in seen))
    for stage in ('reading the model', 'layers', 'drawing the figures'):
      self.assertIn(stage, text)
    self.assertNotIn('HTTP Request', text)


def _plain(text):
  """Without the codes that move a cursor or colour."""
  return re.sub(r'\x1b\[[0-9;?]*[a-zA-Z]', '', text)


if __name__ == '__main__':
  absltest.main()
