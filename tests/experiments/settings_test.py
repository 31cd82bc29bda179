"""Settings: files of configs/, flags, and what is refused."""

import dataclasses
import pathlib

from absl.testing import absltest
from absl.testing import parameterized

from ooc_jax import InputError
from ooc_jax import dictionaries
from ooc_jax._settings import check
from ooc_jax.experiments import AttentionParticipation
from ooc_jax.experiments import OutputPrediction
from ooc_jax.experiments import load_config
from ooc_jax.experiments import parse_layers
from ooc_jax.experiments import setting
from ooc_jax.experiments import settings_of
from ooc_jax.experiments.output_prediction import parse_thresholds

_CONFIGS = pathlib.Path(__file__).parents[2] / 'configs'


class SettingsTest(parameterized.TestCase):

  @parameterized.parameters(('smolm2', "'smollm2'"), ('../x', 'smollm2'))
  def test_unknown_config_suggests_the_nearest(self, name, message):
    with self.assertRaisesRegex(InputError, message):
      load_config(name, {}, OutputPrediction)

  @parameterized.parameters(
      *((path.stem,) for path in sorted(_CONFIGS.glob('[a-z]*.py')))
  )
  def test_every_config_file_is_a_config(self, name):
    self.assertIsInstance(
        load_config(name, {}, OutputPrediction), OutputPrediction
    )

  def test_flags_override_the_file(self):
    given = {'k': 7, 'undertrained_cosine': None}
    config = load_config('smollm2', given, OutputPrediction)
    self.assertEqual((config.k, config.dictionary), (7, 'mlp'))
    self.assertIsNone(config.undertrained_cosine)

  def test_every_choice_between_readings_is_a_setting(self):
    for kind in (OutputPrediction, AttentionParticipation):
      settings = settings_of(kind)
      for name, option in dictionaries.OPTIONS.items():
        about, value, optional, default = settings[name]
        self.assertEqual((about.help, value), (option.help, option.kind))
        self.assertEqual((optional, default), (True, None))
    config = OutputPrediction(top_k=3, to_layer=2)
    expected = dict.fromkeys(dictionaries.OPTIONS) | {'top_k': 3, 'to_layer': 2}
    self.assertEqual(config.dictionary_options, expected)

  def test_rows_that_are_not_finite_are_dead_or_refused(self):
    with self.assertRaisesRegex(InputError, "nan_rows='alive' is unknown"):
      OutputPrediction(nan_rows='alive')

  def test_every_setting_has_a_default(self):
    config = OutputPrediction(layers='0,5', k=20)
    self.assertIsNone(config.model)
    self.assertEqual(config, OutputPrediction(layers='0,5'))

  @parameterized.parameters(
      ('all', [0, 1, 2, 3, 4]),
      ('0', [0]),
      ('3,1-2,2', [1, 2, 3]),
      (' 4 , 0', [0, 4]),
  )
  def test_layers(self, text, expected):
    self.assertEqual(parse_layers(text, 5), expected)

  @parameterized.parameters(
      ('',), ('5',), ('2-1',), ('-1',), ('0,',), ('a',), ('1-',), ('0-5',)
  )
  def test_bad_layers(self, text):
    with self.assertRaisesRegex(InputError, 'layers='):
      parse_layers(text, 5)

  def test_thresholds(self):
    self.assertEqual(parse_thresholds('quantile'), ('quantile', 0.75))
    self.assertEqual(parse_thresholds('quantile:0.9'), ('quantile', 0.9))
    kind, value = parse_thresholds('fixed:levenshtein=.6,cosine=.2,entropy=3')
    self.assertEqual((kind, value.cosine, value.kind), ('fixed', 0.2, 'fixed'))

  @parameterized.parameters(
      ('null:0.01',),
      ('quantile:0',),
      ('quantile:x',),
      ('fixed',),
      ('fixed:cosine=0.2',),
      ('fixed:levenshtein=a,cosine=0.2,entropy=3',),
      ('',),
  )
  def test_bad_thresholds(self, text):
    with self.assertRaises(InputError):
      parse_thresholds(text)

  @parameterized.parameters(
      ({'k': 1}, 'k=1'),
      ({'seed': -1}, 'seed=-1'),
      ({'token_space': 'white'}, "'whitened'"),
      ({'convention': 'norm'}, "'normed'"),
      ({'rule': 'anny'}, "'any'"),
      ({'precision': 'fast'}, "'fast'"),
  )
  def test_bad_settings(self, settings, message):
    with self.assertRaisesRegex(InputError, message):
      OutputPrediction(model='smollm2', **settings)

  # Of a class that jaxtyping does not check first.
  @parameterized.parameters(
      ({'k': 2.0}, 'k=2.0 must be a whole number, at least 2'),
      ({'k': True}, 'k=True must be a whole number'),
      ({'k': None}, 'k=None'),
      ({'centered': 1}, 'centered=1 must be true or false'),
      ({'name': 3}, 'name=3 must be a text'),
      ({'share': 'x'}, "share='x' must be a number between 0 and 1"),
      ({'share': 1.0}, 'share=1.0 must be'),
      ({'share': float('nan')}, 'share=nan must be'),
  )
  def test_bad_types(self, settings, message):
    with self.assertRaisesRegex(InputError, message):
      check(_Settings(**settings))

  def test_none_only_where_it_is_allowed(self):
    check(_Settings(share=None))


@dataclasses.dataclass(frozen=True)
class _Settings:
  k: int = setting(3, help='A number.', least=2)
  centered: bool = setting(False, help='Yes or no.')
  name: str = setting('x', help='A text.')
  share: float | None = setting(0.5, help='A share.', between=(0.0, 1.0))


if __name__ == '__main__':
  absltest.main()
