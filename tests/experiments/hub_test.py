"""Every configured model, from a hub on loopback to the results folder."""

import os
import pathlib
import subprocess
import sys
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import pytest

from ooc_jax import results
from ooc_jax.dictionaries import list_dictionaries
from tests.dictionaries import written
from tests.experiments import scripts
from tests.hub import repositories
from tests.loopback_hub import LoopbackHub

_ROOT = pathlib.Path(__file__).parents[2]
_SCRIPT = _ROOT / 'experiments' / 'output_prediction.py'


def _release(name):
  return next(r for r in list_dictionaries() if r.name == name)


class HubTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    folder = tempfile.TemporaryDirectory()
    self.addCleanup(folder.cleanup)
    self.root = pathlib.Path(folder.name)
    self.hub = self.enter_context(LoopbackHub())

  def _run(self, *args):
    kept = {k: v for k, v in os.environ.items() if not k.startswith('HF_')}
    return subprocess.run(
        [
            sys.executable,
            str(_SCRIPT),
            f'--out={self.root / "out"}',
            '--nofigures',
            *scripts.SMALL,
            *args,
        ],
        capture_output=True,
        text=True,
        timeout=300,
        env={
            **kept,
            **self.hub.environment(self.root / 'home'),
            'OOC_JAX_CACHE': str(self.root / 'converted'),
            'JAX_PLATFORMS': 'cpu',
        },
    )

  def _publish(self, repo, family, release, ids, **settings):
    """A tiny model and its SAEs, in the layout of the published ones."""
    model = self.root / 'model'
    repositories.make_repository(model, family, **settings)
    self.hub.publish(repo, model)
    saes, decoders = self.root / 'saes', {}
    for layer, name in ids.items():
      folder = saes / release.entries[name].folder
      tensors = written.draw(seed=layer)
      decoders[layer] = tensors['W_dec']
      if family == 'llama':
        hook = f'blocks.{layer}.hook_resid_post'
        config = written.llama_hyperparams(
            hook_point_in=hook, hook_point_out=hook
        )
        written.write_llama_scope(folder, tensors, config)
      elif family == 'gemma3':
        written.write_gemma_scope_2(folder, tensors)
      else:
        written.write_npz(folder, tensors)
    self.hub.publish(release.repo, saes)
    return decoders

  def test_from_hub_to_results(self):
    self._check_results(
        'gemma2', 'google/gemma-2-2b', 'gemma2',
        'gemma-scope-2b-pt-res-canonical', 'layer_{}/width_16k/canonical',
    )  # fmt: skip

  @parameterized.named_parameters(
      ('gemma3_270m', 'gemma3_270m', 'google/gemma-3-270m', 'gemma3',
       'gemma-scope-2-270m-pt-res', 'layer_{}_width_16k_l0_medium'),
      ('gemma2_9b', 'gemma2_9b', 'google/gemma-2-9b', 'gemma2',
       'gemma-scope-9b-pt-res-canonical', 'layer_{}/width_16k/canonical'),
      ('llama3', 'llama3', 'meta-llama/Llama-3.1-8B', 'llama',
       'llama_scope_lxr_8x', 'l{}r_8x'),
  )  # fmt: skip
  @pytest.mark.slow
  def test_others_from_hub_to_results(self, *case):
    self._check_results(*case)

  def _check_results(self, model, repo, family, release, pattern):
    release = _release(release)
    layers, settings = range(3), {}
    if family == 'gemma3':  # Its config studies these of its 18.
      layers, settings = (5, 9, 12, 15), {'num_hidden_layers': 18}
    names = {layer: pattern.format(layer) for layer in layers}
    decoders = self._publish(repo, family, release, names, **settings)
    done = self._run(f'--model={model}', '--k=5', '--examples=3')
    self.assertEqual(done.returncode, 0, done.stderr)
    folder = results.ResultsFolder.view(self.root / 'out')
    self.assertEqual(folder.layers(), list(layers))
    # The lens of each feature, from what was published, in float64.
    weights = {
        k: v.astype(np.float64)
        for k, v in repositories.weights(self.root / 'model').items()
    }
    tied = family != 'llama'
    table = weights['model.embed_tokens.weight' if tied else 'lm_head.weight']
    gain = weights['model.norm.weight'] + (1.0 if tied else 0.0)
    for layer, decoder in decoders.items():
      d = decoder.astype(np.float64)
      d *= np.sqrt(d.shape[1]) / np.linalg.norm(d, axis=1, keepdims=True)
      logits = (d * gain) @ table.T
      row = folder.read_layer(layer)
      ids = np.asarray(row['top_ids'].to_pylist())
      np.testing.assert_allclose(
          np.asarray(row['top_logits'].to_pylist()),
          np.take_along_axis(logits, ids, axis=1),
          rtol=1e-4,
          atol=1e-4 * np.abs(logits).max(),
      )
    rows = folder.read_summary()['layers']
    for row in rows:
      self.assertTrue(row['weights'])
      for name in row['weights']:
        self.assertStartsWith(name, f'{release.repo}@')
    recorded = ' '.join(folder.config['weights'])
    self.assertIn(f'{repo}@', recorded)
    self.assertIn('.safetensors', recorded)
    # Only what was needed came over.
    asked = self.hub.downloaded(repo)
    self.assertNotIn('original/consolidated.00.pth', asked)
    shards = [n for n in asked if n.endswith('.safetensors')]
    self.assertBetween(len(shards), 1, 2)

  def test_dry_run_downloads_no_weights(self):
    release = _release('gemma-scope-2b-pt-res-canonical')
    names = {i: f'layer_{i}/width_16k/canonical' for i in range(3)}
    self._publish('google/gemma-2-2b', 'gemma2', release, names)
    done = self._run('--model=gemma2', '--dry_run')
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertIn('F 16384 at 3 layers', done.stdout)
    self.assertRegex(done.stdout, r'download +\d')
    for repo in ('google/gemma-2-2b', release.repo):
      for name in self.hub.downloaded(repo):
        self.assertNotIn('.safetensors', name.replace('.safetensors.index', ''))
        self.assertNotIn('.npz', name)
    self.assertFalse((self.root / 'out').exists())

  def test_a_gated_model_says_what_to_do(self):
    release = _release('llama_scope_lxr_8x')
    self._publish('meta-llama/Llama-3.1-8B', 'llama', release, {0: 'l0r_8x'})
    self.hub.gate('meta-llama/Llama-3.1-8B', 'a token')
    done = self._run('--model=llama3', '--k=5')
    self.assertEqual(done.returncode, 2, done.stderr)
    last = done.stderr.splitlines()[-1]
    self.assertIn('HF_TOKEN', last)
    self.assertIn('meta-llama/Llama-3.1-8B', last)
    self.assertNotIn('Traceback', done.stderr)


if __name__ == '__main__':
  absltest.main()
