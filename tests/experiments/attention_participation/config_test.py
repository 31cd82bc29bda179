"""Settings of experiment 2."""

from absl.testing import absltest
from absl.testing import parameterized

from ooc_jax import InputError
from ooc_jax import experiments
from ooc_jax.experiments import AttentionParticipation
from ooc_jax.experiments import load_config
from ooc_jax.experiments.attention_participation import parse_participation


class SettingsTest(parameterized.TestCase):

  @parameterized.parameters(*((name,) for name in experiments.config_names()))
  def test_every_config_file_is_of_attention(self, name):
    config = load_config(name, {'partners': 3}, AttentionParticipation)
    self.assertIsInstance(config, AttentionParticipation)
    self.assertEqual(config.partners, 3)

  def test_a_config_may_set_attention_apart(self):
    config = load_config('gemma3_270m', {}, AttentionParticipation)
    self.assertEqual(config.layers, '6,10,13,16')
    config = load_config('gemma3_270m', {}, experiments.OutputPrediction)
    self.assertEqual(config.layers, '5,9,12,15')

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
      AttentionParticipation(**settings)

  def test_nulls_in_a_fixed_order(self):
    self.assertEqual(
        AttentionParticipation(nulls='tokens, random').null_kinds,
        ('random', 'tokens'),
    )
    self.assertEqual(AttentionParticipation(nulls='none').null_kinds, ())


if __name__ == '__main__':
  absltest.main()
