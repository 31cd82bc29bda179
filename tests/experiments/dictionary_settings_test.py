"""Choices between readings of a dictionary, from the command line on."""

import json
import pathlib

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

import ooc_jax
from ooc_jax import InputError
from ooc_jax.experiments import AttentionParticipation
from ooc_jax.experiments import OutputPrediction
from ooc_jax.experiments import _runtime
from ooc_jax.experiments import attention_participation
from ooc_jax.experiments import output_prediction
from tests.dictionaries import written
from tests.experiments import scripts

_FLAGS = ('--weights=tiny-gemma2', '--nofigures', '--examples=0')
_RUNS = {
    'output_prediction': ('--layers=1', '--k=3', '--null_size=100'),
    'attention_participation': ('--layers=2', '--nulls=none', '--pairs=3',
                                '--context=4', '--write_tokens=0'),
    'semantic_attention': ('--layers=2', '--nulls=none', '--pairs=3',
                           '--context=4', '--write_tokens=0', '--k=3',
                           '--null_size=100', '--least=4'),
}  # fmt: skip


class DictionarySettingsTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.model = ooc_jax.load_model('tiny-gemma2')

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir().full_path)
    sae = ooc_jax.load_dictionary('tiny-gemma2-res/layer_1')
    few = np.arange(40)  # Of 1,024: no run here should take long.
    self.tensors = {
        'W_enc': np.array(sae.encoder)[few].T,
        'W_dec': np.array(sae.decoder)[few],
        'b_enc': np.array(sae.encoder_bias)[few],
        'b_dec': np.array(sae.decoder_bias),
        'threshold': np.array(sae.threshold)[few],
    }
    self.tensors = {k: v.astype(np.float32) for k, v in self.tensors.items()}
    self.saes = self.root / 'layer_1' / 'width_40' / 'average_l0_5'

  def run_flags(self, name, *flags):
    return scripts.run_here(
        name,
        *_FLAGS,
        *_RUNS[name],
        f'--dictionary={self.saes}',
        f'--out={self.root / name}',
        *flags,
    )

  @parameterized.parameters(*_RUNS)
  def test_what_the_refusal_advises(self, name):
    good = {k: v.copy() for k, v in self.tensors.items()}
    self.tensors['W_dec'][7] = np.nan
    written.write_npz(self.saes, self.tensors)
    if name == 'output_prediction':
      # The checks of types in tests ask a mapping for an item, and its refusal
      # becomes theirs.
      config = OutputPrediction(dictionary=str(self.saes))
      with self.assertRaisesRegex(InputError, '--nan_rows=dead'):
        _runtime.StoredDictionaries(config, [1], self.model, None)[1]
    else:
      refused = self.run_flags(name, f'--out={self.root / "refused"}')
      self.assertEqual(refused.returncode, 2)
      self.assertIn('--nan_rows=dead', refused.stderr)
    done = self.run_flags(name, '--nan_rows=dead')
    self.assertEqual(done.returncode, 0, done.stderr)
    recorded = json.loads((self.root / name / 'config.json').read_text())
    settings = recorded['settings']
    for part in ('labels', 'attention') if 'labels' in settings else ():
      self.assertEqual(settings[part]['nan_rows'], 'dead')
    if name == 'output_prediction':
      self.assertEqual(settings['nan_rows'], 'dead')
      stds = ooc_jax.results.ResultsFolder.view(self.root / name).read_layer(1)[
          'std'
      ]
      self.assertEqual(stds[7].as_py(), 0)
      lens = ooc_jax.output_lens(
          self.model,
          ooc_jax.dictionaries.from_arrays(good['W_dec'], layer=1),
          k=3,
      )
      alive = np.arange(40) != 7
      np.testing.assert_allclose(
          stds.to_numpy()[alive], np.asarray(lens.std)[alive], rtol=1e-5
      )

  def test_options_are_of_the_dictionary_alone(self):
    written.write_npz(self.saes, self.tensors)
    config = OutputPrediction(dictionary=str(self.saes), top_k=3, layers='1')
    stored = _runtime.StoredDictionaries(config, [1], self.model, None)
    with self.assertRaisesRegex(InputError, 'Gemma Scope, .* no option top_k'):
      stored[1]
    # Of another dictionary of the run they say nothing.
    other = _runtime.stored_dictionary(config, 'tokens', 0, self.model, None)
    self.assertEqual(other.name, 'tokens')

  @parameterized.parameters(
      (output_prediction, OutputPrediction),
      (attention_participation, AttentionParticipation),
  )
  def test_a_plan_refuses_what_the_run_refuses(self, experiment, kind):
    for name, message in (
        ('tiny-gemma2-res/layer_{layer}', 'tiny-gemma2-res/layer_.*top_k'),
        ('mlp', "'mlp' has no top_k"),
    ):
      with self.assertRaisesRegex(InputError, message):
        experiment.plan(kind(dictionary=name, top_k=3))
      experiment.plan(kind(dictionary=name))

  def test_converting_takes_them_too(self):
    self.tensors['W_dec'][7] = np.nan
    written.write_npz(self.saes, self.tensors)
    out = self.root / 'converted'
    args = (f'--dictionary={self.saes}', f'--out={out}', '--to=safetensors')
    self.assertEqual(scripts.run_here('convert_weights', *args).returncode, 2)
    done = scripts.run_here('convert_weights', *args, '--nan_rows=dead')
    self.assertEqual(done.returncode, 0, done.stderr)
    dead = ooc_jax.load_dictionary(out)
    self.assertFalse(np.asarray(dead.decoder)[7].any())
    self.assertEqual(np.asarray(dead.threshold)[7], np.inf)


if __name__ == '__main__':
  absltest.main()
