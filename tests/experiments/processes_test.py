"""Experiments in two processes: what one process finds, written by the first.

The lens itself, and that no row is read twice: lens_processes_test.
"""

import json
import pathlib
import socket
import sys
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import ooc_jax
from ooc_jax.experiments import _processes
from tests import processes
from tests.experiments import scripts
from tests.tiny import make_checkpoint

_EXPERIMENTS = pathlib.Path(__file__).parents[2] / 'experiments'
_SECONDS = 300
# Two processes of one device each.
_MESH = {'output_prediction': 'vocab:2', 'attention_participation': 'feature:2'}


def _command(script, *args):
  # Studied by its neurons, as any model can be.
  flags = ['--model=smollm2', '--nofigures']
  path = str(_EXPERIMENTS / f'{script}.py')
  if script == 'output_prediction':
    flags += scripts.SMALL
  return [sys.executable, path, *flags, *map(str, args)]


def _together(script, outs, *args):
  """The same command in two processes: exit, output and errors of both."""
  port = processes.free_port()
  joined = (f'--coordinator=localhost:{port}', '--processes=2')
  commands = [
      _command(script, *joined, f'--process={i}', f'--out={out}', *args)
      for i, out in enumerate(outs)
  ]
  return processes.run_together(commands, _SECONDS, scripts.environment())


def _tables(folder):
  return {
      str(path.relative_to(folder)): pq.read_table(path)
      for path in sorted(folder.rglob('*.parquet'))
  }


class ProcessesTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    folder = tempfile.TemporaryDirectory()
    self.addCleanup(folder.cleanup)
    self.root = pathlib.Path(folder.name)
    self.outs = [self.root / 'first', self.root / 'second']

  def _assert_same(self, ours, theirs):
    """Equal, but for the last digits of numbers that are not whole."""
    self.assertEqual(ours.keys(), theirs.keys())
    for name, table in ours.items():
      other = theirs[name]
      self.assertEqual(table.schema, other.schema, name)
      for column in table.column_names:
        a, b = table[column], other[column]
        kind = a.type
        while pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
          a, b = (pc.list_flatten(x) for x in (a, b))
          kind = a.type
        place = f'{name} {column}'
        if not pa.types.is_floating(kind):
          self.assertEqual(a.to_pylist(), b.to_pylist(), place)
          continue
        a, b = (np.asarray(x.to_pylist(), np.float64) for x in (a, b))
        # Sums are split over the devices. A p-value is a rank among 1,000
        # directions, which such a digit moves by one or two; a q-value is up
        # to 72 (the features) of those. So is the share of them that a
        # threshold found among them lets pass. A stability is a share of 400
        # resampled nulls.
        atol = {
            'p_value': 2 / 1000,
            'q_value': 2 * 72 / 1000,
            'null_share': 2 / 1000,
            'null_stability': 2 / 400,
        }.get(column.removeprefix('input_'), 2e-5)
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=atol, err_msg=place)

  def _run_both(self, script, *settings):
    """In two processes, and in one: the folders of their results."""
    first, second = self.outs
    for done in _together(
        script, self.outs, *settings, f'--mesh={_MESH[script]}'
    ):
      self.assertEqual(done.returncode, 0, done.stderr)
    self.assertFalse(second.exists())
    alone = self.root / 'alone'
    done = scripts.run(_command(script, *settings, f'--out={alone}'))
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertEqual(
        {p.relative_to(first) for p in first.rglob('*')},
        {p.relative_to(alone) for p in alone.rglob('*')},
    )
    return first, alone

  @pytest.mark.slow
  def test_output_prediction(self):
    weights = make_checkpoint(self.root / 'model')
    script = 'output_prediction'
    settings = (f'--weights={weights}', '--layers=1-2', '--k=5')
    settings += ('--sides=output',)
    first, alone = self._run_both(script, *settings)
    self._assert_same(_tables(first), _tables(alone))
    # A layer that is missing is made again by both, though one knows of it.
    before = scripts.digest(first)
    (first / 'features' / 'layer=02.parquet').unlink()
    for done in _together(
        script, self.outs, *settings, f'--mesh={_MESH[script]}'
    ):
      self.assertEqual(done.returncode, 0, done.stderr)
    self.assertEqual(scripts.digest(first), before)

  @pytest.mark.slow
  def test_attention_participation(self):
    weights = make_checkpoint(self.root / 'model')
    settings = (f'--weights={weights}', '--layers=1', '--nulls=permuted')
    folders = self._run_both('attention_participation', *settings)
    self._assert_same(*map(_tables, folders))

  @pytest.mark.slow
  def test_what_the_first_process_refuses_stops_both(self):
    weights = make_checkpoint(self.root / 'model')
    first, _ = self.outs
    first.mkdir()
    (first / 'config.json').write_text(json.dumps({'mine': 1}))
    before = scripts.digest(first)
    mesh = '--mesh=vocab:2'
    for done in _together(
        'output_prediction', self.outs, f'--weights={weights}', '--k=5', mesh
    ):
      self.assertEqual(done.returncode, 2, done.stderr)
      self.assertIn(str(first), done.stderr)
      self.assertNotIn('Traceback', done.stderr)
    self.assertEqual(scripts.digest(first), before)

  @pytest.mark.slow
  def test_idle_devices_are_refused(self):
    weights = make_checkpoint(self.root / 'model')
    for done in _together(
        'output_prediction',
        self.outs,
        f'--weights={weights}',
        '--mesh=feature:1',
    ):
      self.assertEqual(done.returncode, 2, done.stderr)
      self.assertIn('vocab:2', done.stderr)
      self.assertNotIn('Traceback', done.stderr)

  @parameterized.parameters(
      ('localhost:1', 2, None, 'process='),
      (None, 2, 0, 'coordinator='),
      ('auto', None, 0, 'auto'),
      ('localhost:1', 2, 2, 'process=2'),
      ('here', 2, 1, 'host:port'),
  )
  def test_what_does_not_go_together(self, place, count, number, message):
    with self.assertRaisesRegex(ooc_jax.InputError, message):
      _processes.join(place, count, number)

  def test_alone_on_its_machine(self):
    done = scripts.run(
        _command(
            'output_prediction', '--coordinator=auto', f'--out={self.outs[0]}'
        )
    )
    self.assertEqual(done.returncode, 2, done.stderr)
    self.assertIn('did not find', done.stderr)
    self.assertNotIn('Traceback', done.stderr)
    self.assertFalse(self.outs[0].exists())

  @mock.patch.object(_processes, '_PATIENCE', 0)
  def test_nobody_listens(self):
    with self.assertRaisesRegex(ooc_jax.InputError, '--process=0'):
      _processes._check_reached(
          f'localhost:{processes.free_port()}', first=False
      )

  def test_port_is_taken(self):
    with socket.create_server(('', 0)) as taken:
      port = taken.getsockname()[1]
      with self.assertRaisesRegex(ooc_jax.InputError, 'another one'):
        _processes._check_reached(f'localhost:{port}', first=True)


if __name__ == '__main__':
  absltest.main()
