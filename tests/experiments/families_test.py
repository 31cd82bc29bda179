"""All three experiments on a small model of each family, from its files."""

import json
import pathlib
import shutil

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import pyarrow.parquet as pq
import pytest

import ooc_jax
from ooc_jax.experiments import AttentionParticipation
from ooc_jax.experiments import OutputPrediction
from ooc_jax.experiments import SemanticAttention
from ooc_jax.experiments import _runtime
from ooc_jax.experiments import semantic_attention
from tests.checkpoints import tiny
from tests.model import golden_files

_LABELS = OutputPrediction(
    k=4, thresholds='quantile:0.8', null_size=100, examples=1
)
_ATTENTION = AttentionParticipation(
    context=5, pairs=3, partners=2, nulls='random', write_tokens=2
)


class FamiliesTest(parameterized.TestCase):

  # What is new in them, norms and biases above all, is tested by room.
  @parameterized.parameters('gpt2', 'gpt_neox', 'qwen2', 'qwen3', 'mistral')
  @pytest.mark.slow
  def test_all_experiments(self, name):
    self.run_all(name)

  def test_what_a_user_should_know_of_the_model_is_recorded(self):
    out = pathlib.Path(self.create_tempdir().full_path) / 'run'
    with _runtime.open_folder(out, {'x': 1}, notes=('It is so.',)):
      pass
    recorded = json.loads((out / 'config.json').read_text())
    self.assertEqual(recorded['provenance']['model'], 'It is so.')

  def run_all(self, name):
    root = pathlib.Path(self.create_tempdir().full_path)
    folder = root / 'model'
    shutil.copytree(golden_files.FOLDER / name, folder)
    config = json.loads((folder / 'config.json').read_text())
    tiny.word_level(config['vocab_size']).save(str(folder / 'tokenizer.json'))
    run = semantic_attention.run(
        SemanticAttention(least=4),
        labels=_LABELS,
        attention=_ATTENTION,
        model=folder,
        out=root / 'run',
        figures=False,
    )
    model = ooc_jax.load_model(folder)
    layers = model.config.num_layers
    self.assertEqual(run.summary['layers'], list(range(1, layers)))
    output = run.folder / 'output_prediction' / 'features'
    features = pq.read_table(output / 'layer=01.parquet')
    self.assertEqual(features.num_rows, model.config.mlp_dim)
    self.assertTrue(np.isfinite(features['std'].to_numpy()).all())
    heads = pq.read_table(
        run.folder / 'attention_participation' / 'heads.parquet'
    )
    heads_of_all = model.config.num_heads * (layers - 1)
    self.assertEqual(heads.num_rows, heads_of_all)
    # Biases are reported, and part of no feature.
    biased = name in ('gpt2', 'gpt_neox', 'qwen2')
    self.assertEqual('query_constant' in heads.column_names, biased)


if __name__ == '__main__':
  absltest.main()
