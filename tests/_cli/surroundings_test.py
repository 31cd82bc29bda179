"""What a command meets where it runs: encodings, notebooks, devices, memory."""

import dataclasses
import io
import os
import pathlib
import subprocess
import sys
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax
import pytest

import ooc_jax
from ooc_jax import InputError
from ooc_jax import _cli
from ooc_jax.experiments import AttentionParticipation
from ooc_jax.experiments import OutputPrediction
from ooc_jax.experiments import _memory
from ooc_jax.experiments.attention_participation import _compute as attention
from ooc_jax.experiments.output_prediction import _compute as output
from tests.experiments import scripts

_ROOT = pathlib.Path(__file__).parents[2]
_TEXT = 'café “…” 日 ✓'


def _printed(encoding, text=_TEXT):
  """What a command that prints a text leaves on a standard output."""
  raw = io.BytesIO()
  stream = io.TextIOWrapper(raw, encoding=encoding)
  command = _cli.Command(doc='', settings={}, main=lambda given: print(text))
  with mock.patch.object(sys, 'stdout', stream):
    _cli.run(command, ['script.py'])
    stream.flush()
  return raw.getvalue().decode(encoding)


class EncodingTest(parameterized.TestCase):

  @parameterized.parameters(
      ('utf-8', _TEXT),
      ('ascii', r'caf\xe9 \u201c...\u201d \u65e5 \u2713'),
      ('latin-1', r'café \u201c...\u201d \u65e5 \u2713'),
  )
  def test_every_text_is_printed(self, encoding, expected):
    self.assertEqual(_printed(encoding), expected + '\n')

  def test_different_tokens_stay_different(self):
    shown = {_printed('ascii', x) for x in ('é', 'è', '’', '‘', '…', '?')}
    self.assertLen(shown, 6)


class MatplotlibTest(absltest.TestCase):

  def test_the_backend_of_a_notebook_is_not_asked_for(self):
    backend = 'module://matplotlib_inline.backend_inline'
    done = subprocess.run(
        [
            sys.executable,
            '-c',
            (
                'import sys; from ooc_jax import _cli\n'
                'def main(given):\n'
                '  import matplotlib\n'
                '  print(matplotlib.get_backend())\n'
                '_cli.run(_cli.Command(doc="", settings={}, main=main), ["x"])'
            ),
        ],
        capture_output=True,
        text=True,
        cwd=_ROOT,
        timeout=120,
        env=os.environ | {'MPLBACKEND': backend},
    )
    self.assertEqual((done.returncode, done.stdout), (0, 'agg\n'), done.stderr)


class DevicesTest(parameterized.TestCase):

  @parameterized.parameters(
      ('output_prediction', []),
      ('attention_participation', []),
      ('semantic_attention', []),
      ('convert_weights', ['--dictionary=tiny-gemma2-res/layer_1']),
      ('train_sae', ['--corpus=x', '--model=tiny-gemma2']),
  )
  def test_no_device_is_one_sentence_before_any_work(self, name, args):
    out = pathlib.Path(self.create_tempdir().full_path) / 'out'
    with (
        mock.patch.object(jax, 'devices', side_effect=AssertionError),
        mock.patch.dict(os.environ, JAX_PLATFORMS='cuda'),
    ):
      done = scripts.run_here(name, f'--out={out}', *args)
    self.assertEqual(done.returncode, 2)
    (line,) = done.stderr.splitlines()
    self.assertStartsWith(line, "error: JAX has no device for JAX_PLATFORMS='c")
    self.assertIn("pip install 'ooc_jax[cuda]'", line)
    self.assertFalse(out.exists())

  @parameterized.parameters('cuda', 'tpu', 'nonsense')
  @pytest.mark.slow
  def test_a_platform_that_is_not_here(self, platform):
    done = subprocess.run(
        [sys.executable, 'experiments/output_prediction.py', '--layers=1'],
        capture_output=True,
        text=True,
        cwd=_ROOT,
        timeout=300,
        env=os.environ | {'JAX_PLATFORMS': platform},
    )
    self.assertEqual(done.returncode, 2, done.stderr)
    self.assertIn(f"JAX_PLATFORMS='{platform}'", done.stderr.splitlines()[-1])
    self.assertNotIn('Traceback', done.stderr)


class MemoryTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    there = {'machine': 16e9, 'group': 4e9}
    self.enter_context(
        mock.patch.object(_memory, 'memory_bytes', return_value=there)
    )

  @parameterized.parameters(
      # Of width 128: twice 512 bytes, and 320 of its tokens.
      ({'null_size': 10**9}, 'null_size=1000000000 takes 1,344.0 GB'),
      ({'null_size': 3_000_000}, 'there are 4.0 GB of memory; .* most 1400000'),
      (
          {'null': 'matched', 'null_size': 10**9, 'layer_null_size': 10**8},
          'layer_null_size=100000000 takes 134.4 GB',
      ),
  )
  def test_random_directions_that_cannot_be_held(self, given, message):
    with self.assertRaisesRegex(InputError, message):
      output.check_nulls_fit(OutputPrediction(**given), 128)

  @parameterized.parameters(
      {'null_size': 2_000_000},
      {'layer_null_size': 10**9},  # No more than the others are read.
      {'null': 'matched', 'null_size': 10**9},
  )
  def test_what_can_be_held(self, **given):
    output.check_nulls_fit(OutputPrediction(**given), 128)

  def test_the_advice_can_be_followed(self):
    with self.assertRaisesRegex(InputError, 'at most 170000000.'):
      _memory.check_held('x', 10**9, 11.4)
    _memory.check_held('x', 170000000, 11.4)

  def test_distances_that_cannot_be_held(self):
    model = ooc_jax.load_model('tiny-gemma2', parts=['norms']).config
    self.assertEqual(model.head_dim, 40)
    slides = [x for x, window in enumerate(model.windows) if window]
    config = AttentionParticipation(context=6_000_000)
    with self.assertRaisesRegex(InputError, 'context=6000000 takes 4.4 GB'):
      attention.check_distances_fit(config, model, range(model.num_layers))
    attention.check_distances_fit(config, model, slides)
    learned = dataclasses.replace(model, positions=1024)
    attention.check_distances_fit(config, learned, range(model.num_layers))
    fits = AttentionParticipation(context=5_000_000)
    attention.check_distances_fit(fits, model, range(model.num_layers))

  @parameterized.parameters(
      (MemoryError('Unable to allocate 149. GiB'), 'Unable to allocate 149'),
      (
          jax.errors.JaxRuntimeError(
              'INTERNAL: Error dispatching computation:\nOut of memory'
              ' allocating 512000000000 bytes.'
          ),
          'Out of memory allocating 512000000000 bytes',
      ),
  )
  def test_an_allocation_that_fails(self, error, text):
    command = _cli.Command(
        doc='', settings={}, main=mock.Mock(side_effect=error)
    )
    done = scripts.run_here(command)
    self.assertEqual(done.returncode, 2)
    (line,) = done.stderr.splitlines()
    self.assertStartsWith(line, 'error: There is not enough memory (')
    self.assertIn(text, line)

  def test_another_error_of_jax_is_none_of_memory(self):
    error = jax.errors.JaxRuntimeError('INTERNAL: a fault')
    command = _cli.Command(
        doc='', settings={}, main=mock.Mock(side_effect=error)
    )
    with self.assertRaises(jax.errors.JaxRuntimeError):
      scripts.run_here(command)


class MemoryBytesTest(absltest.TestCase):

  def test_of_this_machine(self):
    found = _memory.memory_bytes()
    self.assertBetween(found['machine'], 1e8, 1e14)


class WholeRunTest(absltest.TestCase):

  @pytest.mark.slow
  def test_ends_well_in_a_notebook_with_ascii(self):
    out = pathlib.Path(self.create_tempdir().full_path) / 'out'
    done = subprocess.run(
        [
            sys.executable,
            'experiments/output_prediction.py',
            f'--out={out}',
            '--layers=1',
            '--dictionary=tiny-gemma2-res/layer_{layer}',
            '--null_size=100',
        ],
        capture_output=True,
        cwd=_ROOT,
        timeout=300,
        env=os.environ | {'PYTHONIOENCODING': 'ascii', 'MPLBACKEND': 'inline'},
    )
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertIn('...', done.stdout.decode('ascii'))
    self.assertTrue((out / 'summary.json').is_file())
    self.assertNotEmpty(list((out / 'figures').glob('*.png')))


if __name__ == '__main__':
  absltest.main()
