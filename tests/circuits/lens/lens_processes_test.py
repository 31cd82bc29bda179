"""The lens in two processes: the same ids, and no row read by both."""

import json
import math
import pathlib
import sys
import tempfile

from absl.testing import absltest
import numpy as np
import pytest
import safetensors

import ooc_jax
from tests import processes
from tests.tiny import make_checkpoint

_SCRIPT = pathlib.Path(__file__).parent / 'lens_process.py'
# Divided by every mesh; the rest of the table is padding.
_VOCAB = 160
_SECONDS = 240


@pytest.mark.any_compiler  # Of who reads what.
@pytest.mark.slow
class LensProcessesTest(absltest.TestCase):

  def _run(self, weights, outs):
    """Both processes, to their end."""
    port = str(processes.free_port())
    commands = [
        [sys.executable, _SCRIPT, str(i), port, weights, out]
        for i, out in enumerate(outs)
    ]
    for done in processes.run_together(commands, _SECONDS):
      self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

  def test_two_processes_find_what_one_finds(self):
    with tempfile.TemporaryDirectory() as folder:
      root = pathlib.Path(folder)
      weights = make_checkpoint(root / 'llama', vocab_size=_VOCAB)
      outs = [root / f'{i}.npz' for i in range(2)]
      self._run(weights, outs)
      found = [dict(np.load(out)) for out in outs]
      model = ooc_jax.load_model(weights)
      with safetensors.safe_open(
          weights / 'model.safetensors', framework='numpy'
      ) as file:
        sizes = {
            name: math.prod(file.get_slice(name).get_shape())
            for name in file.keys()
        }
    dictionary = ooc_jax.load_dictionary('mlp', model=model, layer=1)
    for precision in ('exact', 'screened'):
      lens = ooc_jax.output_lens(model, dictionary, k=6, precision=precision)
      for process in found:
        for name in ('top_ids', 'top_logits', 'bottom_ids'):
          np.testing.assert_array_equal(
              process[f'{precision} {name}'], getattr(lens, name)
          )
        for name in ('entropy', 'std'):
          np.testing.assert_allclose(
              process[f'{precision} {name}'], getattr(lens, name), rtol=2e-5
          )
    for process in found:
      # Four parts of the vocabulary, two of them on this process.
      read = json.loads(str(process['screened read']))
      for name in ('model.embed_tokens.weight', 'lm_head.weight'):
        self.assertEqual(read[name], sizes[name] // 2, name)
      # Two parts of the neurons, one of them on this process.
      read = json.loads(str(process['exact read']))
      for name in ('gate', 'up', 'down'):
        name = f'model.layers.1.mlp.{name}_proj.weight'
        self.assertEqual(read[name], sizes[name] // 2, name)


if __name__ == '__main__':
  absltest.main()
