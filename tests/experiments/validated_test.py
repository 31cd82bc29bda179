"""A validation beside a run of experiment 1 or 2: found, refused, shown."""

import json
import pathlib
import shutil

from absl.testing import absltest
from absl.testing import parameterized

import ooc_jax
from ooc_jax import experiments
from ooc_jax import report
from ooc_jax import results
from ooc_jax.experiments import _validated
from ooc_jax.experiments import attention_participation
from ooc_jax.experiments import output_prediction
from tests import finished


def _score(mean):
  chance = {'mean': mean / 2, 'p_value': 0.01}
  return {
      'mean': mean,
      'low': mean - 0.01,
      'high': mean + 0.01,
      'permuted': chance,
      'random': None if mean == 0.2 else chance,
  }


_BEATS = {'permuted': [0, 1], 'random': [1], 'from': 1}
_PREDICTOR = {
    'spearman': 0.4,
    'low': 0.35,
    'high': 0.45,
    'null': 0.01,
    'heads_over_null': 5,
}
_SUMMARY = {
    'experiment': 'validation',
    'num_layers': 3,
    'layers': [
        {
            'layer': layer,
            'scores': {
                'output_decoder': _score(0.2 + 0.1 * layer),
                'input_encoder': None,
            },
        }
        for layer in (0, 1)
    ],
    'beats': {'output_decoder': _BEATS, 'input_encoder': _BEATS},
    'attention': [{
        'layer': 1,
        'heads': 6,
        'predictors': {
            'sum_turned': _PREDICTOR,
            'distance': {'spearman': 0.6},
        },
    }],
}


class ValidatedTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir().full_path)
    self.out = self.root / 'run'

  def _run(self, experiment, kind):
    """A finished run in a folder of its own, and what finishes it again."""
    shutil.copytree(finished.run(experiment), self.out)
    settings = json.loads((self.out / 'config.json').read_text())['settings']
    settings.pop('experiment')
    config = kind(**settings)

    def again(**more):
      return getattr(experiments, experiment).run(
          config,
          model=finished.checkpoint(),
          out=self.out,
          figures=False,
          **more,
      )

    return config, again

  def _validation(self, name='a validation', summary=None, **changed):
    known = json.loads((self.out / 'config.json').read_text())
    settings = known['settings'] | {'experiment': 'validation'} | changed
    weights = changed.pop('weights', known['weights'])
    settings.pop('weights', None)
    path = self.root / name
    with results.ResultsFolder.open(
        path, settings, provenance={}, weights=weights
    ) as folder:
      folder.write_summary(summary or _SUMMARY)
    return path

  def test_experiment_1_finds_it_beside_its_folder(self):
    config, again = self._run('output_prediction', experiments.OutputPrediction)
    before = again().summary
    self.assertNotIn('validation', before)
    text = output_prediction.text(before, config)
    self.assertEqual(text.count(_validated.UNCHECKED), 1)

    self._validation('of another', model='another')
    self._validation(
        'of other weights', weights={'model.safetensors': 'f' * 64}
    )
    (self.root / 'no results').mkdir()
    (self.root / 'no results' / 'summary.json').write_text('{}')
    self.assertNotIn('validation', again().summary)

    self._validation()
    summary = again().summary
    about = summary['validation']
    self.assertEqual(about['folder'], 'a validation')
    # A score that no feature has is not there.
    self.assertEqual(list(about['checks']), ['output'])
    own = about['checks']['output']
    self.assertEqual(own['layers'], [0, 1])
    self.assertEqual(own['chances']['random directions'][0], None)
    (line,) = [
        x for x in output_prediction.text(summary, config) if 'Checked' in x
    ]
    self.assertIn('more often than either chance from layer 1 on', line)
    # All else is as it was.
    self.assertEqual(
        {k: v for k, v in summary.items() if k != 'validation'}, before
    )
    report.draw(self.out, formats=['png'], names=['semantic_by_depth'])
    figure = report.FIGURES[0].read(self.out, 'output')
    upper, lower = figure.axes
    self.assertEqual(lower.get_ylabel(), 'Output score')
    self.assertEqual(lower.lines[0].get_ydata().tolist(), own['mean'])
    self.assertEqual(upper.get_xlabel(), '')

  def test_experiment_2_says_how_far_scores_hold(self):
    config, again = self._run(
        'attention_participation', experiments.AttentionParticipation
    )
    text = attention_participation.text(again().summary, config)
    self.assertEqual(text.count(_validated.UNCHECKED), 1)
    given = self._validation()
    shutil.move(given, self.root / 'run' / 'elsewhere')
    summary = again(validation=self.root / 'run' / 'elsewhere').summary
    text = '\n'.join(attention_participation.text(summary, config))
    self.assertIn('Checked by elsewhere: over layers 1 to 1', text)
    self.assertIn('0.40 to 0.40 with the true ones', text)
    self.assertIn('distance alone 0.60 to 0.60', text)
    self.assertIn('over chance in 5 of 6 heads', text)
    (figure,) = [
        x.read(self.out, 'key')
        for x in report.FIGURES
        if x.experiment == 'attention_participation'
        and 'participation_by_depth_key' in x.files(summary)
    ]
    self.assertEqual(figure.axes[1].get_ylabel(), 'Score correlation')

  @parameterized.parameters(
      ({'model': 'another'}, 'is a validation of model=another, not tiny'),
      ({'dictionary': 'x'}, 'is a validation of dictionary=x, not mlp'),
      ({'control': 'random_weights'}, 'validation of control=random_weights'),
      ({'weights': {'model.safetensors': 'f' * 64}}, 'of other weights'),
      ({'weights': {'other.safetensors': 'f' * 64}}, 'of other weights'),
      ({'experiment': 'compare'}, 'is of experiment compare'),
  )
  def test_another_one_is_refused(self, changed, reason):
    _, again = self._run('output_prediction', experiments.OutputPrediction)
    wrong = self._validation(**changed)
    with self.assertRaisesRegex(ooc_jax.InputError, reason):
      again(validation=wrong)

  def test_refuses_what_is_no_validation_or_says_nothing(self):
    _, again = self._run('output_prediction', experiments.OutputPrediction)
    with self.assertRaises(ooc_jax.InputError):
      again(validation=self.root / 'nothing')
    silent = _SUMMARY | {'layers': []}
    path = self._validation(summary=silent)
    with self.assertRaisesRegex(ooc_jax.InputError, 'says nothing of these'):
      again(validation=path)
    self.assertNotIn('validation', again().summary)


if __name__ == '__main__':
  absltest.main()
