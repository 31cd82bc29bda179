"""Settings of experiment 2, and which dictionary is at which layer's input."""

import dataclasses
import pathlib

from _attention_study import AttentionStudy
from _attention_study import attention_layers
from _attention_study import dictionary_of
from _attention_study import parse_participation
from _study import load_study
from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

import ooc_jax
from ooc_jax import InputError
from ooc_jax.dictionaries import save_dictionary
from tests.tiny import make_checkpoint

_CONFIGS = pathlib.Path(__file__).parents[2] / 'configs'


def _study(**settings):
  return AttentionStudy(**({'model': 'tiny'} | settings))


class SettingsTest(parameterized.TestCase):

  @parameterized.parameters(
      *((path.stem,) for path in sorted(_CONFIGS.glob('[a-z]*.py')))
  )
  def test_every_config_file_is_a_study_of_attention(self, name):
    study = load_study(name, {'partners': 3}, AttentionStudy)
    self.assertIsInstance(study, AttentionStudy)
    self.assertEqual(study.partners, 3)

  def test_a_config_may_set_attention_apart(self):
    study = load_study('gemma3_270m', {}, AttentionStudy)
    self.assertEqual(study.layers, '6,10,13,16')
    self.assertEqual(load_study('gemma3_270m', {}).layers, '5,9,12,15')

  @parameterized.parameters(
      ('quantile', ('quantile', 0.75)),
      ('quantile:0.95', ('quantile', 0.95)),
      ('null', ('null', 'random')),
      ('null:tokens', ('null', 'tokens')),
  )
  def test_participation(self, text, expected):
    self.assertEqual(parse_participation(text), expected)

  @parameterized.parameters(
      ({'participation': 'quantile:1'}, 'participation='),
      ({'participation': 'null:shuffled'}, 'participation='),
      ({'participation': 'null:tokens', 'nulls': 'random'}, 'nulls='),
      ({'nulls': 'random,other'}, "'other' is none"),
      ({'null': 'none'}, 'null='),
      ({'alpha': 0.0}, 'alpha='),
      ({'sink_share': 1.0}, 'sink_share='),
      ({'partners': 0}, 'partners='),
      ({'offset': -1}, 'offset='),
      ({'control': 'shuffled'}, 'control='),
  )
  def test_settings_that_are_none(self, settings, message):
    with self.assertRaisesRegex(InputError, message):
      _study(**settings)

  def test_nulls_in_a_fixed_order(self):
    self.assertEqual(
        _study(nulls='tokens, random').null_kinds, ('random', 'tokens')
    )
    self.assertEqual(_study(nulls='none').null_kinds, ())


class DictionaryTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir().full_path)
    self.model = ooc_jax.load_model(make_checkpoint(self.root / 'model'))

  @parameterized.parameters(
      ('mlp', [1, 2]), ('tokens', [0, 1, 2]), ('random', [0, 1, 2])
  )
  def test_layers_with_a_dictionary_at_their_input(self, name, layers):
    study = _study(dictionary=name)
    self.assertEqual(attention_layers(study, 3), layers)
    for layer in layers:
      dictionary, origin = dictionary_of(study, layer, self.model)
      # Refuses what is not at the layer's input.
      ooc_jax.circuits.ov_writes(
          self.model, dictionary, dictionary, layer, 0, k=2
      )
      self.assertEqual(origin, layer - 1 if name == 'mlp' else layer)
    if name == 'mlp':
      found, _ = dictionary_of(study, 2, self.model)
      before = ooc_jax.load_dictionary('mlp', model=self.model, layer=1)
      np.testing.assert_array_equal(found.decoder, before.decoder)

  def test_releases_say_which_layers_they_have(self):
    some = 'gemma-scope-2-270m-pt-res/layer_{layer}_width_16k_l0_medium'
    self.assertEqual(
        attention_layers(_study(dictionary=some), 18), [6, 10, 13, 16]
    )
    with self.assertRaisesRegex(InputError, 'input of layer 5'):
      attention_layers(_study(dictionary=some, layers='5'), 18)

  def test_the_stream_before_layer_0(self):
    """A folder for each layer, and one called embedding."""
    sae = ooc_jax.load_dictionary('random', model=self.model, layer=0)
    for name, hook, layer in (
        ('embedding', 'embedding', 0),
        ('layer_0', 'resid_post', 0),
        ('layer_1', 'resid_post', 1),
    ):
      save_dictionary(
          dataclasses.replace(
              sae,
              decoder=sae.decoder + layer,
              site=ooc_jax.dictionaries.DictionarySite(layer, hook),
          ),
          self.root / 'saes' / name,
      )
    study = _study(dictionary=str(self.root / 'saes' / 'layer_{layer}'))
    self.assertEqual(attention_layers(study, 3), [0, 1, 2])
    first, origin = dictionary_of(study, 0, self.model)
    self.assertIsNone(origin)
    # A table of tokens it is not: it copies by its own encoder.
    ooc_jax.circuits.ov_copying(self.model, first, 0, 0)
    third, origin = dictionary_of(study, 2, self.model)
    self.assertEqual((origin, third.site.layer), (1, 1))
    without = dataclasses.replace(study, first='none')
    self.assertEqual(attention_layers(without, 3), [1, 2])

  def test_layer_0_without_a_dictionary_is_refused(self):
    with self.assertRaisesRegex(InputError, 'input of layer 0.*--first'):
      attention_layers(_study(layers='0-1'), 3)
    tokens = _study(layers='0-1', first='tokens')
    self.assertEqual(attention_layers(tokens, 3), [0, 1])
    _, origin = dictionary_of(tokens, 0, self.model)
    self.assertIsNone(origin)


if __name__ == '__main__':
  absltest.main()
