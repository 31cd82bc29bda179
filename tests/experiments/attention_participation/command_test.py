"""Experiment 2 from its script, in a process of its own."""

import pathlib
import random
import sys

from absl.testing import absltest
from absl.testing import parameterized
import pytest

from tests import finished
from tests.experiments import scripts

_SCRIPT = (
    pathlib.Path(__file__).parents[3] / 'experiments/attention_participation.py'
)
_SMALL = {
    'context': 9,
    'pairs': 4,
    'partners': 2,
    'alpha': 0.1,
    'write_tokens': 0,
}
_FLAGS = ['--model=smollm2']  # Studied by its neurons, as any model can be.
_FLAGS += [f'--{name}={value}' for name, value in _SMALL.items()]


def _command(*args):
  return [sys.executable, str(_SCRIPT), *_FLAGS, *map(str, args)]


def _run(*args):
  return scripts.run(_command(*args))


class CommandTest(parameterized.TestCase):
  """The script itself, in its own process."""

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir().full_path)

  @parameterized.named_parameters(
      ('layer_0', ['--layers=0'], 'input of layer 0'),
      ('participation', ['--participation=median'], "'median'"),
      ('setting_of_experiment_1', ['--convention=raw'], 'convention'),
  )
  def test_bad_input_is_one_sentence(self, args, message):
    flags = f'--weights={finished.checkpoint()}', f'--out={self.root / "out"}'
    done = scripts.run_here('attention_participation', *_FLAGS, *flags, *args)
    self.assertNotEqual(done.returncode, 0)
    self.assertIn(message, done.stderr)
    self.assertNotIn('Traceback', done.stderr)
    self.assertFalse((self.root / 'out' / 'summary.json').exists())

  @pytest.mark.slow
  def test_killed_at_any_moment_it_continues_to_the_same_bytes(self):
    weights = finished.checkpoint(num_hidden_layers=4)
    args = [f'--weights={weights}', '--nulls=random']
    whole = self.root / 'whole'
    done = _run(*args, f'--out={whole}')
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertIn('Most selective heads', done.stdout)
    expected = scripts.digest(whole)
    rng = random.Random(0)
    broken = self.root / 'broken'
    # Most of a run is import and compilation: it is killed where it writes, in
    # each of its parts.
    for place in ('features/layer=01*', 'figures/*'):
      self.assertFalse(any(broken.glob(place)), place)
      scripts.kill(
          _command(*args, f'--out={broken}'),
          lambda place=place: any(broken.glob(place)),
          rng.uniform(0, 0.1),
      )
    done = _run(*args, f'--out={broken}')
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertEqual(scripts.digest(broken), expected)


if __name__ == '__main__':
  absltest.main()
