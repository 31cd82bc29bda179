"""Which dictionary is at the input of which layer's attention."""

import dataclasses
import pathlib

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

import ooc_jax
from ooc_jax import InputError
from ooc_jax.dictionaries import from_arrays
from ooc_jax.dictionaries import save_dictionary
from ooc_jax.experiments.attention_participation import AttentionParticipation
from ooc_jax.experiments.attention_participation import layer_inputs
from tests.tiny import make_checkpoint


class InputsTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir().full_path)
    self.model = ooc_jax.load_model(make_checkpoint(self.root / 'model'))

  def _inputs(self, given=None, **settings):
    return layer_inputs(AttentionParticipation(**settings), given, 3)

  def _load(self, inputs, layer):
    found = inputs[layer](self.model, None)
    return found.dictionary, found.origin

  @parameterized.parameters(
      ('mlp', [1, 2]), ('tokens', [0, 1, 2]), ('random', [0, 1, 2])
  )
  def test_layers_with_a_dictionary_at_their_input(self, name, layers):
    inputs = self._inputs(dictionary=name)
    self.assertEqual(list(inputs), layers)
    for layer in layers:
      dictionary, origin = self._load(inputs, layer)
      # Refuses what is not at the layer's input.
      ooc_jax.circuits.ov_writes(
          self.model, dictionary, dictionary, layer, 0, k=2
      )
      self.assertEqual(origin, layer - 1 if name == 'mlp' else layer)
    if name == 'mlp':
      found, _ = self._load(inputs, 2)
      before = ooc_jax.load_dictionary('mlp', model=self.model, layer=1)
      np.testing.assert_array_equal(found.decoder, before.decoder)

  def test_releases_say_which_layers_they_have(self):
    some = 'gemma-scope-2-270m-pt-res/layer_{layer}_width_16k_l0_medium'
    config = AttentionParticipation(dictionary=some)
    self.assertEqual(list(layer_inputs(config, None, 18)), [6, 10, 13, 16])
    config = dataclasses.replace(config, layers='5')
    with self.assertRaisesRegex(InputError, 'input of layer 5'):
      layer_inputs(config, None, 18)

  def test_a_release_of_the_stream_before_a_layer_is_at_its_own_layer(self):
    some = 'mistral-7b-res-wg/blocks.{layer}.hook_resid_pre'
    config = AttentionParticipation(dictionary=some)
    self.assertEqual(list(layer_inputs(config, None, 32)), [8, 16, 24])
    every = 'gpt2-small-res-jb/blocks.{layer}.hook_resid_pre'
    config = AttentionParticipation(dictionary=every)
    self.assertEqual(list(layer_inputs(config, None, 12)), list(range(12)))

  def _folders(self):
    """A dictionary for each layer, and one called embedding."""
    sae = ooc_jax.load_dictionary('random', model=self.model, layer=0)
    found = {}
    for name, hook, layer in (
        ('embedding', 'embedding', 0),
        ('layer_0', 'resid_post', 0),
        ('layer_1', 'resid_post', 1),
    ):
      found[name] = dataclasses.replace(
          sae,
          decoder=sae.decoder + layer,
          site=ooc_jax.dictionaries.DictionarySite(layer, hook),
      )
      save_dictionary(found[name], self.root / 'saes' / name)
    return found

  def test_the_stream_before_layer_0(self):
    saes = self._folders()
    settings = {'dictionary': str(self.root / 'saes' / 'layer_{layer}')}
    named = self._inputs(**settings)
    given = self._inputs(
        {-1: saes['embedding'], 0: saes['layer_0'], 1: saes['layer_1']}
    )
    for inputs in (named, given):
      self.assertEqual(list(inputs), [0, 1, 2])
      first, origin = self._load(inputs, 0)
      self.assertIsNone(origin)
      # A table of tokens it is not: it copies by its own encoder.
      ooc_jax.circuits.ov_copying(self.model, first, 0, 0)
      third, origin = self._load(inputs, 2)
      self.assertEqual((origin, third.site.layer), (1, 1))
    without = self._inputs(**settings, first='none')
    self.assertEqual(list(without), [1, 2])

  def test_layer_0_without_a_dictionary_is_refused(self):
    with self.assertRaisesRegex(InputError, 'input of layer 0.*--first'):
      self._inputs(layers='0-1')
    tokens = self._inputs(layers='0-1', first='tokens')
    self.assertEqual(list(tokens), [0, 1])
    _, origin = self._load(tokens, 0)
    self.assertIsNone(origin)

  def test_given_dictionaries_are_at_the_layer_that_reads_them(self):
    rows = np.eye(5, 20, dtype=np.float32)
    post, pre, last, middle = (
        from_arrays(rows, layer=layer, hook=hook)
        for layer, hook in (
            (0, 'resid_post'),
            (2, 'resid_pre'),
            (2, 'resid_post'),
            (1, 'resid_mid'),
        )
    )
    inputs = self._inputs({0: post, 2: pre})
    self.assertEqual(list(inputs), [1, 2])
    self.assertEqual(self._load(inputs, 2), (pre, 2))
    # What the last layer writes, no attention reads.
    self.assertEqual(list(self._inputs({0: post, 2: last})), [1])
    self.assertEqual(list(self._inputs({0: post, 2: pre}, layers='2')), [2])
    for given, settings, message in (
        ({2: last}, {}, 'input of any layer'),
        ({0: post}, {'layers': '2'}, 'input of layer 2'),
        ({1: middle}, {}, 'resid_mid of layer 1'),
        (
            {1: from_arrays(rows, layer=1), 2: pre},
            {},
            'input of layer 2, as another',
        ),
    ):
      with self.assertRaisesRegex(InputError, message):
        self._inputs(given, **settings)


if __name__ == '__main__':
  absltest.main()
