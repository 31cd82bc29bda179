"""All three experiments on studied models, from a hub to their tables.

What a file of configs/ names is published on loopback as it is on the hub, but
small, with the dictionary that exists for it.
"""

from collections.abc import Callable
import dataclasses
import pathlib

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import pytest

from ooc_jax import results
from ooc_jax.dictionaries import list_dictionaries
from tests.experiments import scripts
from tests.hub import study_repositories
from tests.hub.hub_case import HubCase

_FLAGS = (
    '--k=4', '--null_size=100', '--layer_null_size=100', '--examples=1',
    '--thresholds=quantile:0.8', '--context=5', '--pairs=3', '--partners=2',
    '--nulls=none', '--write_tokens=2', '--least=4',
    '--nofigures', '--first=none',
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Study:
  """What is published, and what its heads compute.

  Attributes:
    repo: Of the model.
    model: Writes it; gives its tensors.
    release: Of the dictionaries.
    entry: Their ids, with '{}' for the layer.
    dictionaries: Writes them; gives layer -> decoder.
    origin: Layer of the dictionary at a layer's input, less that layer.
    unembedding: Name of [V, D].
    gain: Name of the final norm's gain.
    layers: Layers of the attention that is run.
  """

  repo: str
  model: Callable
  release: str
  entry: str
  dictionaries: Callable
  origin: int
  unembedding: str
  gain: str
  layers: tuple[int, ...]


STUDIES = {
    'qwen3_4b': Study(
        'Qwen/Qwen3-4B',
        study_repositories.qwen3,
        'mwhanna-qwen3-4b-transcoders',
        'layer_{}',
        study_repositories.transcoders,
        -1,
        'model.embed_tokens.weight',
        'model.norm.weight',
        (1, 2),
    ),
    'gpt2': Study(
        'openai-community/gpt2',
        study_repositories.gpt2,
        'gpt2-small-res-jb',
        'blocks.{}.hook_resid_pre',
        study_repositories.native_saes,
        0,
        'wte.weight',
        'ln_f.weight',
        (0, 1, 2),
    ),
    'deepseek_r1_llama_8b': Study(
        'deepseek-ai/DeepSeek-R1-Distill-Llama-8B',
        study_repositories.deepseek_r1_llama,
        'llama_scope_r1_distill',
        'l{}r_800m_openr1_math',
        study_repositories.llama_scope_r1,
        -1,
        'lm_head.weight',
        'model.norm.weight',
        (1, 2),
    ),
}


def _normed(d, gain, centred):
  """The read of a norm that takes no account of length, in float64."""
  d = d - d.mean(axis=-1, keepdims=True) if centred else d
  lengths = np.linalg.norm(d, axis=-1, keepdims=True)
  return np.sqrt(d.shape[-1]) * d / lengths * gain


def _largest_scores(name, weights, d, layer):
  """[N, F] largest score of each feature as a query, from the definition."""
  if name == 'gpt2':
    h = f'h.{layer}.'
    x = _normed(d, weights[h + 'ln_1.weight'], True)
    # Conv1D: [in, out], q, k and v beside each other; five heads of eight.
    q, k, _ = np.split(x @ weights[h + 'attn.c_attn.weight'], 3, axis=1)
    heads, size, groups = 5, 8, 1
  else:
    h = f'model.layers.{layer}.'
    x = _normed(d, weights[h + 'input_layernorm.weight'], False)
    q, k = (x @ weights[f'{h}self_attn.{p}_proj.weight'].T for p in ('q', 'k'))
    size = 18
    heads, groups = q.shape[1] // size, q.shape[1] // k.shape[1]
  q, k = (v.reshape(len(d), -1, size) for v in (q, k))
  if name == 'qwen3_4b':
    q, k = (
        v / np.sqrt((v**2).mean(axis=-1, keepdims=True) + 1e-6) * weights[
            f'{h}self_attn.{p}_norm.weight'
        ]
        for v, p in ((q, 'q'), (k, 'k'))
    )  # fmt: skip
  return np.stack([
      (q[:, n] @ k[:, n // groups].T / np.sqrt(size)).max(axis=1)
      for n in range(heads)
  ])


class StudiesTest(HubCase):

  @parameterized.parameters('qwen3_4b', 'gpt2')
  @pytest.mark.slow
  def test_others(self, name):
    self.run_all(name)

  @pytest.mark.slow
  def test_a_distilled_model_with_an_sae_of_it(self):
    self.run_all('deepseek_r1_llama_8b')

  @parameterized.parameters(*STUDIES)
  def test_the_plan(self, name):
    """What needs no weights is known: their sizes, from headers."""
    study = STUDIES[name]
    self.publish(study)
    done = scripts.run_here(
        'semantic_attention', f'--model={name}', '--dry_run', '--first=none'
    )
    self.assertEqual(done.returncode, 0, done.stderr)
    size = study_repositories.SIZE
    if name == 'deepseek_r1_llama_8b':
      size = 32768  # The list says it, whatever is published here.
    self.assertIn(f'F {size} at {len(study.layers)} layers', done.stdout)
    self.assertFalse([
        x for x in self.hub.downloaded(study.repo) if x.endswith('.safetensors')
    ])

  def publish(self, study):
    model = self.folder / 'model'
    weights = study.model(model)
    self.hub.publish(study.repo, model)
    release = next(r for r in list_dictionaries() if r.name == study.release)
    folders = {
        layer: release.entries[study.entry.format(layer)].folder
        for layer in range(3)
    }
    width = weights[study.gain].shape[0]
    decoders = study.dictionaries(self.folder / 'saes', folders, width)
    self.hub.publish(release.repo, self.folder / 'saes')
    wide = {k: v.astype(np.float64) for k, v in weights.items()}
    return wide, {k: v.astype(np.float64) for k, v in decoders.items()}

  def run_all(self, name):
    study = STUDIES[name]
    weights, decoders = self.publish(study)
    out = self.folder / 'out'
    done = scripts.run_here(
        'semantic_attention', f'--model={name}', f'--out={out}', *_FLAGS
    )
    self.assertEqual(done.returncode, 0, done.stderr)
    summary = results.ResultsFolder.view(out).read_summary()
    self.assertEqual(tuple(summary['layers']), study.layers)
    origins = [layer + study.origin for layer in study.layers]
    self.check_predictions(study, out / 'output_prediction', weights, {
        layer: decoders[layer] for layer in origins
    })  # fmt: skip
    attention = results.ResultsFolder.view(out / 'attention_participation')
    for layer, origin in zip(study.layers, origins, strict=True):
      table = attention.read_layer(layer)
      np.testing.assert_allclose(
          np.array(table['query_max'].to_pylist()).T,
          _largest_scores(name, weights, decoders[origin], layer),
          rtol=2e-4,
          atol=2e-4,
      )
    self.check_files(study, out)

  def check_predictions(self, study, folder, weights, decoders):
    """The logits of the lens, in float64 from what was published."""
    run = results.ResultsFolder.view(folder)
    self.assertEqual(run.layers(), sorted(decoders))
    centred = study.unembedding == 'wte.weight'
    for layer, decoder in decoders.items():
      d = _normed(decoder, weights[study.gain], centred)
      logits = d @ weights[study.unembedding].T
      row = run.read_layer(layer)
      ids = np.asarray(row['top_ids'].to_pylist())
      found = np.asarray(row['top_logits'].to_pylist())
      expected = np.take_along_axis(logits, ids, axis=1)
      atol = 1e-4 * np.abs(logits).max()
      np.testing.assert_allclose(found, expected, rtol=1e-4, atol=atol)
      # No token that is read has a larger one.
      self.assertTrue((expected[:, :-1] >= expected[:, 1:] - atol).all(), layer)

  def check_files(self, study, out: pathlib.Path):
    recorded = results.ResultsFolder.view(out / 'output_prediction').config
    names = ' '.join(recorded['weights'])
    self.assertIn(f'{study.repo}@', names)
    for row in results.ResultsFolder.view(
        out / 'output_prediction'
    ).read_summary()['layers']:
      self.assertTrue(row['weights'])


if __name__ == '__main__':
  absltest.main()
